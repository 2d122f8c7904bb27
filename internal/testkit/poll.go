package testkit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrTooLate means that something did not happen in time.
var ErrTooLate = errors.New("too late")

// Poll calls done every so often until it returns true or an error. After limit the error wraps ErrTooLate.
func Poll(
	ctx context.Context,
	every, limit time.Duration,
	what string,
	done func(context.Context) (bool, error),
) error {
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

// untilUp waits until a server that was just started answers, and kills the server if it does not.
func untilUp(ctx context.Context, p *Process, what string, answers func(context.Context) bool) error {
	const every, limit = 5 * time.Millisecond, 15 * time.Second
	err := Poll(ctx, every, limit, what, func(ctx context.Context) (bool, error) {
		if err := p.Alive(); err != nil {
			return false, err
		}
		return answers(ctx), nil // an error only says that the server is not up yet
	})
	if err != nil {
		p.Kill()
	}
	return err
}
