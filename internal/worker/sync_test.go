package worker

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask/listtest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/testkit"
)

// movingClerk has a list that changes between calls.
type movingClerk struct {
	fakeClerk
	listtest.Moving
}

func (c *movingClerk) List(ctx context.Context, q clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	page, err := c.Ask(ctx, q)
	return page, clerkclient.Answer{}, err
}

// idle is a worker that does not run, on a Redis in memory.
func idle(t testing.TB, clerk Clerk) *Worker { return idleOn(t, testkit.MiniRedis(t), clerk) }

func idleOn(t testing.TB, rdb redis.UniversalClient, clerk Clerk) *Worker {
	t.Helper()
	w, err := New(Config{
		Redis: rdb, Namespace: "test", Clerk: clerk, KeyFingerprint: "k", Embedded: true, Health: NewHealth(),
		Policy:  policy.Policy{Timeout: 30 * time.Second, MaxAttempts: 3, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond},
		Metrics: NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// synced runs a sync-list and gives its figures.
func synced(t rapid.TB, w *Worker, whole bool) map[string]int {
	t.Helper()
	end, err := w.syncList(context.Background(), &run{id: "t", read: true}, whole)
	if err != nil || end.dead != nil {
		t.Fatalf("%+v, %v", end.dead, err)
	}
	return end.detail
}

// same compares the directory with Clerk's list.
func same(t rapid.TB, w *Worker, c *movingClerk) {
	t.Helper()
	copy, err := w.directory.Copy(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = copy.Each(context.Background(), directory.Filter{}, func(inv directory.Invitation) error {
		if got[inv.ID] != "" {
			t.Errorf("%s is there twice", inv.ID)
		}
		got[inv.ID] = inv.Status
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, inv := range c.Rows {
		if got[inv.ID] != inv.Status {
			t.Errorf("%s is %q in the copy and %s at Clerk", inv.ID, got[inv.ID], inv.Status)
		}
	}
	if len(got) != len(c.Rows) {
		t.Errorf("%d rows in the copy, %d at Clerk", len(got), len(c.Rows))
	}
}

// settled has rows of every kind: the older ones can change no more.
func settled() *movingClerk {
	c := &movingClerk{}
	c.Add(1800, 4)
	c.Set("accepted", 0, 1500)
	c.Set("expired", 300, 600)
	c.Set("revoked", 900, 1100)
	return c
}

func TestOnlyWhatCanHaveChangedIsReadAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(c *movingClerk)
		whole  bool // all is read again
	}{
		"nothing":                   {change: func(*movingClerk) {}},
		"rows come":                 {change: func(c *movingClerk) { c.Add(30, 1) }},
		"many rows come":            {change: func(c *movingClerk) { c.Add(1300, 1) }},
		"open rows are settled":     {change: func(c *movingClerk) { c.Set("accepted", 1500, 1510); c.Set("revoked", 1510, 1520) }},
		"all open rows are settled": {change: func(c *movingClerk) { c.Set("expired", 1500, 1800) }},
		"an expired row is revoked": {change: func(c *movingClerk) { c.Set("revoked", 350, 351) }, whole: true},
		"an expired row is accepted": {change: func(c *movingClerk) {
			c.Set("accepted", 350, 351)
		}, whole: true},
		"an accepted row is gone": {change: func(c *movingClerk) { c.Rows = slices.Delete(c.Rows, 20, 21) }, whole: true},
		"a revoked row is gone":   {change: func(c *movingClerk) { c.Rows = slices.Delete(c.Rows, 1000, 1001) }, whole: true},
		"an old row shows late": {change: func(c *movingClerk) {
			c.Rows = slices.Insert(c.Rows, 100, clerkclient.Invitation{ID: "inv_late", EmailAddress: "late@example.com", Status: "accepted", CreatedAt: c.Rows[100].CreatedAt})
		}, whole: true},
		"Clerk tells no counts": {change: func(c *movingClerk) { c.Untold = true }, whole: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := settled()
			w := idle(t, c)
			if first := synced(t, w, false); first["kept"] != 0 || first["invitations"] != 1800 {
				t.Errorf("the first time: %v", first)
			}
			same(t, w, c)
			test.change(c)
			c.Calls = nil
			again := synced(t, w, false)
			same(t, w, c)
			if (again["kept"] == 0) != test.whole || !test.whole && again["kept"] < 1490 {
				t.Errorf("the second time: %v", again)
			}
			if !test.whole && name != "many rows come" && len(c.Calls) > 6 {
				t.Errorf("%d calls", len(c.Calls))
			}
		})
	}
}

func TestAllIsReadAgainWhenItIsTime(t *testing.T) {
	t.Parallel()
	c := settled()
	w := idle(t, c)
	synced(t, w, false)
	if asked := synced(t, w, true); asked["kept"] != 0 {
		t.Errorf("it was asked for: %v", asked)
	}
	before := time.Now().Add(-policy.SyncWhole - time.Minute)
	if err := w.rdb.HSet(t.Context(), "test:{directory}:meta", "full_at", before.UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
	if due := synced(t, w, false); due["kept"] != 0 {
		t.Errorf("it was due: %v", due)
	}
	// A row that was made shortly before the copy may have been missing in it: it is not taken over.
	c.Set("accepted", 1500, 1800)
	c.Rows[10].CreatedAt, c.Rows[10].Status = time.Now().Add(-policy.SyncMargin/2), "accepted"
	slices.SortStableFunc(c.Rows, func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	synced(t, w, true)
	if young := synced(t, w, false); young["kept"] != 1799 {
		t.Errorf("all but the young one are settled: %v", young)
	}
	same(t, w, c)
}

// TestACopyBuiltOnAnotherIsAsOneReadWhole makes any changes that Clerk may make between two synchronizations.
func TestACopyBuiltOnAnotherIsAsOneReadWhole(t *testing.T) {
	t.Parallel()
	w := idleOn(t, testkit.Client(t, testkit.RunRedis(t).Addr), nil) // the real one is faster
	rapid.Check(t, func(r *rapid.T) {
		c := &movingClerk{}
		c.Unstable = rapid.Bool().Draw(r, "unstable")
		c.Add(rapid.IntRange(500, 900).Draw(r, "rows"), rapid.SampledFrom([]int{1, 10, 40}).Draw(r, "at a time"))
		c.Set("accepted", 0, rapid.IntRange(0, len(c.Rows)).Draw(r, "settled"))
		for range rapid.IntRange(0, 60).Draw(r, "others") {
			at := rapid.IntRange(0, len(c.Rows)-1).Draw(r, "row")
			c.Set(rapid.SampledFrom([]string{"expired", "revoked", "accepted"}).Draw(r, "status"), at, min(at+20, len(c.Rows)))
		}
		w.clerk = c
		if err := w.rdb.FlushDB(t.Context()).Err(); err != nil {
			r.Fatal(err)
		}
		synced(r, w, false)
		for range rapid.IntRange(1, 2).Draw(r, "times") {
			c.Add(rapid.IntRange(0, 20).Draw(r, "new"), 1)
			for range rapid.IntRange(0, 10).Draw(r, "changes") {
				at := rapid.IntRange(0, len(c.Rows)-1).Draw(r, "row")
				switch c.Rows[at].Status {
				case "pending":
					c.Set(rapid.SampledFrom([]string{"expired", "revoked", "accepted"}).Draw(r, "status"), at, at+1)
				case "expired":
					c.Set("revoked", at, at+1)
				}
			}
			synced(r, w, false)
			same(r, w, c)
		}
	})
}

// TestTheOldCopyStaysUntilTheNewOneIsWhole: a list that cannot be read whole is a failed attempt like any other.
func TestTheOldCopyStaysUntilTheNewOneIsWhole(t *testing.T) {
	t.Parallel()
	c := settled()
	w := idle(t, c)
	synced(t, w, false)
	c.Lie = 5
	c.Add(10, 1)
	r := &run{id: "t", read: true}
	end, err := w.syncList(t.Context(), r, true)
	if err != nil || end.dead == nil || end.dead.Reason != fate.Exhausted || end.dead.Code != "list_incomplete" || r.record.Attempts != 3 {
		t.Errorf("%+v, %v, %d attempts", end.dead, err, r.record.Attempts)
	}
	copy, err := w.directory.Copy(t.Context())
	n := 0
	_ = copy.Each(t.Context(), directory.Filter{}, func(directory.Invitation) error { n++; return nil })
	if err != nil || n != 1800 {
		t.Errorf("%d rows in the copy, %v", n, err)
	}
	if keys := w.rdb.Keys(t.Context(), "test:{directory}:*").Val(); len(keys) != 4 { // head, names, rows and order
		t.Errorf("drafts were left: %v", keys)
	}
	c.Lie = 0
	synced(t, w, false)
	same(t, w, c)
}

func TestTheOneBegunLaterCounts(t *testing.T) {
	t.Parallel()
	c := settled()
	w := idle(t, c)
	var later time.Time
	c.Before = func(call int) {
		if call == 2 { // another one begins and ends meanwhile
			for began := w.rdb.Time(t.Context()).Val(); !w.rdb.Time(t.Context()).Val().After(began.Add(time.Millisecond)); { // later is a millisecond
			}
			c.Add(1, 1)
			synced(t, w, true)
			copy, err := w.directory.Copy(t.Context())
			if err != nil {
				t.Error(err)
			}
			later = copy.SyncedAt
		}
	}
	synced(t, w, false)
	same(t, w, c)
	if copy, err := w.directory.Copy(t.Context()); err != nil || !copy.SyncedAt.Equal(later) {
		t.Errorf("the copy was begun at %s, and the later one at %s; %v", copy.SyncedAt, later, err)
	}
}
