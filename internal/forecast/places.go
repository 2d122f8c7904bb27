package forecast

import (
	"slices"
	"time"
)

// span is how long after the reading something happens.
type span = time.Duration

// bounded keeps a span between none and the horizon, so that sums of a few cannot overflow.
func bounded(s span) span { return min(max(0, s), horizon) }

// Places are those of one limit: N in any window. With N zero there is no limit.
type Places struct {
	N      int
	Window time.Duration
	// Frees are the instants at which those that are used now come free.
	Frees []time.Time
	// BlockedUntil is the instant before which there is none at all; zero if there is no such.
	BlockedUntil time.Time
}

// places plays Places in time. They are to be taken in the order of time.
type places struct {
	n       int
	window  span
	frees   []span // of those that are used, the earliest first
	blocked span
}

func newPlaces(p Places, now time.Time) places {
	q := places{n: p.N, window: p.Window}
	if !p.BlockedUntil.IsZero() {
		q.blocked = p.BlockedUntil.Sub(now)
	}
	for _, free := range p.Frees {
		q.frees = append(q.frees, free.Sub(now))
	}
	slices.Sort(q.frees)
	return q
}

// next is the earliest instant, from t on, at which a place can be taken.
func (p *places) next(t span) span {
	t = max(t, p.blocked)
	if p.n <= 0 {
		return t
	}
	over := len(p.frees) - p.n
	if over < 0 {
		return t
	}
	return max(t, p.frees[over])
}

// take takes a place at t. Its window runs from then on.
func (p *places) take(t span) {
	if p.n <= 0 {
		return
	}
	free := 0
	for free < len(p.frees) && p.frees[free] <= t {
		free++
	}
	p.frees = append(p.frees[free:], t+p.window)
}
