package dispatch

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
	"example.com/usher/ratelimit"
)

// errNothingSent is what a call's send returns when it found nothing to send: the permit goes back.
var errNothingSent = errors.New("nothing was sent")

// Observer is told of every call that was answered, and of every look-up.
type Observer interface {
	Called(call policy.Call, outcome clerkclient.Outcome, t Timing)
	LookedUp(took time.Duration, failed bool)
}

// Caller makes calls to Clerk: it waits for a permit, sends, and gives the permit back as the answer says.
type Caller struct {
	Limiter  *ratelimit.Limiter
	Policy   policy.Policy
	Key      string // fingerprint of the key in use
	Gate     *KeyGate
	Flight   context.Context // ends when calls in flight must end
	Observer Observer
	Log      zerolog.Logger

	failing atomic.Bool // the last call brought no answer that means anything, and that was told
}

// Timing is where the time of a call went.
type Timing struct {
	Permit time.Duration // waiting for a permit
	Answer time.Duration // waiting for the answer
}

// Call waits for a permit and sends. The context ends the wait, never a call that is under way: that ends by its own
// deadline, or when the worker's grace does. The error is a *clerkclient.Error, errNothingSent, or the context's.
func (c *Caller) Call(ctx context.Context, call policy.Call, send func(ctx context.Context) error) (Timing, error) {
	return c.callTold(ctx, call, func(time.Time) {}, send)
}

// Probe is Call for a cheap question that finds out whether Clerk takes the key: the gate does not hold it back.
func (c *Caller) Probe(ctx context.Context, ask func(ctx context.Context) error) error {
	wants, own := c.Policy.Wants(policy.Read, c.Key)
	permit, err := c.permit(ctx, func(time.Time) {}, wants)
	if err != nil {
		return err
	}
	_, err = c.make(permit, own, true, ask)
	return err
}

// callTold is Call, and tells what it learns of when the next permit can come free.
func (c *Caller) callTold(ctx context.Context, call policy.Call, told func(next time.Time), send func(ctx context.Context) error) (t Timing, err error) {
	start := time.Now()
	if err := c.Gate.wait(ctx); err != nil {
		return t, err
	}
	wants, own := c.Policy.Wants(call, c.Key)
	permit, err := c.permit(ctx, told, wants)
	for err == nil && !c.Gate.Open() { // it closed while this call waited
		c.giveBack(permit, own, errNothingSent)
		if err = c.Gate.wait(ctx); err == nil {
			permit, err = c.permit(ctx, told, wants)
		}
	}
	t.Permit = time.Since(start)
	if err != nil {
		return t, err
	}
	t.Answer, err = c.make(permit, own, false, send)
	if !errors.Is(err, errNothingSent) {
		c.observe(call, t, err)
	}
	return t, err
}

// make makes the call that a permit is for.
func (c *Caller) make(permit *ratelimit.Permit, own string, probe bool, send func(ctx context.Context) error) (took time.Duration, err error) {
	flight, cancel := context.WithDeadline(c.Flight, permit.Deadline())
	defer cancel()
	sent := time.Now()
	err = send(flight)
	took = time.Since(sent)
	switch outcome := clerkclient.OutcomeOf(err); {
	case errors.Is(err, errNothingSent), outcome == clerkclient.Transient: // says nothing about the key
	default:
		c.Gate.answered(outcome != clerkclient.Unauthorized, probe)
	}
	c.giveBack(permit, own, err)
	return took, err
}

// permit asks until it has one. While Redis cannot answer nobody gets a permit, and the waiting goes on.
func (c *Caller) permit(ctx context.Context, told func(next time.Time), wants []ratelimit.Want) (*ratelimit.Permit, error) {
	for {
		permit, err := c.Limiter.AcquireTold(ctx, c.Policy.Timeout, told, wants...)
		if err == nil || ctx.Err() != nil {
			return permit, err
		}
		c.Log.Warn().Err(err).Msg("no permit: Redis cannot answer")
		if err := clock.Sleep(ctx, policy.RedisRest); err != nil {
			return nil, err
		}
	}
}

// giveBack tells the limiter what became of a permit. If that fails, the place counts until the call's deadline and a
// window have passed, which is safe.
func (c *Caller) giveBack(permit *ratelimit.Permit, own string, answer error) {
	ctx, cancel := context.WithTimeout(context.Background(), policy.SettleGrace)
	defer cancel()
	var err error
	refusal, refused := errors.AsType[*clerkclient.Error](answer)
	switch {
	case errors.Is(answer, errNothingSent) || refused && !refusal.Sent:
		err = permit.Release(ctx)
	case refused && refusal.Outcome == clerkclient.Throttled:
		err = permit.Refuse(ctx, own, c.Policy.RestAfter429(own, refusal.RetryAfter))
	case refused && refusal.Outcome == clerkclient.Unauthorized:
		err = permit.Refuse(ctx, policy.KeyLimit(c.Key), c.Gate.rest())
	default:
		err = permit.Done(ctx)
	}
	if err != nil {
		c.Log.Warn().Err(err).Msg("permit could not be given back; it counts until its deadline")
	}
}

func (c *Caller) observe(call policy.Call, t Timing, err error) {
	outcome, status, code := clerkclient.OutcomeOf(err), 0, ""
	if refusal, refused := errors.AsType[*clerkclient.Error](err); refused {
		status, code = refusal.Status, refusal.Code
	}
	c.Observer.Called(call, outcome, t)
	if failed := outcome == clerkclient.Transient; c.failing.CompareAndSwap(!failed, failed) {
		c.tell(failed, status, code)
	}
	level := zerolog.DebugLevel
	if outcome == clerkclient.Throttled || outcome == clerkclient.Unauthorized {
		level = zerolog.WarnLevel
	}
	c.Log.WithLevel(level).Str("call", string(call)).Str("outcome", string(outcome)).Int("status", status).Str("code", code).
		Float64("wait_seconds", t.Permit.Seconds()).Float64("duration_seconds", t.Answer.Seconds()).Msg("call answered")
}

// tell tells operators when calls begin to fail, and when they succeed again, and not of each.
func (c *Caller) tell(failed bool, status int, code string) {
	if !failed {
		c.Log.Info().Msg("calls to Clerk are answered again")
		return
	}
	c.Log.Warn().Int("status", status).Str("code", code).Msg("a call to Clerk failed; those that fail are tried again")
}
