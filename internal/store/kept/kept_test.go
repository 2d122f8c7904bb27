package kept

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// noise is data that no packing makes smaller.
func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func TestAListComesBackAsItWas(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		lists := New(rdb, "usher")
		for _, data := range [][]byte{{}, []byte("email_address\nada@example.com\n"), noise(3*chunk + 7)} {
			x, err := lists.Keep(t.Context(), "ada", data)
			testkit.NoError(t, err)
			again, ok := lists.Open(x.Secret(), "ada")
			if !ok {
				t.Fatal("its secret does not open it")
			}
			if got, err := again.Bytes(t.Context()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back as %d: %v", len(data), len(got), err)
			}
			testkit.NoError(t, again.Note(t.Context(), Check, "a note"))
			var note string
			if err := x.Read(t.Context(), Check, &note); err != nil || note != "a note" {
				t.Errorf("%q, %v", note, err)
			}
		}
	})
}

// TestOnlyItsSecretReadsAList: not another's secret, nor its own in the hand of another person, and Redis holds nothing
// of it that can be read.
func TestOnlyItsSecretReadsAList(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	lists := New(rdb, "usher")
	x, err := lists.Keep(t.Context(), "ada", []byte("email_address\nhidden@example.com\n"))
	testkit.NoError(t, err)
	testkit.NoError(t, x.Note(t.Context(), Answers, "hidden@example.com"))
	y, err := lists.Keep(t.Context(), "ada", []byte("y"))
	testkit.NoError(t, err)
	_, yKey, _ := strings.Cut(y.Secret(), ".")
	for name, secret := range map[string]string{
		"another key": x.ID + "." + yKey, "no key": x.ID + ".", "nothing": "", "garbage": "..",
	} {
		if z, ok := lists.Open(secret, "ada"); ok {
			if data, err := z.Bytes(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("%s: %q %v", name, data, err)
			}
		}
	}
	vic, _ := lists.Open(x.Secret(), "vic")
	if data, err := vic.Bytes(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("another person: %q %v", data, err)
	}
	parts := 0
	for keys := rdb.Scan(t.Context(), 0, "*", 0).Iterator(); keys.Next(t.Context()); {
		if ttl := rdb.PTTL(t.Context(), keys.Val()).Val(); ttl <= 0 || ttl > For {
			t.Errorf("%s is kept for %s", keys.Val(), ttl)
		}
		if data, err := rdb.Get(t.Context(), keys.Val()).Result(); err == nil {
			if parts++; strings.Contains(data, "hidden") {
				t.Errorf("%s can be read", keys.Val())
			}
		}
	}
	if parts != 3 {
		t.Errorf("%d parts", parts)
	}
}

func TestADroppedListIsGoneWhole(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		lists, ctx := New(rdb, "usher"), t.Context()
		keep := func() *List {
			x, err := lists.Keep(ctx, "ada", noise(3*chunk))
			testkit.NoError(t, err)
			testkit.NoError(t, x.Note(ctx, Check, "note"))
			testkit.NoError(t, x.Note(ctx, Answers, "note"))
			return x
		}
		first, second, third := keep(), keep(), keep()
		for _, want := range []bool{true, false} {
			if was, err := first.Drop(ctx); err != nil || was != want {
				t.Errorf("dropped: %v %v", was, err)
			}
		}
		testkit.NoError(t, lists.DropAll(ctx))
		for _, x := range []*List{first, second, third} {
			var note string
			_, err := x.Bytes(ctx)
			for _, err := range []error{err, x.Note(ctx, Answers, "late"), x.Read(ctx, Check, &note)} {
				if !errors.Is(err, ErrGone) {
					t.Errorf("of a list that is gone: %v", err)
				}
			}
		}
		if n := rdb.DBSize(ctx).Val(); n != 0 {
			t.Errorf("%d keys are left: %s", n, rdb.Keys(ctx, "*").Val())
		}
	})
}

// TestWhatIsKeptIsBounded in number and in size; a list whose time is over takes no room.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	lists, ctx := New(rdb, "usher"), t.Context()
	for range mostLists {
		_, err := lists.Keep(ctx, "ada", []byte("x"))
		testkit.NoError(t, err)
	}
	if _, err := lists.Keep(ctx, "ada", []byte("x")); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	key := store.Keys("usher").KeptLists()
	ids := rdb.HKeys(ctx, key).Val()
	testkit.NoError(t, rdb.HSet(ctx, key, ids[0], "1|5|1", ids[1], "garbage").Err())
	for range 2 {
		_, err := lists.Keep(ctx, "ada", []byte("x"))
		testkit.NoError(t, err)
	}
	if n := rdb.HLen(ctx, key).Val(); n != mostLists {
		t.Errorf("%d lists are kept", n)
	}
	testkit.NoError(t, lists.DropAll(ctx))
	till := time.Now().Add(time.Minute).UnixMilli()
	testkit.NoError(t, rdb.HSet(ctx, key, "large", fmt.Sprintf("%d|%d|1", till, mostBytes-100)).Err())
	if _, err := lists.Keep(ctx, "ada", noise(1000)); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the bytes that may be kept: %v", err)
	}
}

// TestHalfAListTakesNoRoom: one that Redis could not take whole is not kept.
func TestHalfAListTakesNoRoom(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction").Addr)
	if _, err := New(rdb, "usher").Keep(t.Context(), "ada", noise(8<<20)); !store.IsFull(err) {
		t.Fatalf("Redis is not full: %v", err)
	}
	if keys := rdb.Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("left are %s", keys)
	}
}
