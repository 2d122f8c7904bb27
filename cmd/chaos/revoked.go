package main

import (
	"context"
	"net/http"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

const (
	revokedPeople = 300
	revokedFor    = 6 * time.Second
	// flightGrace is how long after the first refusal calls arrive that were under way with it.
	flightGrace = 500 * time.Millisecond
	// readinessGrace is how soon after it a worker must say that it is not ready.
	readinessGrace = time.Second
	mostProbes     = 4
	leastProbeGap  = 200 * time.Millisecond // more than an answer takes: two within it were two at a time
)

// playRevokedKey revokes the key amid a campaign and gives it back.
func playRevokedKey(ctx context.Context, s *stage) error {
	var w work
	everybody := span{from: 0, to: revokedPeople}
	if err := s.askCampaign(ctx, &w, everybody); err != nil {
		return err
	}
	addr, err := testkit.FreeAddr()
	if err != nil {
		return err
	}
	if _, err := s.startWorker("USHER_ADMIN_ADDR=" + addr); err != nil {
		return err
	}
	atLeast := revokedPeople/4 + s.rng("revocation").IntN(revokedPeople/3)
	err = testkit.Poll(
		ctx,
		pollSoon,
		workLimit,
		"the campaign is in its middle",
		func(ctx context.Context) (bool, error) {
			made, err := s.clerk.created(ctx)
			return made >= atLeast, err
		},
	)
	if err != nil {
		return err
	}
	watch := readiness{addr: addr}
	if err := s.withoutKey(ctx, &watch); err != nil {
		return err
	}
	err = testkit.Poll(
		ctx,
		pollSeldom,
		time.Minute,
		"the worker is ready again",
		func(ctx context.Context) (bool, error) {
			status, _ := watch.ask(ctx)
			return status == http.StatusOK, nil
		},
	)
	if err := s.bear(err); err != nil {
		return err
	}
	if err := s.bear(s.untilEnded(ctx, w, workLimit)); err != nil {
		return err
	}
	return s.checkWork(ctx, w, onceEach(everybody), 0)
}

// withoutKey has the key refused for a while, and judges what the worker does meanwhile.
func (s *stage) withoutKey(ctx context.Context, watch *readiness) error {
	revoked := time.Now()
	if err := s.clerk.revokeKey(ctx); err != nil {
		return err
	}
	if err := watch.during(ctx, revokedFor); err != nil {
		return err
	}
	restored := time.Now()
	if err := s.clerk.restoreKey(ctx); err != nil {
		return err
	}
	requests, err := s.clerk.Requests(ctx, 0)
	if err != nil {
		return err
	}
	var refused []clerktest.Request
	for _, r := range requests {
		if r.Status == http.StatusUnauthorized {
			refused = append(refused, r)
		}
	}
	if len(refused) == 0 {
		s.wrong("no call was made while the key was revoked")
		return nil
	}
	first := refused[0].Arrived
	s.note("the first 401 came after %d ms", first.Sub(revoked).Milliseconds())
	s.checkProbes(refused)
	for _, violation := range watch.violations(first.Add(readinessGrace), restored) {
		s.wrong("%s", violation)
	}
	return nil
}

// checkProbes wants few refused calls after those that were under way with the first, and one at a time.
func (s *stage) checkProbes(refused []clerktest.Request) {
	first := refused[0].Arrived
	var probes []time.Time
	for _, r := range refused {
		if r.Arrived.Sub(first) >= flightGrace {
			probes = append(probes, r.Arrived)
		}
	}
	s.note("401: %d in flight, %d probes", len(refused)-len(probes), len(probes))
	if len(probes) > mostProbes {
		s.wrong("%d calls were refused after those in flight, want at most %d", len(probes), mostProbes)
	}
	for i := 1; i < len(probes); i++ {
		if gap := probes[i].Sub(probes[i-1]); gap < leastProbeGap {
			s.wrong("two calls were refused within %s, after those in flight", gap)
		}
	}
}
