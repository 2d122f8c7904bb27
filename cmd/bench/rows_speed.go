package main

import (
	"context"
	"fmt"
	"time"
)

const (
	speedRuns    = 5
	speedInvites = 4000
	speedList    = 20_000
)

// speedMeasurement takes every limit away: what is left is what the programs themselves cost.
func speedMeasurement() measurement {
	return measurement{
		questions: []question{
			{"no limits: invite tasks", "recipients/s", "higher"},
			{"no limits: a list", "recipients/s", "higher"},
		},
		run: func(ctx context.Context, b *bench) []answer {
			var singles, singlesBefore, list, listBefore, plain paces
			for range speedRuns { // alternating, so that a slow minute of the machine strikes all alike
				b.addPace(ctx, &singles, usherInvites(), speedInvites)
				b.addPace(ctx, &singlesBefore, usherInvites().before(), speedInvites)
				b.addPace(ctx, &plain, plainInvites(), speedInvites)
				b.addPace(ctx, &list, usherCampaign(), speedList)
				b.addPace(ctx, &listBefore, usherCampaign().before(), speedList)
			}
			runs := fmt.Sprintf("median of %d alternating runs of %s", speedRuns, number(speedInvites))
			lists := fmt.Sprintf(
				"the same of a bulk-invite of %s (Usher's invite tasks: %s); the baseline makes a call for each",
				number(speedList),
				singles.median(),
			)
			return []answer{
				{singles.median(), singlesBefore.median(), plain.median(), runs},
				{list.median(), listBefore.median(), plain.median(), lists},
			}
		},
	}
}

// paces are those of several runs, up to the first that failed.
type paces struct {
	each []float64
	err  error
}

func (p paces) median() figure { return measured(percentile(p.each, 50), p.err) }

// addPace adds the pace of one more run, unless one failed before.
func (b *bench) addPace(ctx context.Context, to *paces, c contender, n int) {
	const limit = 60 * time.Second
	if to.err != nil {
		return
	}
	one := 0.0
	to.err = b.on(ctx, c, setup{create: "0", bulk: "0"}, func(s *stage) error {
		if err := c.enqueue(ctx, s, people("person", n)); err != nil {
			return err
		}
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		if err := s.untilCreated(ctx, limit, n); err != nil {
			return err
		}
		requests, err := s.clerk.Requests(ctx, 0)
		one = pace(requests)
		return err
	})
	b.told(c.name, to.err, "%.0f recipients/s", one)
	to.each = append(to.each, one)
}
