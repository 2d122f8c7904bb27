-- Reads how limits are used, one after the other in the order of their names.
-- KEYS  the figures
-- ARGV  what the keys of all limits begin with
--       the most limits that there may be
--       the most shares that are read of a limit
--       of how many used places of a log it is read when they come free
--       the name after which it begins
-- returns the name after which it goes on (empty: it has ended; one call lists so many places and hardly more), and of
-- each limit its name and JSON: n; as text, window, now, notbefore (the end of the rest; 0: none), since (the start of
-- a suspension; 0: none) and wait; why it is suspended; probing; and logs: of the limit first (with no name), then of
-- each share, its name, max, used and inflight, and frees, the spans after which places come free.
local now, listed = clock(), 0
local begins, mostLimits, mostShares, most, after = unpack(ARGV)
most = tonumber(most)

local function usageOf(name)
  local key = begins .. name
  local n, window = string.match(redis.call('HGET', KEYS[1], name) or '', '^(%d+) (%d+)$')
  n, window = number(KEYS[1], name, n), number(KEYS[1], name, window)
  if not n then error('garbage in ' .. KEYS[1] .. ': ' .. name .. ' has not two numbers') end
  local s = readState(key .. ':state')
  local usage = {
    n = n, window = text(window), now = text(now), notbefore = text(s.notBefore or 0), probing = false, wait = 0,
    logs = n > 0 and {} or nil, since = '0', why = '',
  }
  local function add(share, max, log)
    local from = '(' .. text(now - window)
    local entry = {
      name = share, max = max,
      used = redis.call('ZCOUNT', log, from, '+inf'), inflight = redis.call('ZCOUNT', log, '(' .. text(now), '+inf'),
    }
    local scores = most > 0 and redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES', 'LIMIT', 0, most) or {}
    for i = 2, #scores, 2 do
      entry.frees = entry.frees or {}
      -- The score of a call in flight is its deadline; answered now, it frees its place a window from now.
      table.insert(entry.frees, math.ceil(math.min(tonumber(scores[i]), now) + window - now))
    end
    listed = listed + #scores / 2
    table.insert(usage.logs, entry)
  end
  if redis.call('HLEN', s.key) > tonumber(mostShares) + 20 then
    error('garbage in ' .. s.key .. ': it names too many shares')
  end
  if n > 0 then
    add('', n, key .. ':log')
    local all = redis.call('HGETALL', s.key)
    for i = 1, #all, 2 do
      local share = string.match(all[i], '^share:([%w._-]+)$')
      if share then add(share, number(s.key, all[i], all[i + 1]), key .. ':share:' .. share) end
    end
    usage.wait = placeWait(key .. ':log', n, window, now)
  end
  if s.notBefore then
    if s.refusals then
      usage.since = text(number(s.key, 'since', redis.call('HGET', s.key, 'since')) or 0)
      usage.why = redis.call('HGET', s.key, 'why') or ''
    end
    if now < s.notBefore then usage.wait = math.max(usage.wait, s.notBefore - now) else usage.probing = true end
  end
  usage.wait = text(math.ceil(usage.wait))
  return cjson.encode(usage)
end

if redis.call('HLEN', KEYS[1]) > tonumber(mostLimits) then
  error('garbage in ' .. KEYS[1] .. ': it names too many limits')
end
local names, answer = redis.call('HKEYS', KEYS[1]), { '' }
table.sort(names)
for _, name in ipairs(names) do
  if name > after then
    answer[#answer + 1] = name
    answer[#answer + 1] = usageOf(name)
    if listed > 0 and listed >= most then
      answer[1] = name
      break
    end
  end
end
return answer
