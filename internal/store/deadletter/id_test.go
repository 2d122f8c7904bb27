package deadletter_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
)

// ofRecipient is a dead letter as a worker writes it.
func ofRecipient(campaign, address string) deadletter.Entry {
	id := store.IDOf(address)
	l := letter(deadletter.RecipientID(campaign, id))
	l.Type, l.TaskID, l.Campaign, l.Recipient, l.EmailAddress = "bulk-invite", "bulk:c:1", campaign, &id, address
	return l
}

// digits are what follows the campaign in an id.
func digits(id string) string { return id[strings.LastIndexByte(id, ':')+1:] }

func TestAnIDOutsideIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[string]string{}
	rapid.Check(t, func(r *rapid.T) {
		campaign := rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(r, "campaign")
		recipient := store.AddressID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "recipient"))
		id, err := b.IDOf(t.Context(), campaign, recipient)
		testkit.NoError(t, err)
		name, recipients, err := b.Recipients(t.Context(), id)
		testkit.NoError(t, err)
		if name != campaign || len(recipients) != 2 || recipients[0] != recipient {
			r.Errorf("%s is read as %s %x", id, name, recipients)
		}
		plain := deadletter.RecipientID(campaign, recipient)
		if other, known := seen[digits(id)]; digits(id) == hex.EncodeToString(recipient[:]) || known && other != plain {
			r.Errorf("%s is the id of %s and of %s", id, plain, other)
		}
		seen[digits(id)] = plain
		_, recipients, err = b.Recipients(t.Context(), plain)
		if err != nil || !slices.Contains(recipients, recipient) {
			r.Errorf("%s of an earlier version is read as %x, %v", plain, recipients, err)
		}
	})
}

// TestEveryReadingGivesTheIDOutside: and each of the ids finds the letter, but nothing in Redis changes.
func TestEveryReadingGivesTheIDOutside(t *testing.T) {
	t.Parallel()
	on := map[string]func(*testing.T) redis.UniversalClient{
		"server":  func(t *testing.T) redis.UniversalClient { return testkit.Client(t, testkit.RunRedis(t).Addr) },
		"cluster": func(t *testing.T) redis.UniversalClient { return testkit.RunCluster(t, 3).Client(t) },
	}
	for name, client := range on {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, ctx := client(t), t.Context()
			s := deadletter.NewStore(rdb, "test")
			one, other := ofRecipient("spring", "ada@example.com"), ofRecipient("autumn", "ada@example.com")
			testkit.NoError(t, s.Put(ctx, one))
			testkit.NoError(t, s.Put(ctx, other))
			var ids []string
			note := func(e deadletter.Entry) error { ids = append(ids, e.ID); return nil }
			testkit.NoError(t, s.Each(ctx, deadletter.Filter{}, note))
			testkit.NoError(t, s.Read(ctx, deadletter.Filter{}, note))
			newest, err := s.Newest(ctx, deadletter.Filter{}, deadletter.Cursor{}, 1)
			testkit.NoError(t, err)
			older, err := s.Newest(ctx, deadletter.Filter{}, newest.Next, 1)
			testkit.NoError(t, err)
			for _, e := range slices.Concat(newest.Letters, older.Letters) {
				testkit.NoError(t, note(e))
			}
			ids = append(ids, newest.Next.ID)
			hash := digits(one.ID)
			if len(ids) != 7 || strings.Contains(strings.Join(ids, " "), hash) || newest.Letters[0].ID == older.Letters[0].ID {
				t.Fatalf("%v", ids)
			}
			if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != 2 || digits(ids[0]) == digits(ids[6]) {
				t.Errorf("two campaigns have %v", ids)
			}
			if text := rdb.HGet(ctx, "test:{once}:d:e:"+one.ID, "entry").Val(); !strings.Contains(text, one.ID) {
				t.Errorf("Redis has %s", text)
			}
			outside, err := s.IDOf(ctx, "spring", *one.Recipient)
			testkit.NoError(t, err)
			another := deadletter.NewStore(rdb, "test") // another process
			for _, id := range []string{outside, one.ID} {
				e, err := another.Get(ctx, id)
				if err != nil || e.ID != outside || e.Inside() != one.ID {
					t.Errorf("%s: %+v, %v", id, e, err)
				}
				e.Next = "next"
				begun, errs := another.BeginRetry(ctx, e)
				if errs[0] != nil || begun[0].ID != outside || begun[0].Next != "next" {
					t.Errorf("%+v, %v", begun, errs)
				}
				if was, err := another.Delete(ctx, id, deadletter.Retried); !was || err != nil {
					t.Errorf("%s: deleted %t, %v", id, was, err)
				}
				for _, id := range []string{outside, one.ID} {
					if end, known, err := another.Gone(ctx, id, e.FailedAt); end != deadletter.Retried || !known || err != nil {
						t.Errorf("%s: %s, %t, %v", id, end, known, err)
					}
				}
				testkit.NoError(t, s.Put(ctx, e)) // as it was read
			}
		})
	}
}

// TestLettersOfOneInstantArePagedWhole: their ids outside are in another order than those inside.
func TestLettersOfOneInstantArePagedWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := letter("").FailedAt
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		l := ofRecipient("spring", name+"@example.com")
		l.FailedAt = at
		testkit.NoError(t, b.Put(t.Context(), l))
	}
	all := b.ids(t)
	for i, id := range all {
		from, err := b.CursorOf(t.Context(), deadletter.Entry{ID: id, FailedAt: at})
		testkit.NoError(t, err)
		page, err := b.Oldest(t.Context(), deadletter.Filter{}, from, len(all))
		testkit.NoError(t, err)
		var rest []string
		for _, e := range page.Letters {
			rest = append(rest, e.ID)
		}
		if !slices.Equal(rest, all[i+1:]) {
			t.Errorf("behind %d: %v of %v", i, rest, all)
		}
	}
}

// TestACursorThatNobodyWasGivenIsNone: by how many letters lie behind it, it would tell what their ids are inside,
// where anybody can try addresses with them.
func TestACursorThatNobodyWasGivenIsNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	l := ofRecipient("spring", "ada@example.com")
	testkit.NoError(t, b.Put(t.Context(), l))
	given, err := b.CursorOf(t.Context(), deadletter.Entry{ID: b.ids(t)[0], FailedAt: l.FailedAt})
	testkit.NoError(t, err)
	later, other, unsealed := given, given, given
	later.At++
	other.ID = given.ID[:len("spring:")+4]
	unsealed.Seal = ""
	for _, forged := range []deadletter.Cursor{later, other, unsealed} {
		page, err := b.Newest(t.Context(), deadletter.Filter{}, forged, 10)
		if !errors.Is(err, deadletter.ErrCursor) || len(page.Letters) > 0 {
			t.Errorf("behind %v: %d letters, %v", forged, len(page.Letters), err)
		}
	}
	if _, err := b.Newest(t.Context(), deadletter.Filter{}, deadletter.ParseCursor(given.String()), 10); err != nil {
		t.Error(err)
	}
}

// TestTheSecretIsOne: who comes at once gets the same, and it does not expire.
func TestTheSecretIsOne(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	id := store.IDOf("ada@example.com")
	ids := make(chan string)
	for range 8 {
		go func() {
			id, err := deadletter.NewStore(rdb, "test").IDOf(t.Context(), "c", id)
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	first := <-ids
	for range 7 {
		if id := <-ids; id != first {
			t.Errorf("%s and %s", first, id)
		}
	}
	if ttl := rdb.TTL(t.Context(), "test:secret").Val(); ttl >= 0 {
		t.Errorf("it expires after %s", ttl)
	}
	testkit.NoError(t, rdb.Set(t.Context(), "test:secret", "short", 0).Err())
	_, err := deadletter.NewStore(rdb, "test").IDOf(t.Context(), "c", id)
	if err == nil || errors.Is(err, store.ErrGarbage) || !strings.Contains(err.Error(), "test:secret is not 32 bytes") {
		t.Errorf("%v", err)
	}
}

// TestASecretIsMadeInAFullRedis: else what makes room could not be chosen.
func TestASecretIsMadeInAFullRedis(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	testkit.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); !store.IsFull(err) {
		t.Fatalf("%v", err)
	}
	_, err := deadletter.NewStore(rdb, "test").IDOf(t.Context(), "c", store.AddressID{})
	testkit.NoError(t, err)
}
