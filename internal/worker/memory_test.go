package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/call"
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
	// to a user who may not ask INFO or CONFIG: version and role are told to everybody
	for rules, unknown := range map[string][]string{
		"-config": {"appendfsync"}, "-info": nil, "-config -info": {"maxmemory-policy", "appendonly", "appendfsync"},
	} {
		all := []any{"+@all"}
		for _, rule := range strings.Fields(rules) {
			all = append(all, rule)
		}
		told := got(user(t, server, all...))
		for _, setting := range unknown {
			if !strings.Contains(told, "does not tell its "+setting) {
				t.Errorf("%s is not said to be unknown with %s: %s", setting, rules, told)
			}
		}
		if strings.Count(told, "does not tell") != len(unknown) || len(unknown) == 0 && told != "" {
			t.Errorf("with %s: %s", rules, told)
		}
	}
	rdb.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru")
	if told := got(user(t, server, "+@all", "-config")); !strings.Contains(told, "allkeys-lru") {
		t.Errorf("INFO tells the policy too: %s", told)
	}
}

// TestALossIsSeenWithoutINFO: by the count of a process, once, whichever process looks first.
func TestALossIsSeenWithoutINFO(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	small := user(t, server, "+@all", "-info")
	counts := []*store.Memory{store.NewMemory(), store.NewMemory()}
	read := func(m *store.Memory) memory {
		t.Helper()
		now, err := readMemory(t.Context(), small, "test", m, true)
		testkit.NoError(t, err)
		return now
	}
	for range 3 {
		for _, count := range counts {
			if now := read(count); !now.lost.IsZero() || now.run >= 0 {
				t.Fatalf("nothing was lost, and INFO is refused: %+v", now)
			}
		}
	}
	key := counts[0].Keys(store.Keys("test"))[2]
	if ttl := small.TTL(t.Context(), key).Val(); ttl <= 0 {
		t.Errorf("a count has a TTL of %s", ttl)
	}
	testkit.NoError(t, small.FlushAll(t.Context()).Err())
	first := read(counts[0])
	if first.lost.IsZero() {
		t.Error("a loss is not noticed")
	}
	for _, count := range append(counts, nil) {
		if now := read(count); !now.lost.Equal(first.lost) {
			t.Errorf("one loss is told twice: %+v after %+v", now, first)
		}
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
	m, err := readMemory(t.Context(), rdb, "test", nil, true)
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
		after, err = readMemory(t.Context(), rdb, "test", nil, true)
		return err == nil
	})
	const takenOver = "another Redis has taken over, and may lack what was written last"
	if after.lost.IsZero() || after.lossSince(before) != takenOver {
		t.Errorf("that a replica has taken over is not noticed: %+v after %+v", after, before)
	}
}

// TestUptimeHasNoFractions: a Redis that was restarted within a second may say that it has run for a second.
func TestUptimeHasNoFractions(t *testing.T) {
	t.Parallel()
	before := memory{at: time.Now(), run: time.Hour}
	at := before.at.Add(300 * time.Millisecond)
	if (memory{at: at, run: time.Second}).takenOver(before) {
		t.Error("a restarted Redis is taken for another one")
	}
	if !(memory{at: at, run: time.Minute}).takenOver(before) {
		t.Error("another Redis is taken for a restarted one")
	}
}

// TestACopyThatWasPutBackIsNoticed: it was last seen much longer ago than a process knows. What a failover or a crash
// loses is none, nor is a Redis that nobody has seen for long, or that is empty.
func TestACopyThatWasPutBackIsNoticed(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	for name, c := range map[string]struct {
		older, ago time.Duration // than the process knows; when it saw Redis last
		empty      bool
		rests      bool
	}{
		"yesterday":   {older: 24 * time.Hour, rests: true},
		"minutes":     {older: 11 * time.Minute, rests: true},
		"failover":    {older: 9 * time.Minute},
		"crash":       {older: time.Second},
		"long-away":   {ago: 24 * time.Hour},
		"both":        {ago: 24 * time.Hour, older: time.Hour, rests: true},
		"emptied":     {empty: true},
		"clock-ahead": {ago: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			seen, count := store.Keys(name).Seen(), store.NewMemory()
			read := func(m *store.Memory) memory {
				t.Helper()
				now, err := readMemory(t.Context(), rdb, name, m, false)
				testkit.NoError(t, err)
				return now
			}
			saw := func(at time.Time) { testkit.NoError(t, rdb.Set(t.Context(), seen, at.UnixMilli(), 0).Err()) }
			knows := read(nil).at.Add(-c.ago)
			saw(knows)
			count.Saw(knows.UnixMilli())
			if now := read(count); now.rest {
				t.Fatalf("nothing was put back: %+v", now)
			}
			ms, err := rdb.Get(t.Context(), seen).Int64()
			testkit.NoError(t, err)
			knows = time.UnixMilli(ms)
			saw(knows.Add(-c.older))
			if c.empty {
				testkit.NoError(t, rdb.Del(t.Context(), count.Keys(store.Keys(name))...).Err())
			}
			now := read(count)
			if now.rest != c.rests || c.rests && (now.behind < c.older || !now.lost.Equal(now.restored)) {
				t.Fatalf("%+v", now)
			}
			if !c.rests {
				return
			}
			db := store.Open(rdb, name)
			testkit.NoError(t, store.EndRestoration(t.Context(), db, store.Restoration{At: now.restored}))
			other := store.NewMemory()
			other.Saw(knows.UnixMilli())
			for _, m := range []*store.Memory{count, other} {
				if now := read(m); now.rest {
					t.Errorf("one copy is told twice: %+v", now)
				}
			}
		})
	}
}

// TestANewcomerHidesNoCopy from those that know more.
func TestANewcomerHidesNoCopy(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	knows := readNow(t, rdb).at
	count := store.NewMemory()
	count.Saw(knows.UnixMilli())
	seen := store.Keys("test").Seen()
	testkit.NoError(t, rdb.Set(t.Context(), seen, knows.Add(-time.Hour).UnixMilli(), 0).Err())
	newcomer := store.NewMemory()
	for range 2 {
		now, err := readMemory(t.Context(), rdb, "test", newcomer, true)
		testkit.NoError(t, err)
		if now.rest {
			t.Fatal("who knows nothing has noticed a copy")
		}
	}
	now, err := readMemory(t.Context(), rdb, "test", count, false)
	if err != nil || !now.rest {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestAPersonsRestoreIsNotNoticedOnceMore: it may have ended before a worker looks.
func TestAPersonsRestoreIsNotNoticedOnceMore(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	knows := readNow(t, rdb).at
	count := store.NewMemory()
	count.Saw(knows.UnixMilli())
	db := store.Open(rdb, "test")
	testkit.NoError(t, rdb.Set(t.Context(), db.Key.Seen(), knows.Add(-time.Hour).UnixMilli(), 0).Err())
	restored, err := store.BeginRestoration(t.Context(), db)
	testkit.NoError(t, err)
	testkit.NoError(t, store.EndRestoration(t.Context(), db, restored))
	now, err := readMemory(t.Context(), rdb, "test", count, false)
	if err != nil || now.rest || !now.restored.Equal(restored.At) || now.behind != 0 {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestWhatHasCostRedisItsMemoryIsSaid, each as it was, however soon a person's restore has ended.
func TestWhatHasCostRedisItsMemoryIsSaid(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t, testkit.Durable()...)
	rdb := testkit.Client(t, server.Addr)
	count, db := store.NewMemory(), store.Open(rdb, "test")
	read := func() memory {
		t.Helper()
		m, err := readMemory(t.Context(), rdb, "test", count, true)
		testkit.NoError(t, err)
		return m
	}
	before := read()
	says := func(what string) {
		t.Helper()
		now := read()
		if got := now.lossSince(before); now.lost.Equal(before.lost) || got != what {
			t.Errorf("%q, want %q: %+v after %+v", got, what, now, before)
		}
		before = now
	}
	restored, err := store.BeginRestoration(t.Context(), db)
	testkit.NoError(t, err)
	testkit.NoError(t, store.EndRestoration(t.Context(), db, restored))
	says("Redis was restored from a copy")
	server.Kill()
	testkit.NoError(t, server.Start(t.Context()))
	says("Redis was started anew")
	testkit.NoError(t, rdb.Set(t.Context(), db.Key.Lost(), 1, 0).Err()) // too long ago to be the same loss
	testkit.NoError(t, rdb.Set(t.Context(), count.Keys("test")[2], 0, 0).Err())
	testkit.Eventually(t, "the next loss has an instant of its own", func() bool {
		now, err := rdb.Time(t.Context()).Result()
		return err == nil && now.UnixMilli() > before.lost.UnixMilli()
	})
	says("Redis has lost what was written last")
}

// TestARightToINFOThatGoesIsWarnedOf, once, and so is its return.
func TestARightToINFOThatGoesIsWarnedOf(t *testing.T) {
	t.Parallel()
	server, log := testkit.RunRedis(t), &testkit.Buffer{}
	small := user(t, server, "+@all")
	w := &Worker{Config: Config{Redis: small, Namespace: "test", Log: zerolog.New(log), Health: NewHealth()},
		caller: &call.Caller{Restored: new(call.Gate)}, memory: memory{run: -1}}
	go w.watchMemory(t.Context())
	testkit.Eventually(t, "it answers", func() bool { return strings.Contains(log.String(), "Redis answers INFO again") })
	user(t, server, "+@all", "-info")
	testkit.Eventually(t, "a warning", func() bool {
		return strings.Contains(log.String(), `"warn","message":"Redis refuses INFO`)
	})
	user(t, server, "+@all")
	testkit.Eventually(t, "it answers again", func() bool {
		return strings.Count(log.String(), "Redis answers INFO again") == 2
	})
	if strings.Count(log.String(), "Redis refuses INFO") != 1 {
		t.Error(log.String())
	}
}
