package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Permit is the right to make one call. Exactly one of Done, Refuse and Release settles it. After that the others do
// nothing, so a deferred Release is safe. One that failed may be called again.
//
// All three report what has already happened, so they are carried out even if ctx is cancelled (within seconds). If
// they fail with [ErrUnavailable], the place counts until the deadline plus a window.
type Permit struct {
	limiter  *Limiter
	id       string
	req      *request
	deadline time.Time
	probe    probing
	suspect  string

	mu    sync.Mutex
	state permitState
}

// probing says what a call that goes first finds out.
type probing int

const (
	probesNothing probing = iota // it does not go first
	probesLimit                  // whether a limit is kept again
	probesService                // whether calls are served that failed
)

type permitState int

const (
	held     permitState = iota
	spent                // the caller has said so, but Redis may not know yet
	settled              // Redis knows that it is spent
	returned             // given back
)

// Deadline is the instant, on this process's monotonic clock, after which nothing of the call may be sent. It is also
// the last instant to wait for the answer: use it as the deadline of the HTTP request.
func (p *Permit) Deadline() time.Time { return p.deadline }

// Probes tells whether this call goes first after others have failed (see [Permit.Fail] and [Permit.Suspend]), to find
// out whether calls are served.
func (p *Permit) Probes() bool { return p.probe == probesService }

// Suspect is whose call failed last ([Failure.Party]), if this call goes first and the limit is not suspended: a call
// for somebody else tells whether the fault is that one's. Otherwise it is empty.
func (p *Permit) Suspect() string { return p.suspect }

// Done says that the answer has arrived, or that nobody waits for it any more. The window of the call starts now. If
// this call was the probe after a rest, the rest is over for everybody.
func (p *Permit) Done(ctx context.Context) error {
	_, err := p.spend(ctx, spending{what: "done"})
	return err
}

// Succeed is [Permit.Done] for a call that succeeded: failures of calls of the limit before it say nothing about
// those after it. If they were as many as b says, they count as an outage although the limit was not suspended.
// Succeed tells whether this call ended a suspension.
func (p *Permit) Succeed(ctx context.Context, limit string, b Breaker) (ended bool, err error) {
	n, err := p.spend(ctx, spending{what: "succeeded", limit: limit, Failure: Failure{Breaker: b}})
	return n > 0, err
}

// Refuse says that the answer was "too many requests" about one of the limits. The call counts like any other, and
// the limit rests: for retryAfter from now nobody gets a permit of it, in no process. Refuse never shortens a rest.
// After the rest one call goes first, the probe; the others follow when it is done. A negative retryAfter counts as
// zero, and one beyond 366 days as 366 days.
func (p *Permit) Refuse(ctx context.Context, limit string, retryAfter time.Duration) error {
	var s spending
	s.what, s.limit, s.First = "refused", limit, retryAfter
	_, err := p.spend(ctx, s)
	return err
}

// Suspension says how a limit rests that is suspended.
type Suspension struct {
	First time.Duration // the first rest; each refusal of a probe doubles it
	Most  time.Duration // the longest
	Calm  time.Duration // for so long calls must have succeeded before a refusal is the first one again
	Why   string        // for people, at most 200 bytes
	Took  time.Duration // how long ago the call began
}

// Suspend is [Permit.Refuse] for an answer that says nothing about how long: nobody is served at present. The rest
// grows from refusal to refusal, and Suspend tells how many there were in a row. Of calls that are refused together
// only the first one counts; the others are told a negative number.
func (p *Permit) Suspend(ctx context.Context, limit string, s Suspension) (refusals int, err error) {
	s.Most = max(s.First, s.Most, time.Microsecond)
	return p.spend(ctx, spending{what: "refused", limit: limit, Failure: Failure{Suspension: s}})
}

// Failure is one of a call of which nobody can tell yet whether it is the call's own, or everybody's.
type Failure struct {
	Party  string        // whose call it was, at most 64 bytes; empty if all calls are alike
	Unsent bool          // nothing was sent: the call does not count
	Asked  time.Duration // the limit rests for so long, whatever else comes of it; 0: it does not
	Breaker
	Suspension
}

// Breaker says how many failures in a row are everybody's.
type Breaker struct {
	Parties int           // they are of so many parties: 1 or 2
	Quiet   time.Duration // one that fails again counts as two if nothing has succeeded for so long; 0: never
	Few     int           // there are so many,
	Many    int           // and so many
	Age     time.Duration // or the call of the first one began so long ago
}

// Fail is [Permit.Done] for a call that failed. If enough have failed since one succeeded (see [Permit.Succeed]) the
// limit is suspended; so it is if the probe failed. Fail tells what [Permit.Suspend] does, or 0 if it is not.
func (p *Permit) Fail(ctx context.Context, limit string, f Failure) (refusals int, err error) {
	s := spending{what: "failed", limit: limit, Failure: f}
	if f.Unsent {
		s.what = "unsent"
	}
	return p.spend(ctx, s)
}

const (
	maxWhy   = 200 // of a suspension, in bytes
	maxParty = 64  // in bytes
)

// spending is what the answer to a call says of a limit.
type spending struct {
	what  string // as spend.lua takes it
	limit string // that it is about; empty: it says nothing
	Failure
}

// args gives it as the script takes it.
func (s spending) args(about int) []any {
	micros := func(d time.Duration) int64 { return min(max(d, 0), maxSpan).Microseconds() }
	return []any{
		about, s.what, micros(s.First), micros(s.Most), micros(s.Calm),
		strings.ToValidUTF8(s.Why[:min(len(s.Why), maxWhy)], ""),
		micros(s.Took), s.Party[:min(len(s.Party), maxParty)], micros(s.Asked), s.Parties, micros(s.Quiet),
		s.Few, s.Many, micros(s.Age),
	}
}

func (p *Permit) spend(ctx context.Context, s spending) (answer int, err error) {
	about := 0
	if s.limit != "" {
		i, ok := slices.BinarySearch(p.req.names, s.limit)
		if !ok {
			return 0, fmt.Errorf("ratelimit: this permit holds no place of limit %q, only of: %s", s.limit,
				strings.Join(p.req.names, ", "))
		}
		about = i + 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case settled:
		return 0, nil
	case returned:
		return 0, errors.New("ratelimit: the permit was given back before its call was reported")
	}
	p.state = spent
	tell := func() (int, error) {
		args := append(append([]any{p.id}, s.args(about)...), p.req.args...)
		keys := append(slices.Clone(p.req.keys), toldKey(p.limiter.prefix, p.id))
		return run(ctx, p.limiter.rdb, spendScript, keys, args...).Int()
	}
	switch plain := !p.req.counted && p.probe == probesNothing; {
	case plain && s.what == "succeeded": // it is as good as any other that has succeeded by now
		answer, err = p.limiter.success(p.req.queue + " " + s.limit).do(tell)
	case !plain || s.what != "done":
		answer, err = tell()
	}
	if err != nil {
		return 0, unavailable("settling a permit of "+strings.Join(p.req.names, ", "), err)
	}
	p.state = settled
	if p.probe != probesNothing || s.what == "unsent" {
		p.limiter.wakeAll()
	}
	return answer, nil
}

// Release gives the permit back as if it had never been taken. It is only for a call that sent nothing. After
// Done or Refuse, even a failed one, it does nothing.
func (p *Permit) Release(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held {
		return nil
	}
	if p.req.counted || p.probe != probesNothing {
		if err := run(ctx, p.limiter.rdb, releaseScript, p.req.keys, p.id).Err(); err != nil {
			return unavailable("giving back a permit of "+strings.Join(p.req.names, ", "), err)
		}
	}
	p.state = returned
	p.limiter.wakeAll()
	return nil
}
