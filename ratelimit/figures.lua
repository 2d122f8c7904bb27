-- Reads which limits were announced.
-- KEYS  the figures
-- ARGV  the most limits that are read
-- returns their names
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  error('garbage in ' .. KEYS[1] .. ': it names too many limits')
end
return redis.call('HKEYS', KEYS[1])
