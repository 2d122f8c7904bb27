package worker

import (
	"context"
	"errors"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// ErrKeyChanged ends a worker whose secret key is another by now: it is to be started anew with that one.
var ErrKeyChanged = errors.New("the secret key has changed")

// watchKey probes a key that Clerk refuses until it works again, and ends the worker when there is a new one. Its
// context ends when the worker begins to stop.
func (w *Worker) watchKey(ctx context.Context, changed context.CancelCauseFunc) {
	for {
		var refusal *clerkclient.Error
		select {
		case refusal = <-w.caller.Gate.Refused():
		case <-ctx.Done():
			return
		}
		w.Health.refuses(refusal)
		said := w.Log.Error().Int("status", refusal.Status).Str("code", refusal.Code)
		if refusal.NotClerk {
			said.Msg("something else than Clerk's API refuses calls; they wait until it does no more")
		} else {
			said.Msg("Clerk refuses the secret key; calls wait until it works again or is changed")
		}
		for !w.caller.Gate.Open() {
			if policy.Sleep(ctx, policy.KeyRest) != nil { // the limiter holds a probe back for longer each time
				return
			}
			if w.KeyChanged() {
				changed(ErrKeyChanged)
				return
			}
			err := w.caller.CheckKey(ctx, func(ctx context.Context) error {
				_, _, err := w.Clerk.List(ctx, clerkclient.ListQuery{Limit: 1})
				return err
			})
			if err != nil {
				w.Log.Debug().Err(err).Msg("probed the secret key")
			}
		}
		w.Health.keyRefused.Store(nil)
		w.Log.Info().Msg("Clerk takes the secret key again")
	}
}
