package schedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// Runner has the tasks of schedules enqueued, together with the runners of other workers.
type Runner struct {
	schedules []Schedule
	states    *states
	to        Enqueuer
	worker    string
	host      string
	log       zerolog.Logger
}

// NewRunner gives a runner of the schedules of a file.
func NewRunner(
	rdb redis.UniversalClient, namespace string, schedules []Schedule, to Enqueuer, log zerolog.Logger,
) *Runner {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	return &Runner{
		schedules: schedules, states: newStates(rdb, namespace), to: to, worker: uuid.NewString(), host: host, log: log,
	}
}

// Run works until the context ends. Each schedule waits by itself, so that a long list holds up no other.
func (r *Runner) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	for _, s := range r.schedules {
		k := &keeper{Runner: r, schedule: s, log: r.log.With().Str("schedule", s.Name).Logger()}
		keeping.Go(func() { k.keep(ctx) })
	}
	keeping.Wait()
}

// keeper sees to one schedule.
type keeper struct {
	*Runner
	schedule Schedule
	log      zerolog.Logger

	adopted bool // the stored schedule was this worker's once
	foreign bool // it is another's now, and that was told
	failing bool // the last step failed, and that was told
}

// by tells a person who has the schedule.
func (k *keeper) by() string { return bounded(k.schedule.path + " on " + k.host) }

func (k *keeper) keep(ctx context.Context) {
	for {
		pause, err := k.step(ctx)
		if err != nil {
			pause = policy.RedisRest
			if !k.failing && ctx.Err() == nil {
				k.log.Warn().Err(err).Msg("schedule cannot go on; it is tried again")
			}
		}
		k.failing = err != nil
		if policy.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// step does what is to be done now and tells how long there is nothing.
func (k *keeper) step(ctx context.Context) (time.Duration, error) {
	if !k.adopted {
		changed, err := k.states.adopt(ctx, k.schedule, k.by(), false)
		if err != nil {
			return 0, err
		}
		k.adopted = true
		k.log.Info().Bool("changed", changed).Str("cron", k.schedule.Cron).Str("timezone", k.schedule.TimeZone).
			Str("task", k.schedule.Task).Msg("schedule is kept")
	}
	at, err := k.states.look(ctx, k.schedule, k.worker, k.by())
	if err != nil {
		return 0, err
	}
	if at.foreign && !k.foreign {
		k.log.Warn().Msg("a worker that started later has another schedule of this name; this one rests")
	}
	k.foreign = at.foreign
	switch {
	case at.missing: // Redis was emptied, or holds garbage
		_, err := k.states.adopt(ctx, k.schedule, k.by(), true)
		return policy.RedisRest, err
	case at.foreign:
		return policy.SchedulePoll, nil
	case !at.pending.IsZero():
		return 0, k.finish(ctx, at, at.pending)
	case at.next.After(at.now):
		return min(policy.SchedulePoll, at.next.Sub(at.now)), nil
	}
	return 0, k.advance(ctx, at)
}

// advance takes the tick that is due and finishes it.
func (k *keeper) advance(ctx context.Context, at glance) error {
	tick, following := k.schedule.times.latest(at.next, at.now)
	became, err := k.states.take(ctx, k.schedule, k.worker, at.next, tick, following)
	if err != nil || became == notTaken {
		return err
	}
	if became == passedOver {
		k.log.Info().Time("tick", tick).Time("next", following).Msg("tick is passed over: the schedule is paused")
		return nil
	}
	if tick.IsZero() || tick.After(at.next) {
		k.log.Warn().Time("first", at.next).Time("next", following).Bool("made_up", !tick.IsZero()).
			Msg("ticks were missed; the last one happens now if it is not too old, the others do not")
	}
	if tick.IsZero() {
		return nil
	}
	return k.finish(ctx, at, tick)
}

// finish enqueues the task of a pending tick and confirms it. It gives up no later than the worker's hold on the
// tick ends, so that one that was stopped for a while does nothing late.
func (k *keeper) finish(ctx context.Context, at glance, tick time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, at.asked.Add(policy.TickHold))
	defer cancel()
	restored, err := store.ReadRestoration(ctx, k.states.db)
	if err != nil {
		return err
	}
	var id string
	switch {
	case at.now.Sub(tick) > policy.MissedTick:
		err = &futile{fmt.Errorf("the tick could not be enqueued within %s", policy.MissedTick)}
	case restored.MayHaveUndone(tick):
		err = &futile{errors.New("the tick may have happened already: after it Redis was restored from a copy")}
	default:
		id, err = k.schedule.enqueue(ctx, k.to, tick)
	}
	_, over := errors.AsType[*futile](err)
	if err != nil && !over {
		return err
	}
	confirmed, failed := k.states.confirm(ctx, k.schedule.Name, tick, id, err)
	if failed != nil || !confirmed {
		return failed
	}
	if err != nil {
		k.log.Error().Err(err).Time("tick", tick).Msg("tick came to nothing")
		return nil
	}
	k.log.Info().Time("tick", tick).Str("id", id).Msg("tick is enqueued")
	return nil
}
