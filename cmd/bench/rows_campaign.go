package main

import (
	"context"
	"fmt"
	"time"
)

// A shortened hour: what Clerk allows in one, in six seconds. Both budgets together carry 100 + 25·10 recipients a
// window.
const (
	shortHour  = 6 * time.Second
	perHour    = 100 + 25*10
	hourCreate = "100/6s"
	hourBulk   = "25/6s"
)

// bestSpan is the shortest time from the first to the last call for n recipients: the first window's calls go at
// once, and those of every further one when it opens.
func bestSpan(n int) time.Duration {
	windows := (n + perHour - 1) / perHour
	return time.Duration(windows-1) * shortHour
}

const (
	campaignSize = 1390
	// plainSize is smaller: for all of a campaign the baseline would take minutes, most of them in refused calls.
	plainSize = 440
)

// campaignMeasurement sends a campaign through Clerk's limits, with two workers.
func campaignMeasurement() measurement {
	return measurement{
		questions: append([]question{
			{"send a campaign of 1,390: time from first to last call", "× best", "lower"},
			{"the same: calls refused with 429", "calls", "lower"},
		}, bullQuestions()...),
		run: func(ctx context.Context, b *bench) []answer {
			usher := b.sendAll(ctx, usherCampaign(), campaignSize)
			before := b.sendAll(ctx, usherCampaign().before(), campaignSize)
			plain := b.sendAll(ctx, plainInvites(), plainSize)
			took := fmt.Sprintf("Usher sent %s in %.1f s (best possible %.0f s), the baseline %s in %.1f s "+
				"(best possible %.0f s with both budgets; it sends singles only)",
				number(campaignSize), usher.span.Seconds(), bestSpan(campaignSize).Seconds(),
				number(plainSize), plain.span.Seconds(), bestSpan(plainSize).Seconds())
			size := fmt.Sprintf(
				"Usher for %s recipients, the baseline for %s",
				number(campaignSize),
				number(plainSize),
			)
			return append([]answer{
				{usher.times(), before.times(), plain.times(), took},
				{usher.refusals(), before.refusals(), plain.refusals(), size},
			}, b.bullAnswers(ctx, usher, before)...)
		},
	}
}

// sending is how a list was sent.
type sending struct {
	recipients int
	span       time.Duration
	refused    int // with 429
	err        error
}

// times is how many times the shortest possible time it took.
func (s sending) times() figure {
	return measured(s.span.Seconds()/bestSpan(s.recipients).Seconds(), s.err)
}

func (s sending) refusals() figure { return measured(float64(s.refused), s.err) }

func (b *bench) sendAll(ctx context.Context, c contender, n int) sending {
	const limit = 100 * time.Second
	result := sending{recipients: n}
	setup := setup{create: hourCreate, bulk: hourBulk, latency: 60 * time.Millisecond}
	result.err = b.on(ctx, c, setup, func(s *stage) error {
		if err := c.enqueue(ctx, s, people("person", n)); err != nil {
			return err
		}
		if err := s.work(c.worker, 2); err != nil {
			return err
		}
		if err := s.untilCreated(ctx, limit, n); err != nil {
			return err
		}
		requests, err := s.clerk.Requests(ctx, 0)
		if err != nil {
			return err
		}
		stats, err := s.clerk.Stats(ctx)
		result.span, result.refused = span(requests), throttled(stats)
		return err
	})
	b.told(c.name, result.err, "%d recipients in %.1f s, %d calls refused with 429",
		n, result.span.Seconds(), result.refused)
	return result
}
