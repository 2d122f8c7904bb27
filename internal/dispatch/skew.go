package dispatch

import (
	"sync"
	"time"

	"example.com/usher/internal/policy"
)

// skew is how far Clerk's clock may be behind ours, from the Date of its answers.
type skew struct {
	mu     sync.Mutex
	behind time.Duration
	known  bool
}

// observe learns from an answer that has just arrived. The least that was seen is the nearest to the truth: the rest is the
// time that the answer took, and the fraction of a second that Date leaves out.
func (s *skew) observe(date time.Time) {
	if date.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	behind := time.Since(date)
	if !s.known || behind < s.behind {
		s.behind, s.known = behind, true
	}
}

// earliest is the created_at, on Clerk's clock, that an invitation made by a call since an instant has at the earliest.
func (s *skew) earliest(since time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return since.Add(-min(max(s.behind, 0), policy.MaxSkew) - policy.SkewMargin)
}
