-- Stores the figures of a process for those who only read, and keeps the logs long enough for its windows.
-- KEYS  figures, then the state of each limit
-- ARGV  per limit: name, N, window
-- returns 1
local now = clock()
for i = 2, #KEYS do
  local name, n, window = ARGV[3 * i - 5], ARGV[3 * i - 4], ARGV[3 * i - 3]
  redis.call('HSET', KEYS[1], name, n .. ' ' .. window)
  if tonumber(n) > 0 then
    local s = readState(KEYS[i])
    applyWindow(s, tonumber(window), now)
    keepState(s, now)
  end
end
return 1
