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

// Permit is the right to make one call. Exactly one of Done, Refuse and Release settles it; after that the others
// do nothing, so that a deferred Release is safe. One that failed may be called again.
//
// All three tell what has happened already, so they are carried out even when ctx is cancelled (within seconds). When they
// fail with [ErrUnavailable] the place counts until the deadline plus a window.
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
	spent                // told to be so, but Redis may not know yet
	settled              // Redis knows that it is spent
	returned             // given back
)

// Deadline is the instant, on this process's monotonic clock, after which nothing of the call may be written to the
// wire any more. It is also the last instant to wait for the answer: use it as the deadline of the HTTP request.
func (p *Permit) Deadline() time.Time { return p.deadline }

// Done tells that the answer has arrived, or that none is waited for any more: the window of the call starts now. If
// this call was the probe after a not-before, everybody may go on.
func (p *Permit) Done(ctx context.Context) error {
	return p.spend(ctx, 0, 0)
}

// Refuse tells that the answer was "too many". The call counts like any other, and for retryAfter from now nobody is
// given a permit of that limit, in no process; a later not-before is never shortened. After it one call goes first, the
// probe, and the others follow when it is done. A negative retryAfter counts as none, one beyond 366 days as that.
func (p *Permit) Refuse(ctx context.Context, limit string, retryAfter time.Duration) error {
	i, ok := slices.BinarySearch(p.req.names, limit)
	if !ok {
		return fmt.Errorf("ratelimit: this permit holds no place of limit %q, only of: %s", limit,
			strings.Join(p.req.names, ", "))
	}
	return p.spend(ctx, i+1, min(max(retryAfter, 0), maxSpan))
}

func (p *Permit) spend(ctx context.Context, refused int, retryAfter time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case settled:
		return nil
	case returned:
		return errors.New("ratelimit: the permit was given back before its call was told to be made")
	}
	p.state = spent
	if p.req.counted || p.probe || refused > 0 {
		args := append([]any{p.id, refused, retryAfter.Microseconds()}, p.req.args...)
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

// Release gives the permit back as if it had never been taken. Only for a call of which nothing was written to the
// wire. After Done or Refuse were called, even in vain, it does nothing.
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
