package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/retry"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// invite is the dead letter of an invite task.
func invite(id, address string) deadletter.Entry {
	l := letter(id)
	l.EmailAddress, l.Payload = address, []byte(`{"v":1,"email_address":"`+address+`","enqueued_at":7}`)
	return l
}

// mend retries a letter with another request.
func (b bundle) mend(ctx context.Context, l deadletter.Entry, as *tasks.Recipient) (string, error) {
	done := b.RetryEach(ctx, []retry.Wish{{Letter: l, As: as}})[0]
	return done.Carrier, done.Err
}

func to(address string) *tasks.Recipient { return &tasks.Recipient{EmailAddress: address} }

// TestAMendThatWasBrokenOffIsFinishedAsItWasBegun: of two people who mend one letter, one is told that the other was
// first, and only the first one's request is sent.
func TestAMendThatWasBrokenOffIsFinishedAsItWasBegun(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	l := invite("a", "wrong@example.com")
	testkit.NoError(t, b.letters.Put(ctx, l))
	payload := []byte(`{"v":1,"email_address":"first@example.com","enqueued_at":7}`)
	began := l
	began.Next, began.Mended = "a:retry1", payload
	_, errs := b.letters.BeginRetry(ctx, began) // and then it is broken off
	testkit.NoError(t, errs[0])
	if _, err := b.mend(ctx, l, to("second@example.com")); !errors.Is(err, deadletter.ErrBegun) {
		t.Errorf("another mend: %v", err)
	}
	next, err := b.Retry(ctx, "a")
	if testkit.NoError(t, err); next != "a:retry1" {
		t.Errorf("retried as %s", next)
	}
	info, err := b.inspector.GetTaskInfo("test:interactive", next)
	if err != nil || string(info.Payload) != string(payload) {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := b.mend(ctx, l, to("third@example.com")); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("once it is gone: %v", err)
	}
	later := l
	later.FailedAt = l.FailedAt.Add(time.Second)
	testkit.NoError(t, b.letters.Put(ctx, later))
	if _, err := b.mend(ctx, l, to("third@example.com")); !errors.Is(err, deadletter.ErrChanged) {
		t.Errorf("once it is another: %v", err)
	}
}

// TestARecipientIsReplacedOnce: a mend that was broken off after the row was replaced is repeated.
func TestARecipientIsReplacedOnce(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	wrong := json.RawMessage(`{"email_address":"wrong@example.com"}`)
	rows := []ledger.Recipient{{Folded: "wrong@example.com", Data: wrong}}
	_, err := b.ledgers.Add(ctx, "c", time.Time{}, rows)
	testkit.NoError(t, err)
	batch, err := b.ledgers.TakeForCall(ctx, "c", 1, time.Minute, 0, ledger.Waiting)
	testkit.NoError(t, err)
	id := batch.Rows[0].ID
	l := invite(deadletter.RecipientID("c", id), "wrong@example.com")
	l.Type, l.Campaign, l.Recipient, l.Payload = tasks.TypeBulkInvite, "c", &id, rows[0].Data
	_, err = b.ledgers.Settle(ctx, "c", []ledger.Outcome{{
		Row: batch.Rows[0], Letter: &l, At: time.Now(),
		Decision: fate.Decision{Next: fate.Dead, Intent: fate.IntentRefused, Cause: &l.Failure},
	}})
	testkit.NoError(t, err)
	for range 2 {
		_, err = b.mend(ctx, l, to("right@example.com"))
		testkit.NoError(t, err)
		c, err := b.ledgers.Get(ctx, "c")
		if err != nil || c.Recipients != 1 || c.Dead != 0 || len(c.DeadByCode) != 0 {
			t.Errorf("%+v, %v", c, err)
		}
		testkit.NoError(t, b.letters.Put(ctx, l)) // as if it had not been deleted
		b.rdb.HSet(ctx, "test:{once}:d:e:"+l.ID, "next", l.ID+":retry1", "mended", `{"email_address":"right@example.com"}`)
	}
	found, err := b.ledgers.Find(ctx, "c", []store.AddressID{id, store.IDOf("right@example.com")})
	if err != nil || len(found) != 1 || found[store.IDOf("right@example.com")].State != ledger.RowOpen {
		t.Errorf("%+v, %v", found, err)
	}
	// What was replaced is known: the same list adds nobody.
	up, err := b.ledgers.Add(ctx, "c", time.Time{}, rows)
	if err != nil || up.Added != 0 || up.Known != 1 {
		t.Errorf("%+v, %v", up, err)
	}
	// Nor may its place be taken by one that is there, or that was forgotten.
	other := json.RawMessage(`{"email_address":"other@example.com"}`)
	_, err = b.ledgers.Add(ctx, "c", time.Time{}, []ledger.Recipient{{Folded: "other@example.com", Data: other}})
	testkit.NoError(t, err)
	batch, err = b.ledgers.TakeForCall(ctx, "c", 1, time.Minute, 0, ledger.Waiting)
	testkit.NoError(t, err)
	_, err = b.ledgers.Settle(ctx, "c", []ledger.Outcome{{
		Row: batch.Rows[0], At: time.Now(),
		Decision: fate.Decision{Next: fate.Dead, Intent: fate.IntentRefused, Cause: &l.Failure},
	}})
	testkit.NoError(t, err)
	_, err = store.NewTombstones(b.rdb, "test").Set(ctx, store.IDOf("gone@example.com"))
	testkit.NoError(t, err)
	for address, want := range map[string]error{
		"right@example.com": ledger.ErrTaken, "gone@example.com": ledger.ErrForgotten,
	} {
		as := ledger.Revival{
			Of: store.IDOf("other@example.com"), Recipient: other, ID: store.IDOf(address), From: "other@example.com",
		}
		if err := b.ledgers.Revive(ctx, "c", as)[0]; !errors.Is(err, want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestARequestThatCannotBeReadIsNotMended(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	l := letter("a")
	testkit.NoError(t, b.letters.Put(ctx, l))
	if _, err := b.mend(ctx, l, to("ada@example.com")); !errors.Is(err, retry.ErrNoRequest) {
		t.Errorf("%v", err)
	}
	if _, err := b.Retry(ctx, "a"); err != nil {
		t.Errorf("as it is: %v", err)
	}
}
