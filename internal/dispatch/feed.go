package dispatch

import (
	"context"
	"sync"
	"time"

	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
)

// Feed is a campaign whose recipients the dispatcher sends.
type Feed struct {
	d        *Dispatcher
	campaign string
	finish   func(*Delivery)
	calls    sync.WaitGroup              // that were chosen for the campaign and are not finished
	alone    *call.Batcher[*takeRequest] // takes those who go alone
	together *call.Batcher[*takeRequest] // takes those who may share a bulk

	// Guarded by the dispatcher.
	waiting    Waiting
	takenSince Waiting // since Reading: Offer's figures may count them still
	beingTaken Waiting // at this moment
}

// Waiting is how many recipients of a campaign wait.
type Waiting struct {
	Ready  int  // to share a bulk, or to go alone
	Alone  int  // to go alone
	Coming bool // more are being looked up
	Behind int  // wait until they are looked up, beside those
}

// of gives how many wait to go alone, or how many that may share a bulk.
func (w *Waiting) of(alone bool) *int {
	if alone {
		return &w.Alone
	}
	return &w.Ready
}

// Delivery is what became of recipients that the dispatcher took from a ledger for one call. The ledger may have given
// nobody.
type Delivery struct {
	Batch      ledger.Batch
	Recipients []Recipient   // of Batch.Rows, in their order
	Answers    []fate.Answer // in the same order
	Alone      bool          // they were taken to go alone
	Probe      bool          // the call found out whether Clerk serves anybody again

	feed *Feed
	n    int // how many are still to be taken
}

// Open lets a campaign take its turn. After each call finish settles the batch, in a goroutine of its own that it may
// not let panic.
func (d *Dispatcher) Open(campaign string, finish func(*Delivery)) *Feed {
	f := d.newFeed(campaign, finish)
	d.change(func() { d.feeds = append(d.feeds, f) })
	return f
}

func (d *Dispatcher) newFeed(campaign string, finish func(*Delivery)) *Feed {
	f := &Feed{d: d, campaign: campaign, finish: finish}
	together := []ledger.List{ledger.Ready}
	if !d.caller.Policy.LooksUp() {
		together = append(together, ledger.Waiting)
	}
	f.alone, f.together = f.batcher(ledger.Singles), f.batcher(together...)
	return f
}

// Reading begins to read how many wait. What is taken between it and Offer is not counted as waiting.
func (f *Feed) Reading() {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.takenSince = f.beingTaken
}

// Offer tells how many wait, as read since Reading.
func (f *Feed) Offer(w Waiting) {
	f.d.change(func() {
		f.waiting = w
		f.waiting.Ready = max(0, w.Ready-f.takenSince.Ready)
		f.waiting.Alone = max(0, w.Alone-f.takenSince.Alone)
	})
}

// Close ends the campaign's turns. It returns when every delivery is finished, and none of its recipients is in a
// call.
func (f *Feed) Close() {
	f.d.change(func() {
		f.waiting = Waiting{}
		f.d.feeds = without(f.d.feeds, f)
	})
	f.calls.Wait()
}

// takenAtOnce is how many recipients are taken in one step for several calls. It stops Redis for a millisecond.
const takenAtOnce = 100

// takeRequest asks for recipients of a campaign for one call.
type takeRequest struct {
	ctx      context.Context
	deadline time.Time // of the call
	n        int
	batch    ledger.Batch // what was taken
}

// batcher takes recipients from some lists of the ledger, in one step for all calls that wait for theirs. The claims
// last until the last of these calls must have ended.
func (f *Feed) batcher(from ...ledger.List) *call.Batcher[*takeRequest] {
	return call.NewBatcher(f.d.caller.Log, takenAtOnce, func(calls []*takeRequest) error {
		last, n := calls[0], 0
		for _, c := range calls {
			if n += c.n; c.deadline.After(last.deadline) {
				last = c
			}
		}
		within := time.Until(last.deadline)
		all, err := f.d.ledgers.TakeForCall(last.ctx, f.campaign, n, within, policy.SettleMargin, from...)
		for _, c := range calls {
			c.batch = all
			c.batch.Rows = all.Rows[:min(c.n, len(all.Rows))]
			all.Rows, all.Garbage = all.Rows[len(c.batch.Rows):], nil
		}
		return err
	})
}

// choose lets a campaign give n of its recipients to a call. The dispatcher is locked.
func (f *Feed) choose(n int, alone bool) *Delivery {
	*f.waiting.of(alone) -= n
	*f.takenSince.of(alone) += n
	*f.beingTaken.of(alone) += n
	f.calls.Add(1)
	return &Delivery{feed: f, n: n, Alone: alone}
}

// endTaking notes that the recipients are taken, or cannot be. A second time it changes nothing.
func (d *Delivery) endTaking() {
	d.feed.d.mu.Lock()
	defer d.feed.d.mu.Unlock()
	*d.feed.beingTaken.of(d.Alone) -= d.n
	d.n = 0
}
