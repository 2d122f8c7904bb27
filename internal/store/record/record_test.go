package record_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

const ada = "Ada@example.com"

// bundle is the records and the histories of a namespace.
type bundle struct {
	*record.Store
	t         *testing.T
	rdb       *redis.Client
	histories *history.Store
}

// onBoth runs a test on a real Redis and on the embedded one.
func onBoth(t *testing.T, test func(*testing.T, bundle)) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		test(t, bundle{record.NewStore(rdb, "test"), t, rdb, history.NewStore(rdb, "test")})
	})
}

// ends ends a task that is about ada, and gives the address in its record and whether ada remembers it.
func (b bundle) ends(id string) (address string, remembered bool) {
	b.t.Helper()
	done := record.Record{State: record.Done, EmailAddress: ada, EndedAt: time.Now()}
	testkit.NoError(b.t, b.End(b.t.Context(), id, done))
	r, known, err := b.Get(b.t.Context(), id)
	if testkit.NoError(b.t, err); !known || r.State != record.Done {
		b.t.Fatalf("%+v", r)
	}
	ids, _, err := b.histories.Of(b.t.Context(), store.IDOf(ada))
	testkit.NoError(b.t, err)
	for _, one := range ids {
		remembered = remembered || one == id
	}
	return r.EmailAddress, remembered
}

// TestARecordHasItsAddressOnlyIfThatRemembersIt: who forgets the address finds the record by its id.
func TestARecordHasItsAddressOnlyIfThatRemembersIt(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		if address, remembered := b.ends("one"); address != ada || !remembered {
			t.Errorf("%q, remembered: %t", address, remembered)
		}
		for i := range 499 {
			testkit.NoError(t, b.histories.Note(t.Context(), history.Note{
				Address: store.IDOf(ada), Events: []history.Event{{Name: fmt.Sprint(i), What: "died"}},
			})[0])
		}
		if address, remembered := b.ends("late"); address != "" || remembered {
			t.Errorf("beyond the bound: %q, remembered: %t", address, remembered)
		}
		if address, remembered := b.ends("one"); address != ada || !remembered {
			t.Errorf("written again: %q, remembered: %t", address, remembered)
		}
	})
}

// TestAnEndThatIsWrittenAfterAnErasureNamesNobody: the tombstone is there first.
func TestAnEndThatIsWrittenAfterAnErasureNamesNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		tombstones := store.NewTombstones(b.rdb, "test")
		_, err := tombstones.Set(t.Context(), store.IDOf("bob@example.com"))
		testkit.NoError(t, err)
		if address, remembered := b.ends("one"); address != ada || !remembered {
			t.Errorf("another was forgotten: %q, remembered: %t", address, remembered)
		}
		_, err = tombstones.Set(t.Context(), store.IDOf(ada))
		testkit.NoError(t, err)
		testkit.NoError(t, b.histories.Erase(t.Context(), store.IDOf(ada)))
		if address, remembered := b.ends("two"); address != "" || remembered {
			t.Errorf("%q, remembered: %t", address, remembered)
		}
	})
}

// TestForgettingTakesTheAddressOutOfARecord and keeps the rest as long as before.
func TestForgettingTakesTheAddressOutOfARecord(t *testing.T) {
	onBoth(t, func(t *testing.T, b bundle) {
		b.ends("one")
		key := store.Keys("test").Record("one")
		testkit.NoError(t, b.rdb.Expire(t.Context(), key, time.Hour).Err())
		testkit.NoError(t, b.Forget(t.Context(), "one", store.IDOf("bob@example.com")))
		if r, _, err := b.Get(t.Context(), "one"); r.EmailAddress != ada || err != nil {
			t.Errorf("another was forgotten: %+v, %v", r, err)
		}
		testkit.NoError(t, b.Forget(t.Context(), "one", store.IDOf(ada)))
		r, known, err := b.Get(t.Context(), "one")
		if !known || err != nil || r.EmailAddress != "" || r.State != record.Done {
			t.Errorf("%+v, %v", r, err)
		}
		if ttl := b.rdb.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("it is kept for %s", ttl)
		}
	})
}
