package ledger

import (
	"context"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
)

// reviveScript lets a dead recipient wait again, until Clerk has been asked about its calls, and reopens a finished
// campaign for it.
//
// ARGV[5] -> id
// ARGV[6] -> row as it shall be
// ARGV[7] -> since when there may have been calls (ms; 0: if it has an intent)
// --
// Returns JSON: outcome (ok, cancelled or missing).
var reviveScript = redis.NewScript(prelude + `
local id, row = ARGV[5], redis.call('HGET', rows, ARGV[5])
if not state or not row then return '{"outcome":"missing"}' end
if state == 'cancelled' then return '{"outcome":"cancelled"}' end
if string.sub(row, 1, 1) == 'd' then
  intent.reopen(intents .. id, owner, tonumber(ARGV[7]))
  redis.call('HSET', rows, id, ARGV[6])
  redis.call('RPUSH', list_of(ARGV[6]), id)
  count_dead(row, -1)
  reopen(0)
end
return '{"outcome":"ok"}'
`)

// Revive lets a dead recipient of a campaign wait for another try, with its attempts counted anew, once Clerk has been
// asked what became of its calls since an instant (ms; 0: if its intent says that there are any), and reopens the
// campaign if it had finished. One that is not dead is left alone, so repeating it changes nothing.
func (l *Ledgers) Revive(
	ctx context.Context, name string, id store.AddressID, travel Travel, since int64,
) (c Campaign, err error) {
	defer store.Wrap(&err, "reviving a recipient of campaign %s", name)
	found, err := l.Find(ctx, name, []store.AddressID{id})
	if err != nil {
		return Campaign{}, err
	}
	row, known := found[id]
	if !known {
		return Campaign{}, ErrNotFound
	}
	revived, err := encode('w', Unsure, Row{Recipient: row.Recipient, State: fate.State{Alone: travel == Singly}})
	if err != nil {
		return Campaign{}, err
	}
	if _, err := l.change(ctx, reviveScript, name, nil, string(id[:]), revived, since); err != nil {
		return Campaign{}, err
	}
	return l.Get(ctx, name)
}

// controlScript pauses, resumes, cancels or starts a campaign. Pausing one holds its uploads, and resuming it lets
// them go on. What a cancelled one has yet to drop, move does. A repeated request changes nothing, also when it comes
// after the next one.
//
// KEYS[13] -> usher:{once}:moving
// KEYS[14] -> usher:{once}:c:NAME:request:TOKEN  what was answered
// --
// ARGV[5] -> what: pause, resume, cancel, or start, which leaves all but a scheduled campaign as it is
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
  become('cancelled')
  redis.call('HSET', meta, 'finished_at', stamp(now))
  redis.call('SADD', KEYS[13], name)
elseif what == 'pause' then
  become('paused')
elseif what == 'resume' then
  local goes_on = number('scheduled_at') > now and 'scheduled' or 'running'
  if redis.call('HGET', meta, 'after') == 'paused' then redis.call('HSET', meta, 'after', goes_on) end
  if state == 'paused' then
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
	v, err := l.change(ctx, controlScript, name, l.controlKeys(name), "start")
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
	if err != nil {
		return Campaign{}, err
	}
	return c, l.Moved(ctx, c)
}

func (l *Ledgers) controlKeys(name string) []string {
	return []string{l.db.Key.Moving(), l.db.Key.Ledger(name, request+uuid.NewString())}
}

func (l *Ledgers) control(ctx context.Context, name, what string) (Campaign, error) {
	if _, err := l.change(ctx, controlScript, name, l.controlKeys(name), what); err != nil {
		return Campaign{}, err
	}
	return l.Get(ctx, name)
}
