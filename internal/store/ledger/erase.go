package ledger

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// eraseScript removes a recipient that was forgotten on request.
//
// ARGV[5] -> id
// --
// Returns 1 if it was there.
var eraseScript = redis.NewScript(prelude + `return erase(ARGV[5])`)

// Erase removes a recipient that was forgotten on request from every campaign, and says from how many. Its tombstone is
// there already.
func (l *Ledgers) Erase(ctx context.Context, id store.AddressID) (campaigns int, err error) {
	names, err := l.rdb.ZRange(ctx, l.keys.Campaigns(), 0, -1).Result()
	if err != nil {
		return 0, fmt.Errorf("listing campaigns: %w", err)
	}
	for _, name := range names {
		n, err := l.run(ctx, eraseScript, name, nil, string(id[:])).Int()
		if err != nil {
			return campaigns, fmt.Errorf("erasing a recipient of campaign %s: %w", name, err)
		}
		campaigns += n
	}
	return campaigns, nil
}

// eraseStagedScript empties a recipient's row in a staged upload; the commit leaves its id out because of its tombstone.
//
// KEYS[1] -> usher:{once}:c:NAME:stage:UPLOAD
// --
// ARGV[1] -> id
// --
// Returns 1 if it was there.
var eraseStagedScript = redis.NewScript(`
local at = redis.call('LPOS', KEYS[1], ARGV[1])
if not at or redis.call('LINDEX', KEYS[1], at + 1) == '' then return 0 end
redis.call('LSET', KEYS[1], at + 1, '')
return 1
`)

// EraseStaged empties a recipient's row in uploads that are under way or were broken off, and says in how many.
func (l *Ledgers) EraseStaged(ctx context.Context, id store.AddressID) (uploads int, err error) {
	stages, err := scanKeys(ctx, l.rdb, l.keys.Stage("*", "*"))
	if err != nil {
		return 0, err
	}
	for _, stage := range stages {
		n, err := eraseStagedScript.Run(ctx, l.rdb, []string{stage}, string(id[:])).Int()
		if err != nil {
			return uploads, fmt.Errorf("erasing a recipient of an upload: %w", err)
		}
		uploads += n
	}
	return uploads, nil
}
