package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// SaysRestored tells a person that a copy of Redis was put back, and what ends it.
const SaysRestored = "Redis was restored from a copy, and work rests until enqueue restore has ended"

// Restoration says that a copy of Redis was put back, as a person has told, or a worker has noticed. What was done
// since the copy was made Redis does not know. All instants are on Redis's clock.
type Restoration struct {
	At    time.Time // zero: never, as far as is known
	Ended time.Time // when work went on; zero: it rests still
}

// Stands tells whether no call may change anything at Clerk yet.
func (r Restoration) Stands() bool { return !r.At.IsZero() && r.Ended.IsZero() }

// MayHaveUndone tells whether something that began at an instant may have been done since the copy was made.
func (r Restoration) MayHaveUndone(at time.Time) bool { return !at.IsZero() && at.Before(r.At) }

// errRestoring begins what scripts answer that would let calls begin.
const errRestoring = "RESTORING"

// RestoringLua is what such a script returns while a restoration stands.
const RestoringLua = `return redis.error_reply('` + errRestoring + ` Redis was restored from a copy')`

// IsRestoring tells whether a script has refused to let calls begin because a restoration stands.
func IsRestoring(err error) bool { return err != nil && strings.Contains(err.Error(), errRestoring) }

// ReadRestoration tells whether Redis was restored from a copy.
func ReadRestoration(ctx context.Context, db DB) (r Restoration, err error) {
	defer Wrap(&err, "reading whether Redis was restored")
	fields, err := db.HGetAll(ctx, db.Key.Restored()).Result()
	if err != nil || len(fields) == 0 {
		return r, err
	}
	r.At, err = Instant(fields["at"])
	if ended, there := fields["ended"]; there && err == nil {
		r.Ended, err = Instant(ended)
	}
	return r, err
}

// beginRestoreScript notes that Redis was restored, unless that stands already, and that its memory is lost: whoever
// was there before is looked up before the next call. No worker begins it once more for the same copy.
//
// KEYS[1] -> usher:{once}:restored
// KEYS[2] -> usher:{once}:lost
// KEYS[3] -> usher:{once}:seen
// --
// Returns 1.
var beginRestoreScript = redis.NewScript(Clock + MemoryLua + `
begin_rest(KEYS[1], KEYS[2], KEYS[3], now, 0)
return 1
`)

// BeginRestoration notes that Redis was restored from a copy. One that stands already goes on.
func BeginRestoration(ctx context.Context, db DB) (r Restoration, err error) {
	defer Wrap(&err, "noting that Redis was restored")
	keys := []string{db.Key.Restored(), db.Key.Lost(), db.Key.Seen()}
	if err := beginRestoreScript.Run(ctx, db, keys).Err(); err != nil {
		return r, err
	}
	return ReadRestoration(ctx, db)
}

// endRestoreScript lets work go on, if the restoration is the one that is meant.
//
// KEYS[1] -> usher:{once}:restored
// --
// ARGV[1] -> when it began
// --
// Returns 1 if it has ended, now or before.
var endRestoreScript = redis.NewScript(Clock + `
if redis.call('HGET', KEYS[1], 'at') ~= ARGV[1] then return 0 end
redis.call('HSETNX', KEYS[1], 'ended', stamp(now))
return 1
`)

// ErrOtherRestoration means that another restoration has begun meanwhile.
var ErrOtherRestoration = errors.New("another restoration has begun meanwhile")

// EndRestoration lets work go on after a restoration.
func EndRestoration(ctx context.Context, db DB, r Restoration) (err error) {
	defer Wrap(&err, "letting work go on")
	ended, err := endRestoreScript.Run(ctx, db, []string{db.Key.Restored()}, r.At.UnixMilli()).Bool()
	if err == nil && !ended {
		err = ErrOtherRestoration
	}
	return err
}
