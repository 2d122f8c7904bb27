-- Notes that the answer to a permit's call has arrived: its window starts now. An entry that is gone (its deadline and
-- a window are over) stays gone. The probe ends the rest of the limits that it held a place of, unless it was refused.
-- KEYS  per want:
--         the state of the limit
--         its log
--         the log of the share (the log again if there is no share)
-- ARGV  the permit's id
--       the number of the want that was refused (0: none)
--       how long that limit rests
--       the longest rest, if it doubles with each refusal in a row (0: it does not)
--       for how long calls must have succeeded before it starts again from the shortest
--       why it rests, for people
--       per want: as acquire takes it
-- returns 1
local id, refused, now = ARGV[1], tonumber(ARGV[2]), clock()

-- grown is how long a suspended limit rests. Calls that are refused while it rests were made before; they count once.
local function grown(s)
  local rest, most = tonumber(ARGV[3]), tonumber(ARGV[4])
  if most == 0 then return rest end
  if s.notBefore and now < s.notBefore then return 0 end
  local refusals = s.refusals or 0
  if s.calm and now - s.calm >= tonumber(ARGV[5]) then refusals = 0 end
  if refusals == 0 then redis.call('HSET', s.key, 'since', text(now)) end
  redis.call('HSET', s.key, 'refusals', refusals + 1, 'why', ARGV[6])
  redis.call('HDEL', s.key, 'calm')
  return math.min(rest * 2 ^ math.min(refusals, 40), most)
end

for i = 1, #KEYS / 3 do
  local s, window = readState(KEYS[3 * i - 2]), tonumber(ARGV[4 * i + 4])
  for _, log in ipairs({ KEYS[3 * i - 1], KEYS[3 * i] }) do
    if redis.call('ZADD', log, 'XX', 'CH', text(now), id) == 1 then
      keep(log, math.max(window, s.window or 0))
    end
  end
  if i == refused then
    -- A probe that is under way proves nothing about what comes after this refusal.
    s.notBefore = math.max(s.notBefore or 0, now + grown(s))
    redis.call('HSET', s.key, 'not_before', text(s.notBefore))
    redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
    keepState(s, now)
  elseif s.probe == id then
    redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
    -- If another limit refused the probe, it has proved nothing about this one.
    if refused == 0 then
      redis.call('HDEL', s.key, 'not_before')
      if s.refusals then redis.call('HSET', s.key, 'calm', text(now)) end
    end
  end
end
return 1
