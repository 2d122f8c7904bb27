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
}

// List returns the schedules that workers have or had in their files in the last 30 days, by name.
func List(ctx context.Context, rdb redis.UniversalClient, namespace string) (_ []Standing, err error) {
	defer store.Wrap(&err, "reading schedules")
	keys := store.Keys(namespace)
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return nil, err
	}
	names, err := rdb.ZRevRangeWithScores(ctx, keys.Schedules(), 0, maxListed-1).Result()
	if err != nil {
		return nil, err
	}
	hashes, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, name := range names {
			pipe.HGetAll(ctx, keys.Schedule(fmt.Sprint(name.Member)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	standings := make([]Standing, 0, len(names))
	for i, name := range names {
		if hash := hashes[i].(*redis.MapStringStringCmd).Val(); len(hash) > 0 {
			kept := now.Sub(time.UnixMilli(int64(name.Score))) <= policy.ScheduleLost
			standings = append(standings, standing(fmt.Sprint(name.Member), hash, kept))
		}
	}
	slices.SortFunc(standings, func(a, b Standing) int { return cmp.Compare(a.Name, b.Name) })
	return standings, nil
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
		Pending: !instant("pending").IsZero(),
	}
	if kept {
		s.Next = instant("next")
	}
	return s
}

func bounded(text string) string { return oneLine(text[:min(len(text), maxShown)]) }
