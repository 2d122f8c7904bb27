// Package call makes calls to Clerk, one at a time: it waits for a permit, sends, and gives the permit back as the
// answer says. While Clerk refuses the key it holds calls back.
package call

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/ratelimit"
)

// ErrNothingSent is the end of a call that found nothing to send. Its permit goes back unused.
var ErrNothingSent = errors.New("nothing was sent")

// FailureOf gives Clerk's refusal as it is kept.
func FailureOf(e *clerkclient.Error) fate.Failure {
	return fate.Failure{HTTPStatus: e.Status, Code: e.Code, Message: e.Message, TraceID: e.TraceID}
}

// Observer is told of every call that was answered.
type Observer interface {
	Called(kind policy.Call, outcome clerkclient.Outcome, t Timing)
}

// HeldBack tells whether an outcome means that nothing is wrong with a request: the limiter holds its like back
// until a call may succeed.
func HeldBack(outcome clerkclient.Outcome) bool {
	return outcome == clerkclient.Throttled || outcome == clerkclient.Unavailable ||
		outcome == clerkclient.Unauthorized
}

// Timing is where the time of a call went.
type Timing struct {
	Permit time.Duration // waiting for a permit
	Answer time.Duration // waiting for the answer
}

// Caller makes calls to Clerk with one key.
type Caller struct {
	Limiter  *ratelimit.Limiter
	Policy   policy.Policy
	Key      string // fingerprint of the key
	Gate     *KeyGate
	Restored *Gate           // holds back all calls but reads while Redis was restored and work rests; may be nil
	Life     context.Context // ends when calls under way must end
	Observer Observer
	Log      zerolog.Logger

	failing atomic.Bool // the last call failed, and the log says so
}

// Do makes one call: it waits for a permit, sends, and gives the permit back. ctx ends the wait, but never a call
// that is under way: that ends at its deadline, or when the Caller's Life does. The error is what send returned, or
// ctx's.
func (c *Caller) Do(ctx context.Context, kind policy.Call, send func(ctx context.Context) error) (Timing, error) {
	start := time.Now()
	flight, err := c.Begin(ctx, kind, func(time.Time) {})
	if err != nil {
		return Timing{Permit: time.Since(start)}, err
	}
	return flight.do(send)
}

// CheckKey makes a cheap call that finds out whether Clerk takes the key. The gate does not hold it back.
func (c *Caller) CheckKey(ctx context.Context, ask func(ctx context.Context) error) error {
	flight, err := c.permitted(ctx, policy.Read, func(time.Time) {})
	if err != nil {
		return err
	}
	flight.checksKey = true
	_, err = flight.do(ask)
	return err
}

// Begin waits for a permit to make a call of a kind. Meanwhile it tells when the next permit can come free. The caller
// must end the flight with Land.
func (c *Caller) Begin(ctx context.Context, kind policy.Call, told func(next time.Time)) (*Flight, error) {
	start := time.Now()
	for {
		if err := c.waitForGates(ctx, kind); err != nil {
			return nil, err
		}
		flight, err := c.permitted(ctx, kind, told)
		if err != nil {
			return nil, err
		}
		if c.Gate.Open() && !c.HeldByRestore(kind) {
			flight.timing.Permit = time.Since(start)
			return flight, nil
		}
		flight.Land(ErrNothingSent) // a gate closed while it waited
	}
}

// HeldByRestore tells whether calls of a kind wait because Redis was restored from a copy.
func (c *Caller) HeldByRestore(kind policy.Call) bool {
	return c.Restored != nil && kind != policy.Read && !c.Restored.Open()
}

func (c *Caller) waitForGates(ctx context.Context, kind policy.Call) error {
	if c.HeldByRestore(kind) {
		if err := c.Restored.wait(ctx); err != nil {
			return err
		}
	}
	return c.Gate.wait(ctx)
}

// permitted asks until it has a permit. While Redis cannot answer nobody gets one, and it asks again.
func (c *Caller) permitted(ctx context.Context, kind policy.Call, told func(next time.Time)) (*Flight, error) {
	wants, own := c.Policy.Wants(kind, c.Key)
	for {
		permit, err := c.Limiter.AcquireTold(ctx, c.Policy.Timeout, told, wants...)
		if err == nil {
			f := &Flight{c: c, kind: kind, own: own, permit: permit, began: time.Now()}
			f.ctx, f.cancel = context.WithDeadline(c.Life, permit.Deadline())
			return f, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		c.Log.Warn().Err(err).Msg("no permit: Redis cannot answer")
		if err := policy.Sleep(ctx, policy.RedisRest); err != nil {
			return nil, err
		}
	}
}

// Flight is a call that has its permit, from then until its answer.
type Flight struct {
	c         *Caller
	kind      policy.Call
	own       string // the limit that a 429 is about
	permit    *ratelimit.Permit
	checksKey bool
	ctx       context.Context
	cancel    context.CancelFunc
	began     time.Time
	timing    Timing
	who       Party
	landed    bool
	// suspended means that calls of the kind rest because of this one.
	suspended bool
}

// Party is whom a call is for.
type Party struct {
	ID      string // empty if it does not matter
	Options string // which options its request has
	Several bool   // it is one of several that share the call
	Again   bool   // Clerk has refused it before, and nobody knows for whose sake
}

// party names whom a call is for as the limiter knows it.
func (p Party) party() string {
	if p.ID == "" {
		return ""
	}
	return p.ID + partySeparator + p.Options
}

// Carries says whom the call is for.
func (f *Flight) Carries(who Party) { f.who = who }

// Probes tells whether the call goes first after a time in which nobody was served.
func (f *Flight) Probes() bool { return f.permit.Probes() }

// Suspect gives the options of the request that failed last, if the call goes first to find out for whose sake it did.
func (f *Flight) Suspect() string {
	_, options, _ := strings.Cut(f.permit.Suspect(), partySeparator)
	return options
}

// partySeparator parts a recipient from its options.
const partySeparator = "/"

// Context ends when the call must end: at the permit's deadline, or with the Caller's Life.
func (f *Flight) Context() context.Context { return f.ctx }

// Deadline is the permit's. The call must have ended by then.
func (f *Flight) Deadline() time.Time { return f.permit.Deadline() }

// Land ends the flight: it gives the permit back as the answer says. An error that is not a *clerkclient.Error nor
// ErrNothingSent counts as an answer that was lost. Only the first Land counts.
func (f *Flight) Land(answer error) Timing {
	if f.landed {
		return f.timing
	}
	f.landed = true
	f.cancel()
	f.timing.Answer = time.Since(f.began)
	if outcome := clerkclient.OutcomeOf(answer); outcome != clerkclient.Transient { // that says nothing about the key
		refusal, _ := errors.AsType[*clerkclient.Error](answer)
		if outcome != clerkclient.Unauthorized {
			refusal = nil
		}
		f.c.Gate.answered(refusal)
	}
	f.giveBack(answer)
	if !f.checksKey && !errors.Is(answer, ErrNothingSent) {
		f.c.observe(f.kind, f.timing, answer)
	}
	return f.timing
}

// do sends and lands, also when send panics. A failure that lets calls rest is nobody's: it is Unavailable.
func (f *Flight) do(send func(ctx context.Context) error) (Timing, error) {
	defer f.Land(ErrPanicked) // the permit counts as used, because the call may have been sent
	err := send(f.ctx)
	timing := f.Land(err)
	refusal, refused := errors.AsType[*clerkclient.Error](err)
	if refused && refusal.Outcome == clerkclient.Transient && f.suspended {
		nobodys := *refusal
		nobodys.Outcome = clerkclient.Unavailable
		err = &nobodys
	}
	return timing, err
}

// giveBack tells the limiter what became of the permit. If that fails, the place counts until the call's deadline and
// a window have passed, which is safe.
func (f *Flight) giveBack(answer error) {
	ctx, cancel := context.WithTimeout(context.Background(), policy.SettleGrace)
	defer cancel()
	rest := policy.RestOf(f.kind)
	refusal, refused := errors.AsType[*clerkclient.Error](answer)
	var refusals int // in a row
	var ended bool
	var err error
	switch {
	case answer == nil:
		ended, err = f.permit.Succeed(ctx, rest, ratelimit.Breaker{
			Parties: 2, Few: policy.OutageFew, Many: policy.BreakerMany, Age: policy.BreakerAge,
		})
	case errors.Is(answer, ErrNothingSent):
		err = f.permit.Release(ctx)
	case !refused: // the fault is ours
		err = f.permit.Done(ctx)
	case refusal.Outcome == clerkclient.Throttled:
		err = f.permit.Refuse(ctx, f.own, f.c.Policy.RestAfter429(f.own, refusal.RetryAfter))
	case refusal.Outcome == clerkclient.Unavailable:
		if refusal.Reach == clerkclient.ReachWrites {
			rest = policy.RestWrites
		}
		refusals, err = f.permit.Suspend(ctx, rest, f.suspension(refusal))
	case refusal.Outcome == clerkclient.Unauthorized:
		rest = policy.KeyLimit(f.c.Key)
		s := f.suspension(refusal)
		s.First, s.Most = policy.KeyRest, policy.KeyRestMax
		refusals, err = f.permit.Suspend(ctx, rest, s)
	case refusal.Code == clerkclient.CodeCanceled && refusal.Sent: // we gave up; Clerk did nothing wrong
		err = f.permit.Done(ctx)
	case refusal.Outcome == clerkclient.Transient, f.isEvidence(refusal):
		refusals, err = f.permit.Fail(ctx, rest, f.failure(refusal))
	case refusal.Reach == clerkclient.ReachInstance:
		err = f.permit.Refuse(ctx, rest, oneByOne)
	case refusal.Sent:
		err = f.permit.Done(ctx)
	default:
		err = f.permit.Release(ctx)
	}
	if err != nil {
		f.c.Log.Warn().Err(err).Msg("permit could not be given back; it counts until its deadline")
	}
	f.suspended = refusals != 0
	f.c.logRest(rest, refusal, refusals, ended)
}

// oneByOne is a rest that ends at once: then one call goes first.
const oneByOne = time.Microsecond

// isEvidence tells whether a refusal may be about everybody. A call that carries several says little: any of them may
// be the cause. So does a recipient that was refused before, if no table knows why; but its call does not end a rest.
func (f *Flight) isEvidence(refusal *clerkclient.Error) bool {
	switch {
	case refusal.Outcome != clerkclient.Rejected || f.who.Several:
		return false
	case refusal.Reach == clerkclient.ReachUnknown:
		return !f.who.Again || f.Probes()
	}
	return refusal.Reach == clerkclient.ReachInstance
}

// failure says what a call that failed tells of all of its kind. Refusals about the instance are believed when a
// second recipient gets one, or the same one again although nobody was taken lately; until then calls go one by one.
func (f *Flight) failure(refusal *clerkclient.Error) ratelimit.Failure {
	failure := ratelimit.Failure{
		Party: f.who.party(), Unsent: !refusal.Sent, Suspension: f.suspension(refusal),
		Breaker: ratelimit.Breaker{
			Parties: 2, Few: policy.BreakerFew, Many: policy.BreakerMany, Age: policy.BreakerAge,
		},
	}
	switch {
	case refusal.Reach == clerkclient.ReachInstance:
		failure.Breaker = ratelimit.Breaker{Parties: 2, Quiet: fate.ServedLately, Few: 2, Many: 2}
		failure.Asked = oneByOne
	case refusal.Reach == clerkclient.ReachUnknown:
		failure.Most = policy.UnknownMost
	case refusal.Status == http.StatusServiceUnavailable && !refusal.NotClerk:
		failure.Asked = min(refusal.RetryAfter, policy.UnavailableAsked)
	}
	return failure
}

// suspension says how calls rest that a refusal is about: for as long as Clerk asks, or longer each time.
func (f *Flight) suspension(refusal *clerkclient.Error) ratelimit.Suspension {
	why := strings.TrimSpace(fmt.Sprintf("%d %s", refusal.Status, refusal.Code))
	switch {
	case refusal.Status == 0:
		why = refusal.Code
	case refusal.NotClerk:
		why += policy.NotClerk
	}
	if refusal.TraceID != "" {
		why += " (trace " + refusal.TraceID + ")"
	}
	s := ratelimit.Suspension{
		First: policy.SuspendFirst, Most: policy.SuspendMost, Calm: policy.SuspendCalm,
		Why: why, Took: f.timing.Answer,
	}
	if refusal.Outcome == clerkclient.Unavailable && refusal.RetryAfter > 0 {
		s.First = min(refusal.RetryAfter, policy.SuspendAsked)
	}
	return s
}

// logRest writes when calls begin to rest, and when they go on.
func (c *Caller) logRest(limit string, refusal *clerkclient.Error, refusals int, ended bool) {
	calls := policy.CallsOf(limit)
	switch {
	case refusals == 1 && refusal != nil:
		c.Log.Warn().Str("calls", calls).Int("status", refusal.Status).Str("code", refusal.Code).
			Str("trace_id", refusal.TraceID).Msg("calls rest: Clerk serves nobody; one call now and then asks")
	case ended:
		c.Log.Info().Str("calls", calls).Msg("calls go on: Clerk serves them again")
	}
}

// observe tells the observer and the log of an answer.
func (c *Caller) observe(kind policy.Call, t Timing, answer error) {
	outcome, status, code := clerkclient.OutcomeOf(answer), 0, ""
	if refusal, refused := errors.AsType[*clerkclient.Error](answer); refused {
		status, code = refusal.Status, refusal.Code
	}
	c.Observer.Called(kind, outcome, t)
	failed := outcome == clerkclient.Transient
	switch changed := c.failing.CompareAndSwap(!failed, failed); {
	case changed && failed:
		c.Log.Warn().Int("status", status).Str("code", code).
			Msg("a call to Clerk failed; those that fail are tried again")
	case changed:
		c.Log.Info().Msg("calls to Clerk are answered again")
	}
	level := zerolog.DebugLevel
	if HeldBack(outcome) {
		level = zerolog.WarnLevel
	}
	c.Log.WithLevel(level).Str("call", string(kind)).Str("outcome", string(outcome)).
		Int("status", status).Str("code", code).
		Float64("wait_seconds", t.Permit.Seconds()).Float64("duration_seconds", t.Answer.Seconds()).
		Msg("call answered")
}
