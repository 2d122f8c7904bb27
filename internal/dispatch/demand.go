package dispatch

import (
	"time"

	"example.com/usher/internal/policy"
)

// demand is how many calls of each kind should be waiting for permits, and what else is to be done.
type demand struct {
	calls  map[policy.Call]int
	lookUp []*waiter
	again  time.Duration // when to look again; 0: at the next change
}

// demand works out from what waits which calls are needed. The dispatcher is locked.
func (d *Dispatcher) demand(now time.Time) demand {
	n := demand{calls: map[policy.Call]int{}}
	together := d.demandOfWaiters(&n, now)
	coming := len(n.lookUp) > 0
	if d.lookUps >= policy.LookupsAtOnce {
		n.lookUp = nil // they gather, so that the next look-up is for more of them
	}
	for _, w := range d.waiters {
		coming = coming || w.looking
	}
	ready := 0
	for _, f := range d.feeds {
		ready += f.waiting.Ready
		coming = coming || f.waiting.Coming
		n.calls[policy.CreateCampaign] += f.waiting.Alone
	}
	bulk, single := d.queues[policy.Bulk], d.queues[policy.CreateCampaign]
	if bulk.isBlocked(now) && single.blocked.Add(policy.SinglesFirst).Before(bulk.blocked) {
		n.calls[policy.CreateCampaign] += ready
	}
	together += ready
	n.calls[policy.Bulk] = together / policy.BulkSize
	if together%policy.BulkSize > 0 && !coming {
		n.calls[policy.Bulk]++ // nobody comes to fill it
	}
	return n
}

// demandOfWaiters adds the calls for waiters, and returns how many of them share bulks because singles run short.
func (d *Dispatcher) demandOfWaiters(n *demand, now time.Time) (together int) {
	kind := policy.CreateBurst
	if d.caller.Policy.Kept() == 0 {
		kind = policy.Create
	}
	n.calls[kind] = len(d.waiters)
	if !d.queues[kind].isBlocked(now) || !d.caller.Policy.LooksUp() {
		return 0
	}
	var sharing []*waiter
	for _, w := range d.waiters {
		if w.shares {
			sharing = append(sharing, w)
		}
	}
	n.calls[policy.Create] = max(n.calls[policy.Create], len(d.waiters)-len(sharing))
	if d.queues[policy.Bulk].isBlocked(now) {
		n.calls[policy.Create] = len(d.waiters)
	}
	full := len(sharing) / policy.BulkSize * policy.BulkSize
	switch {
	case len(sharing) == 0:
		return 0
	case full > 0:
		sharing = sharing[:full]
	case now.Sub(sharing[0].since) < policy.Gather:
		n.again = policy.Gather - now.Sub(sharing[0].since)
		return 0
	default:
		n.calls[policy.Create] = len(d.waiters)
		if d.queues[policy.Create].blocked.Sub(now) <= policy.ShortWait {
			return 0
		}
	}
	for _, w := range sharing {
		switch {
		case w.looked:
			together++
		case !w.looking && len(n.lookUp) < policy.LookupSize:
			n.lookUp = append(n.lookUp, w)
		}
	}
	return together
}
