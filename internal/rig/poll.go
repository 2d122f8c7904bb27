package rig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTooLate means that something did not happen within its time.
var ErrTooLate = errors.New("too late")

// Poll looks every so often until done says so, for a limited time; past it the error wraps ErrTooLate.
func Poll(ctx context.Context, every, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: not within %s: %s", ErrTooLate, limit, what))
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

// untilUp waits until a server that was just started answers, and kills it when it does not.
func untilUp(ctx context.Context, p *Process, what string, answers func(context.Context) bool) error {
	const every, limit = 20 * time.Millisecond, 15 * time.Second
	err := Poll(ctx, every, limit, what, func(ctx context.Context) (bool, error) {
		if err := p.Alive(); err != nil {
			return false, err
		}
		return answers(ctx), nil // while it is not up there is no connection, which is no fault
	})
	if err != nil {
		p.Kill()
	}
	return err
}
