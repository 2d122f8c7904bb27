package forecast

import (
	"cmp"
	"slices"
	"time"

	"example.com/usher/internal/policy"
)

const (
	// horizon is where the prediction ends.
	horizon = 10 * 365 * 24 * time.Hour
	// maxWork bounds the play: the sum, over all calls, of the campaigns that take turns. The ends of campaigns that
	// are left then are predicted from the pace so far.
	maxWork = 500_000
	// lookupCalls are the calls of one look-up: one for users, and one for a page of pending invitations.
	lookupCalls = 2
)

// bounded keeps a span between 0 and the horizon, so that sums of a few cannot overflow.
func bounded(span time.Duration) time.Duration { return min(max(0, span), horizon) }

// Places are those of one limit: N in any window. If N is zero there is no limit.
type Places struct {
	N      int
	Window time.Duration
	// Frees says when each place that is used comes free.
	Frees []time.Duration
	// Blocked is until when there is no place at all.
	Blocked time.Duration
}

// next is the earliest instant, from t on, at which a place can be taken. Places are taken in the order of time.
func (p *Places) next(t time.Duration) time.Duration {
	t = max(t, p.Blocked)
	if over := len(p.Frees) - p.N; p.N > 0 && over >= 0 {
		t = max(t, p.Frees[over])
	}
	return t
}

// take takes a place at t. Its window runs from then on.
func (p *Places) take(t time.Duration) {
	if p.N == 0 {
		return
	}
	free := 0
	for free < len(p.Frees) && p.Frees[free] <= t {
		free++
	}
	p.Frees = append(p.Frees[free:], t+p.Window)
}

// runner is a campaign in the play.
type runner struct {
	rides, alone int           // recipients without a call yet: those that may share one, and those that may not
	start        time.Duration // it makes no call before
	called       bool
	first        time.Duration // its first call
	end          time.Duration // its last call so far
	extrapolated bool          // its end was predicted from the pace of all
}

func (r *runner) left() int { return r.rides + r.alone }

// play makes all calls in the order of time, as the dispatchers of all workers together would. Its outlook changes
// with every call.
type play struct {
	Outlook
	turns      []*runner // with recipients left; the first has the next turn
	unlookedUp int       // recipients in bulks since the last look-up
	now        time.Duration
	sent       int // recipients of campaigns
}

// play makes all calls, and returns what became of each campaign.
func (o Outlook) play() []*runner {
	p := &play{Outlook: o}
	runners := make([]*runner, len(o.Campaigns))
	for i, c := range o.Campaigns {
		left := max(0, c.Remaining-c.InCalls)
		r := &runner{start: c.Start, alone: min(c.Alone, left)}
		if c.Held != nil {
			r.start = max(r.start, c.HeldUntil)
		}
		r.rides, r.end = left-r.alone, bounded(r.start)
		if runners[i] = r; left > 0 {
			p.turns = append(p.turns, r)
		}
	}
	for work := 0; len(p.turns) > 0; work += len(p.turns) {
		call, at := p.next()
		if call == "" || at > horizon {
			break
		}
		if work >= maxWork {
			p.extrapolate()
			break
		}
		p.now = at
		p.make(call)
	}
	return runners
}

// next is the next call and its time. Singles of invites come first, and bulks before singles of campaigns.
func (p *play) next() (next policy.Call, at time.Duration) {
	consider := func(call policy.Call, t time.Duration) {
		if t = p.Overall.next(t); next == "" || t < at {
			next, at = call, t
		}
	}
	if p.Invites > 0 {
		consider(policy.Create, p.Create.next(p.now))
	}
	start, some := p.earliest(func(r *runner) int { return r.rides })
	if some || p.together(p.Bulk.next(p.now)) > 0 {
		consider(policy.Bulk, p.Bulk.next(start))
	}
	if start, some := p.earliest((*runner).left); some && !p.Reserved {
		consider(policy.CreateCampaign, p.Share.next(p.Create.next(start)))
	}
	return next, at
}

// earliest is when the first of the campaigns with recipients of a kind may call.
func (p *play) earliest(kind func(*runner) int) (at time.Duration, some bool) {
	for _, r := range p.turns {
		if kind(r) > 0 && (!some || r.start < at) {
			at, some = r.start, true
		}
	}
	return max(at, p.now), some
}

// together is how many invites ride in a bulk at t. They do so only while singles are short: otherwise they would have
// left before.
func (p *play) together(t time.Duration) int {
	switch {
	case p.Invites >= policy.BulkSize:
		return policy.BulkSize
	case p.Create.next(t)-t > policy.ShortWait:
		return p.Invites
	}
	return 0
}

// make makes a call now.
func (p *play) make(call policy.Call) {
	rides, alone := func(r *runner) *int { return &r.rides }, func(r *runner) *int { return &r.alone }
	p.Overall.take(p.now)
	switch call {
	case policy.Create:
		p.Create.take(p.now)
		p.Invites--
	case policy.Bulk:
		p.Bulk.take(p.now)
		invites := p.together(p.now)
		p.Invites -= invites
		p.lookUp(invites + p.board(policy.BulkSize-invites, rides))
	case policy.CreateCampaign:
		p.Create.take(p.now)
		p.Share.take(p.now)
		if p.board(1, alone) == 0 {
			p.board(1, rides)
		}
	}
}

// board lets up to n recipients of a kind into a call and returns how many there were. The campaigns take turns: one
// that gives recipients goes to the end of the row.
func (p *play) board(n int, kind func(*runner) *int) int {
	aboard := 0
	for _, r := range slices.Clone(p.turns) {
		some := min(n-aboard, *kind(r))
		if some <= 0 || r.start > p.now {
			continue
		}
		if !r.called {
			r.called, r.first = true, p.now
		}
		aboard += some
		*kind(r) -= some
		p.turns = slices.DeleteFunc(p.turns, func(other *runner) bool { return other == r })
		if r.end = p.now; r.left() > 0 {
			p.turns = append(p.turns, r)
		}
		if aboard == n {
			break
		}
	}
	p.sent += aboard
	return aboard
}

// lookUp takes places for the look-ups of recipients in bulks.
func (p *play) lookUp(recipients int) {
	if p.Bulk.N == 0 {
		return // nobody is looked up
	}
	for p.unlookedUp += recipients; p.unlookedUp >= policy.LookupSize; p.unlookedUp -= policy.LookupSize {
		for range lookupCalls {
			p.Overall.take(p.now)
		}
	}
}

// extrapolate ends the campaigns that are left at the pace so far. Those of which one begins before another has ended
// end together.
func (p *play) extrapolate() {
	pace := float64(p.now) / float64(max(1, p.sent)) // time for one recipient
	turns := slices.SortedFunc(slices.Values(p.turns), func(a, b *runner) int { return cmp.Compare(a.start, b.start) })
	end, together := p.now, 0
	for i, r := range turns {
		if r.start > end {
			end, together = r.start, i
		}
		rest := float64(r.left()) * pace
		if rest > float64(horizon-end) {
			return
		}
		end += time.Duration(rest)
		if i+1 < len(turns) && turns[i+1].start <= end {
			continue
		}
		for _, ends := range turns[together : i+1] {
			ends.end, ends.extrapolated = end, true
		}
	}
}
