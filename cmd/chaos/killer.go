package main

import (
	"context"
	"math/rand/v2"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
)

// kills says how a killer goes about it.
type kills struct {
	together int           // how many workers at once
	most     int           // strikes; 0: any number
	last     time.Duration // for how long it goes on
	aimAll   bool          // at a worker amid a call; else every other strike
	aim      time.Duration // how long it waits for a call
}

// killer kills workers, every now and then, and has each replaced at once.
type killer struct {
	s    *stage
	rng  *rand.Rand
	seen int // the number of a request that has ended, as have those before it
	kills
}

// leastMercy and mostMercy are the time between two strikes, without that of aiming. The least is more than a call
// takes: a claim that stands after it stands because its worker was killed.
const (
	leastMercy = 1100 * time.Millisecond
	mostMercy  = 2 * time.Second
)

// run kills until it had its time or number.
func (k *killer) run(ctx context.Context) error {
	aimed := k.rng.IntN(2) == 0
	for end, n := time.Now().Add(k.last), 0; time.Now().Before(end) && (k.most == 0 || n < k.most); n++ {
		if err := policy.Sleep(ctx, between(k.rng, 0, mostMercy-leastMercy)); err != nil {
			return err
		}
		victims := k.rng.Perm(crew)
		if aimed = !aimed; aimed || k.aimAll {
			k.takeAim(ctx, victims)
		}
		open, _ := k.s.intents.underWay(ctx) // a Redis that is away tells of none
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.s.replace(victims[:k.together]); err != nil {
			return err
		}
		if err := policy.Sleep(ctx, leastMercy); err != nil {
			return err
		}
		k.count(ctx, open)
	}
	return nil
}

// takeAim waits, not too long, until a worker is amid a call for invitations, and puts it first among the victims.
// In vain is fine too: then any worker is killed at any instant.
func (k *killer) takeAim(ctx context.Context, victims []int) {
	_ = testkit.Poll(ctx, pollSoon, k.aim, "a call is under way", func(ctx context.Context) (bool, error) {
		requests, err := k.s.clerk.Requests(ctx, k.seen)
		if err != nil || len(requests) == 0 {
			return false, err
		}
		const backlog = 100 // requests, among which all that are under way are
		k.seen = max(k.seen, requests[len(requests)-1].Number-backlog)
		for _, r := range requests {
			if underWay(r) {
				place := placeOf(r.Path)
				victims[0], victims[1] = place, 1-place
				return true, nil
			}
		}
		return false, nil
	})
}

// underWay tells whether a call for invitations has arrived and not ended.
func underWay(r clerktest.Request) bool {
	return asksForInvitations(r) && r.Status == 0 && !r.Abandoned && r.Fault != clerktest.FaultReset
}

func asksForInvitations(r clerktest.Request) bool {
	return r.Endpoint == clerktest.Create || r.Endpoint == clerktest.Bulk
}

// count counts a strike: whether calls may have been under way, and whether one of them was cut off, so that its
// claim still stands.
func (k *killer) count(ctx context.Context, open claims) {
	left, err := k.s.intents.claimed(ctx)
	cut := err == nil && open.shares(left)
	k.s.count(func(t *tally) {
		t.Kills += k.together
		t.KillsAtIntent += oneIf(len(open) > 0)
		t.KillsCut += oneIf(cut)
	})
}
