package main

import (
	"context"
	"fmt"
	"time"
)

// waitingMeasurement lets n recipients wait for a window that stays closed, and sees what that costs: at rest, and
// what it took to come to rest, which is due again at every window.
func waitingMeasurement(n int) measurement {
	campaign := number(float64(n)) + " of a campaign wait for a window"
	invites := number(float64(n)) + " invite tasks wait for a window"
	return measurement{
		questions: []question{
			{campaign + ": Redis commands", "1/s", "lower"},
			{campaign + ": CPU of the worker", "% of one", "lower"},
			{invites + ": Redis commands", "1/s", "lower"},
			{invites + ": CPU of the worker", "% of one", "lower"},
			{invites + ": until it is at rest, calls refused with 429", "calls", "lower"},
			{invites + ": until it is at rest, Redis commands", "commands", "lower"},
			{invites + ": until it is at rest, CPU of the worker", "s", "lower"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			campaign, campaignBefore := b.wait(ctx, usherCampaign(), n), b.wait(ctx, usherCampaign().before(), n)
			invites, invitesBefore := b.wait(ctx, usherInvites(), n), b.wait(ctx, usherInvites().before(), n)
			plain := b.wait(ctx, plainInvites(), n)
			row := func(usher, before waiting, of func(waiting) float64, note string) answer {
				return answer{usher.figure(of), before.figure(of), plain.figure(of), note}
			}
			ofCampaign := func(of func(waiting) float64, note string) answer {
				return row(campaign, campaignBefore, of, note)
			}
			ofInvites := func(of func(waiting) float64, note string) answer {
				return row(invites, invitesBefore, of, note)
			}
			settled := fmt.Sprintf(
				"Usher rests after %.1f s, the baseline after %.1f s, and again so whenever a window opens",
				invites.settling.span.Seconds(),
				plain.settling.span.Seconds(),
			)
			return []answer{
				ofCampaign(waiting.commandRate, "baseline: a task each, put off until Clerk's Retry-After has passed"),
				ofCampaign(waiting.cpuShare, ""),
				ofInvites(waiting.commandRate, ""),
				ofInvites(waiting.cpuShare, ""),
				ofInvites(func(w waiting) float64 { return float64(w.refused) }, settled),
				ofInvites(func(w waiting) float64 { return float64(w.settling.commands) }, ""),
				ofInvites(func(w waiting) float64 { return w.settling.cpu.Seconds() }, "its start included"),
			}
		},
	}
}

// waiting is what it costs that recipients wait.
type waiting struct {
	settling load // from the start of the worker until it is at rest
	rest     load
	refused  int // calls, with 429, while it settled
	err      error
}

func (w waiting) figure(of func(waiting) float64) figure { return measured(of(w), w.err) }

func (w waiting) commandRate() float64 { return float64(w.rest.commands) / w.rest.span.Seconds() }
func (w waiting) cpuShare() float64    { return 100 * w.rest.cpu.Seconds() / w.rest.span.Seconds() }

func (b *bench) wait(ctx context.Context, c contender, n int) waiting {
	const (
		limit = 90 * time.Second
		quiet = 6 * time.Second // a worker's first looks, which it takes in its first seconds, are no cost of waiting
		span  = 20 * time.Second
		first = 10 + 2*10 // recipients that the first window carries at most
	)
	var result waiting
	setup := setup{create: "10/10m", bulk: "2/10m", latency: 20 * time.Millisecond}
	result.err = b.on(ctx, c, setup, func(s *stage) error {
		if err := c.enqueue(ctx, s, people("person", n+first)); err != nil {
			return err
		}
		unused, err := s.redis.commands(ctx)
		if err != nil {
			return err
		}
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		began := load{at: time.Now(), commands: unused} // a worker that has just started has had no processor
		if err := s.untilSettled(ctx, limit, quiet); err != nil {
			return err
		}
		if result.settling, err = s.since(ctx, began); err != nil {
			return err
		}
		result.settling.span -= quiet
		stats, err := s.clerk.Stats(ctx)
		if err != nil {
			return err
		}
		result.refused = throttled(stats)
		result.rest, err = s.watch(ctx, span)
		return err
	})
	b.told(c.name, result.err, "%.1f commands/s, %.1f %% CPU, %d calls refused with 429",
		result.commandRate(), result.cpuShare(), result.refused)
	return result
}
