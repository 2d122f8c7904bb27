package intent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

// onBoth runs a test on a real Redis and on the embedded one.
func onBoth(t *testing.T, test func(*testing.T, bundle)) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		test(t, bundle{intent.NewTasks(rdb, "test"), t, rdb, time.Now().UnixMilli()})
	})
}

// state gives the state in a task's record, and whether it has a dead letter.
func (b bundle) state(task string) (state record.State, dead bool) {
	b.t.Helper()
	r, _, err := record.NewStore(b.rdb, "test").Get(b.t.Context(), task)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = deadletter.NewStore(b.rdb, "test").Get(b.t.Context(), task)
	if err != nil && !errors.Is(err, deadletter.ErrNotFound) {
		b.t.Fatal(err)
	}
	return r.State, err == nil
}

// died is the ending of a task as a dead letter.
func (b bundle) died(task, token string, end fate.End) intent.Settlement {
	return intent.Settlement{
		Wish: b.wish(task), Token: token, End: end, Record: &record.Record{State: record.Dead},
		Letter: &deadletter.Entry{
			ID: task, TaskID: task, Failure: fate.Failure{Reason: fate.ReasonRejected}, FailedAt: time.Now(),
		},
	}
}

func TestATaskEndsWithItsIntentInOneStep(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.want("a", "1", time.Minute, fate.VerdictGranted)
		ending := b.died("a", "1", fate.IntentRefused)
		for range 2 { // the script may run twice
			if err := b.Settle(t.Context(), ending); err != nil {
				t.Fatal(err)
			}
		}
		if state, dead := b.state("a"); state != record.Dead || !dead {
			t.Errorf("record %q, letter: %t", state, dead)
		}
		b.want("b", "2", time.Minute, fate.VerdictGranted) // the intent is gone
		if err := b.Settle(t.Context(), b.died("b", "another's", fate.IntentRefused)); !errors.Is(err,
			intent.ErrTaken) {
			t.Errorf("settled by another's token: %v", err)
		}
		if state, dead := b.state("b"); state != "" || dead {
			t.Errorf("written without a claim: record %q, letter: %t", state, dead)
		}
	})
}

func TestATaskWithoutAnIntentEndsByTheSameScript(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		ending := b.died("a", "", fate.IntentUnchanged)
		for range 2 {
			if err := b.Settle(t.Context(), ending); err != nil {
				t.Fatal(err)
			}
		}
		if state, dead := b.state("a"); state != record.Dead || !dead {
			t.Errorf("record %q, letter: %t", state, dead)
		}
		if ttl := b.rdb.TTL(t.Context(), "test:{once}:t:a").Val(); ttl <= 0 {
			t.Errorf("the record of an ended task is kept for ever: %s", ttl)
		}
		if n := b.rdb.Exists(t.Context(), b.key()).Val(); n != 0 {
			t.Error("an intent was made")
		}
	})
}

func TestATaskEndsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		done := intent.Settlement{Wish: b.wish("a"), End: fate.IntentUnchanged,
			Record: &record.Record{State: record.Done}}
		if err := b.Settle(t.Context(), done); err != nil {
			t.Fatal(err)
		}
		if err := b.Settle(t.Context(), b.died("a", "", fate.IntentUnchanged)); !errors.Is(err, intent.ErrTaken) {
			t.Errorf("another run ended it again: %v", err)
		}
		if state, dead := b.state("a"); state != record.Done || dead {
			t.Errorf("record %q, letter: %t", state, dead)
		}
	})
}

func TestAForgottenAddressGetsARecordAndNoLetter(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		if _, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), b.wish("a").Address); err != nil {
			t.Fatal(err)
		}
		if err := b.Settle(t.Context(), b.died("a", "", fate.IntentUnchanged)); err != nil {
			t.Fatal(err)
		}
		if state, dead := b.state("a"); state != record.Dead || dead {
			t.Errorf("record %q, letter: %t", state, dead)
		}
	})
}

// TestAnOutcomeIsWrittenAlsoWhenRedisIsFull: the call was made, and Clerk has answered.
func TestAnOutcomeIsWrittenAlsoWhenRedisIsFull(t *testing.T) {
	t.Parallel()
	for _, end := range []fate.End{fate.IntentMade, fate.IntentUnknown, fate.IntentRefused} {
		b := setup(t)
		b.want("a", "1", time.Minute, fate.VerdictGranted)
		testkit.NoError(t, b.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
		if err := b.settle("a", "1", end, "inv_1"); err != nil {
			t.Errorf("%s: %v", end, err)
		}
	}
}
