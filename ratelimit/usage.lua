-- Reads how one limit is used.
-- KEYS  the state of the limit
--       its log
--       the figures
-- ARGV  its name
--       what the keys of the logs of its shares begin with
--       the most shares that are read
--       of how many used places of a log it is read when they come free
-- returns JSON: n; as text, window, now, notbefore (the end of the rest; 0: none), since (the start of a suspension; 0:
-- none) and wait; why it is suspended; probing; and logs: of the limit first (with no name), then of each share, its
-- name, max, used and inflight, and frees, the spans after which places come free.
local now = clock()
local n, window = string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '', '^(%d+) (%d+)$')
n, window = number(KEYS[3], ARGV[1], n), number(KEYS[3], ARGV[1], window)
if not n then error('garbage in ' .. KEYS[3] .. ': ' .. ARGV[1] .. ' has not two numbers') end
local s = readState(KEYS[1])
local usage = {
  n = n, window = text(window), now = text(now), notbefore = text(s.notBefore or 0), probing = false, wait = 0,
  logs = n > 0 and {} or nil, since = '0', why = '',
}
local function add(name, max, log)
  local from = '(' .. text(now - window)
  local entry = {
    name = name, max = max,
    used = redis.call('ZCOUNT', log, from, '+inf'), inflight = redis.call('ZCOUNT', log, '(' .. text(now), '+inf'),
  }
  local scores = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
  for i = 2, #scores, 2 do
    entry.frees = entry.frees or {}
    -- The score of a call in flight is its deadline; answered now, it frees its place a window from now.
    table.insert(entry.frees, math.ceil(math.min(tonumber(scores[i]), now) + window - now))
  end
  table.insert(usage.logs, entry)
end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) + 20 then
  error('garbage in ' .. KEYS[1] .. ': it names too many shares')
end
if n > 0 then
  add('', n, KEYS[2])
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local share = string.match(all[i], '^share:([%w._-]+)$')
    if share then add(share, number(KEYS[1], all[i], all[i + 1]), ARGV[2] .. share) end
  end
  usage.wait = placeWait(KEYS[2], n, window, now)
end
if s.notBefore then
  if s.refusals then
    usage.since = text(number(KEYS[1], 'since', redis.call('HGET', KEYS[1], 'since')) or 0)
    usage.why = redis.call('HGET', KEYS[1], 'why') or ''
  end
  if now < s.notBefore then usage.wait = math.max(usage.wait, s.notBefore - now) else usage.probing = true end
end
usage.wait = text(math.ceil(usage.wait))
return cjson.encode(usage)
