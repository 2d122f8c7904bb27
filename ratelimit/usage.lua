-- Reads how one limit is used.
-- KEYS  the state of the limit
--       its log
-- ARGV  N
--       the window
--       the most shares that are read
-- returns {now, used, in flight, end of the rest (0: none), probing 0|1, wait, share, its max, …}
local n, window, most, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), clock()
local s = readState(KEYS[1])
local used, flying, wait, probing = 0, 0, 0, 0
if n > 0 then
  used = redis.call('ZCOUNT', KEYS[2], '(' .. text(now - window), '+inf')
  flying = redis.call('ZCOUNT', KEYS[2], '(' .. text(now), '+inf')
  wait = placeWait(KEYS[2], n, window, now)
end
if s.notBefore then
  if now < s.notBefore then wait = math.max(wait, s.notBefore - now) else probing = 1 end
end
local answer = { now, used, flying, s.notBefore or 0, probing, math.ceil(wait) }
if redis.call('HLEN', KEYS[1]) > most + 6 then
  error('garbage in ' .. KEYS[1] .. ': it names too many shares')
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local share = string.match(all[i], '^share:([%w._-]+)$')
  if share then
    table.insert(answer, share)
    table.insert(answer, number(KEYS[1], all[i], all[i + 1]))
  end
end
return answer
