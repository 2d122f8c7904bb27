-- Takes one place in each of several limits, or in none. A permit that is in a log already is granted again: the
-- client repeats a script whose answer was lost.
-- KEYS  per want:
--         the state of the limit
--         its log
--         the log of the share (the log again if there is no share)
-- ARGV  the permit's id
--       how long it may be held
--       per want:
--         N (0: switched off)
--         the window
--         the share ('' if there is none)
--         the most places that the share may hold
-- returns {granted 0|1, wait, probe 0|1|2 (2: of a limit whose calls fail), whose call of that limit failed last}. The
-- next permit cannot be granted before wait has passed, unless a suspended limit is resumed: of such a rest the wait is
-- at most five seconds.
local RESUMED = 5 * 1000000
local id, hold, now = ARGV[1], tonumber(ARGV[2]), clock()
local wants, known = {}, false
for i = 1, #KEYS / 3 do
  local w = {
    state = readState(KEYS[3 * i - 2]), log = KEYS[3 * i - 1], shareLog = KEYS[3 * i],
    n = tonumber(ARGV[4 * i - 1]), window = tonumber(ARGV[4 * i]),
    share = ARGV[4 * i + 1], max = tonumber(ARGV[4 * i + 2]),
  }
  if w.n > 0 then
    local longest = applyWindow(w.state, w.window, now)
    for _, log in ipairs({ w.log, w.shareLog }) do
      redis.call('ZREMRANGEBYSCORE', log, '-inf', text(now - longest))
      keep(log, hold + longest)
    end
    known = known or redis.call('ZSCORE', w.log, id)
  end
  known = known or w.state.probe == id
  wants[i] = w
end

local function wait()
  local longest = 0
  for _, w in ipairs(wants) do
    local gate = gateWait(w.state, now)
    if w.state.refusals then gate = math.min(gate, RESUMED) end
    longest = math.max(longest, gate)
    if w.n > 0 then
      longest = math.max(longest, placeWait(w.log, w.n, w.window, now))
      if w.share ~= '' then
        longest = math.max(longest, placeWait(w.shareLog, w.max, w.window, now))
      end
    end
  end
  return longest
end

local function take(w)
  local s = w.state
  if s.notBefore then
    s.probe, s.probeFrom, s.probeUntil = id, now, now + hold
    redis.call('HSET', s.key, 'probe', id, 'probe_from', text(now), 'probe_until', text(now + hold))
  end
  if w.n > 0 then
    redis.call('ZADD', w.log, text(now + hold), id)
    keep(w.log, hold + s.window)
    if w.share ~= '' then
      redis.call('ZADD', w.shareLog, text(now + hold), id)
      keep(w.shareLog, hold + s.window)
      redis.call('HSET', s.key, 'share:' .. w.share, w.max)
    end
  end
end

local granted, needed = 1, 0
if not known then
  needed = wait()
  if needed > 0 then
    granted = 0
  else
    for _, w in ipairs(wants) do take(w) end
    needed = wait()
  end
end
local probe, party = 0, ''
for _, w in ipairs(wants) do
  keepState(w.state, now)
  if w.state.probe == id then probe = math.max(probe, 1) end
  if w.state.probe == id and (w.state.out or w.state.failing) then
    probe, party = 2, redis.call('HGET', w.state.key, 'party') or ''
  end
end
return { granted, math.ceil(needed), probe, party }
