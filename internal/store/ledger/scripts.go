package ledger

import (
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// In every script KEYS are one campaign's: 1 meta (hash), 2 rows (hash: id → state, travel, JSON), 3 waiting (list of ids
// that nobody has looked up), 4 singles (list of ids that travel alone), 5 later (zset of ids by the instant, in ms, of
// their next attempt), 6 open (zset of id+token by the instant, in ms, until which a call or a look-up holds them),
// 7 ready (list of ids that were looked up and may ride in a bulk), 8 unsure (list of ids of which nobody knows what became
// of their last call). A token that begins with c holds for a call, any other for a question to Clerk.
// 9 running (set of the names of running campaigns, for the sweep), 10 lost (when Redis may have lost its memory, in ms), 11 forgotten
// (tombstones of addresses that were forgotten on request).
// A row's state byte: w waiting, o open, s sent, d dead. Its travel byte says in which list it waits: b waiting, r ready,
// s singles, u unsure.
// The intents of a recipient are at the prefix and its id: scripts that touch them get the prefix as an argument, since they
// learn the ids only from the lists. They have the ledger's hash tag.

// lease is how long a campaign stays its driver's after each look at its ledger, in ms; then the sweep gives it another.
const lease = `
local lease = 10000
`

// prelude defines what several scripts share: the time in ms, putting an id back into its list, and moving what is due.
const prelude = store.Clock + store.TombstoneLua + lease + `
local lines = { b = KEYS[3], s = KEYS[4], r = KEYS[7], u = KEYS[8] }
local function line(travel) return lines[travel] or KEYS[3] end
local function wait_again(id)
  local row = redis.call('HGET', KEYS[2], id)
  if not row then return end
  redis.call('HSET', KEYS[2], id, 'w' .. string.sub(row, 2))
  redis.call('LPUSH', line(string.sub(row, 2, 2)), id)
end
-- begin gives a running campaign time to get a driver before the sweep does.
local function begin(name)
  redis.call('SADD', KEYS[9], name)
  redis.call('HSET', KEYS[1], 'lease_until', stamp(now + lease))
end
local function doubt(id)
  local row = redis.call('HGET', KEYS[2], id)
  if not row then return end
  redis.call('HSET', KEYS[2], id, 'wu' .. string.sub(row, 3))
  redis.call('RPUSH', KEYS[8], id)
end
-- drop empties the lists of a cancelled campaign of whoever was in no call; who is unsure stays until Clerk was asked.
local function drop()
  redis.call('DEL', KEYS[3], KEYS[4], KEYS[7])
  for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    if string.sub(redis.call('HGET', KEYS[2], id) or '', 2, 2) ~= 'u' then redis.call('ZREM', KEYS[5], id) end
  end
end
-- take_back_questions ends the holds of a driver that has been replaced, but for those of its calls.
local function take_back_questions()
  for _, member in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
    if string.sub(member, 17, 17) ~= 'c' then
      redis.call('ZREM', KEYS[6], member)
      wait_again(string.sub(member, 1, 16))
    end
  end
end
-- count_dead counts a dead recipient, in all and by its code.
local function count_dead(row, n)
  local known, fields = pcall(cjson.decode, string.sub(row, 3))
  local code = known and type(fields) == 'table' and fields.c or ''
  redis.call('HINCRBY', KEYS[1], 'dead', n)
  if redis.call('HINCRBY', KEYS[1], 'dead:' .. code, n) <= 0 then redis.call('HDEL', KEYS[1], 'dead:' .. code) end
end
-- erase removes a recipient that was forgotten on request; a call that it is in goes on, and its outcome is not written.
local function erase(id)
  local row = redis.call('HGET', KEYS[2], id)
  if not row then return 0 end
  redis.call('HDEL', KEYS[2], id)
  redis.call('HINCRBY', KEYS[1], 'recipients', -1)
  redis.call('HINCRBY', KEYS[1], 'forgotten', 1)
  local state = string.sub(row, 1, 1)
  if state == 's' then redis.call('HINCRBY', KEYS[1], 'sent', -1) end
  if state == 'd' then count_dead(row, -1) end
  for _, list in pairs(lines) do redis.call('LREM', list, 1, id) end
  redis.call('ZREM', KEYS[5], id)
  return 1
end
local function move_due()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', stamp(now), 'LIMIT', 0, 1000)) do
    redis.call('ZREM', KEYS[5], id)
    wait_again(id)
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', stamp(now), 'LIMIT', 0, 1000)) do
    redis.call('ZREM', KEYS[6], member)
    if string.sub(member, 17, 17) == 'c' then doubt(string.sub(member, 1, 16)) else wait_again(string.sub(member, 1, 16)) end
  end
end
`

// commitScript moves a staged upload into the campaign, whole.
// KEYS[12]: the stage (list of id, row, id, row, …). ARGV: 1 version, 2 start (ms, or 0 for now), 3 how many list entries were staged,
// 4 the campaign's name.
// Returns {outcome, added, known, left out because they were forgotten}; outcome is ok, cancelled, newer, busy (a start was asked for but the campaign has begun)
// or incomplete (the stage expired).
var commitScript = redis.NewScript(prelude + `
local state = redis.call('HGET', KEYS[1], 'state')
if tonumber(redis.call('HGET', KEYS[1], 'v') or '0') > tonumber(ARGV[1]) then return {'newer', 0, 0, 0} end
if state == 'cancelled' then return {'cancelled', 0, 0, 0} end
local start = tonumber(ARGV[2])
if start > 0 and (state == 'running' or state == 'paused') then return {'busy', 0, 0, 0} end
if redis.call('LLEN', KEYS[12]) ~= tonumber(ARGV[3]) then return {'incomplete', 0, 0, 0} end
local added, known, erased = 0, 0, 0
while true do
  local staged = redis.call('LPOP', KEYS[12], 1000)
  if not staged or #staged == 0 then break end
  local fresh = {}
  for i = 1, #staged, 2 do
    if forgotten(KEYS[11], staged[i]) then
      erased = erased + 1
    elseif redis.call('HSETNX', KEYS[2], staged[i], staged[i + 1]) == 1 then
      fresh[#fresh + 1] = staged[i]
    else
      known = known + 1
    end
  end
  if #fresh > 0 then redis.call('RPUSH', KEYS[3], unpack(fresh)) end
  added = added + #fresh
end
if not state then
  redis.call('HSET', KEYS[1], 'v', ARGV[1], 'created_at', stamp(now), 'generation', 0)
end
if not state or (state == 'finished' and added > 0) then
  redis.call('HINCRBY', KEYS[1], 'generation', 1)
  redis.call('HDEL', KEYS[1], 'finished_at', 'scheduled_at')
  redis.call('HSET', KEYS[1], 'state', start > 0 and 'scheduled' or 'running')
  if start > 0 then redis.call('HSET', KEYS[1], 'scheduled_at', stamp(start)) else begin(ARGV[4]) end
end
redis.call('HINCRBY', KEYS[1], 'recipients', added)
return {'ok', added, known, erased}
`)

// startScript turns a scheduled campaign into a running one and gives its state. ARGV: the campaign's name.
var startScript = redis.NewScript(prelude + `
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'scheduled' then
  state = 'running'
  redis.call('HSET', KEYS[1], 'state', state)
  begin(ARGV[1])
end
if state == 'running' then redis.call('HSETNX', KEYS[1], 'started_at', stamp(now)) end
return state or ''
`)

// takeScript takes waiting recipients. For a call, which only a running campaign makes, it claims their addresses: one whose address
// somebody else has claimed waits a while longer, and one of whose earlier call nobody knows the end is unsure.
// ARGV: 1 how many, 2 token, 3 for how long (ms), 4 travel bytes of the lists to take from, in this order, 5 prefix of intents,
// 6 their owner, 7 how long the call may last (ms; 0: no call, nothing is claimed).
// Returns now and, for each, its id, its row, and its intent: since when it is claimed, or how it stands.
var takeScript = redis.NewScript(prelude + intent.Lua + `
local taken = { stamp(now) }
local for_call = tonumber(ARGV[7]) > 0
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'running' and (for_call or ARGV[4] ~= 'u') then return taken end
move_due()
local born = tonumber(redis.call('HGET', KEYS[1], 'created_at') or '0')
local lost = tonumber(redis.call('GET', KEYS[10]) or '0')
local function take(id)
  local row = redis.call('HGET', KEYS[2], id)
  if not row or (forgotten(KEYS[11], id) and erase(id)) then return end
  local key, about = ARGV[5] .. id, ''
  if for_call then
    local verdict, at = intent.claim(key, ARGV[6], ARGV[2], now + tonumber(ARGV[7]), born, lost)
    if verdict == 'busy' then return redis.call('ZADD', KEYS[5], stamp(at), id) end
    if verdict == 'unsure' then return doubt(id) end
    about = stamp(at)
  else
    about = intent.standing(key, ARGV[6])
  end
  redis.call('HSET', KEYS[2], id, 'o' .. string.sub(row, 2))
  redis.call('ZADD', KEYS[6], stamp(now + tonumber(ARGV[3])), id .. ARGV[2])
  taken[#taken + 1] = id
  taken[#taken + 1] = row
  taken[#taken + 1] = about
end
for travel in string.gmatch(ARGV[4], '.') do
  while true do
    local n = tonumber(ARGV[1]) - (#taken - 1) / 3
    local ids = n > 0 and redis.call('LPOP', line(travel), n)
    if not ids or #ids == 0 then break end
    for _, id in ipairs(ids) do take(id) end
  end
end
return taken
`)

// settleScript records what became of recipients that a call or a question held, and settles their intents; of one that it no
// longer holds, nothing. An invitation that was found but has settled another intent settles nothing: its recipient is unsure still.
// ARGV: 1 token, 2 prefix of intents, 3 their owner, then for each: id, row as it shall be, delay (ms; for a waiting one, -1 to
// the head of its list, 0 to its end), end of its intent (untold: none), token of the intent, invitation.
// Returns how many were recorded.
var settleScript = redis.NewScript(prelude + intent.Lua + `
local settled = 0
for i = 4, #ARGV, 6 do
  local id, row, delay, ending = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local held = redis.call('ZREM', KEYS[6], id .. ARGV[1]) == 1
  if held and forgotten(KEYS[11], id) then
    settled = settled + 1
    erase(id)
    redis.call('DEL', ARGV[2] .. id)
  elseif held then
    local told = ending == 'untold' or intent.settle(ARGV[2] .. id, ARGV[3], ARGV[i + 4], ending, ARGV[i + 5])
    local state = string.sub(row, 1, 1)
    if not told and ending == 'found' then
      doubt(id)
    else
      settled = settled + 1
      redis.call('HSET', KEYS[2], id, row)
      if state == 's' then
        redis.call('HINCRBY', KEYS[1], 'sent', 1)
      elseif state == 'd' then
        count_dead(row, 1)
      elseif delay < 0 then
        redis.call('LPUSH', line(string.sub(row, 2, 2)), id)
      elseif delay == 0 then
        redis.call('RPUSH', line(string.sub(row, 2, 2)), id)
      else
        redis.call('ZADD', KEYS[5], stamp(now + delay), id)
      end
    end
  end
end
return settled
`)

// progressScript tells the driver what there is to do, and finishes a running campaign that has nothing left: what is
// uploaded in the same instant either comes before, and is found waiting, or after, and reopens it. It renews the driver's lease,
// unless a later generation has taken over; the first time it takes back what its predecessor was asking about. A paused campaign
// keeps its driver, which goes on asking what became of calls; so does a cancelled one until nothing is open or unsure.
// ARGV: the driver's generation, the campaign's name.
// Returns {state, waiting, singles, later, open, ready, unsure, ms until the next of later and open is due or -1, generation}.
var progressScript = redis.NewScript(prelude + `
local state = redis.call('HGET', KEYS[1], 'state') or ''
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if state == 'running' or state == 'paused' or state == 'cancelled' then
  move_due()
  if state == 'cancelled' then drop() end
  if generation == tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], 'lease_until', stamp(now + lease))
    if redis.call('HGET', KEYS[1], 'driven') ~= ARGV[1] then
      redis.call('HSET', KEYS[1], 'driven', ARGV[1])
      take_back_questions()
    end
  end
end
local waiting, singles = redis.call('LLEN', KEYS[3]), redis.call('LLEN', KEYS[4])
local later, open, ready = redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]), redis.call('LLEN', KEYS[7])
local unsure = redis.call('LLEN', KEYS[8])
if state == 'running' and waiting + singles + later + open + ready + unsure == 0 then
  state = 'finished'
  redis.call('HSET', KEYS[1], 'state', state, 'finished_at', stamp(now))
  redis.call('SREM', KEYS[9], ARGV[2])
end
local due = -1
for k = 5, 6 do
  local first = redis.call('ZRANGE', KEYS[k], 0, 0, 'WITHSCORES')
  if first[2] and (due < 0 or tonumber(first[2]) - now < due) then due = math.max(0, tonumber(first[2]) - now) end
end
return {state, waiting, singles, later, open, ready, unsure, due, generation}
`)

// reviveScript lets a dead recipient wait again, until Clerk has been asked about its calls, and reopens a finished campaign for it.
// ARGV: id, row as it shall be, prefix of intents, their owner, since when there may have been calls (ms), the
// campaign's name. Returns ok, cancelled or missing.
var reviveScript = redis.NewScript(prelude + intent.Lua + `
local state = redis.call('HGET', KEYS[1], 'state')
local row = redis.call('HGET', KEYS[2], ARGV[1])
if not state or not row then return 'missing' end
if state == 'cancelled' then return 'cancelled' end
if string.sub(row, 1, 1) ~= 'd' then return 'ok' end
intent.reopen(ARGV[3] .. ARGV[1], ARGV[4], tonumber(ARGV[5]))
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('RPUSH', line(string.sub(ARGV[2], 2, 2)), ARGV[1])
count_dead(row, -1)
if state == 'finished' then
  redis.call('HINCRBY', KEYS[1], 'generation', 1)
  redis.call('HSET', KEYS[1], 'state', 'running')
  redis.call('HDEL', KEYS[1], 'finished_at')
  begin(ARGV[6])
end
return 'ok'
`)

// sweepScript finds running, paused and draining campaigns without a driver and begins a new generation of each. KEYS: running.
// ARGV: what the key of a campaign's head begins with (its name and ":meta" follow; it has the same hash tag).
// Returns {name, generation, …}.
var sweepScript = redis.NewScript(store.Clock + lease + `
local orphans = {}
for _, name in ipairs(redis.call('SRANDMEMBER', KEYS[1], 1000)) do
  local key = ARGV[1] .. name .. ':meta'
  local head = redis.call('HMGET', key, 'state', 'lease_until')
  local function left(part, count) return redis.call(count, ARGV[1] .. name .. ':' .. part) end
  local draining = head[1] == 'cancelled' and left('unsure', 'LLEN') + left('open', 'ZCARD') + left('later', 'ZCARD') > 0
  if head[1] ~= 'running' and head[1] ~= 'paused' and not draining then
    redis.call('SREM', KEYS[1], name)
  elseif tonumber(head[2] or '0') < now then
    redis.call('HSET', key, 'lease_until', stamp(now + lease))
    orphans[#orphans + 1] = name
    orphans[#orphans + 1] = tostring(redis.call('HINCRBY', key, 'generation', 1))
  end
end
return orphans
`)

// controlScript pauses, resumes or cancels a campaign. ARGV: what, the campaign's name. Returns missing, over (it has finished, or was
// cancelled), or ok; and the state it is in.
var controlScript = redis.NewScript(prelude + `
local state, what = redis.call('HGET', KEYS[1], 'state'), ARGV[1]
if not state then return {'missing', ''} end
if state == 'finished' or (state == 'cancelled' and what ~= 'cancel') then return {'over', state} end
local function become(new)
  if state ~= new then redis.call('HSET', KEYS[1], 'state', new) end
  state = new
end
if what == 'cancel' and state ~= 'cancelled' then
  become('cancelled')
  redis.call('HSET', KEYS[1], 'finished_at', stamp(now))
  drop()
elseif what == 'pause' then
  become('paused')
elseif what == 'resume' and state == 'paused' then
  if tonumber(redis.call('HGET', KEYS[1], 'scheduled_at') or '0') > now then
    become('scheduled')
  else
    become('running')
    redis.call('HSETNX', KEYS[1], 'started_at', stamp(now))
  end
end
if state == 'running' or state == 'paused' then
  redis.call('SADD', KEYS[9], ARGV[2])
end
return {'ok', state}
`)

// eraseScript removes a recipient that was forgotten on request. ARGV: id. Returns 1 if it was there.
var eraseScript = redis.NewScript(prelude + `return erase(ARGV[1])`)
