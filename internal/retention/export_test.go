package retention

import (
	"context"
	"time"
)

// Ahead lets a service's clock be ahead of Redis's.
func (s *Service) Ahead(by time.Duration) *Service {
	clock := s.clock
	s.clock = func(ctx context.Context) (time.Time, error) {
		now, err := clock(ctx)
		return now.Add(by), err
	}
	return s
}

// Turn looks at everything once, if it is this worker's turn.
func (s *Service) Turn(ctx context.Context) error { return s.turn(ctx) }
