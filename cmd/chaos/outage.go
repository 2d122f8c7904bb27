package main

import (
	"context"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
)

// breakRedis kills Redis when a share of the invitations exists, and starts it again after a while.
func (s *stage) breakRedis(ctx context.Context, recipients int) error {
	rng := s.rng("redis")
	atLeast := recipients*3/10 + rng.IntN(recipients*4/10)
	away := between(rng, 0, 1500*time.Millisecond)
	err := testkit.Poll(
		ctx,
		pollSoon,
		workLimit,
		"the middle of the work is reached",
		func(ctx context.Context) (bool, error) {
			made, err := s.clerk.created(ctx)
			return made >= atLeast, err
		},
	)
	if err != nil {
		return err
	}
	return s.restartRedis(ctx, away)
}

// restartRedis kills Redis and starts it again after a while. It is not left away when the context ends meanwhile.
func (s *stage) restartRedis(ctx context.Context, away time.Duration) error {
	s.redis.Kill()
	_ = policy.Sleep(ctx, away)
	if err := s.redis.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.count(func(t *tally) { t.RedisRestarts++ })
	return nil
}
