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
			campaign, before := b.bytesEach(ctx, usherCampaign(), n), b.bytesEach(ctx, usherCampaign().before(), n)
			invites, plain := b.bytesEach(ctx, usherInvites(), n), b.bytesEach(ctx, plainInvites(), n)
			return []answer{
				{campaign, before, plain, "recipients without metadata; baseline: a task each"},
				{invites, figure{err: errNoEarlier}, plain, ""}, // an earlier build would enqueue them one by one
			}
		},
	}
}

func (b *bench) bytesEach(ctx context.Context, c contender, n int) figure {
	each := 0.0
	err := b.on(ctx, c, setup{create: "0", bulk: "0"}, func(s *stage) error {
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
	return measured(each, err)
}
