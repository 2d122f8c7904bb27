package store

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Tombstones say which addresses were forgotten on request. With an address one can find its tombstone. With a
// tombstone one can only try addresses.
type Tombstones struct{ db DB }

// NewTombstones gives the tombstones of a namespace.
func NewTombstones(rdb redis.UniversalClient, namespace string) *Tombstones {
	return &Tombstones{Open(rdb, namespace)}
}

// buryScript sets a tombstone. A repeated request gets the same answer.
//
// KEYS[1] -> usher:{once}:forgotten
// KEYS[2] -> usher:{once}:request:TOKEN  there if it was set
// --
// ARGV[1] -> id of the address
// ARGV[2] -> salt to use if there is none yet
// --
// Returns 1 if there was none for the address.
var buryScript = redis.NewScript(Clock + RequestKeep + `
redis.call('HSETNX', KEYS[1], 'salt', ARGV[2])
local field = redis.sha1hex(redis.call('HGET', KEYS[1], 'salt') .. ARGV[1])
if redis.call('HSETNX', KEYS[1], field, stamp(now)) == 0 then return redis.call('EXISTS', KEYS[2]) end
redis.call('SET', KEYS[2], 1, 'PX', request_keep)
return 1
`)

// Set sets a tombstone for an address and tells whether it had none.
func (t *Tombstones) Set(ctx context.Context, address AddressID) (fresh bool, err error) {
	defer Wrap(&err, "setting a tombstone")
	keys := []string{t.db.Key.Tombstones(), t.db.Key.Request(rand.Text())}
	return buryScript.Run(ctx, t.db, keys, string(address[:]), rand.Text()).Bool()
}

// liftScript takes a tombstone away. A repeated request gets the same answer.
//
// KEYS[1] -> usher:{once}:forgotten
// KEYS[2] -> usher:{once}:request:TOKEN  there if it was taken away
// --
// ARGV[1] -> id of the address
// --
// Returns 1 if there was one.
var liftScript = redis.NewScript(RequestKeep + `
local field = redis.sha1hex((redis.call('HGET', KEYS[1], 'salt') or '') .. ARGV[1])
if redis.call('HDEL', KEYS[1], field) == 0 then return redis.call('EXISTS', KEYS[2]) end
redis.call('SET', KEYS[2], 1, 'PX', request_keep)
return 1
`)

// Lift takes the tombstone of an address away and tells whether it had one.
func (t *Tombstones) Lift(ctx context.Context, address AddressID) (lifted bool, err error) {
	defer Wrap(&err, "lifting a tombstone")
	keys := []string{t.db.Key.Tombstones(), t.db.Key.Request(rand.Text())}
	return liftScript.Run(ctx, t.db, keys, string(address[:])).Bool()
}

// read gives the values of the tombstones of some addresses, in their order; nil for one that has none.
func (t *Tombstones) read(ctx context.Context, addresses ...AddressID) (values []any, err error) {
	defer Wrap(&err, "reading tombstones")
	values = make([]any, len(addresses))
	salt, err := t.salt(ctx)
	if err != nil || salt == "" || len(addresses) == 0 {
		return values, err
	}
	fields := make([]string, len(addresses))
	for i, address := range addresses {
		fields[i] = nameOf(salt, address)
	}
	return t.db.HMGet(ctx, t.db.Key.Tombstones(), fields...).Result()
}

// Forgotten tells which of some addresses have a tombstone, in their order.
func (t *Tombstones) Forgotten(ctx context.Context, addresses ...AddressID) ([]bool, error) {
	values, err := t.read(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	forgotten := make([]bool, len(addresses))
	for i, value := range values {
		forgotten[i] = value != nil
	}
	return forgotten, nil
}

// Since tells when an address was forgotten, on Redis's clock. The instant is zero if it was not.
func (t *Tombstones) Since(ctx context.Context, address AddressID) (time.Time, error) {
	values, err := t.read(ctx, address)
	if err != nil || values[0] == nil {
		return time.Time{}, err
	}
	text, _ := values[0].(string)
	return Instant(text)
}

// nameOf is the name of an address's tombstone: a hash of the address, keyed with the salt.
func nameOf(salt string, address AddressID) string {
	sum := sha1.Sum(append([]byte(salt), address[:]...))
	return hex.EncodeToString(sum[:])
}

// Mark stands for an address outside Redis. Without the key, which is in Redis, it tells nothing.
type Mark struct {
	Key  string // which key it was made with, 16 hexadecimal digits
	Name string // of the address's tombstone, 40 hexadecimal digits
}

// Prepare makes the key of marks, unless there is one. Each worker does it at its start, so that a copy of Redis has
// the key before the first address is forgotten.
func (t *Tombstones) Prepare(ctx context.Context) (err error) {
	defer Wrap(&err, "making the key of tombstones")
	return t.db.HSetNX(ctx, t.db.Key.Tombstones(), "salt", rand.Text()).Err()
}

// salt gives the key of marks; nothing if there is none.
func (t *Tombstones) salt(ctx context.Context) (salt string, err error) {
	defer Wrap(&err, "reading the key of tombstones")
	salt, err = t.db.HGet(ctx, t.db.Key.Tombstones(), "salt").Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return salt, err
}

// Key tells which key marks are made with; it is empty if there is none.
func (t *Tombstones) Key(ctx context.Context) (string, error) {
	salt, err := t.salt(ctx)
	return keyOf(salt), err
}

func keyOf(salt string) string {
	if salt == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("usher marks " + salt))
	return hex.EncodeToString(sum[:8])
}

// MarkOf gives the mark of an address that has a tombstone.
func (t *Tombstones) MarkOf(ctx context.Context, address AddressID) (Mark, error) {
	salt, err := t.salt(ctx)
	return Mark{keyOf(salt), nameOf(salt, address)}, err
}

// Erasure is an address that was forgotten on request, or lifted, at an instant.
type Erasure struct {
	Mark
	At     time.Time
	Lifted bool
}

// replaySlice is how many tombstones are set in one round trip.
const replaySlice = 500

// Replay sets tombstones, and takes away those that were lifted, in their order. Repeating it changes nothing.
func (t *Tombstones) Replay(ctx context.Context, erasures []Erasure) (err error) {
	defer Wrap(&err, "setting %d tombstones", len(erasures))
	key := t.db.Key.Tombstones()
	for chunk := range slices.Chunk(erasures, replaySlice) {
		_, err := t.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, e := range chunk {
				if e.Lifted {
					pipe.HDel(ctx, key, e.Name)
				} else {
					pipe.HSetNX(ctx, key, e.Name, e.At.UnixMilli())
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
