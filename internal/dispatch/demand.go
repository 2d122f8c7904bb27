package dispatch

import (
	"time"

	"example.com/usher/internal/policy"
)

// demand is how many calls of each kind should be waiting for permits, and what else is to be done.
type demand struct {
	lone, burst, campaign, bulk int
	lookUp                      []*rider
	again                       time.Duration // when to look again; 0: at the next change
}

func (l *line) isBlocked(now time.Time) bool { return now.Before(l.blocked) }

// demand reckons from what waits. The dispatcher is locked.
func (d *Dispatcher) demand(now time.Time) demand {
	var n demand
	bulkBlocked := d.lines[policy.Bulk].isBlocked(now)
	together := d.invites(&n, now, bulkBlocked)

	ready, coming := 0, len(n.lookUp) > 0
	if d.lookUps >= policy.LookupsAtOnce {
		n.lookUp = nil // they gather, so that the next look-up is for more of them
	}
	for _, f := range d.feeds {
		ready += f.waiting.Ready
		coming = coming || f.waiting.Coming
		n.campaign += f.waiting.Alone
	}
	if bulkBlocked && d.lines[policy.CreateCampaign].blocked.Add(policy.SinglesFirst).Before(d.lines[policy.Bulk].blocked) {
		n.campaign += ready
	}
	for _, r := range d.queue {
		coming = coming || r.looking
	}
	together += ready
	n.bulk = together / policy.BulkSize
	if together%policy.BulkSize > 0 && !coming {
		n.bulk++ // nobody comes to fill it
	}
	return n
}

// invites reckons the calls for invite tasks, and how many of their recipients ride together because singles run short.
func (d *Dispatcher) invites(n *demand, now time.Time, bulkBlocked bool) (together int) {
	lone, short := d.lines[policy.Create], false
	if d.policy.Kept() == 0 {
		n.lone = len(d.queue)
		short = lone.isBlocked(now)
	} else {
		n.burst = len(d.queue)
		short = d.lines[policy.CreateBurst].isBlocked(now)
	}
	if !short || !d.policy.LooksUp() {
		return 0
	}
	var riders []*rider
	for _, r := range d.queue {
		if r.rides {
			riders = append(riders, r)
		}
	}
	n.lone = max(n.lone, len(d.queue)-len(riders))
	full := len(riders) / policy.BulkSize * policy.BulkSize
	if bulkBlocked {
		n.lone = len(d.queue)
	}
	switch {
	case len(riders) == 0:
		return 0
	case full > 0:
		riders = riders[:full]
	case now.Sub(riders[0].since) < policy.Gather:
		n.again = policy.Gather - now.Sub(riders[0].since)
		return 0
	default:
		n.lone = len(d.queue)
		if lone.blocked.Sub(now) <= policy.ShortWait {
			return 0
		}
	}
	for _, r := range riders {
		switch {
		case r.looked:
			together++
		case !r.looking && len(n.lookUp) < policy.LookupSize:
			n.lookUp = append(n.lookUp, r)
		}
	}
	return together
}
