package main

import (
	"context"
	"errors"
	"time"
)

// crew is how many workers there are in a storm.
const crew = 2

// workLimit is how long the work of a scenario may take: asynq runs the invite task of a killed worker again after a
// minute or two, and kills may strike it again.
const workLimit = 6 * time.Minute

// storm is how large one is.
type storm struct {
	campaign, invites int // recipients
	kills
	inTurn bool // first kills, then faults, then Redis; else all at once
	limit  time.Duration
}

func fullStorm() storm {
	return storm{
		campaign: 600, invites: 60, limit: workLimit,
		kills: kills{together: 1, last: 150 * time.Second, aim: 2 * time.Second},
	}
}

// shortStorm has no invites, because those of a killed worker wait for asynq, and no kills amid faults, because the
// questions of a killed worker are asked again after a minute.
func shortStorm() storm {
	return storm{
		campaign: 60, inTurn: true, limit: 2 * time.Minute,
		kills: kills{together: crew, most: 1, last: time.Minute, aimAll: true, aim: 20 * time.Second},
	}
}

func stormSetting(create, bulk string) setting {
	return setting{
		create: create, bulk: bulk, timeout: time.Second, settle: 2 * time.Second,
		minLatency: 20 * time.Millisecond, maxLatency: 100 * time.Millisecond,
	}
}

// playStorm breaks half of all calls, one way or another, and kills workers and Redis meanwhile.
func playStorm(size storm) func(ctx context.Context, s *stage) error {
	return func(ctx context.Context, s *stage) error {
		var w work
		campaign := span{0, size.campaign, various}
		invites := span{size.campaign, size.campaign + size.invites, various}
		if err := errors.Join(s.askCampaign(ctx, &w, campaign), s.askInvites(ctx, &w, invites)); err != nil {
			return err
		}
		began := time.Now()
		broken, err := s.breakOut(ctx, size)
		if err != nil {
			return err
		}
		err = s.untilEnded(ctx, w, size.limit)
		if err := errors.Join(s.bear(err), broken.end()); err != nil {
			return err
		}
		s.note("%d recipients in %.0f s", invites.to, time.Since(began).Seconds())
		if s.tally.RedisRestarts != 1 {
			s.wrong("Redis was restarted %d times, want once", s.tally.RedisRestarts)
		}
		want := onceEach(campaign)
		for _, address := range w.invites {
			want[address]++
		}
		return s.checkWork(ctx, w, want, 0)
	}
}

// breakOut starts the workers and what breaks them.
func (s *stage) breakOut(ctx context.Context, size storm) (*trouble, error) {
	kill := (&killer{s: s, rng: s.rng("killer"), kills: size.kills}).run
	redis := func(ctx context.Context) error { return s.breakRedis(ctx, size.campaign+size.invites) }
	var steps [][]func(context.Context) error
	if size.inTurn {
		steps = [][]func(context.Context) error{{kill, s.raiseStorm, redis}}
	} else {
		if err := s.raiseStorm(ctx); err != nil {
			return nil, err
		}
		steps = [][]func(context.Context) error{{kill}, {redis}}
	}
	if err := s.startWorkers(crew); err != nil {
		return nil, err
	}
	broken := startTrouble(ctx)
	for _, inTurn := range steps {
		broken.cause(inTurn...)
	}
	return broken, nil
}

// raiseStorm injects the storm's faults. Requests of killed workers commit late.
func (s *stage) raiseStorm(ctx context.Context) error {
	late := between(s.rng("late"), 200*time.Millisecond, 1200*time.Millisecond)
	lag := between(s.rng("lag"), 0, 500*time.Millisecond)
	config := map[string]any{"late_commit": late.String(), "list_lag": lag.String()}
	if err := s.clerk.configure(ctx, config); err != nil {
		return err
	}
	const share = 0.07 // of all calls, by each kind
	return s.injectShares(ctx, []fault{
		{"500 after commit", share, map[string]any{"kind": "status", "status": 500, "after": true}},
		{"reset after commit", share, map[string]any{"kind": "reset", "after": true}},
		{"hang after commit", share, map[string]any{"kind": "hang", "after": true}},
		{"500 before commit", share, map[string]any{"kind": "status", "status": 500, "late_commit": late.String()}},
		{"503", share, map[string]any{"kind": "status", "status": 503}},
		{"HTML 502", share, map[string]any{"kind": "html", "status": 502}},
		{"reset", share, map[string]any{"kind": "reset"}},
		{"garbage 200 after commit", share / 2, map[string]any{"kind": "not-json", "after": true}},
		{"garbage 200", share / 2, map[string]any{"kind": "not-json"}},
	})
}
