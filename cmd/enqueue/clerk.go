package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/ratelimit"
)

// errKeyRefused ends what is asked: the workers' calls rest now too.
var errKeyRefused = errors.New("the secret key (CLERK_SECRET_KEY) is refused by Clerk")

// asker asks Clerk what changes nothing, within the limits of the workers.
type asker struct {
	ctx       context.Context // ends with the command, and when Clerk refuses the key
	clerk     *clerkclient.Client
	caller    *call.Caller
	questions *ask.Questions
	end       context.CancelCauseFunc
}

// asker gives a way to ask Clerk; nil if no key is set. A key of another kind than the namespace's is refused, as workers do.
func (a *app) asker(flags settings.Clerk) (*asker, error) {
	if a.sandbox {
		flags.UseSandbox()
	}
	if !flags.HasKey() {
		return nil, nil
	}
	key, kind, err := flags.Key()
	if err != nil {
		return nil, err
	}
	url, err := flags.APIURL()
	if err != nil {
		return nil, err
	}
	p, err := a.policyFor(kind)
	if err != nil {
		return nil, err
	}
	clerk, err := clerkclient.New(clerkclient.Config{Key: key, BaseURL: url, Version: settings.Version(), Timeout: p.Timeout})
	if err != nil {
		return nil, &settings.Error{Name: "CLERK_API_URL", Got: settings.Show(url), Want: err.Error()}
	}
	limiter, err := ratelimit.New(a.rdb, a.namespace, p.Limits(clerk.KeyFingerprint())...)
	if err != nil {
		return nil, err
	}
	q := &asker{clerk: clerk}
	q.ctx, q.end = context.WithCancelCause(a.ctx)
	q.caller = &call.Caller{
		Limiter: limiter, Policy: p, Key: clerk.KeyFingerprint(), Gate: call.NewKeyGate(), Life: q.ctx,
		Observer: unobserved{}, Log: zerolog.Nop(),
	}
	q.questions = ask.New(clerk, ask.Patiently(q.caller), nil, zerolog.Nop())
	go func() {
		select {
		case <-q.caller.Gate.Refused():
			q.end(errKeyRefused)
		case <-q.ctx.Done():
		}
	}()
	return q, nil
}

// policyFor gives the limits by which the workers send; if none was ever started, those of one that is told nothing.
func (a *app) policyFor(kind string) (policy.Policy, error) {
	bound, err := a.rdb.Get(a.ctx, store.Keys(a.namespace).KeyKind()).Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return policy.Policy{}, fmt.Errorf("reading which key the namespace belongs to: %w", err)
	case err == nil && bound != kind:
		return policy.Policy{}, &usageError{policy.OtherKind(a.namespace, bound, kind)}
	}
	p, known, err := policy.Announced(a.ctx, a.rdb, a.namespace)
	if err == nil && !known {
		p = policy.Default(kind)
	}
	return p, err
}

// why is the cause of a failure: what ended the asking comes before what came of that.
func (q *asker) why(err error) error {
	if refusal, ok := errors.AsType[*clerkclient.Error](err); ok && refusal.Outcome == clerkclient.Unauthorized {
		return errKeyRefused
	}
	if err != nil && q.ctx.Err() != nil {
		return context.Cause(q.ctx)
	}
	return err
}

func (q *asker) close() {
	q.end(nil)
	q.clerk.Close()
}

// unobserved keeps a command's few calls out of the workers' figures.
type unobserved struct{}

func (unobserved) Called(policy.Call, clerkclient.Outcome, call.Timing) {}
