package pending

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/intent"
	"example.com/usher/internal/ledger"
)

// clerk is a list, the oldest first, that changes before each page.
type clerk struct {
	rows   []clerkclient.Invitation
	before func(call int, c *clerk)
	calls  int
}

func (c *clerk) list(_ context.Context, q clerkclient.ListQuery) (clerkclient.Page, error) {
	c.calls++
	if c.before != nil {
		c.before(c.calls, c)
	}
	rows := slices.Clone(c.rows)
	rows = slices.DeleteFunc(rows, func(inv clerkclient.Invitation) bool { return q.Status != "" && inv.Status != q.Status })
	if q.OrderBy == "-created_at" {
		slices.Reverse(rows)
	}
	start := min(q.Offset, len(rows))
	return clerkclient.Page{Invitations: rows[start:min(start+q.Limit, len(rows))], TotalCount: len(rows)}, nil
}

func address(i int) string { return fmt.Sprintf("p%d@example.com", i) }

func rows(from, to int) []clerkclient.Invitation {
	var list []clerkclient.Invitation
	for i := from; i < to; i++ {
		at := time.Unix(int64(1_700_000_000+i/10), 0) // ten of a bulk have one time
		list = append(list, clerkclient.Invitation{ID: fmt.Sprintf("inv_%d", i), EmailAddress: address(i), Status: "pending", CreatedAt: at})
	}
	return list
}

// TestNoRowIsMissedThatSlides: invitations are accepted and made while the list is read.
func TestNoRowIsMissedThatSlides(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(call int, c *clerk){
		"nothing happens":       nil,
		"a few are accepted":    func(call int, c *clerk) { c.rows = c.rows[min(20, len(c.rows)):] },
		"many are accepted":     func(call int, c *clerk) { c.rows = c.rows[min(180, max(0, len(c.rows)-1000)):] },
		"the read ones all are": func(call int, c *clerk) { c.rows = slices.Delete(c.rows, 0, map[bool]int{true: 700}[call == 2]) },
		"others are made":       func(call int, c *clerk) { c.rows = append(c.rows, rows(10_000+30*call, 10_030+30*call)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clerk{rows: rows(0, 2600), before: change}
			seen := map[string]bool{}
			err := Finder{List: c.list}.each(t.Context(), clerkclient.ListQuery{Status: "pending", OrderBy: "+created_at"}, func(rows []clerkclient.Invitation) (bool, error) {
				for _, inv := range rows {
					seen[inv.ID] = true
				}
				return true, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, inv := range c.rows {
				if !seen[inv.ID] && inv.CreatedAt.Before(rows(10_000, 10_001)[0].CreatedAt) {
					t.Fatalf("%s was pending all the while and was missed, after %d calls", inv.ID, c.calls)
				}
			}
		})
	}
}

func TestAListThatNeverStandsStillIsAnError(t *testing.T) {
	t.Parallel()
	generation := 0
	c := &clerk{before: func(_ int, c *clerk) {
		generation++
		c.rows = rows(generation*1000, generation*1000+900)
	}}
	err := Finder{List: c.list}.each(t.Context(), clerkclient.ListQuery{}, func([]clerkclient.Invitation) (bool, error) { return true, nil })
	if err == nil || c.calls > 3*mostSlides {
		t.Errorf("%v after %d calls", err, c.calls)
	}
}

// TestWhatClerkDoesNotListYetIsFound: by what Usher knows, unless Clerk shows that it is pending no more.
func TestWhatClerkDoesNotListYetIsFound(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	ctx := t.Context()
	id := ledger.IDOf("ada@example.com")
	key := intent.Prefix("test") + string(id[:])
	for inv, age := range map[string]time.Duration{"inv_new": 0, "inv_accepted": 0, "inv_old": time.Minute} {
		rdb.HSet(ctx, key, "="+inv, time.Now().Add(-age).UnixMilli())
	}
	rdb.HSet(ctx, key, "t:task", "p|token|1|1")
	c := &clerk{rows: []clerkclient.Invitation{
		{ID: "inv_accepted", EmailAddress: "ada@example.com", Status: "accepted", CreatedAt: time.Now()},
		{ID: "inv_listed", EmailAddress: "Ada@example.com", Status: "pending", CreatedAt: time.Now()},
		{ID: "inv_other", EmailAddress: "xada@example.com", Status: "pending", CreatedAt: time.Now()},
	}}
	found, err := Finder{List: c.list, Redis: rdb, Namespace: "test", Lag: 30 * time.Second}.OfAddress(ctx, "ADA@example.com ")
	var ids []string
	for _, inv := range found {
		ids = append(ids, inv.ID)
	}
	if slices.Sort(ids); err != nil || !slices.Equal(ids, []string{"inv_listed", "inv_new"}) {
		t.Errorf("%v, %v", ids, err)
	}
}
