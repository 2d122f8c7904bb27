package call

import (
	"context"
	"sync"
)

// KeyGate holds a worker's calls back while Clerk refuses its key. Nothing is wrong with what waits; a probe now and
// then finds out whether the key works again.
type KeyGate struct {
	mu      sync.Mutex
	closed  chan struct{} // closed when calls may go on; nil while the gate is open
	refused chan struct{} // told once when the gate closes
}

// NewKeyGate gives an open gate.
func NewKeyGate() *KeyGate { return &KeyGate{refused: make(chan struct{}, 1)} }

// Refused tells when the gate has closed.
func (g *KeyGate) Refused() <-chan struct{} { return g.refused }

// answered notes whether Clerk took the key.
func (g *KeyGate) answered(accepted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case accepted && g.closed != nil:
		close(g.closed)
		g.closed = nil
	case !accepted && g.closed == nil:
		g.closed = make(chan struct{})
		select {
		case g.refused <- struct{}{}:
		default:
		}
	}
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
