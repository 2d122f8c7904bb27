-- Ends the rest of a limit: one call goes first now.
-- KEYS  the state of the limit
-- returns 1 if it rested
local s, now = readState(KEYS[1]), clock()
if not s.notBefore or now >= s.notBefore then return 0 end
redis.call('HSET', s.key, 'not_before', text(now))
return 1
