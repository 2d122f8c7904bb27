// Package deadletter keeps the recipients and tasks that will not be tried again without a person. Nothing here is
// ever trimmed or expires: an entry stays until somebody retries or deletes it.
package deadletter

import (
	"cmp"
	"context"
	"encoding/hex"
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
)

// ErrNotFound means that there is no dead letter with an id.
var ErrNotFound = errors.New("no such dead letter")

// Entry is one dead letter.
type Entry struct {
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
}

// RecipientID is the id of the dead letter of a recipient of a campaign. That of a task is the task's id.
func RecipientID(campaign string, id store.AddressID) string {
	return campaign + ":" + hex.EncodeToString(id[:])
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
	data, err := json.Marshal(e)
	return []any{e.ID, data, e.FailedAt.UnixMilli()}, err
}

// Lua is what scripts begin with that write dead letters. write_letter(key, index, id, text, at) writes one and its
// place in time, or nothing if it has no id. Writing one twice makes one. One that died again before its retry was
// finished is a new one.
const Lua = `
local function write_letter(key, index, id, text, at)
  if id == '' then return end
  redis.call('HSET', key, 'entry', text)
  redis.call('HDEL', key, 'next')
  redis.call('ZADD', index, at, id)
end
`

// Store keeps the dead letters of one namespace.
type Store struct{ db store.DB }

// NewStore gives the dead letters of a namespace.
func NewStore(rdb redis.UniversalClient, namespace string) *Store {
	return &Store{store.Open(rdb, namespace)}
}

// putScript writes a letter, unless its address was forgotten on request.
//
// KEYS[1] -> usher:{once}:d:e:ID
// KEYS[2] -> usher:{once}:d:index
// KEYS[3] -> usher:{once}:forgotten
// --
// ARGV[1] -> id of the address
// ARGV[2] -> id of the letter
// ARGV[3] -> its text
// ARGV[4] -> its time (ms)
// --
// Returns 1.
var putScript = redis.NewScript(store.TombstoneLua + Lua + `
if not forgotten(KEYS[3], ARGV[1]) then write_letter(KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]) end
return 1
`)

// Put writes a dead letter. It is called before the task ends, so that none is lost between the two.
func (s *Store) Put(ctx context.Context, e Entry) (err error) {
	defer store.Wrap(&err, "writing dead letter %s", e.ID)
	args, err := e.Args()
	if err != nil {
		return err
	}
	address, _ := e.Address() // nobody has the id of none
	keys := []string{s.db.Key.Letter(e.ID), s.db.Key.Letters(), s.db.Key.Tombstones()}
	return putScript.Run(ctx, s.db, keys, append([]any{string(address[:])}, args...)...).Err()
}

// Get gives one dead letter, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (e Entry, err error) {
	defer store.Wrap(&err, "dead letter %s", id)
	fields, err := s.db.HGetAll(ctx, s.db.Key.Letter(id)).Result()
	switch {
	case err != nil:
		return Entry{}, err
	case fields["entry"] == "":
		return Entry{}, ErrNotFound
	case json.Unmarshal([]byte(fields["entry"]), &e) != nil:
		return Entry{}, store.ErrGarbage
	}
	e.Next = fields["next"]
	return e, nil
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

// Each calls do for every dead letter, the oldest first, until it returns an error, and gives that. do may delete.
func (s *Store) Each(ctx context.Context, do func(Entry) error) error {
	ids, err := s.byAge(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		entry, err := s.Get(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // retried or deleted since
		}
		if err == nil {
			err = do(entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

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
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		for _, letter := range letters {
			var e struct {
				Campaign string `json:"campaign"`
			}
			if err := letter.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return nil, err
			}
			if json.Unmarshal([]byte(letter.Val()), &e) == nil && e.Campaign != "" {
				counts[e.Campaign]++
			}
		}
	}
	return counts, nil
}

// retryScript fixes the id of the task that retries a letter, if none is yet.
//
// KEYS[1] -> usher:{once}:d:e:ID
// --
// ARGV[1] -> id of the next task
// --
// Returns the id that counts, or nothing if the letter is gone.
var retryScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], 'entry') == 0 then return false end
redis.call('HSETNX', KEYS[1], 'next', ARGV[1])
return redis.call('HGET', KEYS[1], 'next')
`)

// BeginRetry fixes the id of the task that retries a letter, if none is yet, and gives the one that counts.
func (s *Store) BeginRetry(ctx context.Context, id, next string) (counts string, err error) {
	defer store.Wrap(&err, "retrying dead letter %s", id)
	counts, err = retryScript.Run(ctx, s.db, []string{s.db.Key.Letter(id)}, next).Text()
	if errors.Is(err, redis.Nil) {
		err = ErrNotFound
	}
	return counts, err
}

// deleteScript removes a letter.
//
// KEYS[1] -> usher:{once}:d:e:ID
// KEYS[2] -> usher:{once}:d:index
// --
// ARGV[1] -> id of the letter
// ARGV[2] -> id of the next task that it must have, or empty for any letter
// --
// Returns 1 if it was removed.
var deleteScript = redis.NewScript(`
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'next') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
`)

// Delete removes a letter and tells whether it was there. Where next is given, it removes none but a letter whose
// retry has that id.
func (s *Store) Delete(ctx context.Context, id, next string) (deleted bool, err error) {
	defer store.Wrap(&err, "deleting dead letter %s", id)
	return deleteScript.Run(ctx, s.db, []string{s.db.Key.Letter(id), s.db.Key.Letters()}, id, next).Bool()
}
