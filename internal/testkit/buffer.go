package testkit

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it, and may be read meanwhile.
type Buffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write adds p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

// String returns all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
