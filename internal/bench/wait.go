package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errTooLate means that something did not happen within its time.
var errTooLate = errors.New("too late")

// pollEvery is how often a condition is looked at: seldom enough to leave the processors to what is measured.
const pollEvery = 100 * time.Millisecond

// poll waits until done says so, for a limited time; past it the error wraps errTooLate.
func poll(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: %s, within %s", errTooLate, what, limit))
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		reached, err := done(ctx)
		switch {
		case err == nil && reached:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// pause waits for a while.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
