package store

import (
	"sync/atomic"

	"github.com/google/uuid"
)

// Memory is what a process knows of Redis's memory, by which scripts that begin with MemoryLua notice a loss, and a
// copy that was put back. A nil Memory knows nothing; then only which Redis it is counts.
type Memory struct {
	id         string
	last, sure atomic.Int64
	seen       atomic.Int64 // when Redis was seen last, as it has said (ms)
}

// NewMemory gives the memory of a process that has just begun.
func NewMemory() *Memory { return &Memory{id: uuid.NewString()} }

// Saw notes what Redis has said of when it was seen last.
func (m *Memory) Saw(at int64) {
	if m != nil {
		m.seen.Store(max(at, m.seen.Load()))
	}
}

// Keys are the keys that memory takes in a script: which Redis it was, when it lost its memory, the count of this
// process, whether it was restored from a copy, and when it was seen last.
func (m *Memory) Keys(of Keys) []string {
	keys := []string{of.Run(), of.Lost(), of.Count(""), of.Restored(), of.Seen()}
	if m != nil {
		keys[2] = of.Count(m.id)
	}
	return keys
}

// Raise gives the arguments that memory takes in a script: what the count must be at least, what it becomes, and when
// the process knows that Redis was seen. noted is called when Redis has answered.
func (m *Memory) Raise() (args []any, noted func()) {
	if m == nil {
		return []any{0, 0, 0}, func() {}
	}
	next := m.last.Add(1)
	args = []any{m.sure.Load(), next, m.seen.Load()}
	return args, func() {
		for sure := m.sure.Load(); sure < next && !m.sure.CompareAndSwap(sure, next); {
			sure = m.sure.Load()
		}
	}
}
