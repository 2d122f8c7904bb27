package worker

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

func TestWhichVersionsAreNewEnough(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"6.2.0": true, "7.0.15": true, "10.0": true, "6.0.16": false,
		"5.9": false, "": false, "7": false, "x.y": false} {
		if got := isNew(version); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}

func TestWhatIsWrongWithRedisIsSaid(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t, testkit.Durable()...)
	rdb := testkit.Client(t, server.Addr)
	got := func(rdb redis.UniversalClient) string {
		t.Helper()
		faults, err := faults(t.Context(), rdb)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(faults, "\n")
	}
	if got := got(rdb); got != "" {
		t.Errorf("nothing is wrong, and it says %s", got)
	}
	for setting, bad := range map[string]string{"maxmemory-policy": "allkeys-lru", "appendonly": "no",
		"appendfsync": "everysec"} {
		good := rdb.ConfigGet(t.Context(), setting).Val()[setting]
		rdb.ConfigSet(t.Context(), setting, bad)
		if got := got(rdb); !strings.Contains(got, setting) || !strings.Contains(got, bad) ||
			strings.Contains(got, "\n") {
			t.Errorf("with %s %s: %s", setting, bad, got)
		}
		rdb.ConfigSet(t.Context(), setting, good)
	}
	// may neither ask INFO nor CONFIG
	rdb.Do(t.Context(), "ACL", "SETUSER", "small", "on", "nopass", "~*", "+@connection")
	small := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "small", Password: "x"})
	t.Cleanup(func() { _ = small.Close() })
	if got := got(small); strings.Count(got, "does not tell") != 4 {
		t.Errorf("to a user of little rights: %s", got)
	}
}

func TestARestartIsNoticedOnce(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t, testkit.Durable()...)
	rdb := testkit.Client(t, server.Addr)
	for range 2 {
		if m := readNow(t, rdb); !m.lost.IsZero() {
			t.Errorf("the first Redis that was ever seen is taken for a restarted one: %+v", m)
		}
	}
	before := readNow(t, rdb)
	server.Kill()
	testkit.NoError(t, server.Start(t.Context()))
	first, second := readNow(t, rdb), readNow(t, rdb)
	if first.lost.IsZero() || !second.lost.Equal(first.lost) {
		t.Errorf("a restart is not noticed, or twice: %+v, %+v", first, second)
	}
	if first.takenOver(before) {
		t.Error("a restarted Redis is taken for another one")
	}
}

func readNow(t *testing.T, rdb redis.UniversalClient) memory {
	t.Helper()
	m, err := readMemory(t.Context(), rdb, "test")
	testkit.NoError(t, err)
	return m
}

// TestInAClusterOnlyTheNodeThatKeepsOutcomesCounts: whichever node answers, nothing was lost until that one fails.
func TestInAClusterOnlyTheNodeThatKeepsOutcomesCounts(t *testing.T) {
	t.Parallel()
	cluster := testkit.RunCluster(t, 3)
	rdb := cluster.Client(t)
	for range 20 {
		if m := readNow(t, rdb); !m.lost.IsZero() {
			t.Fatalf("nothing was lost: %+v", m)
		}
	}
	testkit.NoError(t, testkit.Client(t, cluster.Nodes[1].Addr).ConfigSet(t.Context(), "appendfsync", "no").Err())
	wrong, err := faults(t.Context(), rdb)
	if err != nil || len(wrong) != 1 || !strings.HasPrefix(wrong[0], cluster.Nodes[1].Addr+": ") ||
		!strings.Contains(wrong[0], "appendfsync") {
		t.Errorf("wrong is %q, %v", wrong, err)
	}
	keeper, err := cluster.Master(t.Context(), rdb, store.Keys("test").Run())
	testkit.NoError(t, err)
	before := readNow(t, rdb)
	testkit.NoError(t, testkit.Client(t, keeper.Addr).Wait(t.Context(), 1, 0).Err()) // a replica has it
	keeper.Kill()
	var after memory
	testkit.Eventually(t, "a replica has taken over", func() bool {
		after, err = readMemory(t.Context(), rdb, "test")
		return err == nil
	})
	if after.lost.IsZero() || !after.takenOver(before) {
		t.Errorf("that a replica has taken over is not noticed: %+v after %+v", after, before)
	}
}
