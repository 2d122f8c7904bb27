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
	probe    bool

	mu    sync.Mutex
	state permitState
}

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

// Done says that the answer has arrived, or that nobody waits for it any more. The window of the call starts now. If
// this call was the probe after a rest, the rest is over for everybody.
func (p *Permit) Done(ctx context.Context) error {
	return p.spend(ctx, 0, Suspension{})
}

// Refuse says that the answer was "too many requests" about one of the limits. The call counts like any other, and
// the limit rests: for retryAfter from now nobody gets a permit of it, in no process. Refuse never shortens a rest.
// After the rest one call goes first, the probe; the others follow when it is done. A negative retryAfter counts as
// zero, and one beyond 366 days as 366 days.
func (p *Permit) Refuse(ctx context.Context, limit string, retryAfter time.Duration) error {
	return p.refuse(ctx, limit, Suspension{First: retryAfter})
}

// Suspension says how a limit rests that is suspended.
type Suspension struct {
	First time.Duration // the first rest; each refusal of a probe doubles it
	Most  time.Duration // the longest
	Calm  time.Duration // for so long calls must have succeeded before a refusal is the first one again
	Why   string        // for people, at most 200 bytes
}

// Suspend is [Permit.Refuse] for an answer that says nothing about how long: nobody is served at present. The rest
// grows from refusal to refusal. Of calls that are refused together only the first one counts.
func (p *Permit) Suspend(ctx context.Context, limit string, s Suspension) error {
	s.Most = max(s.First, s.Most, time.Microsecond)
	return p.refuse(ctx, limit, s)
}

func (p *Permit) refuse(ctx context.Context, limit string, s Suspension) error {
	i, ok := slices.BinarySearch(p.req.names, limit)
	if !ok {
		return fmt.Errorf("ratelimit: this permit holds no place of limit %q, only of: %s", limit,
			strings.Join(p.req.names, ", "))
	}
	s.First, s.Most = min(max(s.First, 0), maxSpan), min(s.Most, maxSpan)
	s.Why = strings.ToValidUTF8(s.Why[:min(len(s.Why), maxWhy)], "")
	return p.spend(ctx, i+1, s)
}

// maxWhy bounds the note of a suspension, in bytes.
const maxWhy = 200

func (p *Permit) spend(ctx context.Context, refused int, s Suspension) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case settled:
		return nil
	case returned:
		return errors.New("ratelimit: the permit was given back before its call was reported")
	}
	p.state = spent
	if p.req.counted || p.probe || refused > 0 {
		args := append([]any{
			p.id, refused, s.First.Microseconds(), s.Most.Microseconds(), s.Calm.Microseconds(), s.Why,
		}, p.req.args...)
		if err := run(ctx, p.limiter.rdb, spendScript, p.req.keys, args...).Err(); err != nil {
			return unavailable("settling a permit of "+strings.Join(p.req.names, ", "), err)
		}
	}
	p.state = settled
	if p.probe {
		p.limiter.wakeAll()
	}
	return nil
}

// Release gives the permit back as if it had never been taken. It is only for a call that sent nothing. After
// Done or Refuse, even a failed one, it does nothing.
func (p *Permit) Release(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held {
		return nil
	}
	if p.req.counted || p.probe {
		if err := run(ctx, p.limiter.rdb, releaseScript, p.req.keys, p.id).Err(); err != nil {
			return unavailable("giving back a permit of "+strings.Join(p.req.names, ", "), err)
		}
	}
	p.state = returned
	p.limiter.wakeAll()
	return nil
}
