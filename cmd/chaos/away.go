package main

import (
	"context"
	"net/http"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
)

const (
	awayPeople = 12
	awayFor    = 4 * time.Second
	// rerunLimit is within what time asynq runs a task again whose completion it could not write.
	rerunLimit = 75 * time.Second
)

// playRedisAway takes Redis away at the instant at which a task completes: Clerk has answered, and nobody has
// written so.
func playRedisAway(ctx context.Context, s *stage) error {
	rng := s.rng("redis")
	var w work
	everybody := span{from: 0, to: awayPeople}
	if err := s.askInvites(ctx, &w, everybody); err != nil {
		return err
	}
	if err := s.startWorkers(1); err != nil {
		return err
	}
	which := 1 + rng.IntN(awayPeople/2) // of the answers
	err := testkit.Poll(ctx, pollOften, time.Minute, "a task completes", func(ctx context.Context) (bool, error) {
		answered, err := s.answered(ctx)
		return answered >= which, err
	})
	if err != nil {
		return err
	}
	if err := s.restartRedis(ctx, awayFor); err != nil {
		return err
	}
	answered, err := s.answered(ctx)
	if err != nil {
		return err
	}
	s.note("Redis away at answer %d of %d", which, answered)
	if err := policy.Sleep(ctx, rerunLimit); err != nil {
		return err
	}
	if err := s.bear(s.untilEnded(ctx, w, workLimit)); err != nil {
		return err
	}
	return s.checkWork(ctx, w, onceEach(everybody), 0)
}

// answered is how many calls for invitations were answered well.
func (s *stage) answered(ctx context.Context) (n int, err error) {
	requests, err := s.clerk.Requests(ctx, 0)
	for _, r := range requests {
		n += oneIf(asksForInvitations(r) && r.Status == http.StatusOK)
	}
	return n, err
}
