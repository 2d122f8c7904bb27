package handle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask/listtest"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// movingClerk has a list that changes between calls.
type movingClerk struct {
	Clerk
	listtest.Moving
}

func (c *movingClerk) List(
	ctx context.Context, q clerkclient.ListQuery,
) (clerkclient.Page, clerkclient.Answer, error) {
	page, err := c.Ask(ctx, q)
	return page, clerkclient.Answer{}, err
}

// nobody is an observer.
type nobody struct{}

func (nobody) Called(policy.Call, clerkclient.Outcome, call.Timing) {}
func (nobody) LookedUp(time.Duration, bool)                         {}
func (nobody) TaskEnded(string, string, int)                        {}
func (nobody) RecipientEnded(string, fate.Step, string, int)        {}
func (nobody) SavedByLookUp(int)                                    {}
func (nobody) DeadLetterWritten(fate.Failure)                       {}

// idle is a handler on a Redis in memory.
func idle(t testing.TB, clerk Clerk) *Handler {
	t.Helper()
	p := policy.Policy{
		Timeout: 30 * time.Second, MaxAttempts: 3, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
	}
	rdb := testkit.MiniRedis(t)
	limiter, err := ratelimit.New(rdb, "test", p.Limits("k")...)
	testkit.NoError(t, err)
	caller := &call.Caller{
		Limiter: limiter, Policy: p, Key: "k", Gate: call.NewKeyGate(), Life: context.Background(), Observer: nobody{},
		Log: zerolog.Nop(),
	}
	life := Life{Accepting: context.Background(), Writing: context.Background()}
	return New(rdb, "test", nil, clerk, caller, life, nobody{})
}

// synced runs a sync-list and gives its figures.
func synced(t testing.TB, h *Handler) map[string]int {
	t.Helper()
	r := &run{id: "t", read: true}
	testkit.NoError(t, h.syncList(context.Background(), r, tasks.SyncListPayload{}))
	return r.detail
}

// same compares the directory with Clerk's list.
func same(t testing.TB, h *Handler, c *movingClerk) {
	t.Helper()
	copy, err := h.directory.Copy(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = copy.Each(context.Background(), directory.Filter{}, func(inv clerkclient.Invitation) error {
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

func TestEachCopyIsClerksListAsItIs(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *movingClerk){
		"nothing":        func(*movingClerk) {},
		"rows come":      func(c *movingClerk) { c.Add(30, 1) },
		"many rows come": func(c *movingClerk) { c.Add(1300, 1) },
		"open rows are settled": func(c *movingClerk) {
			c.Set("accepted", 1500, 1510)
			c.Set("revoked", 1510, 1520)
		},
		"all open rows are settled": func(c *movingClerk) { c.Set("expired", 1500, 1800) },
		"an expired row is revoked": func(c *movingClerk) { c.Set("revoked", 350, 351) },
		"an expired row is accepted": func(c *movingClerk) {
			c.Set("accepted", 350, 351)
		},
		"an accepted row is gone": func(c *movingClerk) { c.Rows = slices.Delete(c.Rows, 20, 21) },
		"a revoked row is gone":   func(c *movingClerk) { c.Rows = slices.Delete(c.Rows, 1000, 1001) },
		"an old row shows late": func(c *movingClerk) {
			late := c.Rows[100]
			late.ID, late.EmailAddress, late.Status = "inv_late", "late@example.com", "accepted"
			c.Rows = slices.Insert(c.Rows, 100, late)
		},
		"Clerk tells no counts": func(c *movingClerk) { c.Untold = true },
		"a row is revoked between the two lists": func(c *movingClerk) {
			calls := len(c.Calls)
			c.At(calls+5, func() { c.Set("revoked", 10, 11) }) // the first list has four pages
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := settled()
			h := idle(t, c)
			if first := synced(t, h); first["invitations"] != 1800 {
				t.Errorf("the first time: %v", first)
			}
			same(t, h, c)
			change(c)
			synced(t, h)
			same(t, h, c)
		})
	}
}

// TestTheOldCopyStaysUntilTheNewOneIsWhole: a list that cannot be read whole is a failed attempt like any other.
func TestTheOldCopyStaysUntilTheNewOneIsWhole(t *testing.T) {
	t.Parallel()
	c := settled()
	h := idle(t, c)
	synced(t, h)
	c.Lie = 5
	c.Add(10, 1)
	r := &run{id: "t", read: true}
	err := h.syncList(t.Context(), r, tasks.SyncListPayload{})
	dead, ok := errors.AsType[*died](err)
	if !ok || dead.cause.Reason != fate.ReasonExhausted || dead.cause.Code != "list_incomplete" || r.record.Attempts != 3 {
		t.Errorf("%v, %d attempts", err, r.record.Attempts)
	}
	copy, err := h.directory.Copy(t.Context())
	n := 0
	_ = copy.Each(t.Context(), directory.Filter{}, func(clerkclient.Invitation) error { n++; return nil })
	if err != nil || n != 1800 {
		t.Errorf("%d rows in the copy, %v", n, err)
	}
	const known = 5 // head, names, rows, order and addresses
	if keys := h.rdb.Keys(t.Context(), "test:{directory}:*").Val(); len(keys) != known {
		t.Errorf("drafts were left: %v", keys)
	}
	c.Lie = 0
	synced(t, h)
	same(t, h, c)
}

func TestTheOneBegunLaterCounts(t *testing.T) {
	t.Parallel()
	c := settled()
	h := idle(t, c)
	var later time.Time
	c.Before = func(call int) {
		if call == 2 { // another one begins and ends meanwhile
			soon := h.rdb.Time(t.Context()).Val().Add(time.Millisecond)
			for !h.rdb.Time(t.Context()).Val().After(soon) { // later is a millisecond
			}
			c.Add(1, 1)
			synced(t, h)
			copy, err := h.directory.Copy(t.Context())
			if err != nil {
				t.Error(err)
			}
			later = copy.SyncedAt
		}
	}
	synced(t, h)
	same(t, h, c)
	if copy, err := h.directory.Copy(t.Context()); err != nil || !copy.SyncedAt.Equal(later) {
		t.Errorf("the copy was begun at %s, and the later one at %s; %v", copy.SyncedAt, later, err)
	}
}
