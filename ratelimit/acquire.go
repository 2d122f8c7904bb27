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

// queue is where the goroutines of one process wait that want the same thing, first come first served. Only the one
// whose turn it is asks Redis. What it learns serves those behind it.
type queue struct {
	turn chan struct{} // holds one token while somebody asks or sleeps; blocked senders are served in order
	wake chan struct{} // a place was given back in this process: stop sleeping

	// Guarded by the turn.
	next     time.Time // nothing can come free before this instant
	open     time.Time // when Redis was last asked with the answer that nothing is counted and no limit rests
	failure  error     // the last failure to ask Redis; it is also that of everybody who waited at failedAt
	failedAt time.Time

	waiting int // guarded by Limiter.mu
}

// Acquire waits until there is a place in every limit wanted. It takes all of them at once and returns the permit to
// make one call before [Permit.Deadline], which is hold after the permit was taken. Settle every permit with one of
// Done, Refuse and Release; a forgotten one counts until its deadline plus a window.
//
// Goroutines of one process that want the same are served in order. Between processes chance decides. If ctx is
// cancelled, Acquire takes nothing and returns ctx's error. If Redis cannot answer, everybody who waits gets
// [ErrUnavailable].
func (l *Limiter) Acquire(ctx context.Context, hold time.Duration, wants ...Want) (*Permit, error) {
	return l.AcquireTold(ctx, hold, func(time.Time) {}, wants...)
}

// AcquireTold is [Limiter.Acquire] and calls told with the earliest instant at which another permit can come, after
// every answer of Redis. An instant in the past says nothing. So the caller can look for another way meanwhile. A
// caller behind others of the same process is not told. told must not block.
func (l *Limiter) AcquireTold(
	ctx context.Context, hold time.Duration, told func(next time.Time), wants ...Want,
) (*Permit, error) {
	req, err := l.request(hold, wants)
	if err != nil {
		return nil, err
	}
	q := l.join(req.queue)
	defer l.leave(req.queue, q)

	joined := l.now()
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if q.failure != nil && !joined.After(q.failedAt) {
		return nil, q.failure
	}
	if joined.Before(q.open) && ctx.Err() == nil { // another one asked the same after this one had joined
		return l.newPermit(req), nil
	}
	for {
		wait := q.next.Sub(l.now())
		if wait > 0 {
			told(q.next)
		}
		if err := q.sleep(ctx, wait); err != nil {
			return nil, err
		}
		asked := l.now()
		permit, wait, err := l.ask(ctx, req)
		now := l.now()
		q.next = now.Add(wait)
		switch {
		case errors.Is(err, ErrUnavailable):
			q.failure, q.failedAt = err, now
		case permit != nil:
			if wait == 0 && !req.counted && permit.probe == probesNothing {
				q.open = asked
			}
			told(q.next)
		}
		if err != nil || permit != nil {
			return permit, err
		}
	}
}

// Try is [Limiter.Acquire] without waiting: it runs one script, past everybody who waits. If there is no place, the
// permit is nil and wait is the time until one can come free. That is a guess while a probe is under way (see
// [Permit.Refuse]).
func (l *Limiter) Try(
	ctx context.Context, hold time.Duration, wants ...Want,
) (p *Permit, wait time.Duration, err error) {
	req, err := l.request(hold, wants)
	if err != nil {
		return nil, 0, err
	}
	p, wait, err = l.ask(ctx, req)
	if p != nil {
		wait = 0
	}
	return p, wait, err
}

// ask runs the acquire script once. The next one to ask for the same should wait for the returned time, after a grant
// too.
func (l *Limiter) ask(ctx context.Context, req *request) (*Permit, time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	doing := "taking a permit of " + strings.Join(req.names, ", ")
	p := l.newPermit(req) // before the script runs, so that its deadline is never later than the one in the log
	args := append([]any{p.id, req.hold.Microseconds()}, req.args...)
	reply, err := parseAcquired(run(ctx, l.rdb, acquireScript, req.keys, args...))
	if err != nil {
		// The script may have run all the same. If the release fails too, the place counts as that of a dead holder.
		_ = p.Release(ctx)
		return nil, 0, unavailable(doing, err)
	}
	if !reply.granted {
		return nil, reply.wait, nil
	}
	p.probe, p.suspect = reply.probe, reply.suspect
	if err := ctx.Err(); err != nil {
		_ = p.Release(ctx)
		return nil, 0, err
	}
	if !l.now().Before(p.deadline) {
		_ = p.Release(ctx)
		return nil, 0, unavailable(doing, fmt.Errorf("it took longer than the permit may be held (%v)", req.hold))
	}
	return p, reply.wait, nil
}

func (l *Limiter) newPermit(req *request) *Permit {
	return &Permit{limiter: l, id: rand.Text(), req: req, deadline: l.now().Add(req.hold)}
}

type acquired struct {
	granted bool
	wait    time.Duration
	probe   probing
	suspect string
}

func parseAcquired(cmd *redis.Cmd) (acquired, error) {
	v, err := cmd.Slice()
	if err != nil {
		return acquired{}, err
	}
	if len(v) != 4 {
		return acquired{}, fmt.Errorf("unexpected answer %v", v)
	}
	granted, ok1 := v[0].(int64)
	wait, ok2 := v[1].(int64)
	probe, ok3 := v[2].(int64)
	suspect, ok4 := v[3].(string)
	if !ok1 || !ok2 || !ok3 || !ok4 || granted>>1 != 0 || probe < 0 || probe > int64(probesService) || wait < 0 ||
		granted == 0 && wait == 0 {
		return acquired{}, fmt.Errorf("unexpected answer %v", v)
	}
	// After a clock was set back, the true wait can be longer than any limit's window. To ask once a year is enough.
	wait = min(wait, maxSpan.Microseconds())
	return acquired{granted == 1, time.Duration(wait) * time.Microsecond, probing(probe), suspect}, nil
}

// join finds or opens the queue of a set of wants.
func (l *Limiter) join(key string) *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[key]
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
		l.queues[key] = q
	}
	q.waiting++
	return q
}

// leave drops the queue when nobody is left in it.
func (l *Limiter) leave(key string, q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		delete(l.queues, key)
	}
}

// wakeAll lets every queue ask again at once: a place may have come free earlier than expected.
func (l *Limiter) wakeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queues {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

func (q *queue) sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(max(wait, minSleep))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.wake:
	case <-ctx.Done():
	}
	return ctx.Err()
}
