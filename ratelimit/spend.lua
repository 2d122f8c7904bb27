-- Notes that the answer to a permit's call has arrived: its window starts now. An entry that is gone (its deadline and
-- a window are over) stays gone. The probe ends the rest of the limits that it held a place of, unless it was refused.
-- A refusal or failure that is told again, because the client has lost the answer, counts once.
-- KEYS  per want:
--         the state of the limit
--         its log
--         the log of the share (the log again if there is no share)
--       what was answered to this permit
-- ARGV  the permit's id
--       the number of the want that the answer is about (0: none)
--       what the answer says of it: done (nothing), succeeded, refused, failed, or unsent (failed; nothing was sent)
--       how long the limit rests
--       the longest rest, if it doubles with each refusal in a row (0: it does not)
--       for how long calls must have succeeded before it starts again from the shortest
--       why it rests, for people
--       how long ago the call began
--       of a failure: whose call it was ('': anybody's), and the rest that was asked for at any rate
--       how many failures suspend the limit or, of one that succeeded, were an outage: of so many (one that fails again
--         counts as two if nothing has succeeded for so long; 0: never), so many, and so many more or such an age of
--         the first
--       per want: as acquire takes it
-- returns how many refusals in a row have suspended the limit (0: it is not suspended; less: it was already), or, of a
-- call that did not fail, 1 if it ended an outage
local id, about, what, now = ARGV[1], tonumber(ARGV[2]), ARGV[3], clock()
local rest, most, calm, why = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local took, party, asked = tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local parties, quiet = tonumber(ARGV[11]), tonumber(ARGV[12])
local few, many, age = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local FIRST_WANT = 16
local OUTAGES = 8

-- suspend lets a limit rest, longer with each refusal in a row. Calls that are refused while it rests were made
-- before: they count once. The outage began when the first call did that failed in it.
local function suspend(s, began)
  if not s.out or began < s.out then redis.call('HSET', s.key, 'out', text(began)) end
  redis.call('HDEL', s.key, 'failing', 'failures', 'party', 'parties')
  local refusals = s.refusals or 0
  if s.notBefore and now < s.notBefore and refusals > 0 then return -refusals end
  if s.calm and now - s.calm >= calm then refusals = 0 end
  if refusals == 0 then redis.call('HSET', s.key, 'since', text(now)) end
  redis.call('HSET', s.key, 'refusals', refusals + 1, 'why', why)
  redis.call('HDEL', s.key, 'calm')
  s.notBefore = math.max(s.notBefore or 0, now + math.min(rest * 2 ^ math.min(refusals, 40), most))
  return refusals + 1
end

-- enough tells whether so many failures, of one party or of two, and since an instant, are everybody's.
local function enough(failures, several, since)
  return several >= parties and failures >= few and (failures >= many or now - since >= age)
end

-- failed notes a failure, and tells since when calls fail if there are enough of them to suspend the limit.
local function failed(s)
  local began = now - took
  if s.out then return math.min(began, s.out) end
  local v = redis.call('HMGET', s.key, 'failures', 'party', 'parties', 'succeeded')
  local since = math.min(s.failing or began, began)
  local failures = (number(s.key, 'failures', v[1]) or 0) + 1
  local several = number(s.key, 'parties', v[3]) or 1
  local again = v[2] == party and quiet > 0 and now - (number(s.key, 'succeeded', v[4]) or 0) >= quiet
  if party == '' or again or (v[2] and v[2] ~= party) then several = 2 end
  if enough(failures, several, since) then return since end
  redis.call('HSET', s.key, 'failing', text(since), 'failures', failures, 'party', party, 'parties', several)
  keepState(s, now)
end

-- remember keeps an outage that is over.
local function remember(s, since)
  local outages = { text(since) .. '-' .. text(now) }
  for outage in string.gmatch(redis.call('HGET', s.key, 'outages') or '', '[^,]+') do
    if #outages < OUTAGES then outages[#outages + 1] = outage end
  end
  redis.call('HSET', s.key, 'outages', table.concat(outages, ','))
end

-- succeeded notes a success. If enough have failed before, that was an outage.
local function succeeded(s)
  if s.failing then
    local v = redis.call('HMGET', s.key, 'failures', 'parties')
    local failures, several = number(s.key, 'failures', v[1]) or 0, number(s.key, 'parties', v[2]) or 1
    if enough(failures, several, s.failing) then remember(s, s.failing) end
  end
  redis.call('HSET', s.key, 'succeeded', text(now))
  redis.call('HDEL', s.key, 'failing', 'failures', 'party', 'parties')
  keepState(s, now)
end

-- over ends the rest of a limit, and the outage if there is one.
local function over(s)
  redis.call('HDEL', s.key, 'not_before')
  if s.refusals then redis.call('HSET', s.key, 'calm', text(now)) end
  if not s.out then return 0 end
  remember(s, s.out)
  redis.call('HDEL', s.key, 'out')
  return 1
end

-- reject lets a limit rest on. A probe that is under way proves nothing about what comes after this answer.
local function reject(s)
  redis.call('HSET', s.key, 'not_before', text(s.notBefore))
  redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
  keepState(s, now)
end

local function log(i, s)
  local n, window, share = unpack(ARGV, FIRST_WANT + 4 * (i - 1), FIRST_WANT + 4 * (i - 1) + 2)
  if n == '0' then return end
  for _, log in ipairs({ KEYS[3 * i - 1], share ~= '' and KEYS[3 * i] or nil }) do
    if what == 'unsent' then
      redis.call('ZREM', log, id)
    elseif redis.call('ZADD', log, 'XX', 'CH', text(now), id) == 1 then
      keep(log, math.max(tonumber(window), s.window or 0))
    end
  end
end

local answer, refused, told = 0, what == 'refused', KEYS[#KEYS]
local fails = what == 'failed' or what == 'unsent'
local harms = refused or fails
local before = harms and redis.call('GET', told)
if before then return tonumber(before) end
if about > 0 then
  local s = readState(KEYS[3 * about - 2])
  local began = refused and most > 0 and now - took or nil
  if fails then
    began = failed(s)
    refused = began or asked > 0
  elseif what == 'succeeded' then
    succeeded(s)
  end
  if began then
    answer = suspend(s, began)
  elseif refused then
    s.notBefore = math.max(s.notBefore or 0, now + (what == 'refused' and rest or asked))
  end
  if refused then reject(s) end
end
for i = 1, (#KEYS - 1) / 3 do
  local s = readState(KEYS[3 * i - 2])
  log(i, s)
  if s.probe == id then
    redis.call('HDEL', s.key, 'probe', 'probe_from', 'probe_until')
    if fails and s.out then
      suspend(s, s.out)
      reject(s)
    elseif not refused then -- or else it has proved nothing about this limit
      answer = math.max(answer, over(s))
    end
  end
end
if harms then redis.call('SET', told, answer, 'PX', 60000) end
return answer
