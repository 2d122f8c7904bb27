package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
)

type bundle struct {
	*deadletter.Store
	rdb *redis.Client
}

func setup(t *testing.T) bundle {
	t.Helper()
	return on(testkit.MiniRedis(t))
}

func on(rdb *redis.Client) bundle { return bundle{deadletter.NewStore(rdb, "test"), rdb} }

func letter(id string) deadletter.Entry {
	return deadletter.Entry{
		ID: id, TaskID: id, Type: "invite", Queue: "test:interactive", Payload: []byte("payload \x00\xff"),
		Failure:  fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: "form_identifier_exists"},
		FailedAt: time.Now().UTC(),
	}
}

func (b bundle) ids(t *testing.T) []string {
	t.Helper()
	ids := []string{}
	if err := b.Each(t.Context(), deadletter.Filter{}, func(e deadletter.Entry) error { ids = append(ids, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

// meanwhile does something once, after the first command that reads ids.
type meanwhile struct{ do func() }

func (m *meanwhile) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *meanwhile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (m *meanwhile) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if do := m.do; do != nil && (cmd.Name() == "zscan" || cmd.Name() == "zrange") {
			m.do = nil
			do()
		}
		return err
	}
}

// TestALetterThatIsDeletedMeanwhileHidesNoOther: more than one page of them is listed.
func TestALetterThatIsDeletedMeanwhileHidesNoOther(t *testing.T) {
	t.Parallel()
	const all, deleted = 6000, 1000
	server := testkit.RunRedis(t)
	b, other := on(testkit.Client(t, server.Addr)), on(testkit.Client(t, server.Addr))
	oldest := time.Now().UTC()
	var want []string
	for i := range all {
		l := letter(fmt.Sprintf("letter-%04d", i))
		l.FailedAt = oldest.Add(time.Duration(i) * time.Second)
		testkit.NoError(t, b.Put(t.Context(), l))
		want = append(want, l.ID)
	}
	b.rdb.AddHook(&meanwhile{do: func() {
		for _, id := range want[:deleted] {
			_, err := other.Delete(t.Context(), id, deadletter.Deleted)
			testkit.NoError(t, err)
		}
	}})
	if got := b.ids(t); !slices.Equal(got, want[deleted:]) {
		t.Errorf("%d of %d are listed", len(got), all-deleted)
	}
}

func TestWritingOneTwiceMakesOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{"a", "b", "a"} {
		if err := b.Put(t.Context(), letter(id)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Count(t.Context()); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	got, err := b.Get(t.Context(), "a")
	if err != nil || string(got.Payload) != "payload \x00\xff" {
		t.Errorf("%+v, %v", got, err)
	}
	if ttl := b.rdb.TTL(t.Context(), "test:{once}:d:e:a").Val(); ttl >= 0 {
		t.Errorf("a dead letter expires after %s", ttl)
	}
	if was, err := b.Delete(t.Context(), "a", deadletter.Deleted); !was || err != nil {
		t.Errorf("%t, %v", was, err)
	}
	if was, err := b.Delete(t.Context(), "a", deadletter.Deleted); was || err != nil {
		t.Errorf("deleting nothing: %t, %v", was, err)
	}
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestManyAreListedWholeWhileTheyAreDeleted(t *testing.T) {
	t.Parallel()
	b := on(testkit.Client(t, testkit.RunRedis(t).Addr)) // it is faster than one in memory
	var writing sync.WaitGroup
	const writers = 8
	for first := range writers {
		writing.Go(func() {
			for i := first; i < 5200; i += writers { // more than a page of ids
				if err := b.Put(t.Context(), letter(fmt.Sprintf("t%05d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	n := 0
	err := b.Each(t.Context(), deadletter.Filter{}, func(e deadletter.Entry) error {
		n++
		_, err := b.Delete(t.Context(), e.ID, deadletter.Deleted)
		return err
	})
	if left := b.ids(t); err != nil || n != 5200 || len(left) != 0 {
		t.Errorf("%d of 5200, %d left, %v", n, len(left), err)
	}
}

func TestOneAboutAForgottenAddressIsNotWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := store.IDOf("ada@example.com")
	if _, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	task, recipient, neighbour := letter("task"), letter("recipient"), letter("neighbour")
	task.EmailAddress = " Ada@Example.com"
	recipient.Campaign, recipient.Recipient = "c", &id
	neighbour.EmailAddress = "grace@example.com"
	for _, e := range []deadletter.Entry{task, recipient, neighbour} {
		if err := b.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.ids(t); fmt.Sprint(got) != "[neighbour]" {
		t.Errorf("written are %v", got)
	}
}

// TestGarbageIsDeleted of whatever type it is, and until then hides no other.
func TestGarbageIsDeleted(t *testing.T) {
	t.Parallel()
	b := on(testkit.Client(t, testkit.RunRedis(t).Addr))
	for _, id := range []string{"good", "text", "other", "type"} {
		testkit.NoError(t, b.Put(t.Context(), letter(id)))
	}
	testkit.NoError(t, b.rdb.HSet(t.Context(), "test:{once}:d:e:text", "entry", "{garbage").Err())
	testkit.NoError(t, b.rdb.HSet(t.Context(), "test:{once}:d:e:other", "entry", `{"id":"good"}`).Err())
	testkit.NoError(t, b.rdb.Set(t.Context(), "test:{once}:d:e:type", "garbage", 0).Err())
	for name, read := range map[string]func(context.Context, deadletter.Filter, func(deadletter.Entry) error) error{
		"each": b.Each, "read": b.Read,
	} {
		n := 0
		err := read(t.Context(), deadletter.Filter{}, func(deadletter.Entry) error { n++; return nil })
		if partial, other := store.SplitPartial(err); n != 1 || other != nil || !errors.Is(partial, store.ErrGarbage) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	found, unreadable, err := b.Several(t.Context(), []string{"good", "text", "none", "other", "type"})
	if err != nil || len(found) != 1 || len(unreadable) != 3 {
		t.Errorf("%v, %v, %v", found, unreadable, err)
	}
	if _, err := b.Campaigns(t.Context()); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"text", "other", "type"} {
		if was, err := b.Delete(t.Context(), id, deadletter.Deleted); !was || err != nil {
			t.Errorf("%s: %t, %v", id, was, err)
		}
	}
	if n, err := b.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d are left, %v", n, err)
	}
}

// TestADeletionThatIsRepeatedGetsTheSameAnswer: a client asks again whose answer came too late.
func TestADeletionThatIsRepeatedGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.rdb.AddHook(testkit.Twice{})
	testkit.NoError(t, b.Put(ctx, letter("a")))
	for _, want := range []bool{true, false} {
		if deleted, err := b.Delete(ctx, "a", deadletter.Deleted); err != nil || deleted != want {
			t.Errorf("%v, %v, want %v", deleted, err, want)
		}
	}
}
