package dispatch

import (
	"time"

	"example.com/usher/internal/policy"
)

// demand works out from what waits how many calls of each kind should be waiting for permits, who is to be looked up,
// and after how long to look again (0: at the next change). The dispatcher is locked.
func (d *Dispatcher) demand(now time.Time) (calls map[policy.Call]int, lookUp []*waiter, recheck time.Duration) {
	calls = map[policy.Call]int{}
	together, lookUp, recheck := d.demandOfWaiters(calls, now)
	coming := len(lookUp) > 0 // somebody is looked up, who may fill a bulk
	if d.lookUps >= policy.LookupsAtOnce {
		lookUp = nil // they gather, so that the next look-up is for more of them
	}
	for _, w := range d.waiters {
		coming = coming || w.looking
	}
	ready, behind := 0, 0 // recipients of campaigns, as in Waiting
	for _, f := range d.feeds {
		ready += f.waiting.Ready
		behind += f.waiting.Behind
		coming = coming || f.waiting.Coming
		calls[policy.CreateCampaign] += f.waiting.Alone
	}
	bulk, single := d.queues[policy.Bulk], d.queues[policy.CreateCampaign]
	if bulk.isBlocked(now) && single.blocked.Add(policy.SinglesFirst).Before(bulk.blocked) {
		calls[policy.CreateCampaign] += ready
	} else if d.caller.Policy.LooksUp() { // those whom no bulk of a whole window can take go at the same time
		calls[policy.CreateCampaign] += min(ready, max(0, ready+behind-d.caller.Policy.Bulk.N*policy.BulkSize))
	}
	together += ready
	calls[policy.Bulk] = together / policy.BulkSize
	if together%policy.BulkSize > 0 && !coming {
		calls[policy.Bulk]++ // nobody comes to fill it
	}
	return calls, lookUp, recheck
}

// demandOfWaiters adds the calls for waiters, and returns how many of them share bulks because singles run short, whom
// of those to look up, and after how long to look again. The kinds of single calls are told apart by the permits that
// they leave: Create none, CreateBurst those that are kept for invites which fill no bulk.
func (d *Dispatcher) demandOfWaiters(
	calls map[policy.Call]int, now time.Time,
) (together int, lookUp []*waiter, recheck time.Duration) {
	kind := policy.CreateBurst
	if d.caller.Policy.Kept() == 0 {
		kind = policy.Create
	}
	calls[kind] = len(d.waiters)
	var sharing []*waiter
	for _, w := range d.waiters {
		if w.shares {
			sharing = append(sharing, w)
		}
	}
	if !d.caller.Policy.LooksUp() {
		together, gathering, recheck := ridersWhenFree(sharing, now)
		calls[kind] -= together + gathering
		return together, nil, recheck
	}
	if !d.queues[kind].isBlocked(now) { // singles suffice: everybody goes alone, at once
		return 0, nil, 0
	}
	// Singles run short. Kept ones are for those who may share no bulk and, if bulks are spent, too, for everybody.
	calls[policy.Create] = max(calls[policy.Create], len(d.waiters)-len(sharing))
	if d.queues[policy.Bulk].isBlocked(now) {
		calls[policy.Create] = len(d.waiters)
	}
	riders, recheck := ridersWhenScarce(sharing, now)
	if len(riders)%policy.BulkSize > 0 { // a kept single for each, unless that takes long
		calls[policy.Create] = len(d.waiters)
		if d.queues[policy.Create].blocked.Sub(now) <= policy.ShortWait {
			return 0, nil, 0
		}
	}
	for _, w := range riders {
		switch {
		case w.looked:
			together++
		case !w.looking && len(lookUp) < policy.LookupSize:
			lookUp = append(lookUp, w)
		}
	}
	return together, lookUp, recheck
}

// ridersWhenScarce gives those of some waiters who may share bulks now: as many as fill them or, if company has not
// come, the few that there are. If these still wait for it, it gives nobody, and after how long to look again. The
// oldest come first.
func ridersWhenScarce(sharing []*waiter, now time.Time) (riders []*waiter, recheck time.Duration) {
	if full := len(sharing) / policy.BulkSize * policy.BulkSize; full > 0 || len(sharing) == 0 {
		return sharing[:full], 0
	}
	if left := policy.ScarceCompany - now.Sub(sharing[0].since); left > 0 {
		return nil, left
	}
	return sharing, 0
}

// ridersWhenFree tells how many waiters share calls where bulks have no limit, which are every ten, how many of the
// others still wait for company, and after how long to look again. The oldest come first.
func ridersWhenFree(sharing []*waiter, now time.Time) (together, gathering int, recheck time.Duration) {
	together = len(sharing) / policy.BulkSize * policy.BulkSize
	for i, w := range sharing[together:] {
		if left := policy.FreeCompany - now.Sub(w.since); left > 0 {
			return together, len(sharing) - together - i, left
		}
	}
	return together, 0, 0
}
