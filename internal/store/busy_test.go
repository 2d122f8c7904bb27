package store_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// What is taken is nobody else's until it is given back, also where each command is sent twice, as go-redis does when an
// answer is late, and in a Cluster.
func TestTake(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, rdb redis.UniversalClient) {
		t.Helper()
		one, other := store.Open(rdb, "usher"), store.Open(rdb, "other")
		release, err := one.Take(t.Context(), "list")
		testkit.NoError(t, err)
		if _, err := one.Take(t.Context(), "list"); !errors.Is(err, store.ErrBusy) {
			t.Fatalf("it was taken twice: %v", err)
		}
		for db, name := range map[*store.DB]string{&one: "another list", &other: "list"} {
			free, err := db.Take(t.Context(), name)
			testkit.NoError(t, err)
			free()
		}
		if left := rdb.PTTL(t.Context(), one.Key.Busy("list")).Val(); left <= 0 {
			t.Errorf("it stays taken for %s, whatever becomes of its process", left)
		}
		release()
		again, err := one.Take(t.Context(), "list")
		testkit.NoError(t, err)
		release() // that of another taking changes nothing
		if _, err := one.Take(t.Context(), "list"); !errors.Is(err, store.ErrBusy) {
			t.Errorf("it was given back by who did not have it: %v", err)
		}
		again()
	}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		server := testkit.RunRedis(t)
		rdb := testkit.Client(t, server.Addr)
		rdb.AddHook(testkit.Twice{})
		test(t, rdb)
	})
	t.Run("in a cluster", func(t *testing.T) {
		t.Parallel()
		test(t, testkit.RunCluster(t, 3).Client(t))
	})
}
