-- Gives a permit back as if it had never been taken. If it was the probe, another may become it.
-- KEYS  per want:
--         the state of the limit
--         its log
--         the log of the share (the log again if there is no share)
-- ARGV  the permit's id
-- returns 1
for i = 1, #KEYS / 3 do
  redis.call('ZREM', KEYS[3 * i - 1], ARGV[1])
  redis.call('ZREM', KEYS[3 * i], ARGV[1])
  if redis.call('HGET', KEYS[3 * i - 2], 'probe') == ARGV[1] then
    redis.call('HDEL', KEYS[3 * i - 2], 'probe', 'probe_from', 'probe_until')
  end
end
return 1
