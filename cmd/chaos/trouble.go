package main

import (
	"context"
	"errors"
	"sync"
)

// trouble is what breaks things beside the waiting for the work's end.
type trouble struct {
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

// startTrouble gives a trouble that ends with the context at the latest.
func startTrouble(ctx context.Context) *trouble {
	ctx, stop := context.WithCancel(ctx)
	return &trouble{ctx: ctx, stop: stop}
}

// cause does one thing after the other, until the trouble is ended, which is no error of theirs.
func (t *trouble) cause(inTurn ...func(ctx context.Context) error) {
	t.running.Go(func() {
		for _, do := range inTurn {
			err := do(t.ctx)
			if t.ctx.Err() != nil {
				return
			}
			if err != nil {
				t.failed(err)
				return
			}
		}
	})
}

func (t *trouble) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

// end ends it, and returns when nothing is broken any more.
func (t *trouble) end() error {
	t.stop()
	t.running.Wait()
	return errors.Join(t.errs...)
}
