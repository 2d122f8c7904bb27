-- Ends the rest of a limit: one call goes first now.
-- KEYS  the state of the limit
--       what was answered to this request
-- returns 1 if it rested
local s, now = readState(KEYS[1]), clock()
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
if not s.notBefore or now >= s.notBefore then return 0 end
redis.call('HSET', s.key, 'not_before', text(now))
redis.call('SET', KEYS[2], 1, 'PX', 60000)
return 1
