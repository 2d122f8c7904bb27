package store_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// TestActionsAreNoted once each, the latest first, also when Redis is full; the oldest are forgotten.
func TestActionsAreNoted(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	audit := store.NewAudit(rdb, "test")
	at := time.Now().UTC()
	note := func(n int) {
		t.Helper()
		testkit.NoError(t, audit.Note(t.Context(), store.Action{At: at, Who: "ada", What: fmt.Sprint("did ", n), N: n}))
	}
	const most, more = 1000, 5
	for n := range most + more {
		if n == most {
			testkit.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
		}
		note(n)
	}
	note(most) // it is repeated, because its answer was late
	noted, err := audit.List(t.Context())
	testkit.NoError(t, err)
	if len(noted) != most || noted[0].N != most+more-1 || noted[most-1].N != more {
		t.Errorf("%d are noted, from %+v to %+v", len(noted), noted[0], noted[len(noted)-1])
	}
	if left := rdb.TTL(t.Context(), "test:audit").Val(); left < 89*24*time.Hour {
		t.Errorf("they are kept for %s", left)
	}
}
