package main

import (
	"context"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

const (
	refusedSize  = 600
	refusedEvery = 10 // whose address is a user's
)

// refusedMeasurement sends a list with addresses that Clerk refuses: one of them in every ten fails every bulk of ten.
func refusedMeasurement() measurement {
	return measurement{
		questions: []question{
			{"a list of 600, every tenth a user already: bulk permits wasted on refused calls", "calls", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			return []answer{{
				b.refusedBulks(ctx, usherCampaign()), b.refusedBulks(ctx, usherCampaign().before()),
				b.refusedBulks(ctx, plainBulks()),
				"baseline: a task for ten; the recipients of a refused call are sent one by one",
			}}
		},
	}
}

func (b *bench) refusedBulks(ctx context.Context, c contender) figure {
	const limit = 60 * time.Second
	list, refused := people("person", refusedSize), 0
	err := b.on(ctx, c, setup{create: "100/2s", bulk: "25/2s", latency: 20 * time.Millisecond}, func(s *stage) error {
		for i := 0; i < len(list); i += refusedEvery {
			if err := s.addUser(ctx, list[i].EmailAddress); err != nil {
				return err
			}
		}
		if err := c.enqueue(ctx, s, list); err != nil {
			return err
		}
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		if err := s.untilCreated(ctx, limit, refusedSize-refusedSize/refusedEvery); err != nil {
			return err
		}
		stats, err := s.clerk.Stats(ctx)
		bulk := stats.Endpoints[clerktest.Bulk]
		refused = bulk.Failed - bulk.Throttled // a call that 429 refused has no permit at Clerk
		return err
	})
	b.told(c.name, err, "%d bulk calls refused", refused)
	return measured(float64(refused), err)
}
