package dispatch

import (
	"context"
	"errors"
	"fmt"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
)

// ErrPatience means that Clerk was asked for as long as somebody can be expected to wait, and has not answered.
var ErrPatience = fmt.Errorf("no answer from Clerk within %s", policy.AskPatience)

// Ask puts a question to Clerk, which changes nothing, for somebody who waits for the answer: while Clerk throttles it waits, and what failed
// is tried again a few times. The error is a *clerkclient.Error, an ErrPatience, or the context's cause.
func Ask(ctx context.Context, caller *call.Caller, question func(ctx context.Context) error) error {
	asking, cancel := context.WithTimeoutCause(ctx, policy.AskPatience, ErrPatience)
	defer cancel()
	var last error // what Clerk said
	for tries := 1; ; {
		err := read(asking, caller, question)
		refusal, answered := errors.AsType[*clerkclient.Error](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case asking.Err() != nil && last != nil:
			return fmt.Errorf("%w: %w", ErrPatience, last)
		case asking.Err() != nil:
			return ErrPatience
		case !answered:
			return err
		}
		last = err
		if refusal.Outcome == clerkclient.Throttled {
			continue // the limiter holds it back
		}
		if refusal.Outcome != clerkclient.Transient || tries == policy.AskTries {
			return err
		}
		_ = clock.Sleep(asking, policy.AskPause<<tries)
		tries++
	}
}

// read makes one call that changes nothing. It also ends when the context does, not only with its permit.
func read(ctx context.Context, caller *call.Caller, ask func(ctx context.Context) error) error {
	_, err := caller.Do(ctx, policy.Read, func(flight context.Context) error {
		flight, cancel := context.WithCancel(flight)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return ask(flight)
	})
	return err
}

// put puts a question by one call, or by as many as it takes.
type put func(ctx context.Context, question func(ctx context.Context) error) error

func onceWith(caller *call.Caller) put {
	return func(ctx context.Context, question func(ctx context.Context) error) error {
		return read(ctx, caller, question)
	}
}

func patiently(caller *call.Caller) put {
	return func(ctx context.Context, question func(ctx context.Context) error) error {
		return Ask(ctx, caller, question)
	}
}
