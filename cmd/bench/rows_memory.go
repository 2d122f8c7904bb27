package main

import "context"

// memoryMeasurement sees what n queued recipients take of Redis's memory. No worker runs.
func memoryMeasurement(n int) measurement {
	queued := number(float64(n)) + " queued: memory of Redis, "
	return measurement{
		questions: []question{
			{queued + "a campaign", "bytes each", "lower"},
			{queued + "invite tasks", "bytes each", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			campaign, campaignErr := b.bytesEach(ctx, usherCampaign(), n)
			invites, invitesErr := b.bytesEach(ctx, usherInvites(), n)
			plain, plainErr := b.bytesEach(ctx, plainInvites(), n)
			return []answer{
				{
					measured(campaign, campaignErr), measured(plain, plainErr),
					"recipients without metadata; baseline: a task each",
				},
				{measured(invites, invitesErr), measured(plain, plainErr), ""},
			}
		},
	}
}

func (b *bench) bytesEach(ctx context.Context, c contender, n int) (each float64, err error) {
	err = b.on(ctx, setup{create: "0", bulk: "0"}, func(s *stage) error {
		// One recipient first, so that connections and what every queue has once are there before.
		if err := c.enqueue(ctx, s, people("first", 1)); err != nil {
			return err
		}
		before, err := s.redis.memory(ctx)
		if err != nil {
			return err
		}
		if err := c.enqueue(ctx, s, people("person", n)); err != nil {
			return err
		}
		after, err := s.redis.memory(ctx)
		each = float64(after-before) / float64(n)
		return err
	})
	b.told(c.name, err, "%.0f bytes each", each)
	return each, err
}
