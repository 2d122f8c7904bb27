package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// RoundTrip is how many recipients are staged in one round trip.
const RoundTrip = stageAtOnce * stageChunk

const (
	stageChunk  = 250       // recipients to one script
	stageAtOnce = 4         // scripts to one round trip
	stageKeep   = time.Hour // an upload that was broken off, or the head of one that is over, is forgotten after this
)

var (
	// ErrUnsure means that it is not known whether an upload was made, or that it is on its way and nobody knows its
	// counts yet. The same upload may be made again: it adds nothing twice.
	ErrUnsure = errors.New("not known whether the recipients were added; repeat it, it adds nothing twice")
	// ErrHeld means that a campaign was paused while recipients were on their way into it.
	ErrHeld = errors.New("the campaign was paused before all recipients were added; the others follow when it is resumed")

	errIncomplete = errors.New("the upload took too long; try again")
)

// Recipient is one to upload: its folded address identifies it, its data is the producer's.
type Recipient struct {
	Folded  string
	Data    json.RawMessage
	Version int // the oldest version of ledgers whose workers can read the data; 0 is the first
}

// Upload says what became of an upload.
type Upload struct {
	Campaign Campaign
	Added    int // recipients that are new to the campaign
	Known    int // recipients that it had already; they keep their first options and their outcome
	// Forgotten are left out: their addresses were forgotten on request.
	Forgotten int
}

// Add puts recipients into a campaign, all of them or none, and makes or reopens it as needed. A start that is not
// zero schedules a campaign that is new or finished. The caller then enqueues the driver, TaskID of the campaign's
// generation, and says so to Moved.
//
// The recipients are staged first, where nobody sees them. One small step then enters the stage into the campaign.
// From then on they are certain to arrive, moved slice by slice, here or by any worker. An error that is neither
// ErrUnsure nor ErrHeld means that nothing was added.
func (l *Ledgers) Add(
	ctx context.Context, name string, start time.Time, recipients []Recipient,
) (u Upload, err error) {
	return l.AddSome(ctx, name, start, func(yield func([]Recipient, error) bool) { yield(recipients, nil) })
}

// AddSome is Add for recipients that are made while they are staged, some at a time, so that they need not be in
// memory together. An error among them means that nothing was added.
func (l *Ledgers) AddSome(
	ctx context.Context, name string, start time.Time, recipients iter.Seq2[[]Recipient, error],
) (u Upload, err error) {
	defer store.Wrap(&err, "uploading to campaign %s", name)
	if err := store.CheckRights(ctx, l.db); err != nil {
		return Upload{}, err
	}
	stage := l.Stage()
	for some, failed := range recipients {
		if err = failed; err == nil {
			err = stage.Add(ctx, some)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = stage.Enter(ctx, name, start)
	}
	if err != nil {
		if !errors.Is(err, ErrUnsure) {
			stage.discard(ctx)
		}
		return Upload{}, err
	}
	return stage.arrive(ctx, name)
}

// Stage is recipients that are not in a campaign yet.
type Stage struct {
	l      *Ledgers
	upload string
	chunks int
	rows   int
	v      int // the oldest version of ledgers whose workers can read all of them
}

// Stage begins an upload.
func (l *Ledgers) Stage() *Stage { return &Stage{l: l, upload: uuid.NewString(), v: 1} }

func (s *Stage) chunk(n int) string {
	return s.l.db.Key.Stage("", s.upload+":"+strconv.Itoa(n))
}

// stageScript writes a chunk of a stage, unless its upload has begun or was given up. Repeating it changes nothing.
//
// KEYS[1] -> usher:{once}:c::stage:UPLOAD:N  list of id, row, id, row, …; an empty row is not added
// KEYS[2] -> usher:{once}:u:UPLOAD
// KEYS[3] -> usher:{once}:forgotten
// --
// ARGV[1] -> how long it is kept (s)
// ARGV[2], [4] … -> id of each recipient
// ARGV[3], [5] … -> its row
// --
// Returns 1.
var stageScript = redis.NewScript(store.TombstoneLua + `
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
redis.call('UNLINK', KEYS[1])
local keep = table.remove(ARGV, 1)
for i = 1, #ARGV, 2 do
  if forgotten(KEYS[3], ARGV[i]) then ARGV[i + 1] = '' end
end
redis.call('RPUSH', KEYS[1], unpack(ARGV))
redis.call('EXPIRE', KEYS[1], keep)
return 1
`)

// Add stages recipients.
func (s *Stage) Add(ctx context.Context, recipients []Recipient) error {
	for several := range slices.Chunk(recipients, RoundTrip) {
		_, err := s.l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for chunk := range slices.Chunk(several, stageChunk) {
				if err := s.add(ctx, pipe, chunk); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("staging recipients: %w", err)
		}
	}
	return nil
}

func (s *Stage) add(ctx context.Context, pipe redis.Pipeliner, chunk []Recipient) error {
	args := make([]any, 0, 1+2*len(chunk))
	args = append(args, int(stageKeep.Seconds()))
	for _, r := range chunk {
		id := store.IDOf(r.Folded)
		row, err := encode('w', Waiting, Row{Recipient: r.Data})
		if err != nil {
			return err
		}
		args = append(args, string(id[:]), row)
		s.v = max(s.v, r.Version)
	}
	key := s.l.db.Key
	// Not by its hash: in a pipeline nobody could send it anew to a Redis that does not have it.
	stageScript.Eval(ctx, pipe, []string{s.chunk(s.chunks), key.Upload(s.upload), key.Tombstones()}, args...)
	s.chunks++
	s.rows += len(chunk)
	return nil
}

// discardScript throws away a stage that is in no campaign. A late part of the upload finds that it was given up.
//
// KEYS[1] -> usher:{once}:u:UPLOAD
// --
// ARGV[1] -> what the keys of the stage's chunks begin with
// ARGV[2] -> how many there are
// ARGV[3] -> how long it is remembered (s)
// --
// Returns 1.
var discardScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
redis.call('UNLINK', KEYS[1]) -- needs no memory: Redis takes the others after it also when it is full
for chunk = 0, ARGV[2] - 1 do redis.call('UNLINK', ARGV[1] .. chunk) end
redis.call('HSET', KEYS[1], 'outcome', 'discarded')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
`)

// discard throws a stage away that was not entered. If that fails, it expires.
func (s *Stage) discard(ctx context.Context) {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	key := s.l.db.Key
	_ = discardScript.Run(ctx, s.l.db, []string{key.Upload(s.upload)},
		key.Stage("", s.upload+":"), s.chunks, int(stageKeep.Seconds())).Err()
}

// enterScript enters a stage into a campaign, which is then uploading, and makes the campaign if it is new. Repeating
// it changes nothing.
//
// KEYS[13] -> usher:{once}:moving
// KEYS[14] -> usher:{once}:u:UPLOAD  hash of the upload's head
// KEYS[15] -> usher:{once}:deleted:PART
// --
// ARGV[5] -> version
// ARGV[6] -> start (ms, or 0 for now)
// ARGV[7] -> the upload
// ARGV[8] -> what the keys of its chunks begin with
// ARGV[9] -> how many chunks there are
// ARGV[10] -> how many recipients
// ARGV[11] -> the version that they need
// --
// Returns JSON: outcome (ok, cancelled, newer, deleted, busy: a start was asked for but the campaign has begun, or
// incomplete: the stage expired), and at: when it was deleted.
var enterScript = redis.NewScript(prelude + `
local head, start, after = KEYS[14], tonumber(ARGV[6]), redis.call('HGET', meta, 'after')
local function answer(outcome) return cjson.encode({ outcome = outcome }) end
if redis.call('HEXISTS', head, 'chunks') == 1 then return answer('ok') end
local stub = redis.call('HGET', KEYS[15], name)
if stub then return cjson.encode({ outcome = 'deleted', at = tonumber(string.match(stub, '%d+$')) * 1000 }) end
if number('v') > tonumber(ARGV[5]) then return answer('newer') end
if state == 'cancelled' then return answer('cancelled') end
local was = state == 'uploading' and after or state
if start > 0 and (was == 'running' or was == 'paused') then return answer('busy') end
if redis.call('EXISTS', head) == 1 then return answer('incomplete') end
for chunk = 0, ARGV[9] - 1 do
  if redis.call('EXISTS', ARGV[8] .. chunk) == 0 then return answer('incomplete') end
end
-- First what needs memory: a Redis that is full refuses it, and nothing is done.
redis.call('HSET', head, 'campaign', name, 'chunks', ARGV[9], 'recipients', ARGV[10], 'start', ARGV[6], 'moved', 0,
  'added', 0, 'known', 0, 'forgotten', 0)
for chunk = 0, ARGV[9] - 1 do redis.call('PERSIST', ARGV[8] .. chunk) end
redis.call('HSET', meta, 'uploads', uploads == '' and ARGV[7] or uploads .. ' ' .. ARGV[7])
redis.call('HSET', meta, 'uploaded_at', stamp(now))
redis.call('SADD', KEYS[13], name)
if not state then
  redis.call('HSET', meta, 'v', ARGV[11], 'created_at', stamp(now), 'generation', 1)
  if start > 0 then redis.call('HSET', meta, 'scheduled_at', stamp(start)) end
  state, uploads = start > 0 and 'scheduled' or 'running', ''
end
if uploads == '' then
  redis.call('HSET', meta, 'after', state)
  become('uploading')
end
raise(ARGV[11])
return answer('ok')
`)

// Enter enters the stage into a campaign. The error is ErrUnsure if that is not known.
func (s *Stage) Enter(ctx context.Context, name string, start time.Time) error {
	l, startMS := s.l, int64(0)
	if !start.IsZero() {
		startMS = start.UnixMilli()
	}
	if err := l.deleted(ctx, name); err != nil {
		return err
	}
	// Indexed first: an index entry without a campaign is passed over, a campaign without one would never be seen.
	now := redis.Z{Score: float64(time.Now().UnixMilli()), Member: name}
	if err := l.db.ZAddNX(ctx, l.db.Key.Campaigns(), now).Err(); err != nil {
		return err
	}
	keys := []string{l.db.Key.Moving(), l.db.Key.Upload(s.upload), l.stubs(name)}
	v, err := l.change(ctx, enterScript, name, keys,
		version, startMS, s.upload, l.db.Key.Stage("", s.upload+":"), s.chunks, s.rows, s.v)
	if err != nil && v.Outcome == "" && !store.IsFull(err) {
		err = fmt.Errorf("%w (%w)", ErrUnsure, err)
	}
	return err
}

// arrive moves recipients until those of the stage have arrived in the campaign, and gives their counts.
func (s *Stage) arrive(ctx context.Context, name string) (u Upload, err error) {
	if u.Campaign, err = s.l.Move(ctx, name); err == nil {
		err = s.l.counts(ctx, s.upload, &u)
	}
	switch {
	case errors.Is(err, ErrCancelled), errors.Is(err, ErrHeld), err == nil:
		return u, err
	}
	return u, fmt.Errorf("%w (%w)", ErrUnsure, err)
}

// counts reads the counts of an upload that is over.
func (l *Ledgers) counts(ctx context.Context, upload string, u *Upload) error {
	var head struct {
		Outcome   string `redis:"outcome"`
		Added     int    `redis:"added"`
		Known     int    `redis:"known"`
		Forgotten int    `redis:"forgotten"`
	}
	if err := l.db.HGetAll(ctx, l.db.Key.Upload(upload)).Scan(&head); err != nil {
		return err
	}
	u.Added, u.Known, u.Forgotten = head.Added, head.Known, head.Forgotten
	switch head.Outcome {
	case "done":
		return nil
	case "cancelled":
		return ErrCancelled
	case "":
		return ErrHeld
	}
	return fmt.Errorf("a part of the upload was lost: %w", store.ErrGarbage)
}

// moveScript takes a step of what moves in a campaign slice by slice: a chunk of the first upload into it, or some
// recipients and an upload out of a cancelled one. A chunk moves only if the caller knows that it is the next, so that
// repeating a step changes nothing. Once no upload is left the campaign goes on.
//
// An earlier version may have resumed, finished or cancelled the campaign while it was paused: it is uploading again.
//
// ARGV[5] -> the upload that the caller knows to be the first
// ARGV[6] -> its chunk that is the next
// ARGV[7] -> what the keys of chunks begin with; the upload, a colon and a number follow
// ARGV[8] -> what the keys of uploads' heads begin with
// ARGV[9] -> how long the head of an upload that is over is kept (s)
// --
// Returns JSON: upload and chunk, which are the next; and more: whether there is more to do now.
var moveScript = redis.NewScript(prelude + `
local upload = string.match(uploads, '^%S+') or ''
local head = ARGV[8] .. upload
local function chunk(n) return ARGV[7] .. upload .. ':' .. n end
local function over(outcome)
  redis.call('HSET', head, 'outcome', outcome)
  redis.call('EXPIRE', head, ARGV[9])
  uploads = string.match(uploads, '^%S+ (.*)$') or ''
  upload = string.match(uploads, '^%S+') or ''
  if uploads == '' then redis.call('HDEL', meta, 'uploads') else redis.call('HSET', meta, 'uploads', uploads) end
end
local function answer(more, n) return cjson.encode({ upload = upload, chunk = n, more = more }) end
local next, chunks, recipients, start = unpack(redis.call('HMGET', head, 'moved', 'chunks', 'recipients', 'start'))
next, chunks = tonumber(next or '0'), tonumber(chunks or '0')

if state == 'cancelled' then
  if upload ~= '' then
    for n = next, chunks - 1 do redis.call('UNLINK', chunk(n)) end
    over('cancelled')
  end
  redis.call('HDEL', meta, 'after')
  local dropped = drop()
  return answer(uploads ~= '' or not dropped, 0)
end
if upload == '' or state == 'paused' then return answer(false, 0) end
if state ~= 'uploading' then
  redis.call('HSET', meta, 'after', state)
  become('uploading')
end
if upload ~= ARGV[5] or next ~= tonumber(ARGV[6]) then return answer(true, next) end

-- What is written with HSET is written together or not at all: Redis may refuse any command, but no half of one.
local staged, fresh, written, seen = redis.call('LRANGE', chunk(next), 0, -1), {}, {}, {}
local any_mended = redis.call('EXISTS', mended) == 1
local was, known, erased = number('recipients'), 0, 0
local places = was + number('forgotten') -- one for each that ever came in
for i = 1, #staged, 2 do
  local id = staged[i]
  if staged[i + 1] == '' or forgotten(tombstones, id) then
    erased = erased + 1
  elseif seen[id] or any_mended and redis.call('HEXISTS', mended, id) == 1 or redis.call('HEXISTS', rows, id) == 1 then
    known = known + 1
  else
    seen[id], fresh[#fresh + 1] = true, id
    written[#written + 1], written[#written + 2] = id, placed(staged[i + 1], places + #fresh)
  end
end
if #fresh > 0 then
  redis.call('RPUSH', waiting, unpack(fresh))
  redis.call('HSET', rows, unpack(written))
end
redis.call('HSET', meta, 'recipients', was + #fresh)
next = next + 1
local function counted(field, n) return tonumber(redis.call('HGET', head, field) or '0') + n end
local added = counted('added', #fresh)
known, erased = counted('known', known), counted('forgotten', erased)
redis.call('HSET', head, 'moved', next, 'added', added, 'known', known, 'forgotten', erased)
redis.call('UNLINK', chunk(next - 1))
if next < chunks then return answer(true, next) end

if added > 0 then reopen(tonumber(start or '0')) end
local after = redis.call('HGET', meta, 'after')
local rests = after == 'finished' or after == 'scheduled' and number('scheduled_at') > now
if not rests then redis.call('SADD', running, name) end -- before it has no uploads: then nothing calls this again
over(added + known + erased == tonumber(recipients or '-1') and 'done' or 'incomplete')
if uploads == '' then
  redis.call('HDEL', meta, 'after')
  if rests or after == 'paused' then
    become(after)
  else
    begin()
    local driven = redis.call('HGET', meta, 'driven') == redis.call('HGET', meta, 'generation')
    if driven then redis.call('HSETNX', meta, 'started_at', stamp(now)) end
  end
end
return answer(uploads ~= '', 0)
`)

// step is what is known of a campaign's uploads: which chunk of which is the next.
type step struct {
	Upload string
	Chunk  int
	More   bool
}

// move takes one step.
func (l *Ledgers) move(ctx context.Context, name string, known step) (next step, err error) {
	defer store.Wrap(&err, "moving recipients of campaign %s", name)
	err = read(l.run(ctx, moveScript, name, nil, known.Upload, known.Chunk,
		l.db.Key.Stage("", ""), l.db.Key.Upload(""), int(stageKeep.Seconds())), &next)
	return next, err
}

// Move moves what is to be moved in a campaign: uploads into it, unless it is paused, or out of it what a cancelled
// one drops. Any number of processes may do so at once.
func (l *Ledgers) Move(ctx context.Context, name string) (Campaign, error) {
	for next := (step{More: true}); next.More; {
		var err error
		if next, err = l.move(ctx, name, next); err != nil {
			return Campaign{}, err
		}
	}
	return l.Get(ctx, name)
}

// Moving gives campaigns in which something is to be moved, or whose driver may not have been enqueued since: at most
// 1,000 of them.
func (l *Ledgers) Moving(ctx context.Context) (names []string, err error) {
	defer store.Wrap(&err, "listing campaigns with uploads")
	return l.db.SRandMemberN(ctx, l.db.Key.Moving(), mostRunning).Result()
}

// movedScript notes that nothing moves in a campaign any more and that it has its driver.
//
// KEYS[13] -> usher:{once}:moving
// --
// ARGV[5] -> the generation whose driver was enqueued
// --
// Returns 1 if it was noted.
var movedScript = redis.NewScript(prelude + `
if uploads ~= '' or number('generation') ~= tonumber(ARGV[5]) or redis.call('HEXISTS', meta, 'dropping') == 1 then
  return 0
end
redis.call('SREM', KEYS[13], name)
return 1
`)

// Moved notes that the driver of a campaign was enqueued, or that it needs none. Without it a worker does it again.
func (l *Ledgers) Moved(ctx context.Context, c Campaign) (err error) {
	defer store.Wrap(&err, "noting that campaign %s has its driver", c.Name)
	return l.run(ctx, movedScript, c.Name, []string{l.db.Key.Moving()}, c.Generation).Err()
}
