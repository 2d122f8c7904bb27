-- Reads the announced figures.
-- KEYS  the figures
-- ARGV  the most limits that are read
-- returns {name, "N window", …}
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  error('garbage in ' .. KEYS[1] .. ': it names too many limits')
end
local all = redis.call('HGETALL', KEYS[1])
for _, v in ipairs(all) do
  if #v > 64 then error('garbage in ' .. KEYS[1] .. ': a field is too long') end
end
return all
