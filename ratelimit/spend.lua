-- Tells that the answer to a permit's call has arrived: its window starts now. An entry that is gone already (its deadline
-- and a window are over) stays gone. The probe opens the gates that it was sent through, unless it was refused.
-- KEYS  per want: state, log, log of the share (the log again if none)
-- ARGV  permit id, number of the want that was refused (0: none), retry after, then per want: N, window, share, max
-- returns 1
local id, refused, now = ARGV[1], tonumber(ARGV[2]), clock()
for i = 1, #KEYS / 3 do
  local s, window = readState(KEYS[3 * i - 2]), tonumber(ARGV[4 * i + 1])
  for _, log in ipairs({ KEYS[3 * i - 1], KEYS[3 * i] }) do
    if redis.call('ZADD', log, 'XX', 'CH', text(now), id) == 1 then
      keep(log, math.max(window, s.window or 0))
    end
  end
  if i == refused then
    -- A probe that is under way no longer speaks for what comes after this refusal.
    s.notBefore = math.max(s.notBefore or 0, now + tonumber(ARGV[3]))
    redis.call('HSET', s.key, 'not_before', text(s.notBefore))
    redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
    keepState(s, now)
  elseif s.probe == id then
    redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
    -- Refused by another limit, it has not proved anything about this one.
    if refused == 0 then redis.call('HDEL', s.key, 'not_before') end
  end
end
return 1
