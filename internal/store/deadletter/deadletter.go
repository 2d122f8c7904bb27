// Package deadletter keeps the recipients and tasks that will not be tried again without a person. Nothing here is
// ever trimmed or expires: an entry stays until somebody retries or deletes it.
package deadletter

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/history"
)

var (
	// ErrNotFound means that there is no dead letter with an id.
	ErrNotFound = errors.New("no such dead letter")
	// ErrChanged means that a dead letter was retried and has died again since it was read.
	ErrChanged = errors.New("it was retried and died again since: look at it anew")
	// ErrBegun means that another retry of a dead letter has begun and was broken off.
	ErrBegun = errors.New("a retry with other fields has begun: finish that first (enqueue dead-letter retry ID)")
)

// Keep is how long it is known of a dead letter that it was retried or deleted.
const Keep = 30 * 24 * time.Hour

// Entry is one dead letter.
type Entry struct {
	// ID is the letter's id outside, once it was read. In Redis, and to write it, it is what Inside gives.
	ID           string           `json:"id"`
	TaskID       string           `json:"task_id"`
	Type         string           `json:"type"`
	Queue        string           `json:"queue"`
	Campaign     string           `json:"campaign,omitempty"`
	Recipient    *store.AddressID `json:"recipient,omitempty"` // its id in the campaign's ledger
	EmailAddress string           `json:"email_address,omitempty"`
	InvitationID string           `json:"invitation_id,omitempty"` // what a revoke was for
	Failure      fate.Failure     `json:"failure"`
	Attempts     int              `json:"attempts"`
	History      []fate.Attempt   `json:"history,omitempty"`
	FailedAt     time.Time        `json:"failed_at"`
	// Payload is the task's, byte for byte; of a recipient of a campaign, what its ledger holds.
	Payload []byte `json:"payload"`
	// Next is the id of the task that retries it, from the moment a retry has begun.
	Next string `json:"-"`
	// Mended is the payload that the retry sends instead, if it is another one.
	Mended []byte `json:"-"`
}

// Address is the id of the address that the letter is about, and false if it is about none.
func (e Entry) Address() (store.AddressID, bool) {
	switch {
	case e.Recipient != nil:
		return *e.Recipient, true
	case e.EmailAddress != "":
		return store.IDOf(e.EmailAddress), true
	}
	return store.AddressID{}, false
}

// Args gives what the scripts' write_letter wants of a letter: its id, its text and its time. Of none, nothing.
func (e *Entry) Args() ([]any, error) {
	if e == nil {
		return []any{"", "", 0}, nil
	}
	stored := *e
	stored.ID = e.Inside()
	data, err := json.Marshal(stored)
	return []any{stored.ID, data, e.FailedAt.UnixMilli()}, err
}

// Lua is what scripts begin with that write dead letters. write_letter(key, index, id, text, at) writes one and its
// place in time, or nothing if it has no id. Writing one twice makes one. One that died again before its retry was
// finished is a new one. unlist_letter(index, id) takes one out of the index.
const Lua = factsLua + `
local function write_letter(key, index, id, text, at)
  if id == '' then return end
  redis.call('HSET', key, 'entry', text)
  redis.call('HDEL', key, 'next', 'mended')
  redis.call('ZADD', index, at, id)
  local facts = facts_of(text)
  if facts then redis.call('HSET', index .. ':facts', id, at .. '|' .. facts) end
end
local function unlist_letter(index, id)
  redis.call('ZREM', index, id)
  redis.call('HDEL', index .. ':facts', id)
end
`

// Store keeps the dead letters of one namespace.
type Store struct {
	db     store.DB
	secret *store.Secret // of the ids that leave
}

// NewStore gives the dead letters of a namespace.
func NewStore(rdb redis.UniversalClient, namespace string) *Store {
	db := store.Open(rdb, namespace)
	return &Store{db, store.NewSecret(db)}
}

// putScript writes a letter, unless its address was forgotten on request.
//
// KEYS[1] -> usher:{once}:d:e:ID
// KEYS[2] -> usher:{once}:d:index
// KEYS[3] -> usher:{once}:forgotten
// KEYS[4] -> usher:{once}:h:ADDRESS
// --
// ARGV[1] -> id of the address
// ARGV[2] -> id of the letter
// ARGV[3] -> its text
// ARGV[4] -> its time (ms)
// ARGV[5] -> 1, or 0 if it is about no address
// --
// Returns 1.
var putScript = redis.NewScript(store.TombstoneLua + history.Lua + Lua + `
if forgotten(KEYS[3], ARGV[1]) then return 1 end
write_letter(KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4])
if ARGV[5] == '1' then remember_task(KEYS[4], ARGV[2], ARGV[4]) end
return 1
`)

// Put writes a dead letter. It is called before the task ends, so that none is lost between the two.
func (s *Store) Put(ctx context.Context, e Entry) (err error) {
	defer store.Wrap(&err, "writing the dead letter of task %s", e.TaskID)
	args, err := e.Args()
	if err != nil {
		return err
	}
	address, about := e.Address() // nobody has the id of none
	keys := []string{
		s.db.Key.Letter(e.Inside()), s.db.Key.Letters(), s.db.Key.Tombstones(), s.db.Key.History(string(address[:])),
	}
	args = append(append([]any{string(address[:])}, args...), about)
	return putScript.Run(ctx, s.db, keys, args...).Err()
}

// Get gives one dead letter, or ErrNotFound. Its id may be one of an earlier version.
func (s *Store) Get(ctx context.Context, id string) (Entry, error) {
	found, unreadable, err := s.Several(ctx, []string{id})
	if err = cmp.Or(err, unreadable[id]); err != nil {
		return Entry{}, err
	}
	e, there := found[id]
	if !there {
		return Entry{}, fmt.Errorf("dead letter %s: %w", id, ErrNotFound)
	}
	return e, nil
}

// entryOf reads a letter that has an id inside.
func (s *Store) entryOf(ctx context.Context, id string, fields map[string]string) (e Entry, err error) {
	switch {
	case fields == nil:
		return Entry{}, store.ErrGarbage
	case fields["entry"] == "":
		return Entry{}, ErrNotFound
	case json.Unmarshal([]byte(fields["entry"]), &e) != nil, e.ID != id, e.Inside() != id:
		return Entry{}, store.ErrGarbage
	}
	e.Next, e.Mended = fields["next"], []byte(fields["mended"])
	e.ID, err = s.outside(ctx, id)
	return e, err
}

// readAtOnce is how many letters are read in one round trip.
const readAtOnce = 200

// Several gives those of some dead letters that are there, by the ids as they are given, which may be of an earlier
// version, and why others cannot be read.
func (s *Store) Several(
	ctx context.Context, ids []string,
) (found map[string]Entry, unreadable map[string]error, err error) {
	places := make(map[string][]string, len(ids))
	var all []string
	for _, id := range ids {
		if places[id], err = s.inside(ctx, id); err != nil {
			return nil, nil, err
		}
		all = append(all, places[id]...)
	}
	there, broken, err := s.read(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	found, unreadable = make(map[string]Entry, len(there)), map[string]error{}
	for id, places := range places {
		for _, place := range places {
			if e, ok := there[place]; ok {
				found[id] = e
				break
			}
			if err := broken[place]; err != nil {
				unreadable[id] = err
				break
			}
		}
	}
	return found, unreadable, nil
}

// OfRecipients gives those of the dead letters of some recipients of a campaign that are there, and why others cannot
// be read.
func (s *Store) OfRecipients(
	ctx context.Context, campaign string, recipients []store.AddressID,
) (found map[store.AddressID]Entry, unreadable map[store.AddressID]error, err error) {
	ids := make([]string, len(recipients))
	for i, recipient := range recipients {
		ids[i] = RecipientID(campaign, recipient)
	}
	there, broken, err := s.read(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	found, unreadable = make(map[store.AddressID]Entry, len(there)), map[store.AddressID]error{}
	for i, recipient := range recipients {
		if e, ok := there[ids[i]]; ok {
			found[recipient] = e
		}
		if err := broken[ids[i]]; err != nil {
			unreadable[recipient] = err
		}
	}
	return found, unreadable, nil
}

// OfRecipient gives the dead letter of a recipient of a campaign, or ErrNotFound.
func (s *Store) OfRecipient(ctx context.Context, campaign string, recipient store.AddressID) (Entry, error) {
	found, unreadable, err := s.OfRecipients(ctx, campaign, []store.AddressID{recipient})
	if err = cmp.Or(err, unreadable[recipient]); err != nil {
		return Entry{}, err
	}
	e, there := found[recipient]
	if !there {
		return Entry{}, ErrNotFound
	}
	return e, nil
}

// read gives those of some dead letters that are there, by their ids inside, and why others cannot be read.
func (s *Store) read(
	ctx context.Context, ids []string,
) (found map[string]Entry, unreadable map[string]error, err error) {
	found, unreadable = make(map[string]Entry, len(ids)), map[string]error{}
	for chunk := range slices.Chunk(ids, readAtOnce) {
		if err := s.readChunk(ctx, chunk, found, unreadable); err != nil {
			return nil, nil, err
		}
	}
	return found, unreadable, nil
}

// readChunk reads letters in one round trip.
func (s *Store) readChunk(
	ctx context.Context, ids []string, found map[string]Entry, unreadable map[string]error,
) (err error) {
	defer store.Wrap(&err, "reading dead letters")
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.db.Key.Letter(id)
	}
	answers, err := store.ReadHashes(ctx, s.db, keys)
	if err != nil {
		return err
	}
	for i, answer := range answers {
		e, err := s.entryOf(ctx, ids[i], answer)
		switch {
		case err == nil:
			found[ids[i]] = e
		case errors.Is(err, store.ErrGarbage):
			outside, idErr := s.outside(ctx, ids[i])
			if idErr != nil {
				return idErr
			}
			unreadable[ids[i]] = fmt.Errorf("dead letter %s: %w", outside, err)
		case !errors.Is(err, ErrNotFound):
			return err
		}
	}
	return nil
}

// Read calls do for every dead letter that may be chosen, the oldest first, until it returns an error, and gives that.
// It holds a page of them at a time, and reads them together, so that what do is given may be a moment old: see Each.
// do looks itself whether the letter is chosen: the filter only spares reading most others. A letter that cannot be
// read hides no other; the error, a *store.Partial, names it.
func (s *Store) Read(ctx context.Context, chosen Filter, do func(Entry) error) error {
	var partial store.Partial
	err := s.eachLikely(ctx, chosen, func(ids []string) error {
		found, unreadable, err := s.read(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range ids { // before any is given: do may have enough
			partial.Add(unreadable[id])
		}
		for _, id := range ids {
			e, there := found[id]
			if !there {
				continue
			}
			if err := do(e); err != nil {
				return err
			}
		}
		return nil
	})
	return partial.With(err)
}

// Count is how many dead letters there are.
func (s *Store) Count(ctx context.Context) (count int, err error) {
	defer store.Wrap(&err, "counting dead letters")
	n, err := s.db.ZCard(ctx, s.db.Key.Letters()).Result()
	return int(n), err
}

// scanCount is how many ids are asked for at a time.
const scanCount = 1000

// byAge gives the ids of all dead letters, the oldest first. Letters that are written or deleted meanwhile hide no
// other: by rank they would.
func (s *Store) byAge(ctx context.Context) ([]string, error) {
	ages := map[string]float64{} // ZSCAN may give one twice
	found := s.db.ZScan(ctx, s.db.Key.Letters(), 0, "", scanCount).Iterator()
	for found.Next(ctx) {
		id := found.Val()
		if !found.Next(ctx) {
			break
		}
		ages[id], _ = strconv.ParseFloat(found.Val(), 64)
	}
	if err := found.Err(); err != nil {
		return nil, fmt.Errorf("listing dead letters: %w", err)
	}
	return slices.SortedFunc(maps.Keys(ages), func(a, b string) int {
		return cmp.Or(cmp.Compare(ages[a], ages[b]), strings.Compare(a, b))
	}), nil
}

// Each calls do for every dead letter that may be chosen, as Read does, until it returns an error, and gives that. do
// may change and delete: each letter is read just before. A letter that cannot be read hides no other; the error, a
// *store.Partial, names it.
func (s *Store) Each(ctx context.Context, chosen Filter, do func(Entry) error) error {
	return s.EachOfSome(ctx, chosen, 1, do)
}

// EachOfSome is Each for a do that can bear with letters which were read a moment ago: so many are read together.
func (s *Store) EachOfSome(ctx context.Context, chosen Filter, together int, do func(Entry) error) error {
	var partial store.Partial
	var ids []string
	err := s.eachLikely(ctx, chosen, func(page []string) error {
		ids = append(ids, page...)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing dead letters: %w", err)
	}
	for chunk := range slices.Chunk(ids, together) {
		found, unreadable, err := s.read(ctx, chunk)
		if err != nil {
			return partial.With(err)
		}
		for _, id := range chunk {
			partial.Add(unreadable[id])
			if entry, there := found[id]; there { // else it was retried or deleted since
				if err := do(entry); err != nil {
					return partial.With(err)
				}
			}
		}
	}
	return partial.With(nil)
}

// failedLua defines failed_at(text), the time in a letter, as it is written there.
const failedLua = `
local function failed_at(text)
  local known, letter = pcall(cjson.decode, text or '')
  return known and type(letter) == 'table' and tostring(letter.failed_at) or ''
end
`

// Campaigns counts the dead letters of each campaign that has any: its recipients', and those of tasks about it. One
// that cannot be read counts for nobody.
func (s *Store) Campaigns(ctx context.Context) (counts map[string]int, err error) {
	defer store.Wrap(&err, "counting the dead letters of campaigns")
	ids, err := s.byAge(ctx)
	if err != nil {
		return nil, err
	}
	counts = map[string]int{}
	for chunk := range slices.Chunk(ids, scanCount) {
		letters := make([]*redis.StringCmd, len(chunk))
		_, err := s.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, id := range chunk {
				letters[i] = pipe.HGet(ctx, s.db.Key.Letter(id), "entry")
			}
			return nil
		})
		if passable(err) != nil {
			return nil, err
		}
		for _, letter := range letters {
			var e struct {
				Campaign string `json:"campaign"`
			}
			if err := letter.Err(); passable(err) != nil {
				return nil, err
			}
			if json.Unmarshal([]byte(letter.Val()), &e) == nil && e.Campaign != "" {
				counts[e.Campaign]++
			}
		}
	}
	return counts, nil
}

// passable is nil for an error that is about one letter, which is gone or cannot be read.
func passable(err error) error {
	if err = store.Garbage(err); errors.Is(err, store.ErrGarbage) || errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// retryScript fixes the id and the payload of the task that retries a letter, if none is yet.
//
// KEYS[1] -> usher:{once}:d:e:ID
// --
// ARGV[1] -> id of the next task
// ARGV[2] -> its payload, if it is another one than the letter's
// ARGV[3] -> when the letter that is meant has failed
// --
// Returns outcome (ok, gone or changed), and the id and the payload that count.
var retryScript = redis.NewScript(failedLua + `
local text = redis.call('HGET', KEYS[1], 'entry')
if not text then return { 'gone', '', '' } end
if failed_at(text) ~= ARGV[3] then return { 'changed', '', '' } end
if redis.call('HSETNX', KEYS[1], 'next', ARGV[1]) == 1 and ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'mended', ARGV[2])
end
return { 'ok', redis.call('HGET', KEYS[1], 'next'), redis.call('HGET', KEYS[1], 'mended') or '' }
`)

// BeginRetry fixes for each letter, all in one round trip, that the task Next retries it, and that Mended is sent if
// that is not empty. It gives the letters with what counts: what was fixed before stays. The error of each is
// ErrNotFound if the letter is gone, and ErrChanged if another one is in its place.
func (s *Store) BeginRetry(ctx context.Context, letters ...Entry) (begun []Entry, errs []error) {
	begun, errs = slices.Clone(letters), make([]error, len(letters))
	calls := make([]store.Call, len(letters))
	for i, e := range letters {
		var at string
		at, errs[i] = stamp(e.FailedAt) // fails for a time that no letter has, so the letter is another one
		calls[i] = store.Call{Keys: []string{s.db.Key.Letter(e.Inside())}, Args: []any{e.Next, e.Mended, at}}
	}
	for i, answer := range store.RunEach(ctx, s.db, retryScript, calls) {
		if said, err := answer.StringSlice(); errs[i] == nil {
			begun[i], errs[i] = begunAs(begun[i], said, err)
		}
	}
	return begun, errs
}

// begunAs reads an answer of retryScript about a letter.
func begunAs(e Entry, said []string, err error) (Entry, error) {
	switch {
	case err != nil:
		return e, err
	case len(said) != 3:
		return e, store.ErrGarbage
	case said[0] == "gone":
		return e, ErrNotFound
	case said[0] == "changed":
		return e, ErrChanged
	}
	e.Next, e.Mended = said[1], []byte(said[2])
	return e, nil
}

// stamp is an instant as it stands in a letter.
func stamp(at time.Time) (string, error) {
	text, err := at.MarshalText()
	return string(text), err
}

// End says why a letter is there no more.
type End string

// The ends of letters.
const (
	Retried   End = "retried"
	Deleted   End = "deleted"
	Forgotten End = "" // with its address: nothing is remembered of it
)

// deleteScript removes a letter. A repeated request gets the same answer.
//
// KEYS[1] -> usher:{once}:d:e:ID
// KEYS[2] -> usher:{once}:d:index
// KEYS[3] -> usher:{once}:d:g:ID
// KEYS[4] -> usher:{once}:request:TOKEN  there if it was removed
// --
// ARGV[1] -> id of the letter
// ARGV[2] -> id of the next task that it must have, or empty for any letter
// ARGV[3] -> its end; empty: nothing is remembered
// ARGV[4] -> for how long the end is remembered (s)
// ARGV[5] -> when the letter that is meant has failed, or empty for any letter
// --
// Returns 1 if it was removed.
var deleteScript = redis.NewScript(failedLua + Lua + store.RequestKeep + `
if redis.call('EXISTS', KEYS[4]) == 1 then return 1 end
local text, next = unpack(redis.pcall('HMGET', KEYS[1], 'entry', 'next')) -- garbage may be of another type
if ARGV[2] ~= '' and next ~= ARGV[2] or ARGV[5] ~= '' and failed_at(text) ~= ARGV[5] then return 0 end
unlist_letter(KEYS[2], ARGV[1]) -- needs no memory: Redis takes the others after it also when it is full
if ARGV[3] == '' then
  redis.call('DEL', KEYS[3])
elseif text then
  redis.call('HSET', KEYS[3], failed_at(text), ARGV[3])
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[4], 1, 'PX', request_keep)
return 1
`)

// Delete removes a letter and tells whether it was there. Its end is remembered for a while. Its id may be one of an
// earlier version.
func (s *Store) Delete(ctx context.Context, id string, end End) (deleted bool, err error) {
	defer store.Wrap(&err, "deleting dead letter %s", id)
	places, err := s.inside(ctx, id)
	for i := 0; i < len(places) && !deleted && err == nil; i++ {
		call := s.deletion(places[i], "", end, "")
		deleted, err = deleteScript.Run(ctx, s.db, call.Keys, call.Args...).Bool()
	}
	return deleted, err
}

// deletion is the call of deleteScript for a letter, by its id inside.
func (s *Store) deletion(id, next string, end End, failedAt string) store.Call {
	keys := []string{s.db.Key.Letter(id), s.db.Key.Letters(), s.db.Key.Gone(id), s.db.Key.Request(rand.Text())}
	return store.Call{Keys: keys, Args: []any{id, next, string(end), int(Keep.Seconds()), failedAt}}
}

// DeleteEach is Delete for several letters as they were read, in one round trip. It tells which of them were there, and
// the error of each. One that has died again since is another letter, and stays. Of those that were retried it removes
// none whose retry has another id.
func (s *Store) DeleteEach(ctx context.Context, letters []Entry, end End) (deleted []bool, errs []error) {
	deleted, errs = make([]bool, len(letters)), make([]error, len(letters))
	calls := make([]store.Call, len(letters))
	for i, letter := range letters {
		at, err := stamp(letter.FailedAt)
		if errs[i] = err; err != nil {
			at = "none" // that no letter has
		}
		next := ""
		if end == Retried {
			next = letter.Next
		}
		calls[i] = s.deletion(letter.Inside(), next, end, at)
	}
	for i, answer := range store.RunEach(ctx, s.db, deleteScript, calls) {
		was, err := answer.Bool()
		deleted[i], errs[i] = was, cmp.Or(errs[i], err)
		store.Wrap(&errs[i], "deleting dead letter %s", letters[i].ID)
	}
	return deleted, errs
}

// LastGone tells the last end of a letter of an id; false if none is remembered.
func (s *Store) LastGone(ctx context.Context, id string) (end End, known bool, err error) {
	var last time.Time
	err = s.gone(ctx, id, func(at time.Time, one End) {
		if !at.Before(last) {
			last, end, known = at, one, true
		}
	})
	return end, known, err
}

// Gone tells the end of a letter that is there no more, as long as that is remembered. It is false if there was none
// that failed at that instant.
func (s *Store) Gone(ctx context.Context, id string, failedAt time.Time) (end End, known bool, err error) {
	err = s.gone(ctx, id, func(at time.Time, one End) {
		if at.Equal(failedAt) {
			end, known = one, true
		}
	})
	return end, known, err
}

// gone calls do for each end that is remembered of letters of an id, which may be one of an earlier version.
func (s *Store) gone(ctx context.Context, id string, do func(at time.Time, end End)) (err error) {
	defer store.Wrap(&err, "looking for what became of dead letter %s", id)
	places, err := s.inside(ctx, id)
	if err != nil {
		return err
	}
	for _, place := range places {
		ends, err := s.db.HGetAll(ctx, s.db.Key.Gone(place)).Result()
		if err != nil {
			return err
		}
		for text, end := range ends {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				do(at, End(end))
			}
		}
	}
	return nil
}
