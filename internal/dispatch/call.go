package worker

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/ratelimit"
)

// errNothingSent is what a call's send returns when it found nothing to send: the permit goes back.
var errNothingSent = errors.New("nothing was sent")

// caller makes calls to Clerk: it waits for a permit, sends, and gives the permit back as the answer says.
type caller struct {
	limiter *ratelimit.Limiter
	policy  Policy
	key     string          // fingerprint of the key in use
	flight  context.Context // ends when calls in flight must end
	health  *Health
	metrics *Metrics
	log     zerolog.Logger
}

// timing is where the time of a call went.
type timing struct {
	waited time.Duration // for a permit
	took   time.Duration // for the answer
}

// call waits for a permit and sends. The context ends the wait, never a call that is under way: that ends by its own
// deadline, or when the worker's grace does. The error is a *clerkclient.Error, errNothingSent, or the context's.
func (c *caller) call(ctx context.Context, e endpoint, send func(ctx context.Context, deadline time.Time) error) (timing, error) {
	start := time.Now()
	wants, own := c.policy.wants(e, c.key)
	permit, err := c.permit(ctx, wants)
	t := timing{waited: time.Since(start)}
	if err != nil {
		return t, err
	}
	flight, cancel := context.WithDeadline(c.flight, permit.Deadline())
	defer cancel()
	sent := time.Now()
	err = send(flight, permit.Deadline())
	t.took = time.Since(sent)
	c.giveBack(permit, own, err)
	if !errors.Is(err, errNothingSent) {
		c.observe(e, t, err)
	}
	return t, err
}

// permit asks until it has one. While Redis cannot answer nobody gets a permit, and the waiting goes on.
func (c *caller) permit(ctx context.Context, wants []ratelimit.Want) (*ratelimit.Permit, error) {
	for {
		permit, err := c.limiter.Acquire(ctx, c.policy.Timeout, wants...)
		if err == nil || ctx.Err() != nil {
			return permit, err
		}
		c.log.Warn().Err(err).Msg("no permit: Redis cannot answer")
		if err := sleep(ctx, redisRest); err != nil {
			return nil, err
		}
	}
}

// giveBack tells the limiter what became of a permit. If that fails, the place counts until the call's deadline and a
// window have passed, which is safe.
func (c *caller) giveBack(permit *ratelimit.Permit, own string, answer error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleGrace)
	defer cancel()
	var err error
	refusal, refused := errors.AsType[*clerkclient.Error](answer)
	switch {
	case errors.Is(answer, errNothingSent) || refused && !refusal.Sent:
		err = permit.Release(ctx)
	case refused && refusal.Outcome == clerkclient.Throttled:
		err = permit.Refuse(ctx, own, c.policy.restAfter429(own, refusal.RetryAfter))
	case refused && refusal.Outcome == clerkclient.Unauthorized:
		err = permit.Refuse(ctx, keyLimit(c.key), keyRest)
	default:
		err = permit.Done(ctx)
	}
	if err != nil {
		c.log.Warn().Err(err).Msg("permit could not be given back; it counts until its deadline")
	}
}

func (c *caller) observe(e endpoint, t timing, err error) {
	outcome, status, code := clerkclient.Created, 0, ""
	if refusal, refused := errors.AsType[*clerkclient.Error](err); refused {
		outcome, status, code = refusal.Outcome, refusal.Status, refusal.Code
	} else if err != nil {
		outcome = clerkclient.Transient
	}
	if status != 0 || err == nil {
		c.health.keyAnswered(outcome != clerkclient.Unauthorized)
	}
	c.metrics.called(e, outcome, t)
	level := zerolog.DebugLevel
	if outcome == clerkclient.Throttled || outcome == clerkclient.Unauthorized {
		level = zerolog.WarnLevel
	}
	c.log.WithLevel(level).Str("call", string(e)).Str("outcome", string(outcome)).Int("status", status).Str("code", code).
		Float64("wait_seconds", t.waited.Seconds()).Float64("duration_seconds", t.took.Seconds()).Msg("call answered")
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
