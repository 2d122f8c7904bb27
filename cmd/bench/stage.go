package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// setup is what Clerk allows in a run. Clerk and Usher are told the same; the baseline learns it from refusals.
type setup struct {
	create, bulk string // as settings have it: N/duration, or 0 for no limit
	reserve      int
	latency      time.Duration // of every answer of Clerk's
}

// stage is what one run is played on: a fresh Redis, a fresh sandbox Clerk, and the workers that the run starts.
type stage struct {
	bench   *bench
	setup   setup
	redis   *redisServer
	clerk   *testkit.Sandbox
	workers []*testkit.Process // and what a contender has begun with
	api     string             // address of the server for HTTP; empty while none runs
	usher   *tasks.Client      // enqueues for Usher
	plain   *asynq.Client      // enqueues for the baseline, and what asynq itself enqueues for Usher
}

// on plays a contender's run on a stage of its own, which is gone afterwards.
func (b *bench) on(ctx context.Context, c contender, setup setup, play func(s *stage) error) error {
	if c.worker == earlierWorker && b.old == "" {
		return errNoEarlier
	}
	redis, err := startRedis(ctx, b.dir)
	if err != nil {
		return err
	}
	defer redis.close()
	clerk, err := b.startSandbox(ctx, setup)
	if err != nil {
		return err
	}
	defer clerk.Kill()
	s := &stage{bench: b, setup: setup, redis: redis, clerk: clerk}
	defer s.killWorkers()
	if s.usher, err = tasks.NewClient(tasks.RedisURL(redis.URL())); err != nil {
		return fmt.Errorf("making a client of Usher's: %w", err)
	}
	defer s.usher.Close()
	s.plain = asynq.NewClient(asynq.RedisClientOpt{Addr: redis.Addr})
	defer s.plain.Close()
	if c.begin != nil {
		if err := c.begin(ctx, s); err != nil {
			return err
		}
	}
	return play(s)
}

// work starts n workers.
func (s *stage) work(worker string, n int) error {
	env := []string{
		"REDIS_URL=" + s.redis.URL(), "CLERK_SECRET_KEY=" + clerkKey, "CLERK_API_URL=" + s.clerk.URL() + "/v1",
		"USHER_LIMIT_CREATE=" + s.setup.create, "USHER_LIMIT_BULK=" + s.setup.bulk, "USHER_LIMIT_OVERALL=0",
		"USHER_RESERVE=" + strconv.Itoa(s.setup.reserve), "USHER_ADMIN_ADDR=off", "USHER_LOG_LEVEL=warn",
	}
	for range n {
		p, err := testkit.Start(s.bench.worker(worker, env))
		if err != nil {
			return err
		}
		s.workers = append(s.workers, p)
	}
	return nil
}

func (s *stage) killWorkers() {
	for _, p := range s.workers {
		p.Kill()
	}
}

// pollEvery is how often a condition is looked at: seldom enough to leave the processors to what is measured.
const pollEvery = 100 * time.Millisecond

// until waits for what the sandbox has seen to satisfy done. A worker that ends meanwhile is an error.
func (s *stage) until(ctx context.Context, limit time.Duration, what string, done func(clerktest.Stats) bool) error {
	return testkit.Poll(ctx, pollEvery, limit, what, func(ctx context.Context) (bool, error) {
		for _, p := range s.workers {
			if err := p.Alive(); err != nil {
				return false, err
			}
		}
		stats, err := s.clerk.Stats(ctx)
		return err == nil && done(stats), err
	})
}

// untilCreated waits until n invitations were made, and says how far it came when they are not.
func (s *stage) untilCreated(ctx context.Context, limit time.Duration, n int) error {
	made := 0
	err := s.until(ctx, limit, fmt.Sprintf("%d invitations are made", n), func(stats clerktest.Stats) bool {
		made = created(stats)
		return made >= n
	})
	if errors.Is(err, testkit.ErrTooLate) {
		return fmt.Errorf("%w; there were %d", err, made)
	}
	return err
}

// untilSettled waits until calls have arrived and for a while no more do.
func (s *stage) untilSettled(ctx context.Context, limit, quiet time.Duration) error {
	seen, since := 0, time.Now()
	return s.until(ctx, limit, "calls cease", func(stats clerktest.Stats) bool {
		if now := arrivals(stats); now != seen {
			seen, since = now, time.Now()
		}
		return seen > 0 && time.Since(since) >= quiet
	})
}
