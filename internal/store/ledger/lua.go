package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
)

// lease is how long a campaign stays its driver's after each look at its ledger, in ms; then the sweep gives it
// another.
const lease = "\nlocal lease = 10000\n"

// slice is how many recipients one script moves from one place to another, so that it does not stop Redis for long.
const slice = "\nlocal slice = 250\n"

// request begins the part of a ledger in which a script notes what it answered to a request: go-redis repeats a
// request whose answer is late.
const request = "request:"

// prelude begins every script of a campaign. It names the keys and the first arguments, which run gives to all of
// them:
//
// KEYS[1] -> usher:{once}:c:NAME:meta     hash of the campaign's head
// KEYS[2] -> usher:{once}:c:NAME:rows     hash of rows by id: state and list, a byte each, and JSON
// KEYS[3] -> usher:{once}:c:NAME:waiting  list of ids that nobody has looked up
// KEYS[4] -> usher:{once}:c:NAME:singles  list of ids that are sent alone
// KEYS[5] -> usher:{once}:c:NAME:later    zset of ids by the instant (ms) of their next attempt
// KEYS[6] -> usher:{once}:c:NAME:open     zset of id+token by the instant (ms) until which a call or question holds it
// KEYS[7] -> usher:{once}:c:NAME:ready    list of ids that were looked up and may ride in a bulk
// KEYS[8] -> usher:{once}:c:NAME:unsure   list of ids of which nobody knows what became of their last call
// KEYS[9] -> usher:{once}:running
// KEYS[10] -> usher:{once}:lost
// KEYS[11] -> usher:{once}:forgotten
// KEYS[12] -> usher:{once}:d:index
// --
// ARGV[1] -> the campaign's name
// ARGV[2] -> owner of its recipients' intents
// ARGV[3] -> what the keys of intents begin with
// ARGV[4] -> what the keys of dead letters begin with
//
// A row's state is w waiting, o open, s sent, d dead or k skipped. Its list is where it waits: b waiting,
// r ready, s singles, u unsure. A token that begins with c holds for a call, any other for a question to Clerk:
// one with u for one about unsure recipients.
//
// A list may name recipients that are not there any more, or that wait elsewhere: to search it would stop Redis for as
// long as the list is. Who takes from a list looks at the row.
//
// Redis rolls no script back: if a right is taken away from the user of a worker, a script ends at the command that is
// refused. So scripts write in an order in which that loses nothing. What a row says is true; whoever is in no list
// then is put back by mendScript; a count is never more than there are, so that it shows.
//
// uploads names the uploads on their way into the campaign, in their order, with a space between two. While it names
// any, the campaign is uploading, or was paused, and after says what it is to be when they have arrived. Scripts of
// earlier versions make no calls in a state that they do not know. A campaign that is being deleted has no state here,
// as one that is not there.
//
//	placed(row, place): a row that has no place yet, with one
//	become(new): changes the state of the campaign
//	begin(): lets it run, and gives it time to get a driver before the sweep gives it one
//	raise(v): has the campaign read only by versions that know v, and tells whether a driver was stopped for that.
//	  One of an earlier version may run: the campaign makes no calls until that one has noticed
//	reopen(start): begins a new generation of a campaign that has finished, at an instant (ms; 0: now)
//	wait_again(id, doubted): puts a recipient at the head of its list, or a doubted one at the end of the unsure
//	let_go(member): ends a hold; who was in a call is unsure. The end of one may be written already, by a settlement
//	  that was broken off: then it closes the intent
//	move_due(): lets wait again who is due, and lets go of whom nobody holds any more
//	drop(): empties a cancelled campaign of some who are in no call; who is unsure stays until Clerk was asked. So
//	  does who waits for a call while an earlier one may have made an invitation: nobody else may call for the address
//	  before that is known. It tells whether it has looked at all of them
//	count_dead(row, n): counts a dead recipient, in all and by its code
//	counts(): how many recipients are in each part of the ledger: waiting, singles, ready, unsure, later and open
//	erase(id): removes a recipient that was forgotten on request, and its links in mended. A call that it is in goes
//	  on, and its outcome is not written
//
// mended is the key of a hash. It maps the id of an address that was replaced to the id of the one that has its place.
// Under from: and the id of a row it has the row's first address, as text.
const prelude = store.Clock + store.TombstoneLua + intent.Lua + deadletter.Lua + lease + slice + store.RequestKeep + `
local meta, rows, waiting, singles, later, open, ready, unsure, running, lost, tombstones, letters = unpack(KEYS)
local name, owner, intents, letter_keys = unpack(ARGV, 1, 4)
local state, uploads = unpack(redis.call('HMGET', meta, 'state', 'uploads'))
uploads = uploads or ''
local mended = string.sub(meta, 1, -5) .. 'mended'
local deleting = state == 'deleting'
if deleting then state = false end
local lists = { b = waiting, s = singles, r = ready, u = unsure }
local function list_of(row) return lists[string.sub(row, 2, 2)] or waiting end
local function placed(row, place) return place and string.sub(row, 1, -2) .. ',"l":' .. place .. '}' or row end
local function number(field) return tonumber(redis.call('HGET', meta, field) or '0') end
local function become(new)
  if state ~= new then redis.call('HSET', meta, 'state', new) end
  state = new
end
local function begin()
  redis.call('SADD', running, name)
  become('running')
  redis.call('HSET', meta, 'lease_until', stamp(now + lease))
end
local function raise(v)
  if tonumber(v) <= number('v') then return false end
  redis.call('HSET', meta, 'v', v)
  local goes_on = state == 'uploading' and redis.call('HGET', meta, 'after') or state
  if goes_on ~= 'running' and goes_on ~= 'paused' then return false end
  redis.call('HINCRBY', meta, 'generation', 1)
  redis.call('HSET', meta, 'scheduled_at', stamp(now + lease))
  if goes_on == 'running' and state == 'uploading' then
    redis.call('HSET', meta, 'after', 'scheduled')
  elseif goes_on == 'running' then
    become('scheduled')
  end
  return true
end
local function reopen(start)
  local after = redis.call('HGET', meta, 'after')
  if state ~= 'finished' and not (state == 'uploading' and after == 'finished') then return end
  redis.call('HSET', meta, 'reopened_at', stamp(now))
  redis.call('HINCRBY', meta, 'generation', 1)
  redis.call('HDEL', meta, 'finished_at', 'scheduled_at')
  if start > 0 then redis.call('HSET', meta, 'scheduled_at', stamp(start)) end
  if state == 'uploading' then
    redis.call('HSET', meta, 'after', start > 0 and 'scheduled' or 'running')
  else
    begin()
  end
end
local function wait_again(id, doubted)
  local row = redis.call('HGET', rows, id)
  if not row or not string.find(row, '^[wo]') then return end
  row = 'w' .. (doubted and 'u' or string.sub(row, 2, 2)) .. string.sub(row, 3)
  redis.call('HSET', rows, id, row)
  redis.call(doubted and 'RPUSH' or 'LPUSH', list_of(row), id)
end
local function fields_of(row)
  local known, fields = pcall(cjson.decode, string.sub(row, 3))
  return known and type(fields) == 'table' and fields or {}
end
local function let_go(member)
  local id = string.sub(member, 1, 16)
  local row = redis.call('HGET', rows, id)
  if row and string.find(row, '^[sdk]') then intent.close(intents .. id, owner, fields_of(row).i or '') end
  redis.call('ZREM', open, member)
  wait_again(id, string.sub(member, 17, 17) == 'c')
end
local function move_due()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', stamp(now), 'LIMIT', 0, slice)) do
    redis.call('ZREM', later, id)
    wait_again(id)
  end
  for _, held in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', stamp(now), 'LIMIT', 0, slice)) do let_go(held) end
end
local function drop()
  local left = 4 * slice
  local function doubtful(id) return intent.blocks(intent.read(intents .. id, owner)) end
  local function doubt(id)
    wait_again(id, true)
    redis.call('SADD', running, name) -- so that it gets a driver, which asks
  end
  for letter, list in pairs({ s = singles, r = ready, b = waiting }) do
    local ids = left > 0 and redis.call('LPOP', list, left) or {}
    left = left - #ids
    for _, id in ipairs(ids) do
      if doubtful(id) and string.sub(redis.call('HGET', rows, id) or '', 1, 2) == 'w' .. letter then doubt(id) end
    end
  end
  local scan = redis.call('ZSCAN', later, redis.call('HGET', meta, 'dropping') or '0', 'COUNT', slice)
  for i = 1, #scan[2], 2 do
    local id = scan[2][i]
    if string.sub(redis.call('HGET', rows, id) or '', 2, 2) ~= 'u' then
      redis.call('ZREM', later, id)
      if doubtful(id) then doubt(id) end
    end
  end
  local all = scan[1] == '0' and redis.call('EXISTS', singles, ready, waiting) == 0
  if all then redis.call('HDEL', meta, 'dropping') else redis.call('HSET', meta, 'dropping', scan[1]) end
  return all
end
local function count_dead(row, n)
  local code = 'dead:' .. (fields_of(row).c or '')
  redis.call('HINCRBY', meta, 'dead', n)
  if redis.call('HINCRBY', meta, code, n) <= 0 then redis.call('HDEL', meta, code) end
end
local function counts()
  local n = { later = redis.call('ZCARD', later), open = redis.call('ZCARD', open) }
  for part, list in pairs({ waiting = waiting, singles = singles, ready = ready, unsure = unsure }) do
    n[part] = redis.call('LLEN', list)
  end
  return n
end
local function erase(id)
  local at = redis.call('HGET', mended, id)
  while at do
    redis.call('HDEL', mended, 'from:' .. at)
    at = redis.call('HGET', mended, at)
  end
  redis.call('HDEL', mended, id, 'from:' .. id)
  local hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
  redis.call('DEL', string.sub(letter_keys, 1, -3) .. 'g:' .. name .. ':' .. hex)
  local row = redis.call('HGET', rows, id)
  if not row then return 0 end
  local links = redis.call('HGETALL', mended)
  for i = 1, #links, 2 do
    if links[i + 1] == id then redis.call('HSET', mended, links[i], '') end
  end
  redis.call('HDEL', rows, id)
  redis.call('HINCRBY', meta, 'recipients', -1)
  redis.call('HINCRBY', meta, 'forgotten', 1)
  if string.sub(row, 1, 1) == 's' then redis.call('HINCRBY', meta, 'sent', -1) end
  if string.sub(row, 1, 1) == 'k' then redis.call('HINCRBY', meta, 'skipped', -1) end
  if string.sub(row, 1, 1) == 'd' then count_dead(row, -1) end
  redis.call('ZREM', later, id)
  return 1
end
`

// run runs a script of a campaign. What it has more than the prelude names is KEYS[13] and ARGV[5] and on.
func (l *Ledgers) run(ctx context.Context, script *redis.Script, name string, more []string, args ...any) *redis.Cmd {
	call := l.call(name, more, args...)
	return script.Run(ctx, l.db, call.Keys, call.Args...)
}

// call is what run gives a script.
func (l *Ledgers) call(name string, more []string, args ...any) store.Call {
	var keys []string
	for _, part := range []string{"meta", "rows", "waiting", "singles", "later", "open", "ready", "unsure"} {
		keys = append(keys, l.db.Key.Ledger(name, part))
	}
	keys = append(keys, l.db.Key.Running(), l.db.Key.Lost(), l.db.Key.Tombstones(), l.db.Key.Letters())
	args = append([]any{name, intent.CampaignOwner(name), l.db.Key.Intents(""), l.db.Key.Letter("")}, args...)
	return store.Call{Keys: append(keys, more...), Args: args}
}

// read reads the answer of a script that answers in JSON.
func read(answer *redis.Cmd, into any) error {
	text, err := answer.Text()
	if err == nil && json.Unmarshal([]byte(text), into) != nil {
		err = store.ErrGarbage
	}
	return err
}

// verdict is what a script answers that changes a campaign.
type verdict struct {
	Outcome string
	State   State
	At      int64 // when the campaign was deleted, in ms
}

// change runs a script that changes a campaign. The error says why it was not changed.
func (l *Ledgers) change(
	ctx context.Context, script *redis.Script, name string, more []string, args ...any,
) (v verdict, err error) {
	return verdictOn(name, l.run(ctx, script, name, more, args...))
}

// verdictOn reads the answer of a script that changes a campaign.
func verdictOn(name string, answer *redis.Cmd) (v verdict, err error) {
	switch err := read(answer, &v); {
	case err != nil:
		return v, fmt.Errorf("campaign %s: %w", name, err)
	case v.Outcome == "ok":
		return v, nil
	case v.Outcome == "deleted":
		return v, &DeletedError{Name: name, At: time.UnixMilli(v.At).UTC()}
	case v.Outcome == "over":
		return v, fmt.Errorf("%s is %s: %w", name, v.State, ErrOver)
	}
	why, known := map[string]error{
		"missing": ErrNotFound, "cancelled": ErrCancelled, "newer": store.ErrNewer, "busy": ErrBusy,
		"incomplete": errIncomplete, "taken": ErrTaken, "forgotten": ErrForgotten,
		"running": ErrNotOver, "unsure": ErrUnsettled, "changed": ErrChanged,
	}[v.Outcome]
	if !known {
		why = store.ErrGarbage
	}
	return v, fmt.Errorf("%s: %w", name, why)
}
