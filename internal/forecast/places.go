package forecast

import "time"

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
