package dispatch

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
)

// send waits for a permit of a line and makes one call. Who is in it is decided when the permit is there, so that a bulk leaves
// with all who wait at that moment.
func (d *Dispatcher) send(ctx context.Context, l *line) {
	p := &passengers{d: d}
	permitted := false
	defer func() {
		if panicked := recover(); panicked != nil {
			d.log.Error().Str("call", string(l.call)).Bytes("stack", debug.Stack()).Msgf("panic: %T", panicked)
			p.settle(&clerkclient.Error{Outcome: clerkclient.Transient, Sent: true, Code: "panic", Message: "the worker panicked; its log has the stack"})
			p.giveUp()
		}
		d.change(func() {
			if permitted {
				l.flying--
			} else {
				l.waiting--
			}
		})
	}()
	told := func(next time.Time) { d.change(func() { l.blocked = next }) }
	_, err := d.caller.callTold(ctx, l.call, told, func(flight context.Context) error {
		permitted = true
		d.change(func() {
			l.waiting, l.flying = l.waiting-1, l.flying+1
			p.claim(l.call)
		})
		if p.fetch(flight); len(p.aboard) == 0 {
			return errNothingSent
		}
		return p.travel(flight, l.call)
	})
	if errors.Is(err, errNothingSent) && p.unreachable {
		_ = clock.Sleep(ctx, policy.RedisRest) // no hurry for the next permit
	}
	p.settle(err)
}
