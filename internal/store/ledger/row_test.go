package ledger_test

import (
	"errors"
	"testing"
	"time"

	"example.com/usher/internal/fate"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

func TestEachTellsEverybodyOnceAndWhereTheyStand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 3000))
	batch := b.take(t, 4, ledger.Waiting, time.Hour)
	row := batch.Rows
	row[1].Attempts = 1
	row[2].Attempts = 2
	outcomes := []ledger.Outcome{
		sentAs(row[0], fate.IntentMade, "inv_1", time.Now()), sentAs(row[1], fate.IntentFound, "inv_2", time.Now()),
		deadOf(row[2], "odd"),
	}
	if n := b.settle(t, outcomes...); n != 3 {
		t.Fatalf("%d were recorded", n)
	}
	states, attempts := map[ledger.RowState]int{}, map[ledger.RowState]int{}
	seen := map[store.AddressID]bool{}
	err := b.Each(t.Context(), "c", func(e ledger.Entry) error {
		states[e.State]++
		attempts[e.State] += e.Attempts
		if seen[e.ID] || e.ID == (store.AddressID{}) {
			t.Errorf("%x is told twice, or nobody is", e.ID)
		}
		seen[e.ID] = true
		return nil
	})
	if err != nil || states[ledger.RowSent] != 2 || states[ledger.RowDead] != 1 || states[ledger.RowOpen] != 1 ||
		states[ledger.RowWaiting] != 2996 {
		t.Errorf("%v, %v", states, err)
	}
	if attempts[ledger.RowSent] != 1 || attempts[ledger.RowDead] != 2 {
		t.Errorf("attempts %v", attempts)
	}
	enough := errors.New("enough")
	if err := b.Each(t.Context(), "c", func(ledger.Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}

func TestFindGivesThoseThatTheCampaignHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 700))
	var ids []store.AddressID
	for _, p := range people(100, 900) {
		ids = append(ids, store.IDOf(p.Folded))
	}
	found, err := b.Find(t.Context(), "c", ids)
	if err != nil || len(found) != 600 {
		t.Errorf("%d, %v", len(found), err)
	}
	b.rdb.HSet(t.Context(), "test:{once}:c:c:rows", string(ids[0][:]), "?")
	if _, err := b.Find(t.Context(), "c", ids); !errors.Is(err, store.ErrGarbage) {
		t.Errorf("garbage: %v", err)
	}
	if err := b.Each(t.Context(), "c", func(ledger.Entry) error { return nil }); !errors.Is(err, store.ErrGarbage) {
		t.Errorf("garbage: %v", err)
	}
}
