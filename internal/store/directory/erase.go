package directory

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
)

// anonymous is what remains of an invitation whose address was forgotten on request: enough to count it, as Clerk
// does.
func anonymous(inv clerkclient.Invitation) clerkclient.Invitation {
	inv.EmailAddress, inv.PublicMetadata = "", nil
	return inv
}

// forgotten tells which invitations are about addresses that were forgotten on request.
func (d *Directory) forgotten(ctx context.Context, invitations []clerkclient.Invitation) ([]bool, error) {
	addresses := make([]store.AddressID, len(invitations))
	for i, inv := range invitations {
		addresses[i] = store.IDOf(inv.EmailAddress)
	}
	return d.tombstones.Forgotten(ctx, addresses...)
}

// eraseScript replaces a row, or removes it, if it is there.
//
// KEYS[1] -> usher:{directory}:copy:NAME
// --
// ARGV[1] -> id of the invitation
// ARGV[2] -> its text; empty: it is removed
// --
// Returns 1 if it was there.
var eraseScript = redis.NewScript(`
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
`)

// Erase removes an address, folded, that was forgotten on request from the copy that counts and from all that are
// being written or can still be read. Its tombstone is there already. It gives how many rows were about it.
func (d *Directory) Erase(ctx context.Context, folded string) (erased int, err error) {
	defer store.Wrap(&err, "erasing an address from the directory")
	names, err := d.db.ZRange(ctx, d.db.Key.Copies(), 0, -1).Result()
	if err != nil {
		return 0, err
	}
	counts, err := d.db.HGet(ctx, d.db.Key.Directory(), "copy").Result()
	if err == nil && !strings.HasPrefix(counts, layout) {
		err = d.db.Unlink(ctx, d.db.Key.Copy(counts)).Err() // of an earlier version: nobody reads it
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err
	}
	bucket, hash := placeOf(folded)
	for _, name := range names {
		n, err := d.eraseFrom(ctx, d.db.Key.Copy(name), folded)
		if err == nil {
			err = dropScript.Run(ctx, d.db, []string{d.db.Key.CopyAddresses(name)}, bucket, hash).Err()
		}
		if erased += n; err != nil {
			return erased, err
		}
	}
	return erased, nil
}

func (d *Directory) eraseFrom(ctx context.Context, key, folded string) (erased int, err error) {
	rows := d.db.HScan(ctx, key, 0, "", pageRows).Iterator()
	for rows.Next(ctx) {
		id := rows.Val()
		if !rows.Next(ctx) {
			break
		}
		text := rows.Val()
		if !strings.Contains(strings.ToLower(text), folded) {
			continue // most of them, and cheaper than reading each
		}
		replaced := []byte{}
		if inv, err := decode(id, text); err == nil {
			if store.Fold(inv.EmailAddress) != folded {
				continue
			}
			if replaced, err = encode(anonymous(inv)); err != nil {
				return erased, err
			}
		}
		n, err := eraseScript.Run(ctx, d.db, []string{key}, id, replaced).Int()
		if err != nil {
			return erased, err
		}
		erased += n
	}
	return erased, rows.Err()
}
