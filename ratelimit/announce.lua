-- Stores the figures of a process for programs that only read, and keeps the logs long enough for its windows.
-- KEYS  the figures
--       per limit: its state
-- ARGV  per limit:
--         its name
--         N
--         its window
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
