package ask

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask/listtest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// TestNoRowIsMissedThatSlides: invitations are accepted and made while the list is read.
func TestNoRowIsMissedThatSlides(t *testing.T) {
	t.Parallel()
	all := func(_ context.Context, rows []clerkclient.Invitation) ([]clerkclient.Invitation, error) {
		return rows, nil
	}
	for name, change := range map[string]func(call int, c *listtest.Moving){
		"nothing happens":    func(int, *listtest.Moving) {},
		"a few are accepted": func(call int, c *listtest.Moving) { c.Set("accepted", 0, 20*call) },
		"many are accepted":  func(call int, c *listtest.Moving) { c.Set("accepted", 0, min(180*call, 1600)) },
		"the read ones all are": func(call int, c *listtest.Moving) {
			c.Set("accepted", 0, map[bool]int{true: 700}[call == 2])
		},
		"others are made": func(_ int, c *listtest.Moving) { c.Add(30, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &listtest.Moving{}
			c.Add(2600, 10)
			c.Before = func(call int) { change(call, c) }
			found, err := gather(t.Context(), c.Ask, []string{"pending"}, []string{""}, all)
			if err != nil {
				t.Fatal(err)
			}
			for _, inv := range c.Rows[:2600] {
				if _, ok := found[inv.ID]; !ok && inv.Status == "pending" {
					t.Fatalf("%s was pending all the while and was missed, after %d calls", inv.ID, len(c.Calls))
				}
			}
		})
	}
}

// TestSiftingEndsWhereRowsSlide: whoever was not seen stays.
func TestSiftingEndsWhereRowsSlide(t *testing.T) {
	t.Parallel()
	c := &listtest.Moving{}
	c.Add(1200, 10)
	now := time.Now()
	for i := range c.Rows {
		c.Rows[i].CreatedAt = now.Add(time.Duration(i) * time.Millisecond)
	}
	c.Set("accepted", 0, 1200)
	c.At(2, func() { c.Set("revoked", 1100, 1150) })
	young := gathered{"inv_1199": {}, "inv_1": {}}
	err := Finder{List: c.Ask, Lag: 30 * time.Second}.sift(t.Context(), young, "", "")
	if _, stays := young["inv_1"]; err != nil || !stays || len(young) != 1 {
		t.Errorf("%v, %v", slices.Collect(maps.Keys(young)), err)
	}
}

// TestWhatClerkDoesNotListYetIsFound: by what Usher knows, unless Clerk shows that it is pending no more.
func TestWhatClerkDoesNotListYetIsFound(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	ctx := t.Context()
	id := store.IDOf("ada@example.com")
	key := store.Keys("test").Intents(string(id[:]))
	for inv, age := range map[string]time.Duration{"inv_new": 0, "inv_accepted": 0, "inv_old": time.Minute} {
		rdb.HSet(ctx, key, "="+inv, time.Now().Add(-age).UnixMilli())
	}
	rdb.HSet(ctx, key, "t:task", "p|token|1|1")
	c := &listtest.Moving{Rows: []clerkclient.Invitation{
		{ID: "inv_accepted", EmailAddress: "ada@example.com", Status: "accepted", CreatedAt: time.Now()},
		{ID: "inv_listed", EmailAddress: "Ada@example.com", Status: "pending", CreatedAt: time.Now()},
		{ID: "inv_other", EmailAddress: "xada@example.com", Status: "pending", CreatedAt: time.Now()},
	}}
	finder := Finder{List: c.Ask, Redis: rdb, Namespace: "test", Lag: 30 * time.Second}
	found, err := finder.ofAddress(ctx, "ADA@example.com ")
	var ids []string
	for _, inv := range found {
		ids = append(ids, inv.ID)
	}
	if slices.Sort(ids); err != nil || !slices.Equal(ids, []string{"inv_listed", "inv_new"}) {
		t.Errorf("%v, %v", ids, err)
	}
}
