package worker

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

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
	noticed := func() bool {
		t.Helper()
		restarted, err := restarted(t.Context(), rdb, "test")
		if err != nil {
			t.Fatal(err)
		}
		return restarted
	}
	for range 2 {
		if noticed() {
			t.Error("the first Redis that was ever seen is taken for a restarted one")
		}
	}
	server.Kill()
	testkit.NoError(t, server.Start(t.Context()))
	if !noticed() || noticed() {
		t.Error("a restart is not noticed, or twice")
	}
}
