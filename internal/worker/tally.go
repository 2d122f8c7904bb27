package worker

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"example.com/usher/internal/store"
)

// tally gathers what became of recipients until it is written, every few seconds: a worker that is killed loses what it
// has counted since.
type tally struct {
	mu     sync.Mutex
	counts store.Counts

	writing sync.Mutex
	batch   store.Counts // what is being written, under its token
	token   string
}

// tallyGrace is how long a worker that stops may take to write its last counts.
const tallyGrace = 500 * time.Millisecond

func (t *tally) add(c store.Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts = t.counts.Plus(c)
}

// write adds what was counted to that of all workers. What Redis has not taken is written again the next time.
func (t *tally) write(ctx context.Context, to *store.Tally) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.batch.All() == 0 {
		t.mu.Lock()
		t.batch, t.counts, t.token = t.counts, store.Counts{}, rand.Text()
		t.mu.Unlock()
	}
	if t.batch.All() > 0 && to.Add(ctx, t.token, t.batch) == nil {
		t.batch = store.Counts{}
	}
}
