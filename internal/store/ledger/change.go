package ledger

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
)

const (
	stageChunk = 500       // recipients to one command
	stageKeep  = time.Hour // an upload that was broken off is forgotten after this
)

// Recipient is one to upload: its folded address identifies it, its data is the producer's.
type Recipient struct {
	Folded string
	Data   json.RawMessage
}

// Upload says what became of an upload.
type Upload struct {
	Campaign Campaign
	Added    int // recipients that are new to the campaign
	Known    int // recipients that it had already; they keep their first options and their outcome
	// Forgotten are left out: their addresses were forgotten on request.
	Forgotten int
}

// commitScript moves a staged upload into the campaign, whole, and makes or reopens the campaign as needed.
//
// KEYS[13] -> usher:{once}:c:NAME:stage:UPLOAD  list of id, row, id, row, …
// --
// ARGV[5] -> version
// ARGV[6] -> start (ms, or 0 for now)
// ARGV[7] -> how many list entries were staged
// --
// Returns JSON: outcome (ok, cancelled, newer, busy: a start was asked for but the campaign has begun, or incomplete:
// the stage expired), added, known, and forgotten: how many were left out.
var commitScript = redis.NewScript(prelude + `
local stage, start = KEYS[13], tonumber(ARGV[6])
local function answer(outcome, added, known, erased)
  return cjson.encode({ outcome = outcome, added = added, known = known, forgotten = erased })
end
if number('v') > tonumber(ARGV[5]) then return answer('newer') end
if state == 'cancelled' then return answer('cancelled') end
if start > 0 and (state == 'running' or state == 'paused') then return answer('busy') end
if redis.call('LLEN', stage) ~= tonumber(ARGV[7]) then return answer('incomplete') end
local added, known, erased = 0, 0, 0
while true do
  local staged = redis.call('LPOP', stage, 1000)
  if not staged or #staged == 0 then break end
  local fresh = {}
  for i = 1, #staged, 2 do
    if forgotten(tombstones, staged[i]) then
      erased = erased + 1
    elseif redis.call('HSETNX', rows, staged[i], staged[i + 1]) == 1 then
      fresh[#fresh + 1] = staged[i]
    else
      known = known + 1
    end
  end
  if #fresh > 0 then redis.call('RPUSH', waiting, unpack(fresh)) end
  added = added + #fresh
end
if not state then redis.call('HSET', meta, 'v', ARGV[5], 'created_at', stamp(now), 'generation', 0) end
if not state or (state == 'finished' and added > 0) then
  redis.call('HINCRBY', meta, 'generation', 1)
  redis.call('HDEL', meta, 'finished_at', 'scheduled_at')
  if start > 0 then
    become('scheduled')
    redis.call('HSET', meta, 'scheduled_at', stamp(start))
  else
    begin()
  end
end
redis.call('HINCRBY', meta, 'recipients', added)
return answer('ok', added, known, erased)
`)

// Add puts recipients into a campaign, all of them or none, and makes or reopens it as needed. A start that is not
// zero schedules a campaign that is new or finished. The caller then enqueues the driver: TaskID of the campaign's
// generation.
func (l *Ledgers) Add(
	ctx context.Context, name string, start time.Time, recipients []Recipient,
) (u Upload, err error) {
	defer store.Wrap(&err, "uploading to campaign %s", name)
	stage := l.db.Key.Stage(name, uuid.NewString())
	if err := l.stage(ctx, stage, recipients); err != nil {
		return Upload{}, err
	}
	// Indexed first: an index entry without a campaign is passed over, a campaign without one would never be seen.
	now := redis.Z{Score: float64(time.Now().UnixMilli()), Member: name}
	if err := l.db.ZAddNX(ctx, l.db.Key.Campaigns(), now).Err(); err != nil {
		return Upload{}, err
	}
	startMS := int64(0)
	if !start.IsZero() {
		startMS = start.UnixMilli()
	}
	v, err := l.change(ctx, commitScript, name, []string{stage}, version, startMS, 2*len(recipients))
	if err == nil {
		v.Campaign, err = l.Get(ctx, name)
	}
	return v.Upload, err
}

func (l *Ledgers) stage(ctx context.Context, key string, recipients []Recipient) error {
	for chunk := range slices.Chunk(recipients, stageChunk) {
		values := make([]any, 0, 2*len(chunk))
		for _, r := range chunk {
			id := store.IDOf(r.Folded)
			row, err := encode('w', InBulk, Row{Recipient: r.Data})
			if err != nil {
				return err
			}
			values = append(values, string(id[:]), row)
		}
		_, err := l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.RPush(ctx, key, values...)
			pipe.Expire(ctx, key, stageKeep)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

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
  if state == 'finished' then
    redis.call('HINCRBY', meta, 'generation', 1)
    redis.call('HDEL', meta, 'finished_at')
    begin()
  end
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

// controlScript pauses, resumes, cancels or starts a campaign.
//
// ARGV[5] -> what: pause, resume, cancel, or start, which leaves all but a scheduled campaign as it is
// --
// Returns JSON: outcome (ok, missing or over) and the state of the campaign.
var controlScript = redis.NewScript(prelude + `
local what, outcome = ARGV[5], 'ok'
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
  drop()
elseif what == 'pause' then
  become('paused')
elseif what == 'resume' and state == 'paused' then
  become(number('scheduled_at') > now and 'scheduled' or 'running')
  started()
end
if state == 'running' or state == 'paused' then redis.call('SADD', running, name) end
return cjson.encode({ outcome = outcome, state = state or '' })
`)

// Start makes a scheduled campaign a running one and gives its state. ErrNotFound if there is none.
func (l *Ledgers) Start(ctx context.Context, name string) (State, error) {
	v, err := l.change(ctx, controlScript, name, nil, "start")
	return v.State, err
}

// Pause stops a campaign from making calls, but for those in flight. Pausing it again changes nothing.
func (l *Ledgers) Pause(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "pause")
}

// Resume lets a paused campaign go on. The sweep gives it a driver if it has none.
func (l *Ledgers) Resume(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "resume")
}

// Cancel stops a campaign for good: whoever is in no call is not sent any more. What becomes of calls in flight is
// recorded.
func (l *Ledgers) Cancel(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "cancel")
}

func (l *Ledgers) control(ctx context.Context, name, what string) (Campaign, error) {
	if _, err := l.change(ctx, controlScript, name, nil, what); err != nil {
		return Campaign{}, err
	}
	return l.Get(ctx, name)
}
