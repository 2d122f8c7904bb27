package directory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/testkit"
)

type bundle struct {
	*directory.Directory
	rdb *redis.Client
}

func setup(t *testing.T) bundle {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	rdb.AddHook(testkit.Twice{})
	return bundle{directory.New(rdb, "test"), rdb}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rows gives invitations of which each is a minute younger than the one before.
func rows(from, to int) []clerkclient.Invitation {
	var list []clerkclient.Invitation
	for i := from; i < to; i++ {
		at := noon.Add(time.Duration(i) * time.Minute)
		list = append(list, clerkclient.Invitation{
			ID: fmt.Sprintf("inv_%05d", i), EmailAddress: fmt.Sprintf("p%d@example.com", i), Status: "accepted",
			PublicMetadata: json.RawMessage("{}"), CreatedAt: at, UpdatedAt: at,
		})
	}
	return list
}

// draft begins a copy with rows in it.
func (b bundle) draft(t *testing.T, list []clerkclient.Invitation) *directory.Draft {
	t.Helper()
	draft, err := b.Begin(t.Context())
	if err == nil {
		err = draft.Add(t.Context(), list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return draft
}

func (b bundle) publish(t *testing.T, draft *directory.Draft) {
	t.Helper()
	if _, published, err := draft.Publish(t.Context()); err != nil || !published {
		t.Fatalf("published: %t, %v", published, err)
	}
}

// listed gives the ids of the copy that counts, in its order.
func (b bundle) listed(t *testing.T, filter directory.Filter) (ids []string) {
	t.Helper()
	copy, err := b.Copy(t.Context())
	if err == nil {
		err = copy.Each(t.Context(), filter, func(inv clerkclient.Invitation) error {
			ids = append(ids, inv.ID)
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestACopyGivesBackWhatWasPutIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := rows(0, 1203)
	expires := noon.Add(time.Hour)
	list[0].ExpiresAt, list[0].Revoked, list[0].Status = expires, true, "revoked"
	list[0].PublicMetadata = json.RawMessage(`{"plan":"pro","n":12345678901234567890}`)
	list[1].PublicMetadata = json.RawMessage("null")
	list[2].CreatedAt, list[2].UpdatedAt = time.Time{}, time.Time{}
	draft := b.draft(t, list[:700])
	if _, err := b.Copy(t.Context()); !errors.Is(err, directory.ErrNoCopy) {
		t.Errorf("a draft is read as a copy: %v", err)
	}
	if err := draft.Add(t.Context(), list[600:]); err != nil { // some come twice
		t.Fatal(err)
	}
	b.publish(t, draft)
	b.publish(t, draft) // its answer may have been lost
	ids := b.listed(t, directory.Filter{})
	if len(ids) != len(list) || ids[0] != list[1202].ID || ids[len(ids)-2] != list[0].ID ||
		ids[len(ids)-1] != list[2].ID {
		t.Errorf("%d rows, %v … %v", len(ids), ids[:3], ids[len(ids)-3:])
	}
	if got := b.listed(t, directory.Filter{Status: "revoked"}); !slices.Equal(got, []string{list[0].ID}) {
		t.Errorf("revoked: %v", got)
	}
	if got := b.listed(t, directory.Filter{Query: "P77@"}); !slices.Equal(got, []string{list[77].ID}) {
		t.Errorf("query: %v", got)
	}
	var asked []string
	for _, inv := range list {
		asked = append(asked, inv.ID)
	}
	found, syncedAt, err := b.Get(t.Context(), append(asked, "inv_unknown"))
	if err != nil || len(found) != len(list) || syncedAt.UnixMilli() != draft.BegunAt.UnixMilli() {
		t.Fatalf("%d rows, %s, %v", len(found), syncedAt, err)
	}
	for _, inv := range list {
		if got := found[inv.ID]; !reflect.DeepEqual(got, inv) {
			t.Fatalf("%+v, want %+v", got, inv)
		}
	}
}

func TestWithoutACopy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, meta := t.Context(), "test:{directory}:meta"
	for name, head := range map[string][]any{"never synced": nil,
		"earlier version": {"copy", "abc", "synced_at", "1", "count", "1"}} {
		if head != nil {
			b.rdb.HSet(ctx, meta, head...)
		}
		if _, err := b.Copy(ctx); !errors.Is(err, directory.ErrNoCopy) ||
			!strings.Contains(err.Error(), name) && head != nil {
			t.Errorf("%s: %v", name, err)
		}
		if found, syncedAt, err := b.Get(ctx, []string{"inv_1"}); len(found) != 0 || !syncedAt.IsZero() || err != nil {
			t.Errorf("%s: %v, %s, %v", name, found, syncedAt, err)
		}
		b.rdb.Del(ctx, meta)
	}
	b.publish(t, b.draft(t, nil))
	if ids := b.listed(t, directory.Filter{}); len(ids) != 0 {
		t.Errorf("an empty copy has %v", ids)
	}
	b.rdb.HSet(ctx, meta, "synced_at", "garbage")
	if _, err := b.Copy(ctx); !errors.Is(err, directory.ErrGarbage) {
		t.Errorf("garbage: %v", err)
	}
}

func TestWhoeverReadsACopyFinishesOrIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.publish(t, b.draft(t, rows(0, 1200)))
	first, err := b.Copy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.publish(t, b.draft(t, rows(0, 3)))
	count := func() (n int, err error) {
		err = first.Each(ctx, directory.Filter{}, func(clerkclient.Invitation) error { n++; return nil })
		return n, err
	}
	if n, err := count(); n != 1200 || err != nil {
		t.Errorf("right after it was replaced: %d rows, %v", n, err)
	}
	if ids := b.listed(t, directory.Filter{}); len(ids) != 3 {
		t.Errorf("the new copy: %v", ids)
	}
	names := b.rdb.ZRange(ctx, "test:{directory}:copies", 0, -1).Val()
	if len(names) != 2 {
		t.Fatalf("names of copies: %v", names)
	}
	old := "test:{directory}:copy:" + names[0]
	if ttl := b.rdb.TTL(ctx, old).Val(); ttl <= 0 || ttl > time.Hour {
		t.Errorf("the old copy is kept for %s", ttl)
	}
	b.rdb.Del(ctx, old, old+":order")
	if _, err := count(); !errors.Is(err, directory.ErrReplaced) {
		t.Errorf("long after: %v", err)
	}
	b.publish(t, b.draft(t, nil))
	if names := b.rdb.ZRange(ctx, "test:{directory}:copies", 0, -1).Val(); len(names) != 2 {
		t.Errorf("names of copies that are gone stay: %v", names)
	}
}

func TestADraftThatIsGoneIsNotPublished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, b.draft(t, rows(0, 5)))
	lose := func() *directory.Draft {
		draft := b.draft(t, rows(0, 10))
		for _, key := range b.rdb.Keys(t.Context(), "test:{directory}:copy:*").Val() {
			if b.rdb.TTL(t.Context(), key).Val() > 0 { // -1 is the copy that counts
				b.rdb.Del(t.Context(), key)
			}
		}
		return draft
	}
	if err := lose().Add(t.Context(), rows(10, 20)); !errors.Is(err, directory.ErrGone) {
		t.Errorf("adding: %v", err)
	}
	if _, _, err := lose().Publish(t.Context()); !errors.Is(err, directory.ErrGone) {
		t.Errorf("publishing: %v", err)
	}
	if ids := b.listed(t, directory.Filter{}); len(ids) != 5 {
		t.Errorf("the copy before: %v", ids)
	}
}

// TestAForgottenInvitationCountsAndIsNotShown: Clerk counts it, so that counts can be compared.
func TestAForgottenInvitationCountsAndIsNotShown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := rows(0, 5)
	list[2].EmailAddress = ""
	draft := b.draft(t, list)
	if n, err := draft.Count(t.Context(), false); n != 5 || err != nil {
		t.Errorf("%d counted, %v", n, err)
	}
	b.publish(t, draft)
	found, _, err := b.Get(t.Context(), []string{list[1].ID, list[2].ID})
	if ids := b.listed(t, directory.Filter{}); len(ids) != 4 || len(found) != 1 || err != nil {
		t.Errorf("listed %v, found %v, %v", ids, found, err)
	}
}

func TestADraftCountsEachInvitationOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := rows(0, 10)
	list[2].Status, list[3].Revoked = "revoked", true
	draft := b.draft(t, list)
	list[4].Status = "revoked" // meanwhile
	if err := draft.Add(t.Context(), list[2:6]); err != nil {
		t.Fatal(err)
	}
	all, err1 := draft.Count(t.Context(), false)
	revoked, err2 := draft.Count(t.Context(), true)
	if all != 10 || revoked != 3 || errors.Join(err1, err2) != nil {
		t.Errorf("%d and %d, want 10 and 3; %v, %v", all, revoked, err1, err2)
	}
}

// TestACopyOfAnEarlierWorkerIsReadAndReplaced: it was partly taken over from the copy before, and its worker runs yet.
func TestACopyOfAnEarlierWorkerIsReadAndReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, prefix := t.Context(), "test:{directory}:"
	now := time.Now()
	earlier, later := now.Add(-time.Hour).UnixMilli(), now.UnixMilli()
	row := `{"a":"ada@example.com","s":"accepted","c":1767225600000,"u":1767225600000}`
	b.rdb.HSet(ctx, prefix+"copy:2-old", "inv_1", row)
	b.rdb.ZAdd(ctx, prefix+"copy:2-old:order", redis.Z{Score: 1767225600000, Member: "inv_1"})
	b.rdb.HSet(ctx, prefix+"meta", "copy", "2-old", "synced_at", later, "full_at", earlier, "count", 1)
	b.rdb.ZAdd(ctx, prefix+"copies", redis.Z{Score: float64(later), Member: "2-old"})
	if ids := b.listed(t, directory.Filter{}); !slices.Equal(ids, []string{"inv_1"}) {
		t.Errorf("listed %v", ids)
	}
	if copy, err := b.Copy(ctx); err != nil || copy.SyncedAt.UnixMilli() != later {
		t.Errorf("%+v, %v", copy, err)
	}
	draft := b.draft(t, rows(0, 3))
	b.publish(t, draft)
	if ids := b.listed(t, directory.Filter{}); len(ids) != 3 {
		t.Errorf("listed %v", ids)
	}
	if ttl := b.rdb.TTL(ctx, prefix+"copy:2-old").Val(); ttl <= 0 {
		t.Errorf("the earlier copy stays: %s", ttl)
	}
	head := b.rdb.HGetAll(ctx, prefix+"meta").Val()
	begun := fmt.Sprint(draft.BegunAt.UnixMilli())
	if head["synced_at"] != begun || head["full_at"] != begun { // which the earlier worker reads
		t.Errorf("the head is %v", head)
	}
	if left := b.rdb.Keys(ctx, prefix+"*:revoked").Val(); len(left) != 0 {
		t.Errorf("left of the draft: %v", left)
	}
}
