// Package record keeps what became of each task: asynq forgets a task when it ends, and re-runs one whose completion
// it could not write, so a handler asks here first.
package record

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/history"
)

// Keep is how long a task's id and outcome are kept after its end.
const Keep = 30 * 24 * time.Hour

const version = 1

// State is where a task stands. Those without an end are asynq's to know; see the tasks package.
type State string

// The states that a record can hold.
const (
	Open      State = "open" // enqueued, not ended
	Done      State = "done"
	Dead      State = "dead"
	Cancelled State = "cancelled"
)

// Ended tells whether a task in this state will not run again.
func (s State) Ended() bool { return s == Done || s == Dead || s == Cancelled }

// OwnedID is the id of a task that the HTTP API enqueues for the owner of a token. No producer can choose it: its own
// ids have no ~.
func OwnedID(owner, id string) string { return owned + owner + "~" + id }

const owned = "http~"

// OwnerOf is the owner of a task by its id, or empty if no token of the HTTP API has enqueued it.
func OwnerOf(id string) string {
	rest, isOwned := strings.CutPrefix(id, owned)
	owner, _, found := strings.Cut(rest, "~")
	if !isOwned || !found {
		return ""
	}
	return owner
}

// Record is what is known of one task.
type Record struct {
	Version  int    `json:"v"`
	Type     string `json:"type"`
	Queue    string `json:"queue"`
	Digest   string `json:"digest,omitempty"`   // of the payload, if the producer chose the id
	Campaign string `json:"campaign,omitempty"` // a bulk-invite's
	// EmailAddress is whom an ended task was about. It stands here only if the history of the address has the task's
	// id: who forgets the address finds it there.
	EmailAddress string `json:"email_address,omitempty"`

	State        State          `json:"state"`
	Attempts     int            `json:"attempts,omitempty"`
	History      []fate.Attempt `json:"history,omitempty"`
	InvitationID string         `json:"invitation_id,omitempty"`
	Revoked      int            `json:"revoked,omitempty"` // by a revoke task
	Deleted      int            `json:"deleted,omitempty"` // by a delete task
	Error        *fate.Failure  `json:"error,omitempty"`
	Skipped      *fate.Failure  `json:"skipped,omitempty"` // why a done invite has no invitation
	EndedAt      time.Time      `json:"ended_at,omitzero"`
	EnqueuedAt   time.Time      `json:"enqueued_at,omitzero"`  // of an ended one; else asynq knows it
	ScheduledAt  time.Time      `json:"scheduled_at,omitzero"` // of one that was cancelled before it ran
	// StartedAt is when its first run began, and Waited for how long it has waited since, while it has not ended.
	StartedAt time.Time     `json:"started_at,omitzero"`
	Waited    time.Duration `json:"waited,omitempty"`
	// Retry is the id of the task that retries it as a dead letter. Free is that its dead letter was deleted, so that
	// another task may take the id.
	Retry string `json:"retry,omitempty"`
	Free  bool   `json:"free,omitempty"`
	// Acts are what people did with its dead letters, the last ones.
	Acts []Act `json:"acts,omitempty"`
	// Cancel is that a person wants an invite task to end as cancelled, once no call of its has an unknown outcome.
	Cancel bool `json:"cancel,omitempty"`
	// By is who has cancelled the task, if that is known.
	By string `json:"by,omitempty"`
	// Between is what an invite's recipient has come to between two steps, but for Attempts and History.
	Between fate.State `json:"between,omitzero"`
}

// Act is what a person did with a dead letter of a task.
type Act struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`           // retried, mended or deleted
	Next string    `json:"next,omitempty"` // the task that retries it
	// Moved is that it goes to another address. Which one the record of the next task says.
	Moved bool `json:"moved,omitempty"`
}

// mostActs bounds how many acts a record has.
const mostActs = 50

// Note notes an act. One that has begun the same retry as the last one is that one again.
func (r *Record) Note(act Act) {
	if n := len(r.Acts); n > 0 && act.Next != "" && r.Acts[n-1].Next == act.Next {
		return
	}
	r.Acts = append(r.Acts, act)
	r.Acts = r.Acts[max(0, len(r.Acts)-mostActs):]
}

// Life is what the task's recipient has come to so far.
func (r Record) Life() fate.State {
	life := r.Between
	life.Attempts, life.History = r.Attempts, r.History
	return life
}

// SetLife notes what the task's recipient has come to so far.
func (r *Record) SetLife(life fate.State) {
	r.Attempts, r.History = life.Attempts, life.History
	life.Attempts, life.History = 0, nil
	r.Between = life
}

// Cancelled is the record of the same task, cancelled now by somebody, who may be unknown.
func (r Record) Cancelled(by string) Record {
	r.State, r.EndedAt, r.History, r.Between = Cancelled, time.Now().UTC(), nil, fate.State{}
	r.By = cmp.Or(by, r.By)
	return r
}

// Store keeps records in Redis.
type Store struct{ db store.DB }

// NewStore keeps the records of one namespace.
func NewStore(rdb redis.UniversalClient, namespace string) *Store {
	return &Store{store.Open(rdb, namespace)}
}

// Get gives the record of a task, and false if there is none.
func (s *Store) Get(ctx context.Context, id string) (r Record, known bool, err error) {
	r, stored, err := s.Stored(ctx, id)
	return r, err == nil && len(stored) > 0, err
}

// Stored is Get that gives the record as it is stored, too; nothing if there is none.
func (s *Store) Stored(ctx context.Context, id string) (r Record, stored []byte, err error) {
	defer store.Wrap(&err, "the record of task %s", id)
	stored, err = s.db.Get(ctx, s.db.Key.Record(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return Record{}, nil, nil
	}
	if err == nil {
		r, err = Decode(stored)
	}
	return r, stored, err
}

// Found is the record of a task, if there is one that can be read.
type Found struct {
	Record
	Known bool
	Err   error
}

// GetEach is Get for several tasks, in one round trip.
func (s *Store) GetEach(ctx context.Context, ids []string) []Found {
	found := make([]Found, len(ids))
	for i, was := range s.stored(ctx, ids) {
		f := &found[i]
		if f.Err = was.err; was.text != "" {
			f.Record, f.Err = Decode([]byte(was.text))
		}
		f.Known = was.text != "" && f.Err == nil
		store.Wrap(&f.Err, "the record of task %s", ids[i])
	}
	return found
}

// as is a record as it is stored; empty if there is none.
type as struct {
	text string
	err  error
}

// stored reads the records of several tasks, in one round trip.
func (s *Store) stored(ctx context.Context, ids []string) []as {
	records := make([]as, len(ids))
	if len(ids) == 0 {
		return records
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.db.Key.Record(id)
	}
	found, err := s.db.MGet(ctx, keys...).Result()
	for i := range records {
		if records[i].err = err; err == nil {
			records[i].text, _ = found[i].(string) // nil where there is none
		}
	}
	return records
}

// recordsAtOnce is how many records are read by one command.
const recordsAtOnce = 250

// Several gives the records of tasks. Of one without a record, or whose record cannot be read, that is a zero one.
func (s *Store) Several(ctx context.Context, ids []string) (records []Record, err error) {
	defer store.Wrap(&err, "the records of %d tasks", len(ids))
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.db.Key.Record(id)
	}
	records = make([]Record, 0, len(ids))
	for chunk := range slices.Chunk(keys, recordsAtOnce) {
		found, err := s.db.MGet(ctx, chunk...).Result()
		if err != nil {
			return nil, err
		}
		for _, stored := range found {
			data, _ := stored.(string) // nil where there is none
			r, _ := Decode([]byte(data))
			records = append(records, r)
		}
	}
	return records, nil
}

// Decode reads a record as it is stored.
func Decode(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, store.ErrGarbage
	}
	if r.Version > version {
		return Record{}, store.ErrNewer
	}
	return r, nil
}

// claimKeep is how long an id stays taken whose enqueuing was broken off. The task itself keeps its record until it
// ends.
const claimKeep = 366 * 24 * time.Hour

// Claim writes the record of a new task, which runs at an instant or at once, unless there is one already, and then
// gives that one and true.
func (s *Store) Claim(ctx context.Context, id string, r Record, at time.Time) (found Record, exists bool, err error) {
	defer store.Wrap(&err, "claiming task id %s", id)
	data, _, err := Encode(r)
	if err != nil {
		return Record{}, false, err
	}
	keep := claimKeep + max(0, time.Until(at))
	for range 3 { // the record found may expire before it is read
		fresh, err := s.db.SetNX(ctx, s.db.Key.Record(id), data, keep).Result()
		if err != nil || fresh {
			return r, false, err
		}
		if found, exists, err = s.Get(ctx, id); err != nil || exists {
			return found, exists, err
		}
	}
	return Record{}, false, errors.New("its record comes and goes")
}

// changeScript replaces a record, if it is as it was.
//
// KEYS[1] -> usher:{once}:t:ID
// --
// ARGV[1] -> the record as it was
// ARGV[2] -> as it shall be
// ARGV[3] -> how long it is kept (ms; 0: until the task ends; -1: as long as it was)
// --
// Returns 1 if it was replaced.
var changeScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local keep = tonumber(ARGV[3])
if keep < 0 then keep = redis.call('PTTL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2])
if keep > 0 then redis.call('PEXPIRE', KEYS[1], keep) end
return 1
`)

// Change changes a record unless it is not there, or change says that it is to stay. It tells whether it did. change
// may be called again if somebody else changes the record meanwhile.
func (s *Store) Change(ctx context.Context, id string, change func(*Record) bool) (changed bool, err error) {
	return s.change(ctx, id, change, false)
}

// ChangeEach is Change for several tasks, in two round trips, and gives the error of each. change is told which one it
// changes.
func (s *Store) ChangeEach(ctx context.Context, ids []string, change func(i int, r *Record) bool) []error {
	errs := make([]error, len(ids))
	var calls []store.Call
	var of []int // the task of each
	for i, was := range s.stored(ctx, ids) {
		if errs[i] = was.err; was.text == "" {
			continue
		}
		var r Record
		if r, errs[i] = Decode([]byte(was.text)); errs[i] != nil || !change(i, &r) {
			continue
		}
		data, keep, err := Encode(r)
		if errs[i] = err; err != nil {
			continue
		}
		args := []any{was.text, data, keep.Milliseconds()}
		calls, of = append(calls, store.Call{Keys: []string{s.db.Key.Record(ids[i])}, Args: args}), append(of, i)
	}
	for n, answer := range store.RunEach(ctx, s.db, changeScript, calls) {
		i := of[n]
		changed, err := answer.Bool()
		if err == nil && !changed { // somebody else has changed it
			_, err = s.Change(ctx, ids[i], func(r *Record) bool { return change(i, r) })
		}
		errs[i] = err
	}
	for i := range errs {
		store.Wrap(&errs[i], "changing the record of task %s", ids[i])
	}
	return errs
}

// Forget takes the address out of the record of a task, if it is there.
func (s *Store) Forget(ctx context.Context, id string, address store.AddressID) error {
	_, err := s.change(ctx, id, func(r *Record) bool {
		is := r.EmailAddress != "" && store.IDOf(r.EmailAddress) == address
		if is {
			r.EmailAddress = ""
		}
		return is
	}, true)
	return err
}

// change is Change, or what changes a record that is kept only as long as it was.
func (s *Store) change(
	ctx context.Context, id string, change func(*Record) bool, asBefore bool,
) (changed bool, err error) {
	defer store.Wrap(&err, "changing the record of task %s", id)
	for range 10 {
		was, err := s.db.Get(ctx, s.db.Key.Record(id)).Result()
		if errors.Is(err, redis.Nil) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		r, err := Decode([]byte(was))
		if err != nil || !change(&r) {
			return false, err
		}
		data, keep, err := Encode(r)
		if err != nil {
			return false, err
		}
		ms := keep.Milliseconds()
		if asBefore {
			ms = -1
		}
		changed, err := changeScript.Run(ctx, s.db, []string{s.db.Key.Record(id)}, was, data, ms).Bool()
		if err != nil || changed {
			return changed, err
		}
	}
	return false, errors.New("somebody else changes it again and again")
}

// Remove removes the record of a task that was not enqueued.
func (s *Store) Remove(ctx context.Context, id string) (err error) {
	defer store.Wrap(&err, "removing the record of task %s", id)
	return s.db.Del(ctx, s.db.Key.Record(id)).Err()
}

// endScript writes the record of a task that has ended. Unless the address that it was about was forgotten on request,
// that remembers it.
//
// KEYS[1] -> usher:{once}:t:ID
// KEYS[2] -> usher:{once}:forgotten
// KEYS[3] -> usher:{once}:h:ADDRESS
// --
// ARGV[1] -> id of the address
// ARGV[2] -> the address
// ARGV[3] -> the record
// ARGV[4] -> how long it is kept (ms)
// ARGV[5] -> id of the task
// ARGV[6] -> when it has ended (ms)
// --
// Returns 1.
var endScript = redis.NewScript(store.TombstoneLua + history.Lua + `
local address, email, record, keep, id, at = unpack(ARGV)
if not forgotten(KEYS[2], address) then record = remember_end(KEYS[3], id, at, record, email) end
redis.call('SET', KEYS[1], record, 'PX', keep)
return 1
`)

// End writes the record of a task that has ended. The address that it was about remembers the task.
func (s *Store) End(ctx context.Context, id string, r Record) (err error) {
	if r.EmailAddress == "" {
		return s.Put(ctx, id, r)
	}
	defer store.Wrap(&err, "writing the record of task %s", id)
	data, keep, email, err := EncodeEnd(r)
	if err != nil {
		return err
	}
	address := store.IDOf(email)
	keys := []string{s.db.Key.Record(id), s.db.Key.Tombstones(), s.db.Key.History(string(address[:]))}
	return endScript.Run(ctx, s.db, keys, string(address[:]), email, data, keep.Milliseconds(), id,
		r.EndedAt.UnixMilli()).Err()
}

// Put writes a record; that of an ended task is kept for a while and then forgotten.
func (s *Store) Put(ctx context.Context, id string, r Record) (err error) {
	defer store.Wrap(&err, "writing the record of task %s", id)
	data, keep, err := Encode(r)
	if err != nil {
		return err
	}
	return s.db.Set(ctx, s.db.Key.Record(id), data, keep).Err()
}

// Encode gives a record as it is stored, and for how long it is kept: an ended task's for a while, any other until it
// ends.
func Encode(r Record) (data []byte, keep time.Duration, err error) {
	r.Version = version
	if r.State.Ended() {
		keep = Keep
	}
	data, err = json.Marshal(r)
	return data, keep, err
}

// EncodeEnd is Encode without the address, which a script puts back once its history has the task.
func EncodeEnd(r Record) (data []byte, keep time.Duration, email string, err error) {
	email, r.EmailAddress = r.EmailAddress, ""
	data, keep, err = Encode(r)
	return data, keep, email, err
}
