package call

import (
	"sync"

	"github.com/rs/zerolog"
)

// Batcher does things of one kind, together if several wait. What comes first is done at once; what comes meanwhile
// waits, and is done next, as much together as is allowed. So each costs less the more there are.
type Batcher[T any] struct {
	most int
	do   func(things []T) error
	log  zerolog.Logger

	mu      sync.Mutex
	busy    bool
	waiting []*batched[T]
}

// batched is a thing that waits to be done.
type batched[T any] struct {
	thing T
	size  int
	done  chan error
}

// NewBatcher gives a Batcher that does things together until their sizes come to most. do may panic.
func NewBatcher[T any](log zerolog.Logger, most int, do func(things []T) error) *Batcher[T] {
	return &Batcher[T]{most: most, do: do, log: log}
}

// Do has a thing done, and returns the error of it and of those that were done with it.
func (b *Batcher[T]) Do(thing T, size int) error {
	one := &batched[T]{thing, size, make(chan error, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, one)
	if !b.busy {
		b.busy = true
		go b.run()
	}
	b.mu.Unlock()
	return <-one.done
}

// run does what waits, until nothing does.
func (b *Batcher[T]) run() {
	for batch := b.next(); len(batch) > 0; batch = b.next() {
		things := make([]T, len(batch))
		for i, one := range batch {
			things[i] = one.thing
		}
		err := Guarded(b.log, func() error { return b.do(things) })
		for _, one := range batch {
			one.done <- err
		}
	}
}

// next takes those that are done next; without any, nobody is busy any more.
func (b *Batcher[T]) next() []*batched[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, 0
	for n < len(b.waiting) && (n == 0 || size+b.waiting[n].size <= b.most) {
		size += b.waiting[n].size
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.busy = n > 0
	return batch
}
