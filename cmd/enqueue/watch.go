package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

const (
	// watchFirst is the pause before the second look at a campaign; it grows to watchLast.
	watchFirst = 100 * time.Millisecond
	watchLast  = 500 * time.Millisecond
	// watchPatience is how long a watch bears with a Redis that cannot answer.
	watchPatience = 2 * time.Minute
)

type campaignWatchCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignWatchCommand) Run(a *app) error {
	if _, err := a.client.Campaign(a.ctx, c.Name); err != nil {
		return err // it is borne with only once the watch has begun
	}
	campaign, err := a.watch(a.ctx, c.Name, a.display(true))
	if err != nil {
		return err
	}
	if !a.out.json {
		err = a.showCampaign(campaign, nil)
	}
	if err == nil && campaign.State == tasks.CampaignCancelled {
		err = fmt.Errorf("campaign %s: %w", campaign.Name, errDead)
	}
	return err
}

// watch shows how a campaign goes on until it is over, and bears with a Redis that is away for a while.
func (a *app) watch(ctx context.Context, name string, show display) (tasks.Campaign, error) {
	defer show.end()
	measure := pace{window: a.longestWindow(ctx)}
	var failingSince time.Time
	for pause := watchFirst; ; pause = min(pause*3/2, watchLast) {
		campaign, err := a.client.Campaign(ctx, name)
		switch {
		case ctx.Err() != nil:
			return campaign, context.Cause(ctx)
		case err == nil:
			failingSince = time.Time{}
			if err := show.update(campaign, measure.perHour(campaign, time.Now())); err != nil || campaign.State.Over() {
				return campaign, err
			}
		case errors.Is(err, tasks.ErrNotFound):
			return campaign, err
		case failingSince.IsZero():
			failingSince = time.Now()
		case time.Since(failingSince) > watchPatience:
			return campaign, err
		}
		select {
		case <-ctx.Done():
			return campaign, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// longestWindow is that of the limits for creating; zero if it is not known.
func (a *app) longestWindow(ctx context.Context) (longest time.Duration) {
	usages, err := ratelimit.ReadUsage(ctx, a.rdb, a.namespace)
	if err != nil {
		return 0
	}
	for _, u := range usages {
		if u.N > 0 && (u.Name == policy.LimitCreate || u.Name == policy.LimitBulk) {
			longest = max(longest, u.Window)
		}
	}
	return longest
}

// pace measures how many recipients get their outcome. It looks at one window and no less: they come in bursts when one begins.
type pace struct {
	window time.Duration
	seen   []seen // the oldest first; only the first one may be older than the window
}

type seen struct {
	at   time.Time
	done int
}

// leastPace is the shortest time over which a pace is measured.
const leastPace = 10 * time.Second

// perHour is how many recipients get their outcome in an hour, at the pace of the last window; before the campaign was watched for so long,
// at its pace since it started. 0: that is not known.
func (p *pace) perHour(c tasks.Campaign, now time.Time) float64 {
	if c.StartedAt.IsZero() {
		return 0
	}
	window := max(p.window, leastPace)
	p.seen = append(p.seen, seen{now, c.Sent + c.Dead})
	for len(p.seen) > 1 && now.Sub(p.seen[1].at) >= window {
		p.seen = p.seen[1:]
	}
	first := p.seen[0]
	if now.Sub(first.at) >= window {
		return float64(c.Sent+c.Dead-first.done) / now.Sub(first.at).Hours()
	}
	if !c.FinishedAt.IsZero() {
		now = c.FinishedAt
	}
	return float64(c.Sent+c.Dead) / max(now.Sub(c.StartedAt), window).Hours()
}
