-- Stores the figures of a process for programs that only read, and keeps the logs long enough for its windows. It
-- forgets limits that count nothing and that nobody uses any more.
-- KEYS  the figures
--       per limit: its state
-- ARGV  what the keys of all limits begin with
--       per limit:
--         its name
--         N
--         its window
-- returns 1
local now = clock()
for i = 2, #KEYS do
  local name, n, window = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  redis.call('HSET', KEYS[1], name, n .. ' ' .. window)
  local s = readState(KEYS[i])
  if tonumber(n) > 0 then applyWindow(s, tonumber(window), now) end
  redis.call('HSET', KEYS[i], 'announced', text(now)) -- while it is used, acquire keeps what is there
  keepState(s, now)
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local state = ARGV[1] .. all[i] .. ':state'
  if string.sub(all[i + 1], 1, 2) == '0 ' and redis.call('EXISTS', state) == 0 then
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return 1
