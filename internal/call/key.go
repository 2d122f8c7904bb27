package call

import (
	"context"
	"sync"

	"example.com/usher/clerkclient"
)

// Gate holds calls back while it is closed. The zero Gate is open.
type Gate struct {
	mu     sync.Mutex
	closed chan struct{} // closed when calls may go on; nil while the gate is open
}

// Set closes the gate, or opens it, and tells whether that has changed it.
func (g *Gate) Set(closed bool) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case closed && g.closed == nil:
		g.closed = make(chan struct{})
		return true
	case !closed && g.closed != nil:
		close(g.closed)
		g.closed = nil
		return true
	}
	return false
}

// Open tells whether calls may go on.
func (g *Gate) Open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed == nil
}

// wait returns when the gate is open, or with the context's error.
func (g *Gate) wait(ctx context.Context) error {
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

// KeyGate holds a worker's calls back while Clerk refuses its key. Nothing is wrong with what waits; a probe now and
// then finds out whether the key works again.
type KeyGate struct {
	Gate
	refused chan *clerkclient.Error // told once when the gate closes
}

// NewKeyGate gives an open gate.
func NewKeyGate() *KeyGate { return &KeyGate{refused: make(chan *clerkclient.Error, 1)} }

// Refused tells when the gate has closed, and at which answer.
func (g *KeyGate) Refused() <-chan *clerkclient.Error { return g.refused }

// answered notes the refusal of the key; nil means that Clerk took it.
func (g *KeyGate) answered(refusal *clerkclient.Error) {
	if changed := g.Set(refusal != nil); !changed || refusal == nil {
		return
	}
	select {
	case g.refused <- refusal:
	default:
	}
}
