package call

import (
	"context"
	"sync"
	"time"

	"example.com/usher/internal/policy"
)

// KeyGate holds a worker's calls back while Clerk refuses its key. Nothing is wrong with what waits; a probe now and
// then finds out whether the key works again.
type KeyGate struct {
	mu       sync.Mutex
	closed   chan struct{} // closed when calls may go on; nil while the gate is open
	refusals int           // in a row
	refused  chan struct{} // told once when the gate closes
}

// NewKeyGate gives an open gate.
func NewKeyGate() *KeyGate { return &KeyGate{refused: make(chan struct{}, 1)} }

// Refused tells when the gate has closed.
func (g *KeyGate) Refused() <-chan struct{} { return g.refused }

// answered notes whether Clerk took the key. Of many calls in flight that are refused together only the first counts,
// and then probes.
func (g *KeyGate) answered(accepted, probe bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if accepted {
		g.refusals = 0
		if g.closed != nil {
			close(g.closed)
			g.closed = nil
		}
		return
	}
	if g.closed == nil || probe {
		g.refusals++
	}
	if g.closed == nil {
		g.closed = make(chan struct{})
		select {
		case g.refused <- struct{}{}:
		default:
		}
	}
}

// rest is how long all calls with the key rest after a refusal: longer each time.
func (g *KeyGate) rest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(policy.KeyRest<<min(g.refusals, 10), policy.KeyRestMax)
}

// Open tells whether calls may go on.
func (g *KeyGate) Open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed == nil
}

// wait returns when the gate is open, or with the context's error.
func (g *KeyGate) wait(ctx context.Context) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
