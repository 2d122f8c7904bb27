package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// errTooLate means that something did not happen within its time.
var errTooLate = errors.New("too late")

const (
	pollOften  = 2 * time.Millisecond   // for an instant that must not be missed
	pollSoon   = 20 * time.Millisecond  // for one that is close
	pollSeldom = 250 * time.Millisecond // for the end of the work; it leaves the processors to it
)

// poll looks every so often until done says so, for a limited time; past it the error wraps errTooLate.
func poll(ctx context.Context, every, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: not within %s: %s", errTooLate, limit, what))
	defer cancel()
	ticker := time.NewTicker(every)
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
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// between draws a duration.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}
