package directory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/testkit"
)

// about gives the ids of an address's invitations in the copy that counts.
func (b bundle) about(t *testing.T, address string) (ids []string) {
	t.Helper()
	copy, err := b.Copy(t.Context())
	testkit.NoError(t, err)
	testkit.NoError(t, copy.About(t.Context(), address, func(inv clerkclient.Invitation) error {
		ids = append(ids, inv.ID)
		return nil
	}))
	return ids
}

// indexes gives the indexes of addresses that there are.
func (b bundle) indexes(t *testing.T) []string {
	t.Helper()
	return b.rdb.Keys(t.Context(), "test:{directory}:copy:*:addresses").Val()
}

// again gives invitations of one address, made a minute apart.
func again(address string, n int) (list []clerkclient.Invitation) {
	for i, inv := range rows(0, n) {
		name, _, _ := strings.Cut(address, "@")
		inv.ID, inv.EmailAddress = fmt.Sprintf("inv_%s_%05d", name, i), address
		list = append(list, inv)
	}
	return list
}

// TestAnAddressIsFoundByItsIndex, as it is in a copy that has none.
func TestAnAddressIsFoundByItsIndex(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := append(rows(0, 1200), again("P7@Example.com", 3)...) // each of one instant with another's
	unknown := clerkclient.Invitation{ID: "inv_unknown", EmailAddress: "p8@example.com", Status: "revoked"}
	often := again("often@example.com", 900) // more than an index has of one
	list = append(append(list, unknown), often...)
	draft := b.draft(t, list)
	testkit.NoError(t, draft.Add(t.Context(), list[:700])) // pages of Clerk's list overlap
	b.publish(t, draft)
	want := map[string][]string{
		"p7@example.com": {"inv_00007", "inv_P7_00002", "inv_P7_00001", "inv_P7_00000"},
		"p1@example.com": {"inv_00001"}, "P1199@EXAMPLE.COM ": {"inv_01199"},
		"p8@example.com": {"inv_00008", "inv_unknown"}, "p@example.com": nil, "7@example.com": nil,
	}
	for _, inv := range slices.Backward(often) {
		want["often@example.com"] = append(want["often@example.com"], inv.ID)
	}
	check := func(how string) {
		for address, ids := range want {
			if found := b.about(t, address); !slices.Equal(found, ids) {
				t.Errorf("%s: %s: %v, want %v", how, address, found, ids)
			}
		}
	}
	check("by the index")
	if n := len(b.indexes(t)); n != 1 {
		t.Fatalf("%d indexes", n)
	}
	index := b.indexes(t)[0]
	testkit.NoError(t, b.rdb.Del(t.Context(), index).Err())
	check("without one")
	testkit.NoError(t, b.rdb.Set(t.Context(), index, "garbage", 0).Err())
	check("with one that cannot be read")
}

// commands counts what a client sends.
type commands struct{ n atomic.Int64 }

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// TestFindingAnAddressReadsNoOthers, however many there are.
func TestFindingAnAddressReadsNoOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, b.draft(t, rows(0, 5000)))
	counted := &commands{}
	b.rdb.AddHook(counted)
	b.about(t, "p0@example.com") // on a new connection
	before := counted.n.Load()
	found := b.about(t, "p4321@example.com")
	if n := counted.n.Load() - before; len(found) != 1 || n > 12 {
		t.Errorf("%v after %d commands", found, n)
	}
}

// TestTheIndexForgetsAnAddress, in the copy that counts and in a draft, and nobody else's.
func TestTheIndexForgetsAnAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := append(rows(0, 20), again("often@example.com", 900)...)
	b.publish(t, b.draft(t, list))
	draft := b.draft(t, list)
	buckets := func() (n int64) {
		for _, key := range b.indexes(t) {
			n += b.rdb.HLen(t.Context(), key).Val()
		}
		return n
	}
	before := buckets()
	b.bury(t, "p3@example.com")
	if n, err := b.Erase(t.Context(), "p3@example.com"); n != 2 || err != nil {
		t.Errorf("erased %d, %v", n, err)
	}
	if after := buckets(); after != before-2 {
		t.Errorf("%d buckets are left of %d", after, before)
	}
	testkit.NoError(t, draft.Add(t.Context(), list))
	if after := buckets(); after != before-2 {
		t.Errorf("%d buckets of %d are there again", after, before)
	}
	b.bury(t, "often@example.com")
	if _, err := b.Erase(t.Context(), "often@example.com"); err != nil {
		t.Error(err)
	}
	b.publish(t, draft)
	if found := append(b.about(t, "p3@example.com"), b.about(t, "often@example.com")...); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if found := b.about(t, "p4@example.com"); !slices.Equal(found, []string{"inv_00004"}) {
		t.Errorf("another one: %v", found)
	}
}

// TestAnIndexHasAnExpiry, whatever its copy has: no worker of an earlier version would delete it.
func TestAnIndexHasAnExpiry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, b.draft(t, rows(0, 20)))
	first := b.indexes(t)[0]
	kept := func(key string) time.Duration { return b.rdb.TTL(t.Context(), key).Val() }
	if ttl := kept(first); ttl < 29*24*time.Hour || ttl > 30*24*time.Hour {
		t.Errorf("that of the copy that counts is kept for %s", ttl)
	}
	old, err := b.Copy(t.Context())
	testkit.NoError(t, err)
	draft := b.draft(t, rows(0, 20))
	for _, key := range b.indexes(t) {
		if ttl := kept(key); key != first && (ttl <= 0 || ttl > 24*time.Hour) {
			t.Errorf("that of a draft is kept for %s", ttl)
		}
	}
	b.publish(t, draft)
	if ttl := kept(first); ttl <= 0 || ttl > 5*time.Minute {
		t.Errorf("that of a copy whose place was taken is kept for %s", ttl)
	}
	testkit.NoError(t, b.rdb.Del(t.Context(), strings.TrimSuffix(first, ":addresses")).Err())
	err = old.About(t.Context(), "p3@example.com", func(clerkclient.Invitation) error { return nil })
	if !errors.Is(err, directory.ErrReplaced) {
		t.Errorf("a copy that is gone: %v", err)
	}
}
