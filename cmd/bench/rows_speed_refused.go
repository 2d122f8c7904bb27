package main

import (
	"context"
	"fmt"
	"time"

	"example.com/usher/tasks"
)

const (
	speedRefusedRuns  = 3
	speedRefusedEvery = 50 // whose address is a user's
)

// speedRefusedMeasurement takes every limit away, too. Where ten share a call, one bad address fails all ten: with one
// in fifty, every fifth call.
func speedRefusedMeasurement() measurement {
	return measurement{
		questions: []question{
			{"no limits: invite tasks, 2 % refused", "recipients/s", "higher"},
			{"the same: from the first call to the one that invites, p95", "ms", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			var usher, before, plain refusedPaces
			for range speedRefusedRuns { // alternating, so that a slow minute of the machine strikes all alike
				b.addRefusedPace(ctx, &usher, usherInvites())
				b.addRefusedPace(ctx, &before, usherInvites().before())
				b.addRefusedPace(ctx, &plain, plainInvites())
			}
			runs := fmt.Sprintf("median of %d alternating runs of %s; every fiftieth address is a user's",
				speedRefusedRuns, number(speedInvites))
			return []answer{
				{usher.pace.median(), before.pace.median(), plain.pace.median(), runs},
				{usher.p95.median(), before.p95.median(), plain.p95.median(), "all are enqueued before the first call"},
			}
		},
	}
}

// refusedPaces are the paces of several runs, and the time in which each had made 95 % of its invitations.
type refusedPaces struct{ pace, p95 paces }

// addRefusedPace adds one more run, unless one failed before.
func (b *bench) addRefusedPace(ctx context.Context, to *refusedPaces, c contender) {
	const limit = 60 * time.Second
	if to.pace.err != nil {
		return
	}
	list := people("person", speedInvites)
	users, good := split(list, speedRefusedEvery)
	one, took := 0.0, latencies{}
	err := b.on(ctx, c, setup{create: "0", bulk: "0"}, func(s *stage) error {
		err := each(users, func(user tasks.Recipient) error { return s.addUser(ctx, user.EmailAddress) })
		if err != nil {
			return err
		}
		if err := c.enqueue(ctx, s, list); err != nil {
			return err
		}
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		if err := s.untilCreated(ctx, limit, len(good)); err != nil {
			return err
		}
		requests, err := s.clerk.Requests(ctx, 0)
		if err != nil {
			return err
		}
		one = pace(requests)
		first, began := map[string]time.Time{}, creating(requests)[0].Arrived
		for _, person := range good {
			first[person.EmailAddress] = began
		}
		return s.collect(ctx, first, &took)
	})
	b.told(c.name, err, "%.0f recipients/s, p95 %s ms", one, took.percentile(95))
	to.pace.err, to.p95.err = err, err
	to.pace.each = append(to.pace.each, one)
	to.p95.each = append(to.p95.each, took.percentile(95).value)
}

// split takes every n-th recipient out of a list, from the first one on.
func split(list []tasks.Recipient, n int) (out, rest []tasks.Recipient) {
	for i, person := range list {
		if i%n == 0 {
			out = append(out, person)
		} else {
			rest = append(rest, person)
		}
	}
	return out, rest
}
