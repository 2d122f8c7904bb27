package dispatch

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
)

// send waits for a permit of a line and makes one call. Who is in it is decided when the permit is there, so that a bulk leaves
// with all who wait at that moment.
func (d *Dispatcher) send(ctx context.Context, l *line) {
	p := &passengers{d: d}
	var flight *call.Flight // nil until there is a permit
	defer func() {
		if panicked := recover(); panicked != nil {
			d.log.Error().Str("call", string(l.call)).Bytes("stack", debug.Stack()).Msgf("panic: %T", panicked)
			lost := &clerkclient.Error{
				Outcome: clerkclient.Transient, Sent: true, Code: "panic", Message: "the worker panicked; its log has the stack",
			}
			if flight != nil {
				flight.Land(lost)
			}
			p.settle(lost)
			p.giveUp()
		}
		d.change(func() {
			if flight != nil {
				l.flying--
			} else {
				l.waiting--
			}
		})
	}()
	var err error
	flight, err = d.caller.Begin(ctx, l.call, func(next time.Time) { d.change(func() { l.blocked = next }) })
	if err != nil {
		return
	}
	d.change(func() {
		l.waiting, l.flying = l.waiting-1, l.flying+1
		p.claim(l.call)
	})
	if p.fetch(flight.Context()); len(p.aboard) == 0 {
		err = call.ErrNothingSent
	} else {
		err = p.travel(flight.Context(), l.call)
	}
	flight.Land(err)
	if errors.Is(err, call.ErrNothingSent) && p.unreachable {
		_ = clock.Sleep(ctx, policy.RedisRest) // no hurry for the next permit
	}
	p.settle(err)
}
