package schedule

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// Standing is how a schedule stands. Instants are zero where there is none.
type Standing struct {
	Name, Cron, TimeZone, Task string
	// Next is zero while no worker has the schedule in its file: nothing will come then.
	Next time.Time
	// Last is the last tick that is over; LastTask is its task, or LastError why there is none.
	Last      time.Time
	LastTask  string
	LastError string
	Pending   bool // a tick was taken and is not confirmed
	// State is Active, Paused or Abandoned. KeptBy is the file and the host of the worker that last had it.
	State  State
	KeptBy string
}

// State is where a schedule stands.
type State string

// The states of a schedule.
const (
	Active    State = "active"
	Paused    State = "paused"    // by a person: its ticks are passed over
	Abandoned State = "abandoned" // no worker has it in its file
)

// readAtOnce is how many schedules are read in one round trip.
const readAtOnce = 250

// Each calls do for the schedules that workers have or had in their files in the last 30 days, by name, until it
// returns an error, and gives that. It holds a few hundred of them at a time.
func Each(ctx context.Context, rdb redis.UniversalClient, namespace string, do func(Standing) error) error {
	keys := store.Keys(namespace)
	now, names, err := index(ctx, rdb, keys)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(names, readAtOnce) {
		hashes, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, name := range chunk {
				pipe.HGetAll(ctx, keys.Schedule(fmt.Sprint(name.Member)))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading schedules: %w", err)
		}
		for i, name := range chunk {
			hash := hashes[i].(*redis.MapStringStringCmd).Val()
			if len(hash) == 0 {
				continue
			}
			kept := now.Sub(time.UnixMilli(int64(name.Score))) <= policy.ScheduleLost
			if err := do(standing(fmt.Sprint(name.Member), hash, kept)); err != nil {
				return err
			}
		}
	}
	return nil
}

// index reads Redis's clock and the names of the schedules, in their order.
func index(ctx context.Context, rdb redis.Cmdable, keys store.Keys) (now time.Time, names []redis.Z, err error) {
	defer store.Wrap(&err, "reading schedules")
	if now, err = rdb.Time(ctx).Result(); err != nil {
		return now, nil, err
	}
	names, err = rdb.ZRevRangeWithScores(ctx, keys.Schedules(), 0, maxListed-1).Result()
	slices.SortFunc(names, func(a, b redis.Z) int { return cmp.Compare(fmt.Sprint(a.Member), fmt.Sprint(b.Member)) })
	return now, names, err
}

// instantBits bounds instants, in ms: they end in the year 4199.
const instantBits = 46

// standing reads a hash, whatever it holds: instants that are garbage are unknown, texts are short and of one line.
func standing(name string, hash map[string]string, kept bool) Standing {
	text := func(field string) string { return bounded(hash[field]) }
	instant := func(field string) (at time.Time) { // zero where there is none
		if ms, err := strconv.ParseUint(hash[field], 10, instantBits); err == nil && ms > 0 {
			at = time.UnixMilli(int64(ms)).UTC()
		}
		return at
	}
	s := Standing{
		Name: bounded(name), Cron: text("cron"), TimeZone: text("timezone"), Task: text("task"),
		Last: instant("last"), LastTask: text("last_task"), LastError: text("last_error"),
		Pending: !instant("pending").IsZero(), State: Abandoned, KeptBy: text("kept_by"),
	}
	if !kept {
		return s
	}
	s.Next, s.State = instant("next"), Active
	if hash["paused"] != "" {
		s.State = Paused
	}
	return s
}

func bounded(text string) string { return oneLine(text[:min(len(text), maxShown)]) }
