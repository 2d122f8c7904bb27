package ledger_test

import (
	"errors"
	"testing"
	"time"

	"example.com/usher/internal/fate"

	"github.com/alicebob/miniredis/v2"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// onBoth runs a test on a real Redis and on the embedded one.
func onBoth(t *testing.T, test func(*testing.T, bundle)) {
	t.Parallel()
	for name, addr := range map[string]func(*testing.T) string{
		"redis":     func(t *testing.T) string { return testkit.RunRedis(t).Addr },
		"miniredis": func(t *testing.T) string { return miniredis.RunT(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := testkit.Client(t, addr(t))
			test(t, bundle{ledger.New(rdb, "test"), rdb})
		})
	}
}

// letter gives the dead letter of a recipient, and false if it has none.
func (b bundle) letter(t *testing.T, row ledger.Row) (deadletter.Entry, bool) {
	t.Helper()
	entry, err := deadletter.NewStore(b.rdb, "test").Get(t.Context(), deadletter.RecipientID("c", row.ID))
	if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		t.Fatal(err)
	}
	return entry, err == nil
}

func (b bundle) head(t *testing.T) ledger.Campaign {
	t.Helper()
	c, err := b.Get(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestADeadRecipientAndItsLetterAreOneStep(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 3))
		batch := b.take(t, 3, ledger.Waiting, time.Minute)
		for range 2 { // the hold has passed when it is repeated
			b.settle(t, deadOf(batch.Rows[0], "odd"),
				sentAs(batch.Rows[1], fate.IntentMade, "inv_1", time.Now()))
		}
		entry, there := b.letter(t, batch.Rows[0])
		if !there || entry.Failure.Code != "odd" || entry.Recipient == nil || *entry.Recipient != batch.Rows[0].ID {
			t.Errorf("%+v, %t", entry, there)
		}
		if _, there := b.letter(t, batch.Rows[1]); there {
			t.Error("one that was sent has a letter")
		}
		if c := b.head(t); c.Dead != 1 || c.DeadByCode["odd"] != 1 || c.Sent != 1 {
			t.Errorf("%+v", c)
		}
		if n, err := deadletter.NewStore(b.rdb, "test").Count(t.Context()); n != 1 || err != nil {
			t.Errorf("%d letters, %v", n, err)
		}
	})
}

// TestWhatBecameOfCallsIsWrittenWhenRedisIsFull, and so are their intents.
func TestWhatBecameOfCallsIsWrittenWhenRedisIsFull(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	b := bundle{ledger.New(rdb, "test"), rdb}
	b.add(t, "c", people(0, 3))
	batch := b.take(t, 3, ledger.Waiting, time.Minute)
	testkit.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	b.settle(t, deadOf(batch.Rows[0], "odd"), sentAs(batch.Rows[1], fate.IntentMade, "inv_1", time.Now()))
	if c := b.head(t); c.Dead != 1 || c.Sent != 1 {
		t.Errorf("%+v", c)
	}
	if _, there := b.letter(t, batch.Rows[0]); !there {
		t.Error("the dead one has no letter")
	}
}

// TestALetterThatWasWrittenBeforeStaysOne plays a worker of an earlier version, which writes the letter by itself
// first.
func TestALetterThatWasWrittenBeforeStaysOne(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 1))
		batch := b.take(t, 1, ledger.Waiting, time.Minute)
		letters := deadletter.NewStore(b.rdb, "test")
		outcome := deadOf(batch.Rows[0], "odd")
		if err := letters.Put(t.Context(), *outcome.Letter); err != nil {
			t.Fatal(err)
		}
		if n := b.settle(t, outcome); n != 1 {
			t.Errorf("%d recorded", n)
		}
		if n, err := letters.Count(t.Context()); n != 1 || err != nil || b.head(t).Dead != 1 {
			t.Errorf("%d letters, %v, %+v", n, err, b.head(t))
		}
	})
}

func TestWhoIsNoLongerHeldGetsNoLetter(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 1))
		lost := b.take(t, 1, ledger.Waiting, time.Nanosecond)
		asked := b.askLost(t, 1)
		if n := b.settle(t, deadOf(lost.Rows[0], "odd")); n != 0 {
			t.Errorf("%d recorded", n)
		}
		if entry, there := b.letter(t, lost.Rows[0]); there {
			t.Errorf("%+v", entry)
		}
		b.settle(t, sentAs(asked.Rows[0], fate.IntentFound, "inv_1", time.Now()))
		if c := b.head(t); c.Sent != 1 || c.Dead != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAForgottenRecipientGetsNoLetter(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 1))
		batch := b.take(t, 1, ledger.Waiting, time.Minute)
		if _, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), batch.Rows[0].ID); err != nil {
			t.Fatal(err)
		}
		if n := b.settle(t, deadOf(batch.Rows[0], "odd")); n != 1 {
			t.Errorf("%d recorded: that is no fault of the call's", n)
		}
		if entry, there := b.letter(t, batch.Rows[0]); there {
			t.Errorf("%+v", entry)
		}
		if c := b.head(t); c.Dead != 0 || c.Forgotten != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestAnInvitationThatHasSettledAnotherIntentSettlesNothing: its recipient is asked about again.
func TestAnInvitationThatHasSettledAnotherIntentSettlesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 1))
		b.take(t, 1, ledger.Waiting, time.Nanosecond)
		asked := b.askLost(t, 1)
		row := asked.Rows[0]
		b.rdb.HSet(t.Context(), store.Keys("test").Intents(string(row.ID[:])), "=inv_used", 1)
		if n := b.settle(t, sentAs(row, fate.IntentFound, "inv_used", time.Now())); n != 0 {
			t.Errorf("%d recorded", n)
		}
		again := b.askLost(t, 1)
		if got := again.Rows[0].Intent.Used; len(got) != 1 || got[0] != "inv_used" {
			t.Errorf("used: %v", got)
		}
	})
}

// TestRecipientsOfSeveralCallsAreSettledInOneStep: each by the token of its own hold.
func TestRecipientsOfSeveralCallsAreSettledInOneStep(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.add(t, "c", people(0, 3))
		lost := b.take(t, 1, ledger.Waiting, time.Nanosecond)
		held := b.take(t, 2, ledger.Waiting, time.Minute)
		asked := b.askLost(t, 1) // about the lost one: who called holds it no more
		n := b.settle(t, deadOf(lost.Rows[0], "odd"),
			sentAs(held.Rows[0], fate.IntentMade, "inv_1", time.Now()), deadOf(held.Rows[1], "odd"),
			sentAs(asked.Rows[0], fate.IntentFound, "inv_2", time.Now()))
		if c := b.head(t); n != 3 || c.Sent != 2 || c.Dead != 1 {
			t.Errorf("%d recorded: %+v", n, c)
		}
	})
}
