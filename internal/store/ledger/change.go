package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
)

// reviveScript lets a dead recipient wait again, until Clerk has been asked about its calls, and reopens a finished
// campaign for it. Another address may take the recipient's place. Repeating it changes nothing.
//
// KEYS[13] -> usher:{once}:moving
// --
// ARGV[5] -> id
// ARGV[6] -> row as it shall be
// ARGV[7] -> since when there may have been calls (ms; 0: if it has an intent)
// ARGV[8] -> id that it shall have
// ARGV[9] -> the address that it had, if it shall have another one
// ARGV[10] -> the version of ledgers that the row needs
// --
// Returns JSON: outcome (ok, cancelled, missing, taken or forgotten).
var reviveScript = redis.NewScript(prelude + `
local id, new, row = ARGV[5], ARGV[8], redis.call('HGET', rows, ARGV[5])
local function answer(outcome) return cjson.encode({ outcome = outcome }) end
if state and not row and redis.call('HGET', mended, id) == new then return answer('ok') end
if not state or not row then return answer('missing') end
if state == 'cancelled' then return answer('cancelled') end
if string.sub(row, 1, 1) ~= 'd' then return answer(id == new and 'ok' or 'missing') end
if id ~= new then
  if forgotten(tombstones, new) then return answer('forgotten') end
  local ours = redis.call('HGET', mended, id) == new -- a script that was broken off has put it there
  if redis.call('HEXISTS', rows, new) == 1 and not ours then return answer('taken') end
end
intent.reopen(intents .. new, owner, tonumber(ARGV[7]))
-- The campaign goes on, and counts one less, before the row is another one: repeating this changes only dead rows.
if raise(ARGV[10]) then redis.call('SADD', KEYS[13], name) end
reopen(0)
count_dead(row, -1)
redis.call('RPUSH', list_of(ARGV[6]), new)
local first = redis.call('HGET', mended, 'from:' .. id) or ARGV[9]
if id ~= new then redis.call('HSET', mended, id, new, 'from:' .. new, first) end
redis.call('HSET', rows, new, placed(ARGV[6], string.match(row, ',"l":(%d+)}$')))
if id ~= new then
  redis.call('HDEL', rows, id)
  redis.call('HDEL', mended, new, 'from:' .. id)
  intent.drop(intents .. id, owner)
end
return answer('ok')
`)

// Revival is how a dead recipient waits for another try.
type Revival struct {
	Of   store.AddressID // the recipient
	List List            // where it waits
	// Since is when there may have been calls first (ms; 0: if its intent says that there are any).
	Since int64
	// Recipient is what it is sent as; nil leaves what the row has.
	Recipient json.RawMessage
	// ID is that of the address in Recipient. If it is another one, it takes the row's place, whose address was From.
	ID   store.AddressID
	From string
	// Version is the oldest version of ledgers whose workers can read Recipient; 0 is the campaign's.
	Version int
}

// Revive lets dead recipients of a campaign wait for another try, in two round trips, with their attempts counted anew,
// once Clerk has been asked what became of their calls, and reopens the campaign if it had finished. One that is not
// dead is left alone, so repeating it changes nothing. The error of each is ErrTaken or ErrForgotten if another address
// cannot take its place.
func (l *Ledgers) Revive(ctx context.Context, name string, revivals ...Revival) []error {
	errs := l.complete(ctx, name, revivals)
	var calls []store.Call
	var of []int // the recipient of each
	for i, as := range revivals {
		if errs[i] != nil {
			continue
		}
		row, err := encode('w', Unsure, Row{Recipient: as.Recipient, State: fate.State{Alone: as.List == Singles}})
		if errs[i] = err; err != nil {
			continue
		}
		calls, of = append(calls, l.call(name, []string{l.db.Key.Moving()},
			string(as.Of[:]), row, as.Since, string(as.ID[:]), as.From, as.Version)), append(of, i)
	}
	for n, answer := range store.RunEach(ctx, l.db, reviveScript, calls) {
		_, errs[of[n]] = verdictOn(name, answer)
	}
	for i := range errs {
		store.Wrap(&errs[i], "reviving a recipient of campaign %s", name)
	}
	return errs
}

// complete completes those revivals that leave what the row has.
func (l *Ledgers) complete(ctx context.Context, name string, revivals []Revival) []error {
	errs := make([]error, len(revivals))
	var ids []store.AddressID
	rows := map[string][]int{} // the revivals of each
	for i, as := range revivals {
		if as.Recipient == nil {
			ids, errs[i] = append(ids, as.Of), ErrNotFound
			rows[string(as.Of[:])] = append(rows[string(as.Of[:])], i)
		}
	}
	err := store.EachField(ctx, l.db, l.db.Key.Ledger(name, "rows"), fieldsOf("", ids), func(id, row string) error {
		found, err := entryOf(id, row)
		for _, i := range rows[id] {
			as := &revivals[i]
			as.Recipient, as.ID, errs[i] = found.Recipient, as.Of, err
		}
		return nil
	})
	if err != nil {
		return store.Each(len(revivals), err)
	}
	return errs
}

// Mended gives the addresses that some recipients had when they were uploaded, if those were replaced since.
func (l *Ledgers) Mended(
	ctx context.Context, name string, ids []store.AddressID,
) (from map[store.AddressID]string, err error) {
	defer store.Wrap(&err, "reading which recipients of campaign %s were mended", name)
	from = map[store.AddressID]string{}
	fields := fieldsOf(mendedFrom, ids)
	err = store.EachField(ctx, l.db, l.db.Key.Ledger(name, "mended"), fields, func(field, address string) error {
		from[store.AddressID([]byte(field[len(mendedFrom):]))] = address
		return nil
	})
	return from, err
}

// CountMended is how many recipients of a campaign have taken the place of another address.
func (l *Ledgers) CountMended(ctx context.Context, name string) (n int, err error) {
	defer store.Wrap(&err, "counting which recipients of campaign %s were mended", name)
	fields := map[string]bool{} // HSCAN may give one twice
	found := l.db.HScan(ctx, l.db.Key.Ledger(name, "mended"), 0, mendedFrom+"*", 1000).Iterator()
	for found.Next(ctx) {
		fields[found.Val()] = true
		found.Next(ctx) // its address
	}
	return len(fields), found.Err()
}

// mendedFrom begins the fields of first addresses; see prelude.
const mendedFrom = "from:"

// controlScript pauses, resumes, cancels or starts a campaign. Pausing one holds its uploads, and resuming it lets
// them go on. What a cancelled one has yet to drop, move does. A repeated request changes nothing, also when it comes
// after the next one.
//
// KEYS[13] -> usher:{once}:moving
// KEYS[14] -> usher:{once}:c:NAME:request:TOKEN  what was answered
// --
// ARGV[5] -> what: pause, resume, cancel, or start, which leaves all but a scheduled campaign as it is
// ARGV[6] -> who does it; may be empty
// --
// Returns JSON: outcome (ok, missing or over) and the state of the campaign.
var controlScript = redis.NewScript(prelude + `
local what, outcome, told = ARGV[5], 'ok', redis.call('GET', KEYS[14])
if told then return told end
local function started()
  if state == 'running' then redis.call('HSETNX', meta, 'started_at', stamp(now)) end
end
if not state then
  outcome = 'missing'
elseif what == 'start' then
  if state == 'scheduled' then begin() end
  started()
elseif state == 'finished' or (state == 'cancelled' and what ~= 'cancel') then
  outcome = 'over'
elseif what == 'cancel' and state ~= 'cancelled' then
  redis.call('SADD', KEYS[13], name)
  become('cancelled')
  redis.call('HSET', meta, 'finished_at', stamp(now), 'by', ARGV[6])
elseif what == 'pause' then
  if state ~= 'paused' then redis.call('HSET', meta, 'by', ARGV[6]) end
  become('paused')
elseif what == 'resume' then
  local goes_on = number('scheduled_at') > now and 'scheduled' or 'running'
  if redis.call('HGET', meta, 'after') == 'paused' then redis.call('HSET', meta, 'after', goes_on) end
  if state == 'paused' then
    redis.call('HSET', meta, 'by', ARGV[6])
    redis.call('HINCRBY', meta, 'resumes', 1)
    become(uploads == '' and goes_on or 'uploading')
    started()
  end
end
if state == 'running' or state == 'paused' and uploads == '' then redis.call('SADD', running, name) end
told = cjson.encode({ outcome = outcome, state = state or '' })
redis.call('SET', KEYS[14], told, 'PX', request_keep)
return told
`)

// Start makes a scheduled campaign a running one and gives its state. ErrNotFound if there is none.
func (l *Ledgers) Start(ctx context.Context, name string) (State, error) {
	v, err := l.change(ctx, controlScript, name, l.controlKeys(name), "start", l.Actor)
	return v.State, err
}

// Pause stops a campaign from making calls, but for those in flight, and holds uploads to it that are under way.
// Pausing it again changes nothing.
func (l *Ledgers) Pause(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "pause")
}

// Resume lets a paused campaign go on. The sweep gives it a driver if it has none.
func (l *Ledgers) Resume(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "resume")
}

// Cancel stops a campaign for good: whoever is in no call is not sent any more, and uploads that are under way are
// dropped. What becomes of calls in flight is recorded.
func (l *Ledgers) Cancel(ctx context.Context, name string) (Campaign, error) {
	if _, err := l.control(ctx, name, "cancel"); err != nil {
		return Campaign{}, err
	}
	c, err := l.Move(ctx, name)
	if err == nil {
		err = l.Moved(ctx, c)
	}
	if err != nil {
		return c, fmt.Errorf("%s is cancelled, and workers drop its recipients: %w", name, err)
	}
	return c, nil
}

func (l *Ledgers) controlKeys(name string) []string {
	return []string{l.db.Key.Moving(), l.db.Key.Ledger(name, request+uuid.NewString())}
}

func (l *Ledgers) control(ctx context.Context, name, what string) (Campaign, error) {
	v, err := l.change(ctx, controlScript, name, l.controlKeys(name), what, l.Actor)
	if err != nil {
		return Campaign{}, err
	}
	c, err := l.Get(ctx, name)
	store.Wrap(&err, "%s is %s now, but how it stands cannot be read", name, v.State)
	return c, err
}
