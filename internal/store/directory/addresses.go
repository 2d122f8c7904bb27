package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
)

// A copy has an index of its addresses, so that nobody reads all of it for one. It is a hash of buckets: an address is
// in the bucket of the first two bytes of its id. A bucket is a text of records, one for each instant at which an
// invitation of an address was created: the next four bytes of the address's id, and the instant. The order of the copy
// says which invitations were created then. That takes about 14 bytes for each of a million invitations.
//
// The index has an expiry, because workers of earlier versions know nothing of it and would leave it behind. Copies
// without an index are read through.
const (
	bucketBytes = 2
	hashBytes   = 4
	// addressesKeep is how long a copy that counts has its index.
	addressesKeep = 30 * 24 * time.Hour
)

// addressesLua defines note_address, which writes a record into a bucket, and drop_address, which removes all records
// that begin with a hash. A bucket that has grown too long, because one address was invited very often, ends with one
// byte more, and what is in it is read through.
const addressesLua = `
local record_bytes, most_bytes = 10, 5000
local function note_address(key, bucket, record)
  local known = redis.call('HGET', key, bucket) or ''
  if #known % record_bytes > 0 then return end
  for at = 1, #known, record_bytes do
    if string.sub(known, at, at + record_bytes - 1) == record then return end
  end
  if #known >= most_bytes then record = '+' end
  redis.call('HSET', key, bucket, known .. record)
end
local function drop_address(key, bucket, hash)
  local known, kept = redis.call('HGET', key, bucket) or '', {}
  for at = 1, #known, record_bytes do
    local record = string.sub(known, at, at + record_bytes - 1)
    if string.sub(record, 1, #hash) ~= hash then kept[#kept + 1] = record end
  end
  kept = table.concat(kept)
  if kept == '' then
    redis.call('HDEL', key, bucket)
  elseif kept ~= known then
    redis.call('HSET', key, bucket, kept)
  end
end
`

// recordBytes is how long a record is: the hash, and the instant in six bytes of milliseconds.
const recordBytes = hashBytes + 6

// placeOf gives the bucket of an address, and what its records begin with.
func placeOf(address string) (bucket, hash string) {
	id := store.IDOf(address)
	return string(id[:bucketBytes]), string(id[bucketBytes : bucketBytes+hashBytes])
}

// recordOf gives the record of an invitation.
func recordOf(hash string, created time.Time) string {
	at := binary.BigEndian.AppendUint64(nil, uint64(created.UnixMilli()))
	return hash + string(at[2:])
}

// dropScript removes an address from the index of a copy.
//
// KEYS[1] -> usher:{directory}:copy:NAME:addresses
// --
// ARGV[1] -> its bucket
// ARGV[2] -> what its records begin with
// --
// Returns 1.
var dropScript = redis.NewScript(addressesLua + `
drop_address(KEYS[1], ARGV[1], ARGV[2])
return 1
`)

// About calls do for every invitation of an address, the newest first. The error may be ErrReplaced.
func (c Copy) About(ctx context.Context, address string, do func(clerkclient.Invitation) error) (err error) {
	folded := store.Fold(address)
	mine := func(inv clerkclient.Invitation) error {
		if store.Fold(inv.EmailAddress) != folded {
			return nil
		}
		return do(inv)
	}
	instants, indexed, err := c.created(ctx, folded)
	if err != nil {
		return err
	}
	if !indexed {
		return c.Each(ctx, Filter{Query: folded}, mine)
	}
	rows, err := c.createdAt(ctx, instants, Filter{Query: folded})
	for i := 0; i < len(rows) && err == nil; i++ {
		if !forgotten(rows[i]) {
			err = mine(rows[i])
		}
	}
	return err
}

// created gives the instants at which invitations of an address were created, the latest first. It is false if the
// index does not tell.
func (c Copy) created(ctx context.Context, address string) (instants []int64, indexed bool, err error) {
	defer store.Wrap(&err, "reading the directory's addresses")
	key := c.directory.db.Key.CopyAddresses(c.name)
	bucket, hash := placeOf(address)
	var there *redis.IntCmd
	var text *redis.StringCmd
	_, err = c.directory.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		there, text = pipe.Exists(ctx, key), pipe.HGet(ctx, key, bucket)
		return nil
	})
	switch err = store.Garbage(err); {
	case errors.Is(err, store.ErrGarbage):
		return nil, false, nil
	case err != nil && !errors.Is(err, redis.Nil):
		return nil, false, err
	}
	if there.Val() == 0 || len(text.Val())%recordBytes > 0 {
		return nil, false, nil
	}
	for record := range slices.Chunk([]byte(text.Val()), recordBytes) {
		if string(record[:hashBytes]) == hash {
			at := binary.BigEndian.Uint64(append(record[hashBytes:recordBytes:recordBytes], 0, 0))
			instants = append(instants, int64(at)>>16) // a time that nobody knows is before 1970
		}
	}
	slices.Sort(instants)
	slices.Reverse(instants)
	return instants, true, nil
}

// createdAt gives the invitations that were created at some instants, in their order. One that cannot match is empty.
func (c Copy) createdAt(
	ctx context.Context, instants []int64, filter Filter,
) (rows []clerkclient.Invitation, err error) {
	db, order := c.directory.db, c.directory.db.Key.CopyOrder(c.name)
	answers := make([]*redis.StringSliceCmd, len(instants))
	var there *redis.IntCmd
	_, err = db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, at := range instants {
			text := strconv.FormatInt(at, 10)
			answers[i] = pipe.ZRangeArgs(ctx, redis.ZRangeArgs{Key: order, Start: text, Stop: text, ByScore: true, Rev: true})
		}
		there = pipe.Exists(ctx, order)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the directory: %w", err)
	}
	var ids []string
	for _, answer := range answers {
		ids = append(ids, answer.Val()...)
	}
	if rows, err = c.rows(ctx, ids, filter); err == nil && (there.Val() == 0 || len(rows) < len(ids)) {
		err = ErrReplaced
	}
	return rows, err
}
