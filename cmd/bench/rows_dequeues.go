package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

const (
	crowd        = 10 // workers
	crowdInvites = 800
	crowdEvery   = 10 * time.Millisecond
)

// crowdMeasurement sees how often workers ask in vain when each of them gets few of the tasks.
func crowdMeasurement() measurement {
	return measurement{
		questions: []question{
			{"ten workers at 100 invites a second in all: empty dequeues of a worker", "1/s", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			usher, before := b.emptyDequeues(ctx, usherInvites()), b.emptyDequeues(ctx, usherInvites().before())
			plain := b.emptyDequeues(ctx, plainInvites())
			note := fmt.Sprintf("RPOPLPUSH calls without a task, in every queue; Usher enqueued %.0f/s, the baseline %.0f/s",
				usher.enqueued, plain.enqueued)
			return []answer{{usher.figure(), before.figure(), plain.figure(), note}}
		},
	}
}

// dequeues is what several workers asked for.
type dequeues struct {
	empty    int64
	span     time.Duration
	enqueued float64 // a second
	err      error
}

func (d dequeues) rate() float64 { return float64(d.empty) / crowd / d.span.Seconds() }

func (d dequeues) figure() figure { return measured(d.rate(), d.err) }

// emptyDequeues lets ten workers work. Each dequeue of asynq's and of Usher's moves tasks with RPOPLPUSH, and nothing
// else does: a call that moved no task asked in vain. BLMOVE, with which Usher waits, takes no task.
func (b *bench) emptyDequeues(ctx context.Context, c contender) dequeues {
	const (
		limit = 30 * time.Second
		quiet = 4 * time.Second // a worker's first looks are no cost of this
	)
	var result dequeues
	setup := setup{create: "0", bulk: "0", latency: 60 * time.Millisecond}
	result.err = b.on(ctx, c, setup, func(s *stage) error {
		if err := c.enqueue(ctx, s, people("first", 1)); err != nil {
			return err
		}
		if err := s.work(c.worker, crowd); err != nil {
			return err
		}
		if err := s.untilSettled(ctx, limit, quiet); err != nil {
			return err
		}
		before, err := s.redis.calls(ctx, "rpoplpush")
		if err != nil {
			return err
		}
		began := time.Now()
		if err := s.enqueueSteadily(ctx, c); err != nil {
			return err
		}
		result.enqueued = crowdInvites / time.Since(began).Seconds()
		if err := s.untilCreated(ctx, limit, 1+crowdInvites); err != nil {
			return err
		}
		result.span = time.Since(began)
		after, err := s.redis.calls(ctx, "rpoplpush")
		result.empty = after - before - crowdInvites
		return err
	})
	b.told(c.name, result.err, "%.1f empty dequeues a second and worker, %.0f invites/s", result.rate(), result.enqueued)
	return result
}

// enqueueSteadily enqueues one invitation after the other. One that is late does not make the next ones late.
func (s *stage) enqueueSteadily(ctx context.Context, c contender) error {
	next := time.Now()
	for _, person := range people("person", crowdInvites) {
		if err := policy.Sleep(ctx, time.Until(next)); err != nil {
			return err
		}
		if err := c.enqueue(ctx, s, []tasks.Recipient{person}); err != nil {
			return err
		}
		next = next.Add(crowdEvery)
	}
	return nil
}

// calls is how often a command was called, in scripts too.
func (s *redisServer) calls(ctx context.Context, command string) (int64, error) {
	text, err := s.rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, fmt.Errorf("asking Redis for INFO commandstats: %w", err)
	}
	return parseCalls(text, command)
}

// parseCalls finds a command in an answer of INFO commandstats. One that is not there was never called.
func parseCalls(text, command string) (int64, error) {
	for line := range strings.Lines(text) {
		stats, found := strings.CutPrefix(line, "cmdstat_"+command+":calls=")
		if !found {
			continue
		}
		digits, _, _ := strings.Cut(stats, ",")
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("INFO commandstats: %s: %w", command, err)
		}
		return n, nil
	}
	return 0, nil
}
