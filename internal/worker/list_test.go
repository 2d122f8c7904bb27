package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// movingClerk has a list that changes between calls.
type movingClerk struct {
	fakeClerk
	rows     []clerkclient.Invitation // by creation
	calls    []clerkclient.ListQuery
	before   func(call int) // is called before each answer; calls are counted from 1
	unstable bool           // rows of one time come in another order each time
	untold   bool           // answers have no count
	lie      int            // is added to the count
}

func (c *movingClerk) List(_ context.Context, q clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	c.calls = append(c.calls, q)
	if c.before != nil {
		c.before(len(c.calls))
	}
	var found []clerkclient.Invitation
	for _, inv := range c.rows {
		if inv.Status == q.Status || q.Status == "" && inv.Status != "revoked" {
			found = append(found, inv)
		}
	}
	if c.unstable {
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	}
	slices.SortStableFunc(found, func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) })
	page := clerkclient.Page{TotalCount: len(found) + c.lie}
	if c.untold {
		page.TotalCount = -1
	}
	start := min(q.Offset, len(found))
	page.Invitations = found[start:min(start+q.Limit, len(found))]
	return page, clerkclient.Answer{}, nil
}

// add appends rows that were created one after the other, so many at a time.
func (c *movingClerk) add(n, atATime int) {
	for range n {
		i := len(c.rows)
		c.rows = append(c.rows, clerkclient.Invitation{
			ID: fmt.Sprintf("inv_%d", i), EmailAddress: fmt.Sprintf("p%d@example.com", i), Status: "pending", CreatedAt: created.Add(time.Duration(i/atATime) * time.Second),
		})
	}
}

var created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// set gives rows a status.
func (c *movingClerk) set(status string, from, to int) {
	for i := from; i < to; i++ {
		c.rows[i].Status = status
	}
}

// idle is a worker that does not run, on a Redis in memory.
func idle(t testing.TB, clerk Clerk) *Worker { return idleOn(t, miniredis.RunT(t).Addr(), clerk) }

func idleOn(t testing.TB, addr string, clerk Clerk) *Worker {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
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

// readAll reads a list and gives the ids that were taken.
func readAll(t testing.TB, w *Worker, status string) (map[string]bool, *listing, error) {
	t.Helper()
	taken := map[string]bool{}
	l := &listing{
		status: status,
		each: func(_ context.Context, invitations []clerkclient.Invitation) error {
			for _, inv := range invitations {
				taken[inv.ID] = true
			}
			return nil
		},
		have: func(context.Context) (int, error) { return len(taken), nil },
	}
	err := w.readList(t.Context(), &run{read: true}, l)
	return taken, l, err
}

func TestAListIsReadWholeWhileItChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rows, atATime int
		clerk         func(c *movingClerk)
		missing       int // rows that left before their page was read
		slides        bool
		pages         int // the most
	}{
		"empty":                 {rows: 0, pages: 1},
		"one row":               {rows: 1, pages: 1},
		"a page but one":        {rows: policy.ListPage - 1, pages: 1},
		"a full page":           {rows: policy.ListPage, pages: 2},
		"a page and one":        {rows: policy.ListPage + 1, pages: 2},
		"many pages":            {rows: 3000, pages: 7},
		"without a count":       {rows: 1200, pages: 3, clerk: func(c *movingClerk) { c.untold = true }},
		"few slide":             {rows: 1200, pages: 3, clerk: func(c *movingClerk) { c.at(2, func() { c.set("revoked", 0, 10) }) }},
		"many slide":            {rows: 1200, pages: 5, slides: true, clerk: func(c *movingClerk) { c.at(2, func() { c.set("revoked", 0, 300) }) }},
		"nearly all slide":      {rows: 1200, pages: 8, slides: true, clerk: func(c *movingClerk) { c.at(2, func() { c.set("revoked", 0, 450) }) }},
		"it shrinks to nothing": {rows: 1200, missing: 700, pages: 8, slides: true, clerk: func(c *movingClerk) { c.at(2, func() { c.set("revoked", 0, 1200) }) }},
		"bulks in no order":     {rows: 2000, atATime: 10, pages: 5, clerk: func(c *movingClerk) { c.unstable = true }},
		"bulks in no order that slide": {rows: 2000, atATime: 10, pages: 7, slides: true, clerk: func(c *movingClerk) {
			c.unstable = true
			c.at(2, func() { c.set("revoked", 0, 25) })
		}},
		"hundreds of one time":   {rows: 2000, atATime: 300, pages: 9, clerk: func(c *movingClerk) { c.unstable = true }},
		"all of one time":        {rows: 2000, atATime: 2000, pages: 5},
		"all of one time, slide": {rows: 2000, atATime: 2000, pages: 8, slides: true, clerk: func(c *movingClerk) { c.at(3, func() { c.set("revoked", 0, 100) }) }},
		"rows come meanwhile":    {rows: 1200, pages: 4, clerk: func(c *movingClerk) { c.before = func(int) { c.add(5, 1) } }},
		"rows show late": {rows: 3000, pages: 12, slides: true, clerk: func(c *movingClerk) {
			late := c.rows[2700]
			c.rows[2700].Status = "hidden" // and counted from the last page on
			c.at(7, func() { c.lie = 1 })
			c.at(8, func() { c.rows[2700], c.lie = late, 0 })
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &movingClerk{}
			c.add(test.rows, max(1, test.atATime))
			if test.clerk != nil {
				test.clerk(c)
			}
			taken, l, err := readAll(t, idle(t, c), "")
			if err != nil || len(taken) < test.rows-test.missing {
				t.Errorf("%d rows of %d, %v", len(taken), test.rows-test.missing, err)
			}
			if l.slides > 0 != test.slides || l.pages > test.pages || l.pages != len(c.calls) {
				t.Errorf("gone back %d times, %d pages, at most %d wanted", l.slides, l.pages, test.pages)
			}
		})
	}
}

// at does something before the answer to a call.
func (c *movingClerk) at(call int, do func()) {
	earlier := c.before
	c.before = func(now int) {
		if earlier != nil {
			earlier(now)
		}
		if now == call {
			do()
		}
	}
}

func TestAListThatCannotBeReadWholeIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(c *movingClerk) Clerk{
		"it counts more than it shows": func(c *movingClerk) Clerk {
			c.lie = 3
			return c
		},
		"it is in no order": func(c *movingClerk) Clerk {
			c.rows[3].CreatedAt = created.Add(time.Hour)
			return &unsorted{c}
		},
		"it moves too fast": func(c *movingClerk) Clerk {
			c.before = func(call int) {
				if call%2 == 0 { // no page after the first one has a row
					c.rows = nil
				} else {
					c.add(1200, 1)
				}
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &movingClerk{}
			c.add(1200, 1)
			if _, l, err := readAll(t, idle(t, spoil(c)), ""); !errors.Is(err, errList) || l.pages > 2*policy.ListSlides+10 {
				t.Errorf("%v after %d pages", err, l.pages)
			}
		})
	}
}

// unsorted shows a list as it is kept.
type unsorted struct{ *movingClerk }

func (c *unsorted) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	return clerkclient.Page{Invitations: c.rows[:policy.ListPage], TotalCount: -1}, clerkclient.Answer{}, nil
}

// TestAShortPageIsTheEndOnlyIfClerkCountsNoMore: nobody else counts what was taken.
func TestAShortPageIsTheEndOnlyIfClerkCountsNoMore(t *testing.T) {
	t.Parallel()
	c := &movingClerk{lie: 700}
	c.add(100, 1)
	l := &listing{each: func(context.Context, []clerkclient.Invitation) error { return nil }}
	if err := idle(t, c).readList(t.Context(), &run{read: true}, l); !errors.Is(err, errList) {
		t.Errorf("%v after %d pages", err, l.pages)
	}
}

// TestRowsThatNothingHappensToAreAlwaysRead lets rows of any times come and leave between the pages.
func TestRowsThatNothingHappensToAreAlwaysRead(t *testing.T) {
	t.Parallel()
	w := idle(t, nil)
	rapid.Check(t, func(r *rapid.T) {
		c := &movingClerk{unstable: rapid.Bool().Draw(r, "unstable"), untold: rapid.Bool().Draw(r, "untold")}
		c.add(rapid.IntRange(0, 2500).Draw(r, "rows"), rapid.SampledFrom([]int{1, 2, 10, 60}).Draw(r, "at a time"))
		status := rapid.SampledFrom([]string{"", "revoked"}).Draw(r, "list")
		other := map[string]string{"": "revoked", "revoked": "pending"}[status]
		if status == "revoked" {
			for i := range c.rows {
				c.rows[i].Status = rapid.SampledFrom([]string{"revoked", "pending"}).Draw(r, "status")
			}
		}
		untouched := map[string]bool{}
		for _, inv := range c.rows {
			untouched[inv.ID] = inv.Status != other
		}
		most := rapid.SampledFrom([]int{0, 3, 30, 300}).Draw(r, "changes")
		c.before = func(int) {
			for range rapid.IntRange(0, most).Draw(r, "now") {
				if i := rapid.IntRange(0, 3000).Draw(r, "row"); i < len(c.rows) {
					c.rows[i].Status, untouched[c.rows[i].ID] = "revoked", false // which takes it from one list to the other
				} else {
					c.add(1, 1)
				}
			}
		}
		w.clerk = c
		taken, l, err := readAll(t, w, status)
		if err != nil {
			r.Fatalf("%v after %d pages", err, l.pages)
		}
		for id := range maps.Keys(untouched) {
			if untouched[id] && !taken[id] {
				r.Fatalf("%s is missing; %d pages, gone back %d times", id, l.pages, l.slides)
			}
		}
	})
}
