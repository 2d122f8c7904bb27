package ledger_test

import (
	"testing"
	"time"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

// TestNobodyIsTakenForACallUntilARestorationEnds; questions may be asked.
func TestNobodyIsTakenForACallUntilARestorationEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 2))
	db := store.Open(b.rdb, "test")
	restored, err := store.BeginRestoration(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.TakeForCall(t.Context(), "c", 2, time.Minute, 0, ledger.Waiting); !store.IsRestoring(err) {
		t.Errorf("taken while work rests: %v", err)
	}
	asked, err := b.TakeToAsk(t.Context(), "c", 1, time.Minute, ledger.Waiting)
	if len(asked.Rows) != 1 || err != nil {
		t.Errorf("to ask: %d, %v", len(asked.Rows), err)
	}
	if err := store.EndRestoration(t.Context(), db, restored); err != nil {
		t.Fatal(err)
	}
	if _, err := b.TakeForCall(t.Context(), "c", 2, time.Minute, 0, ledger.Waiting); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestNobodyIsTakenFromACopyForACall: the take itself notices that the copy is older than what the process knows.
func TestNobodyIsTakenFromACopyForACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 2))
	seen := time.Now()
	b.Memory = store.NewMemory()
	b.Memory.Saw(seen.UnixMilli())
	b.rdb.Set(t.Context(), store.Keys("test").Seen(), seen.UnixMilli(), 0)
	if taken := b.take(t, 1, ledger.Waiting, time.Minute); len(taken.Rows) != 1 {
		t.Fatalf("%+v", taken)
	}
	b.rdb.Set(t.Context(), store.Keys("test").Seen(), seen.Add(-time.Hour).UnixMilli(), 0)
	if _, err := b.TakeForCall(t.Context(), "c", 1, time.Minute, 0, ledger.Waiting); !store.IsRestoring(err) {
		t.Errorf("taken from a copy: %v", err)
	}
}
