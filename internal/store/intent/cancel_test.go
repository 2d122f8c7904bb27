package intent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
)

// cancel cancels a task as a person would.
func (b bundle) cancel(task string) (ended bool, err error) {
	b.t.Helper()
	r, stored, err := record.NewStore(b.rdb, "test").Stored(b.t.Context(), task)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.Cancel(b.t.Context(), b.wish(task), r, stored)
}

func TestACancelledTaskMakesNoCall(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		if ended, err := b.cancel("a"); !ended || err != nil {
			t.Fatalf("%t, %v", ended, err)
		}
		if state, _ := b.state("a"); state != record.Cancelled {
			t.Errorf("its record says %q", state)
		}
		b.want("a", "1", time.Minute, fate.VerdictEnded)
		opened := intent.Settlement{Wish: b.wish("a"), Token: "2", End: fate.IntentOpened}
		for _, s := range []intent.Settlement{b.died("a", "", fate.IntentUnchanged), opened} { // by a run that waited
			if err := b.Settle(t.Context(), s); !errors.Is(err, intent.ErrTaken) {
				t.Errorf("%s after it was cancelled: %v", s.End, err)
			}
		}
		b.want("b", "3", time.Minute, fate.VerdictGranted) // it is in nobody's way
		ids, _, err := history.NewStore(b.rdb, "test").Of(t.Context(), b.wish("a").Address)
		if err != nil || len(ids) != 1 || ids[0] != "a" {
			t.Errorf("the address remembers %v, %v", ids, err)
		}
	})
}

// TestACallOfACancelledTaskIsWaitedFor: it may invite, and what becomes of it is written.
func TestACallOfACancelledTaskIsWaitedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.want("a", "1", time.Minute, fate.VerdictGranted)
		for range 2 {
			if ended, err := b.cancel("a"); ended || err != nil {
				t.Fatalf("ended: %t, %v", ended, err)
			}
		}
		lost := intent.Settlement{
			Wish: b.wish("a"), Token: "1", End: fate.IntentUnknown,
			Record: &record.Record{State: record.Open, Attempts: 1}, // its run has not seen that it was cancelled
		}
		for range 2 {
			if err := b.Settle(t.Context(), lost); err != nil {
				t.Fatal(err)
			}
		}
		r, _, err := record.NewStore(b.rdb, "test").Get(t.Context(), "a")
		if err != nil || !r.Cancel || r.Attempts != 1 {
			t.Errorf("the record is %+v, %v", r, err)
		}
		b.want("a", "2", time.Minute, fate.VerdictUnsure) // it asks what became of its call, and makes no other
		lost.End = fate.IntentAbsent                      // there is none, and that run goes on to its next call
		if err := b.Settle(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		b.want("a", "3", time.Minute, fate.VerdictUnsure) // it asks again, and ends as cancelled
	})
}

// TestATaskThatChangesMeanwhileIsCancelledAsItIs: a record is not replaced by what was read before.
func TestATaskThatChangesMeanwhileIsCancelledAsItIs(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		store := record.NewStore(b.rdb, "test")
		if err := store.Put(context.Background(), "a", record.Record{State: record.Done}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Cancel(t.Context(), b.wish("a"), record.Record{}, nil); !errors.Is(err, intent.ErrChanged) {
			t.Errorf("%v", err)
		}
		if state, _ := b.state("a"); state != record.Done {
			t.Errorf("it is %s", state)
		}
	})
}
