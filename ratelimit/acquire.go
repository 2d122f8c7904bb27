package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// line is where the goroutines of one process that want the same thing wait, first come first served. Only the one
// whose turn it is asks Redis; what it learns serves those behind it.
type line struct {
	turn chan struct{} // holds one token while somebody asks or sleeps; blocked senders are served in order
	wake chan struct{} // a place was given back in this process: do not sleep on

	// Guarded by the turn.
	next     time.Time // asking before this instant is in vain
	open     time.Time // when a question was put to which the answer was that nothing is counted and no gate is closed
	failure  error     // the last failure to ask Redis, which those who stood in line at failedAt share
	failedAt time.Time

	waiting int // guarded by Limiter.mu
}

// Acquire waits until there is a place in every limit wanted, takes all of them at once and returns the permit to make
// one call before [Permit.Deadline], which is hold after it was taken. Settle every permit, with one of Done, Refuse and
// Release; one that is forgotten counts until its deadline plus a window.
//
// Goroutines that want the same are served in order, across processes by chance. A cancelled ctx ends the wait with
// ctx's error and takes nothing. When Redis cannot answer the error is [ErrUnavailable], for all who wait.
func (l *Limiter) Acquire(ctx context.Context, hold time.Duration, wants ...Want) (*Permit, error) {
	return l.AcquireTold(ctx, hold, func(time.Time) {}, wants...)
}

// AcquireTold is [Limiter.Acquire], and tells after every answer before which instant asking for another is in vain; one in
// the past says nothing. So the caller can look for another way meanwhile. One who waits behind others of the same process
// is not told. told must not block.
func (l *Limiter) AcquireTold(ctx context.Context, hold time.Duration, told func(next time.Time), wants ...Want) (*Permit, error) {
	req, err := l.request(wants)
	if err == nil {
		err = checkHold(hold)
	}
	if err != nil {
		return nil, err
	}
	ln := l.join(req.line)
	defer l.leave(req.line, ln)

	joined := l.now()
	select {
	case ln.turn <- struct{}{}:
		defer func() { <-ln.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ln.failure != nil && !joined.After(ln.failedAt) {
		return nil, ln.failure
	}
	if joined.Before(ln.open) && ctx.Err() == nil { // the same question, put after this one joined, has been answered
		return &Permit{limiter: l, id: rand.Text(), req: req, deadline: l.now().Add(hold)}, nil
	}
	for {
		wait := ln.next.Sub(l.now())
		if wait > 0 {
			told(ln.next)
		}
		if err := ln.sleep(ctx, wait); err != nil {
			return nil, err
		}
		asked := l.now()
		permit, wait, err := l.ask(ctx, hold, req)
		now := l.now()
		if permit != nil && wait == 0 && !req.counted && !permit.probe {
			ln.open = asked
		}
		ln.next = now.Add(wait)
		if errors.Is(err, ErrUnavailable) {
			ln.failure, ln.failedAt = err, now
		}
		if err != nil || permit != nil {
			if permit != nil {
				told(ln.next)
			}
			return permit, err
		}
	}
}

// Try is [Limiter.Acquire] without waiting: one script, past those who wait. Without a place the permit is nil, and wait
// is the time until one can come free; while a probe is under way (see [Permit.Refuse]) that is a guess.
func (l *Limiter) Try(ctx context.Context, hold time.Duration, wants ...Want) (p *Permit, wait time.Duration, err error) {
	req, err := l.request(wants)
	if err == nil {
		err = checkHold(hold)
	}
	if err != nil {
		return nil, 0, err
	}
	p, wait, err = l.ask(ctx, hold, req)
	if p != nil {
		wait = 0
	}
	return p, wait, err
}

func checkHold(hold time.Duration) error {
	if hold < time.Microsecond || hold > maxSpan {
		return fmt.Errorf("ratelimit: hold is %v, want a microsecond to %v", hold, maxSpan)
	}
	return nil
}

// ask runs the acquire script once. The wait is what the next to ask for the same should wait, after a grant too.
func (l *Limiter) ask(ctx context.Context, hold time.Duration, req *request) (*Permit, time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	doing := "taking a permit of " + strings.Join(req.names, ", ")
	// Before the script runs: so the local deadline is never later than the one in the log.
	p := &Permit{limiter: l, id: rand.Text(), req: req, deadline: l.now().Add(hold)}
	args := append([]any{p.id, hold.Microseconds()}, req.args...)
	reply, err := parseAcquired(run(ctx, l.rdb, acquireScript, req.keys, args...))
	if err != nil {
		// It may have run all the same. If this fails too, the place counts as a dead holder's.
		_ = p.Release(ctx)
		return nil, 0, unavailable(doing, err)
	}
	if !reply.granted {
		return nil, reply.wait, nil
	}
	p.probe = reply.probe
	if err := ctx.Err(); err != nil {
		_ = p.Release(ctx)
		return nil, 0, err
	}
	if !l.now().Before(p.deadline) {
		_ = p.Release(ctx)
		return nil, 0, unavailable(doing, fmt.Errorf("it took longer than the permit may be held (%v)", hold))
	}
	return p, reply.wait, nil
}

type acquired struct {
	granted bool
	wait    time.Duration
	probe   bool
}

func parseAcquired(cmd *redis.Cmd) (acquired, error) {
	v, err := cmd.Int64Slice()
	if err != nil {
		return acquired{}, err
	}
	const year = int64(maxSpan / time.Microsecond)
	if len(v) != 3 || v[0]>>1 != 0 || v[2]>>1 != 0 || v[1] < 0 || (v[0] == 0 && v[1] == 0) {
		return acquired{}, fmt.Errorf("unexpected answer %v", v)
	}
	// A clock that was set back can make the true wait longer than any limit's; asking once a year is often enough.
	return acquired{v[0] == 1, time.Duration(min(v[1], year)) * time.Microsecond, v[2] == 1}, nil
}

// join finds or opens the line of a want-set.
func (l *Limiter) join(key string) *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lines[key]
	if ln == nil {
		ln = &line{turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
		l.lines[key] = ln
	}
	ln.waiting++
	return ln
}

// leave closes the line when nobody is left in it.
func (l *Limiter) leave(key string, ln *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.waiting--; ln.waiting == 0 {
		delete(l.lines, key)
	}
}

// wakeAll lets every line ask again at once: a place may be free earlier than was foretold.
func (l *Limiter) wakeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.lines {
		select {
		case ln.wake <- struct{}{}:
		default:
		}
	}
}

func (ln *line) sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(max(wait, minSleep))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ln.wake:
	case <-ctx.Done():
	}
	return ctx.Err()
}
