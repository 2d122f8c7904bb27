package store

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// busyLease is how long something stays taken whose process has died.
const busyLease = 5 * time.Second

// ErrBusy means that somebody does it already.
var ErrBusy = errors.New("it is under way already")

// busyScript takes something, keeps it or gives it back. Repeating it gives the same answer.
//
// KEYS[1] -> usher:{once}:busy:NAME
// --
// ARGV[1] -> token of who takes it
// ARGV[2] -> for how long (ms; 0: give it back)
// --
// Returns 1 if it is the token's, or was.
var busyScript = redis.NewScript(`
local by = redis.call('GET', KEYS[1])
if by and by ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
`)

// Take takes what has a name until it is released, or until this process dies. If another has it, the error is ErrBusy.
func (db DB) Take(ctx context.Context, name string) (release func(), err error) {
	defer Wrap(&err, "taking %s", name)
	token, keys := rand.Text(), []string{db.Key.Busy(name)}
	set := func(ctx context.Context, lease time.Duration) (bool, error) {
		return busyScript.Run(ctx, db, keys, token, lease.Milliseconds()).Bool()
	}
	switch taken, err := set(ctx, busyLease); {
	case err != nil:
		return nil, err
	case !taken:
		return nil, ErrBusy
	}
	ctx = context.WithoutCancel(ctx)
	var mu sync.Mutex // nothing is kept after it was given back
	given := false
	var keep func()
	keep = func() {
		mu.Lock()
		defer mu.Unlock()
		if !given {
			_, _ = set(ctx, busyLease)
			time.AfterFunc(busyLease/3, keep)
		}
	}
	timer := time.AfterFunc(busyLease/3, keep)
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		given = true
		last, end := context.WithTimeout(ctx, busyLease)
		defer end()
		_, _ = set(last, 0) // or else it ends with its lease
	}, nil
}
