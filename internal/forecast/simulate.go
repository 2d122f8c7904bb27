package forecast

import (
	"slices"
	"time"

	"example.com/usher/internal/policy"
)

const (
	// horizon is where the foresight ends: what would come later is not foretold.
	horizon = 10 * 365 * 24 * time.Hour
	// maxWork bounds the play, in calls times campaigns that take turns; whoever has not ended by then is foretold from the pace so far.
	maxWork = 500_000
	// lookupCalls are those of one look-up: users, and a page of pending invitations.
	lookupCalls = 2
)

// line is a kind of call, by the permits that it needs.
type line int

const (
	none line = iota
	single
	bulk
	campaignSingle
)

// runner is a campaign in the play.
type runner struct {
	rides, alone int  // recipients without a call yet, that may share one and that may not
	start        span // it makes no call before
	called       bool
	first        span // its first call
	end          span // so far
	extrapolated bool // its end was foretold from the pace of all
}

func (r *runner) left() int { return r.rides + r.alone }

// play sends everybody, call by call, in the order of time: as the dispatchers of all workers together would if nothing failed.
type play struct {
	create, bulks, share, overall places
	looksUp                       bool
	invites                       int
	turns                         []*runner // with recipients left; the one whose turn it is first
	unlookedUp                    int       // recipients in bulks since the last look-up
	now                           span
	sent                          int // recipients of campaigns
}

// run plays until all have ended, or what would come is beyond the horizon.
func (p *play) run() {
	for work := 0; len(p.turns) > 0; work += len(p.turns) {
		l, at := p.next()
		if l == none || at > horizon {
			return
		}
		if work >= maxWork {
			p.extrapolate()
			return
		}
		p.now = at
		p.call(l)
	}
}

// next is the call that comes next, and when: singles of invites first, and bulks before singles of campaigns.
func (p *play) next() (next line, at span) {
	consider := func(l line, t span) {
		t = p.overall.next(t)
		if next == none || t < at {
			next, at = l, t
		}
	}
	if p.invites > 0 {
		consider(single, p.create.next(p.now))
	}
	if start, some := p.earliest(func(r *runner) int { return r.rides }); some {
		consider(bulk, p.bulks.next(start))
	} else if p.together(p.bulks.next(p.now)) > 0 {
		consider(bulk, p.bulks.next(p.now))
	}
	if p.share.n < 0 { // all singles are reserved
		return next, at
	}
	if start, some := p.earliest((*runner).left); some {
		consider(campaignSingle, p.share.next(p.create.next(start)))
	}
	return next, at
}

// earliest is when the first of the campaigns with recipients of some kind may call.
func (p *play) earliest(kind func(*runner) int) (at span, some bool) {
	for _, r := range p.turns {
		if kind(r) > 0 && (!some || r.start < at) {
			at, some = r.start, true
		}
	}
	return max(at, p.now), some
}

// together is how many invites ride in a bulk at an instant: singles are short then, or they would have left before.
func (p *play) together(t span) int {
	switch {
	case p.invites >= policy.BulkSize:
		return policy.BulkSize
	case p.create.next(t)-t > policy.ShortWait:
		return p.invites
	}
	return 0
}

// call makes a call now.
func (p *play) call(l line) {
	p.overall.take(p.now)
	switch l {
	case single:
		p.create.take(p.now)
		p.invites--
	case bulk:
		p.bulks.take(p.now)
		riders := p.together(p.now)
		p.invites -= riders
		p.lookUp(riders + p.board(policy.BulkSize-riders, func(r *runner) *int { return &r.rides }))
	case campaignSingle:
		p.create.take(p.now)
		p.share.take(p.now)
		if p.board(1, func(r *runner) *int { return &r.alone }) == 0 {
			p.board(1, func(r *runner) *int { return &r.rides })
		}
	}
}

// board lets up to n recipients of one kind into a call, of the campaigns in turn, and says how many. Whoever gives some has had its turn.
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

// lookUp takes the places of the look-ups that recipients in bulks need.
func (p *play) lookUp(recipients int) {
	if !p.looksUp {
		return
	}
	for p.unlookedUp += recipients; p.unlookedUp >= policy.LookupSize; p.unlookedUp -= policy.LookupSize {
		for range lookupCalls {
			p.overall.take(p.now)
		}
	}
}

// extrapolate ends the campaigns that are left at the pace so far.
func (p *play) extrapolate() {
	left := 0
	for _, r := range p.turns {
		left += r.left()
	}
	rest := float64(left) / float64(max(1, p.sent)) * float64(p.now)
	if rest > float64(horizon-p.now) {
		return
	}
	for _, r := range p.turns {
		r.end, r.extrapolated = p.now+span(rest), true
	}
}
