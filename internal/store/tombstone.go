package store

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Tombstones say which addresses were forgotten on request. Whoever has an address can find its tombstone; nobody finds an address from a
// tombstone but by trying.
type Tombstones struct {
	rdb redis.UniversalClient
	key string
}

// NewTombstones gives the tombstones of a namespace.
func NewTombstones(rdb redis.UniversalClient, namespace string) *Tombstones {
	return &Tombstones{rdb: rdb, key: Keys(namespace).Tombstones()}
}

// buryScript sets a tombstone. KEYS: tombstones. ARGV: id of the address, salt to use if there is none yet. Returns 1 if there was none for it.
var buryScript = redis.NewScript(Clock + `
redis.call('HSETNX', KEYS[1], 'salt', ARGV[2])
return redis.call('HSETNX', KEYS[1], redis.sha1hex(redis.call('HGET', KEYS[1], 'salt') .. ARGV[1]), stamp(now))
`)

// liftScript takes a tombstone away. KEYS: tombstones. ARGV: id of the address. Returns 1 if there was one.
var liftScript = redis.NewScript(`
return redis.call('HDEL', KEYS[1], redis.sha1hex((redis.call('HGET', KEYS[1], 'salt') or '') .. ARGV[1]))
`)

// Set sets a tombstone for an address and tells whether it had none.
func (t *Tombstones) Set(ctx context.Context, address AddressID) (fresh bool, err error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	fresh, err = buryScript.Run(ctx, t.rdb, []string{t.key}, string(address[:]), hex.EncodeToString(salt)).Bool()
	if err != nil {
		return false, fmt.Errorf("setting a tombstone: %w", err)
	}
	return fresh, nil
}

// Lift takes the tombstone of an address away and tells whether it had one.
func (t *Tombstones) Lift(ctx context.Context, address AddressID) (lifted bool, err error) {
	lifted, err = liftScript.Run(ctx, t.rdb, []string{t.key}, string(address[:])).Bool()
	if err != nil {
		return false, fmt.Errorf("lifting a tombstone: %w", err)
	}
	return lifted, nil
}

// Forgotten tells which of some addresses have a tombstone, in their order.
func (t *Tombstones) Forgotten(ctx context.Context, addresses ...AddressID) ([]bool, error) {
	forgotten := make([]bool, len(addresses))
	if len(addresses) == 0 {
		return forgotten, nil
	}
	salt, err := t.rdb.HGet(ctx, t.key, "salt").Result()
	if errors.Is(err, redis.Nil) {
		return forgotten, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading tombstones: %w", err)
	}
	fields := make([]string, len(addresses))
	for i, address := range addresses {
		sum := sha1.Sum(append([]byte(salt), address[:]...))
		fields[i] = hex.EncodeToString(sum[:])
	}
	found, err := t.rdb.HMGet(ctx, t.key, fields...).Result()
	if err != nil {
		return nil, fmt.Errorf("reading tombstones: %w", err)
	}
	for i := range found {
		forgotten[i] = found[i] != nil
	}
	return forgotten, nil
}
