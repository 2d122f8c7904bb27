// Package deadletter keeps the recipients and tasks that will not be tried again without a person. Nothing here is ever
// trimmed or expires: an entry stays until somebody retries or deletes it.
package deadletter

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
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

// Store keeps the dead letters of one namespace.
type Store struct {
	rdb       redis.UniversalClient
	namespace string
	keys      store.Keys
}

// NewStore gives the dead letters of a namespace.
func NewStore(rdb redis.UniversalClient, namespace string) *Store {
	return &Store{rdb: rdb, namespace: namespace, keys: store.Keys(namespace)}
}

// putScript writes an entry and its place in time, unless its address was forgotten on request. KEYS: entry, index, tombstones. ARGV: id, entry
// (JSON), time in ms, id of the address.
// Writing one twice makes one. One that died again while its retry was not quite finished is a new one.
var putScript = redis.NewScript(store.TombstoneLua + `
if forgotten(KEYS[3], ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], 'entry', ARGV[2])
redis.call('HDEL', KEYS[1], 'next')
return redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
`)

// deleteScript removes an entry. KEYS: entry, index. ARGV: id, the next id that it must have (or empty for any entry).
// Returns 1 if it was removed.
var deleteScript = redis.NewScript(`
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'next') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
`)

// retryingScript fixes the id of the task that retries an entry, if none is yet. KEYS: entry. ARGV: next id.
// Returns the id that counts, or nothing if the entry is gone.
var retryingScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], 'entry') == 0 then return false end
redis.call('HSETNX', KEYS[1], 'next', ARGV[1])
return redis.call('HGET', KEYS[1], 'next')
`)

// Letter gives a dead letter as it is written together with the settlement of an intent.
func (s *Store) Letter(e Entry) (*intent.Letter, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding dead letter %s: %w", e.ID, err)
	}
	return &intent.Letter{Key: s.keys.Letter(e.ID), IndexKey: s.keys.Letters(), ID: e.ID, Entry: data, FailedAt: e.FailedAt}, nil
}

// typeInvite is the type of the tasks that have an intent of their own. A revoke task may be about an address too, and has none.
const typeInvite = "invite"

// owner owns the intent of a dead letter's recipient, at an address. A letter that is not about a recipient has none.
func (e Entry) owner() (owner string, address store.AddressID, ok bool) {
	address, ok = e.Address()
	switch {
	case ok && e.Recipient != nil:
		return intent.CampaignOwner(e.Campaign), address, true
	case ok && e.Type == typeInvite:
		return intent.TaskOwner(e.ID), address, true
	}
	return "", store.AddressID{}, false
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

// doubtSince is when the first call was made that may have made the invitation without our knowing, in ms; 0 if there is no such
// call, as far as the letter tells: a refusal is the proof that nothing was made.
func (e Entry) doubtSince() int64 {
	switch {
	case e.Failure.Reason != fate.Exhausted:
		return 0
	case len(e.History) > 0:
		return e.History[0].At.UnixMilli()
	}
	return e.FailedAt.UnixMilli()
}

// Put writes dead letters. It is called before the task ends, so that none is lost between the two.
func (s *Store) Put(ctx context.Context, entries ...Entry) error {
	for _, e := range entries {
		data, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding dead letter %s: %w", e.ID, err)
		}
		keys := []string{s.keys.Letter(e.ID), s.keys.Letters(), s.keys.Tombstones()}
		address, _ := e.Address() // nobody has the id of none
		if err := putScript.Run(ctx, s.rdb, keys, e.ID, data, e.FailedAt.UnixMilli(), string(address[:])).Err(); err != nil {
			return fmt.Errorf("writing dead letter %s: %w", e.ID, err)
		}
	}
	return nil
}

// Get gives one dead letter, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (Entry, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.Letter(id)).Result()
	if err != nil {
		return Entry{}, fmt.Errorf("reading dead letter %s: %w", id, err)
	}
	return entryOf(id, fields)
}

func entryOf(id string, fields map[string]string) (Entry, error) {
	if fields["entry"] == "" {
		return Entry{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	var e Entry
	if err := json.Unmarshal([]byte(fields["entry"]), &e); err != nil {
		return Entry{}, fmt.Errorf("dead letter %s is garbage: %w", id, err)
	}
	e.Next = fields["next"]
	return e, nil
}

// Count is how many dead letters there are.
func (s *Store) Count(ctx context.Context) (int, error) {
	n, err := s.rdb.ZCard(ctx, s.keys.Letters()).Result()
	if err != nil {
		return 0, fmt.Errorf("counting dead letters: %w", err)
	}
	return int(n), nil
}

// idsPage is how many ids are listed at a time.
const idsPage = 5000

// Each calls do for every dead letter, the oldest first, until it returns an error, and gives that. do may delete.
func (s *Store) Each(ctx context.Context, do func(Entry) error) error {
	var ids []string
	for start := int64(0); ; start += idsPage {
		found, err := s.rdb.ZRange(ctx, s.keys.Letters(), start, start+idsPage-1).Result()
		if err != nil {
			return fmt.Errorf("listing dead letters: %w", err)
		}
		ids = append(ids, found...)
		if len(found) < idsPage {
			break
		}
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

// Delete removes a dead letter for good and tells whether it was there.
func (s *Store) Delete(ctx context.Context, id string) (bool, error) {
	entry, err := s.Get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if owner, address, ok := entry.owner(); err == nil && ok {
		if err := intent.Forget(ctx, s.rdb, s.namespace, owner, address); err != nil {
			return false, err
		}
	}
	return s.delete(ctx, id, "")
}

func (s *Store) delete(ctx context.Context, id, next string) (bool, error) {
	n, err := deleteScript.Run(ctx, s.rdb, []string{s.keys.Letter(id), s.keys.Letters()}, id, next).Int()
	if err != nil {
		return false, fmt.Errorf("deleting dead letter %s: %w", id, err)
	}
	return n == 1, nil
}
