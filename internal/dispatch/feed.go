package dispatch

import (
	"context"
	"sync"
)

// Batch is what a campaign gave out for one call.
type Batch struct {
	Recipients []Recipient
	// Settle is told what became of each, in the order of Recipients, once.
	Settle func([]Result)
}

// Take gives up to n recipients that may travel so, for a call whose deadline is the context's.
type Take func(ctx context.Context, n int, alone bool) (Batch, error)

// Waiting is how many recipients of a campaign wait.
type Waiting struct {
	Ready  int  // to ride in a bulk, or alone
	Alone  int  // to travel alone
	Coming bool // more are being looked up
}

// Feed is a campaign whose recipients the dispatcher sends.
type Feed struct {
	d     *Dispatcher
	take  Take
	calls sync.WaitGroup // that carry its recipients

	// Guarded by the dispatcher.
	waiting Waiting
	taken   Waiting // since the reading began that Offer will tell of
	taking  Waiting // at this moment
}

// Open lets a campaign take its turn.
func (d *Dispatcher) Open(take Take) *Feed {
	f := &Feed{d: d, take: take}
	d.change(func() { d.feeds = append(d.feeds, f) })
	return f
}

// Reading begins to read how many wait. What is taken between it and Offer is not counted as waiting.
func (f *Feed) Reading() {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.taken = f.taking
}

// Offer tells how many wait, as read since Reading.
func (f *Feed) Offer(w Waiting) {
	f.d.change(func() {
		f.waiting = Waiting{Ready: max(0, w.Ready-f.taken.Ready), Alone: max(0, w.Alone-f.taken.Alone), Coming: w.Coming}
	})
}

// Close ends the campaign's turns and returns when none of its recipients is in a call.
func (f *Feed) Close() {
	f.d.change(func() {
		f.waiting = Waiting{}
		f.d.feeds = without(f.d.feeds, f)
	})
	f.calls.Wait()
}

// without copies: the slice may be in use.
func without[T comparable](list []T, gone T) []T {
	kept := make([]T, 0, len(list))
	for _, item := range list {
		if item != gone {
			kept = append(kept, item)
		}
	}
	return kept
}

// claim is what a call means to take from a feed. The dispatcher is locked.
type claim struct {
	feed  *Feed
	n     int
	alone bool
}

func (f *Feed) claim(n int, alone bool) claim {
	c := claim{feed: f, n: n, alone: alone}
	f.waiting.add(c, -1)
	f.taken.add(c, 1)
	f.taking.add(c, 1)
	f.calls.Add(1)
	return c
}

func (w *Waiting) add(c claim, sign int) {
	if c.alone {
		w.Alone += sign * c.n
	} else {
		w.Ready += sign * c.n
	}
}

// fetch takes from the campaign what was claimed. The claim is over when the batch is settled; one with nobody in it needs no settling.
func (c claim) fetch(ctx context.Context) (batch Batch, err error) {
	defer func() { // also when take panics: Close waits for it
		c.taken()
		if len(batch.Recipients) == 0 {
			c.feed.calls.Done()
		}
	}()
	taken, err := c.feed.take(ctx, c.n, c.alone)
	if err != nil || len(taken.Recipients) == 0 {
		return Batch{}, err
	}
	return Batch{Recipients: taken.Recipients, Settle: func(results []Result) {
		defer c.feed.calls.Done()
		taken.Settle(results)
	}}, nil
}

// taken says that what was claimed is being taken no more.
func (c claim) taken() {
	c.feed.d.mu.Lock()
	defer c.feed.d.mu.Unlock()
	c.feed.taking.add(c, -1)
}
