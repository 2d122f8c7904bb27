package intent_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// TestADeletedInvitationMaySettleTheIntentOfItsCall: one of them, and only that of a call that may have created it.
func TestADeletedInvitationMaySettleTheIntentOfItsCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	address := store.AddressID{1}
	note := func(id string, created time.Time) {
		t.Helper()
		if err := b.NoteDeleted(t.Context(), address, id, created); err != nil {
			t.Fatal(err)
		}
	}
	standing := func(task string) intent.Standing {
		t.Helper()
		s, _, err := b.Standing(t.Context(), intent.TaskOwner(task), address)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	claim := b.want("a", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("a", "1", fate.IntentUnknown, "")
	note("inv_old", claim.Now.Add(-time.Hour))
	note("inv_new", claim.Now.Add(time.Second))
	note("inv_new", claim.Now.Add(time.Second)) // a run that was killed is repeated
	if s := standing("a"); !slices.Equal(s.Deleted, []string{"inv_new"}) || len(s.Used) != 0 {
		t.Fatalf("%+v", s)
	}
	b.mustSettle("a", "1", fate.IntentFound, "inv_new")
	b.want("b", "2", time.Minute, fate.VerdictGranted)
	b.mustSettle("b", "2", fate.IntentUnknown, "")
	if s := standing("b"); slices.Contains(s.Deleted, "inv_new") || !slices.Contains(s.Used, "inv_new") {
		t.Errorf("%+v", s)
	}
	if err := b.settle("b", "2", fate.IntentFound, "inv_new"); !errors.Is(err, intent.ErrTaken) {
		t.Errorf("it settled a second intent: %v", err)
	}
	note("inv_new", time.Now()) // it stays used
	if s := standing("b"); slices.Contains(s.Deleted, "inv_new") {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsNotedOfADeletedInvitationIsForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if err := b.NoteDeleted(t.Context(), store.AddressID{1}, "inv_1", time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, key := range b.rdb.Keys(t.Context(), "*").Val() {
		if ttl := b.rdb.TTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%q stays", key)
		}
	}
}
