package intent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
)

func TestATombstoneIsObeyed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stones := store.NewTombstones(b.rdb, "test")
	address := b.wish("a").Address
	other := [16]byte{2}
	if forgotten, err := stones.Forgotten(t.Context(), address, other); err != nil ||
		slices.Contains(forgotten, true) {
		t.Errorf("before any: %v, %v", forgotten, err)
	}
	b.want("flying", "1", time.Minute, fate.VerdictGranted)
	for _, fresh := range []bool{true, false} {
		if got, err := stones.Set(t.Context(), address); err != nil || got != fresh {
			t.Errorf("set: %t, %v, want %t", got, err, fresh)
		}
	}
	if forgotten, err := stones.Forgotten(t.Context(), other, address); err != nil ||
		!slices.Equal(forgotten, []bool{false, true}) {
		t.Errorf("forgotten: %v, %v", forgotten, err)
	}
	if gone, err := b.Erase(t.Context(), address); err != nil || !gone {
		t.Errorf("erased: %t, %v", gone, err)
	}
	b.want("next", "2", time.Minute, fate.VerdictErased)
	// The outcome of the call that is in flight is written to the task's record and nowhere else.
	err := b.Settle(t.Context(), intent.Settlement{
		Wish: b.wish("flying"), Token: "1", End: fate.IntentMade, InvitationID: "inv_1",
		Record: &record.Record{State: record.Done, EmailAddress: "ada@example.com"},
		Letter: &deadletter.Entry{ID: "flying", EmailAddress: "ada@example.com"},
	})
	if err != nil {
		t.Error(err)
	}
	if text := b.rdb.Get(t.Context(), "test:{once}:t:flying").Val(); strings.Contains(text, "ada") {
		t.Errorf("the record is %s", text)
	}
	keys := b.rdb.Keys(t.Context(), "*").Val()
	slices.Sort(keys)
	keys = slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, ":request:") })
	if !slices.Equal(keys, []string{"test:{once}:forgotten", "test:{once}:redis", "test:{once}:t:flying"}) {
		t.Errorf("left are %q", keys)
	}
	for field := range b.rdb.HGetAll(t.Context(), "test:{once}:forgotten").Val() {
		if strings.Contains(field, string(address[:])) {
			t.Errorf("tombstone %q is not salted", field)
		}
	}
	for _, there := range []bool{true, false} {
		if lifted, err := stones.Lift(t.Context(), address); err != nil || lifted != there {
			t.Errorf("lifted: %t, %v, want %t", lifted, err, there)
		}
	}
	b.want("next", "3", time.Minute, fate.VerdictGranted)
}

func TestAnIntentIsOpenedToKeepOthersAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mustSettle("a", "1", fate.IntentOpened, "")
	b.want("b", "2", time.Minute, fate.VerdictBusy)
	b.want("a", "3", time.Minute, fate.VerdictUnsure)
	b.mustSettle("b", "4", fate.IntentOpened, "") // in vain: another's is open
	if s, _, err := b.Standing(t.Context(), intent.TaskOwner("b"), [16]byte{1}); err != nil || s.Open {
		t.Errorf("%+v, %v", s, err)
	}
	if err := b.Settle(t.Context(),
		intent.Settlement{Wish: b.wish("a"), Token: "1", End: fate.IntentAbsent,
			Used: []string{"inv_1", "inv_2"}}); err != nil {
		t.Fatal(err)
	}
	if claim := b.want("a", "5", time.Minute, fate.VerdictGranted); claim.First {
		t.Errorf("%+v is fresh", claim)
	}
	s, _, err := b.Standing(t.Context(), intent.TaskOwner("a"), [16]byte{1})
	slices.Sort(s.Used)
	if err != nil || !slices.Equal(s.Used, []string{"inv_1", "inv_2"}) {
		t.Errorf("%+v, %v", s, err)
	}
	b.mustSettle("a", "5", fate.IntentUnknown, "")
	if err := b.settle("a", "5", fate.IntentFound, "inv_1"); !errors.Is(err, intent.ErrTaken) {
		t.Errorf("what was in the way was taken for what the call has made: %v", err)
	}
	b.mustSettle("a", "5", fate.IntentFound, "inv_3")
}
