package ledger_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

// TestAForgottenRecipientIsNowhere: whatever it was doing, it counts no more, and its call's outcome is not written.
func TestAForgottenRecipientIsNowhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 6)) // 0 is sent, 1 dead, 2 in a call, 3 is to wait, 4 and 5 wait
	batch := b.take(t, 4, ledger.Waiting, time.Minute)
	call := batch
	b.settle(t, sentAs(batch.Rows[0], fate.IntentMade, "inv_0", time.Now()), deadOf(batch.Rows[1], "x"),
		waitFor(batch.Rows[3], fate.IntentAbsent, ledger.Ready, time.Hour))
	stones := store.NewTombstones(b.rdb, "test")
	for _, i := range []int{0, 1, 2, 3, 4} {
		id := store.IDOf(string(people(i, i+1)[0].Folded))
		if _, err := stones.Set(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if i == 4 {
			break // its removal is broken off: it is not sent all the same
		}
		for _, times := range []int{1, 0} {
			if n, err := b.Erase(t.Context(), id); err != nil || n != times {
				t.Errorf("p%d: removed from %d campaigns, %v", i, n, err)
			}
		}
	}
	if n := b.settle(t, sentAs(call.Rows[2], fate.IntentMade, "inv_2", time.Now())); n != 1 {
		t.Errorf("%d settled: that is no fault of the call's", n)
	}
	if next := b.take(t, 9, ledger.Waiting, time.Minute); len(next.Rows) != 1 ||
		!strings.Contains(string(next.Rows[0].Recipient), "p5@") {
		t.Errorf("%+v were given out", next.Rows)
	} else {
		b.settle(t, sent(next)...)
	}
	if upload := b.add(t, "c", people(0, 6)); upload.Added != 0 || upload.Known != 1 || upload.Forgotten != 5 {
		t.Errorf("uploading them again: %+v", upload)
	}
	if p := b.progress(t); p.State != ledger.Finished {
		t.Errorf("%+v", p)
	}
	c, err := b.Get(t.Context(), "c")
	if err != nil || c.Recipients != 1 || c.Sent != 1 || c.Dead != 0 || c.Forgotten != 5 ||
		!maps.Equal(c.DeadByCode, map[string]int{}) {
		t.Errorf("%+v, %v", c, err)
	}
	if rows := b.rdb.HLen(t.Context(), "test:{once}:c:c:rows").Val(); rows != 1 {
		t.Errorf("%d rows", rows)
	}
}

func TestAnUploadUnderWayIsErased(t *testing.T) {
	t.Parallel()
	b := setup(t)
	someone := people(7, 8)[0]
	id := store.IDOf(someone.Folded)
	if err := b.rdb.RPush(t.Context(), "test:{once}:c:c:stage:1", "other", "row", string(id[:]),
		"wb"+string(someone.Data)).Err(); err != nil {
		t.Fatal(err)
	}
	for _, times := range []int{1, 0} {
		if n, err := b.EraseStaged(t.Context(), id); err != nil || n != times {
			t.Errorf("erased in %d uploads, %v, want %d", n, err, times)
		}
	}
	if got := b.rdb.LRange(t.Context(), "test:{once}:c:c:stage:1", 0, -1).Val(); len(got) != 4 ||
		got[1] != "row" || got[3] != "" {
		t.Errorf("%q", got)
	}
}
