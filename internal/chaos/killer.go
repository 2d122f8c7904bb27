package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// kills says how a killer goes about it.
type kills struct {
	together int           // how many workers at once
	most     int           // strikes; 0: any number
	last     time.Duration // for how long it goes on
	aimAll   bool          // at open intents; else every other strike
	aim      time.Duration // how long it waits for an open intent
}

// killer kills workers, every now and then, and has each replaced at once.
type killer struct {
	s   *stage
	rng *rand.Rand
	kills
}

// leastMercy and mostMercy are the time between two strikes, without that of aiming. The least is more than a call takes:
// what is open after it is open because its worker was killed.
const (
	leastMercy = 1100 * time.Millisecond
	mostMercy  = 2 * time.Second
)

// run kills until it had its time or number.
func (k *killer) run(ctx context.Context) error {
	aimed := k.rng.IntN(2) == 0
	for end, n := time.Now().Add(k.last), 0; time.Now().Before(end) && (k.most == 0 || n < k.most); n++ {
		if err := pause(ctx, between(k.rng, 0, mostMercy-leastMercy)); err != nil {
			return err
		}
		victims := k.rng.Perm(crew)[:k.together]
		aimed = !aimed
		open := k.untilOpen(ctx, aimed || k.aimAll)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.s.replace(victims); err != nil {
			return err
		}
		if err := pause(ctx, leastMercy); err != nil {
			return err
		}
		k.count(ctx, open)
	}
	return nil
}

// untilOpen gives the calls that may be under way, none if nobody knows. To aim is to wait, not too long, until there are some.
func (k *killer) untilOpen(ctx context.Context, aimed bool) (open calls) {
	limit := k.aim
	if !aimed {
		limit = time.Second
	}
	_ = poll(ctx, pollSoon, limit, "a call is under way", func(ctx context.Context) (bool, error) {
		var err error
		open, err = k.s.intents.open(ctx)
		return !aimed || err == nil && len(open) > 0, nil
	}) // in vain is fine too: then it kills at any instant
	return open
}

// count counts a strike: whether calls may have been under way, and whether one of them was cut off, so that its claim still stands.
func (k *killer) count(ctx context.Context, open calls) {
	now, err := k.s.intents.open(ctx)
	cut := err == nil && open.shares(now)
	k.s.count(func(t *tally) {
		t.Kills += k.together
		t.KillsAtIntent += oneIf(len(open) > 0)
		t.KillsCut += oneIf(cut)
	})
}

// breakRedis kills Redis when a share of the invitations exists, and starts it again after a while.
func (s *stage) breakRedis(ctx context.Context, recipients int) error {
	rng := s.rng("redis")
	atLeast := recipients*3/10 + rng.IntN(recipients*4/10)
	away := between(rng, 0, 1500*time.Millisecond)
	err := poll(ctx, pollSoon, workLimit, "the middle of the work is reached", func(ctx context.Context) (bool, error) {
		made, err := s.clerk.created(ctx)
		return made >= atLeast, err
	})
	if err != nil {
		return err
	}
	return s.restartRedis(ctx, away)
}

// restartRedis kills Redis and starts it again after a while. It is not left away when the context ends meanwhile.
func (s *stage) restartRedis(ctx context.Context, away time.Duration) error {
	s.redis.kill()
	_ = pause(ctx, away)
	if err := s.redis.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	s.count(func(t *tally) { t.RedisRestarts++ })
	return nil
}
