package api_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// commandCount counts what a client asks of Redis.
type commandCount struct{ atomic.Int64 }

func (c *commandCount) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commandCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.Add(1); return next(ctx, cmd) }
}

func (c *commandCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.Add(int64(len(cmds))); return next(ctx, cmds) }
}

// pages reads a list to its end, and gives a field of all its rows and what each page took.
func (s *stage) pages(count *commandCount, path, list, field string) (rows []string, took []int64) {
	s.t.Helper()
	for cursor := ""; ; {
		before := count.Load()
		page := s.call(people, "GET", path+cursor, nil).is(200).object()
		took = append(took, count.Load()-before)
		for _, row := range page[list].([]any) {
			rows = append(rows, row.(map[string]any)[field].(string))
		}
		next, more := page["next_cursor"].(string)
		if !more {
			return rows, took
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
}

// TestAPageCostsTheSameAnywhere: each list is given whole and in order, and no page reads what lies before it. The
// first one of recipients reads all of them, for there is no index of their order.
func TestAPageCostsTheSameAnywhere(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	s := setupOn(t, rdb)
	draft, err := directory.New(rdb, tasks.DefaultNamespace).Begin(t.Context())
	testkit.NoError(t, err)
	var invitations []clerkclient.Invitation
	var ids, people, campaigns []string
	var recipients []tasks.Recipient
	for i := range 3000 {
		at := time.UnixMilli(1_700_000_000_000 + int64(i/10)) // ten of a bulk share an instant
		id, address := fmt.Sprintf("inv_%04d", i), fmt.Sprintf("p%d@example.com", i)
		ids, people = append(ids, id), append(people, address)
		recipients = append(recipients, tasks.Recipient{EmailAddress: address})
		invitations = append(invitations, clerkclient.Invitation{
			ID: id, EmailAddress: address, Status: "pending", CreatedAt: at, UpdatedAt: at,
		})
	}
	testkit.NoError(t, draft.Add(t.Context(), invitations))
	_, _, err = draft.Publish(t.Context())
	testkit.NoError(t, err)
	_, err = s.desk.BulkInvite(t.Context(), tasks.BulkRequest{Campaign: "big", Recipients: recipients})
	testkit.NoError(t, err)
	for i := range 600 {
		name := fmt.Sprintf("c%03d", i)
		campaigns = append(campaigns, name)
		testkit.NoError(t, rdb.ZAdd(t.Context(), "usher:campaigns", redis.Z{Score: float64(i / 7), Member: name}).Err())
		testkit.NoError(t, rdb.HSet(t.Context(), "usher:{once}:c:"+name+":meta", "state", "finished", "created_at", 1,
			"recipients", 1, "sent", 1, "generation", 1).Err())
	}
	campaigns = append(campaigns, "big") // the newest
	slices.Reverse(campaigns)
	slices.Reverse(ids)
	var count commandCount
	rdb.AddHook(&count)
	for _, list := range []struct {
		path, rows, field string
		want              []string
	}{
		{"/v1/invitations?limit=45", "invitations", "id", ids},
		{"/v1/campaigns?limit=45", "campaigns", "campaign", campaigns},
		{"/v1/campaigns/big/recipients?limit=45", "recipients", "email_address", people},
	} {
		rows, took := s.pages(&count, list.path, list.rows, list.field)
		if !slices.Equal(rows, list.want) {
			t.Errorf("%s gives %d rows, want %d in their order", list.path, len(rows), len(list.want))
		}
		if most := slices.Max(took[1:]); most > took[1]+3 {
			t.Errorf("%s: the second page takes %d commands, and another one %d", list.path, took[1], most)
		}
	}
	s.call(viewer, "GET", "/v1/campaigns?cursor=bm9uZQ", nil).is(422, "validation") // of a campaign that is gone
}

// TestRecipientsThatChangeBetweenPages: who takes another one's place comes in that place, who is gone comes no more,
// and who is added comes last.
func TestRecipientsThatChangeBetweenPages(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	s := setupOn(t, rdb)
	add := func(from, to int) {
		var some []tasks.Recipient
		for i := from; i < to; i++ {
			some = append(some, tasks.Recipient{EmailAddress: fmt.Sprintf("p%d@example.com", i)})
		}
		_, err := s.desk.BulkInvite(t.Context(), tasks.BulkRequest{Campaign: "c", Recipients: some})
		testkit.NoError(t, err)
	}
	add(0, 6)
	page := s.call(people, "GET", "/v1/campaigns/c/recipients?limit=2", nil).is(200).object()
	s.mends("c", "p3@example.com", "new@example.com")
	_, err := s.desk.Forget(t.Context(), "p4@example.com", func(string) {})
	testkit.NoError(t, err)
	rest := func() (rows []string) {
		path := "/v1/campaigns/c/recipients?limit=9&cursor=" + url.QueryEscape(page["next_cursor"].(string))
		rows, _ = s.pages(new(commandCount), path, "recipients", "email_address")
		return rows
	}
	want := []string{"p2@example.com", "new@example.com", "p5@example.com"}
	if got := rest(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.mends("c", "p5@example.com", "newer@example.com")
	want[2] = "newer@example.com"
	if got := rest(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	add(6, 7)
	if got := rest(); !slices.Equal(got, append(want, "p6@example.com")) {
		t.Errorf("%q, want %q and p6", got, want)
	}
}

// mends puts another address into the place of a recipient.
func (s *stage) mends(campaign, from, to string) {
	s.t.Helper()
	ctx, rows := s.t.Context(), "usher:{once}:c:"+campaign+":rows"
	was, is := store.IDOf(from), store.IDOf(to)
	row, err := s.rdb.HGet(ctx, rows, string(was[:])).Result()
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, s.rdb.HSet(ctx, rows, string(is[:]), strings.Replace(row, from, to, 1)).Err())
	testkit.NoError(s.t, s.rdb.HDel(ctx, rows, string(was[:])).Err())
}
