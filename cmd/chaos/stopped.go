package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
)

// stoppedFor is how long a worker stands still: longer than its claims and its leases of campaigns and tasks last.
const stoppedFor = 135 * time.Second

// stoppedSetting has answers that take long, so that a call can be caught under way.
func stoppedSetting() setting {
	return setting{
		create: "64/5s", bulk: "20/5s", timeout: 2 * time.Second, settle: 2 * time.Second,
		minLatency: time.Second, maxLatency: 1500 * time.Millisecond,
	}
}

// playStopped stops one worker during its calls and another one at full speed, lets a third go on, and then lets the
// two go on where they stood.
func playStopped(ctx context.Context, s *stage) error {
	var w work
	campaign, before, after := span{from: 0, to: 200}, span{from: 200, to: 250}, span{from: 250, to: 300}
	if err := errors.Join(s.askCampaign(ctx, &w, campaign), s.askInvites(ctx, &w, before)); err != nil {
		return err
	}
	calling, err := s.stopDuringCall(ctx)
	if err != nil {
		return err
	}
	firstStop := time.Now()
	writing, err := s.stopAtFullSpeed(ctx, &w, after)
	if err != nil {
		return err
	}
	secondStop := time.Now()
	if err := s.startWorkers(1); err != nil {
		return err
	}
	for _, stopped := range []struct {
		*testkit.Process
		at time.Time
	}{{calling, firstStop}, {writing, secondStop}} {
		if err := policy.Sleep(ctx, time.Until(stopped.at.Add(stoppedFor))); err != nil {
			return err
		}
		if err := stopped.Signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	made, err := s.clerk.created(ctx)
	if err != nil {
		return err
	}
	s.note("%d of %d invited when the stopped went on", made, after.to)
	if err := s.bear(s.untilEnded(ctx, w, workLimit)); err != nil {
		return err
	}
	return s.checkWork(ctx, w, onceEach(campaign, before, after), 0)
}

// stopDuringCall starts a worker and stops it while calls of it are under way.
func (s *stage) stopDuringCall(ctx context.Context) (*testkit.Process, error) {
	p, err := s.startWorker()
	if err != nil {
		return nil, err
	}
	under := 0
	err = testkit.Poll(ctx, pollSoon, time.Minute, "a call is under way", func(ctx context.Context) (bool, error) {
		requests, err := s.clerk.Requests(ctx, 0)
		for _, r := range requests {
			under += oneIf(underWay(r))
		}
		return under > 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := policy.Sleep(ctx, between(s.rng("call"), 0, 500*time.Millisecond)); err != nil {
		return nil, err
	}
	s.note("a worker stopped during %d calls", under)
	return p, s.stop(p)
}

// stopAtFullSpeed starts a worker on more invites, whose answers come soon, and stops it at any instant while it
// makes calls.
func (s *stage) stopAtFullSpeed(ctx context.Context, w *work, people span) (*testkit.Process, error) {
	rng := s.rng("speed")
	if err := s.clerk.configure(ctx, map[string]any{"min_latency": "10ms", "max_latency": "100ms"}); err != nil {
		return nil, err
	}
	earlier, err := s.calls(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.startWorker()
	if err != nil {
		return nil, err
	}
	if err := s.askInvites(ctx, w, people); err != nil {
		return nil, err
	}
	err = testkit.Poll(
		ctx,
		pollOften,
		workLimit,
		"another worker makes calls",
		func(ctx context.Context) (bool, error) {
			now, err := s.calls(ctx)
			return now > earlier, err
		},
	)
	if err != nil {
		return nil, err
	}
	if err := policy.Sleep(ctx, between(rng, 0, 200*time.Millisecond)); err != nil {
		return nil, err
	}
	return p, s.stop(p)
}

func (s *stage) stop(p *testkit.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	s.count(func(t *tally) { t.Stops++ })
	return nil
}

// calls is how many calls for invitations have arrived.
func (s *stage) calls(ctx context.Context) (int, error) {
	stats, err := s.clerk.Stats(ctx)
	return stats.Endpoints[clerktest.Create].Arrivals + stats.Endpoints[clerktest.Bulk].Arrivals, err
}
