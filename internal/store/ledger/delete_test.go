package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// over gives the campaign "c" of n recipients: every third is dead, with a dead letter and an intent that is kept for
// it, and the others are sent. A producer gave its upload an id.
func (b bundle) over(t *testing.T, n int) ledger.Campaign {
	t.Helper()
	b.add(t, "c", people(0, n))
	testkit.NoError(t, b.NoteID(t.Context(), "c", "own"))
	testkit.NoError(t, b.rdb.Set(t.Context(), "test:{once}:t:own", "{}", 0).Err())
	for done := 0; done < n; {
		batch := b.take(t, 100, ledger.Waiting, time.Minute)
		outcomes := sent(batch)
		for i, row := range batch.Rows {
			if (done+i)%3 == 0 {
				outcomes[i] = deadOf(row, "x")
				outcomes[i].Decision.Intent = fate.IntentAbsent
			}
		}
		done += b.settle(t, outcomes...)
	}
	if p := b.progress(t); p.State != ledger.Finished {
		t.Fatalf("%+v", p)
	}
	testkit.NoError(t, b.Moved(t.Context(), b.get(t, "c")))
	return b.get(t, "c")
}

func (b bundle) get(t *testing.T, name string) ledger.Campaign {
	t.Helper()
	c, err := b.Get(t.Context(), name)
	testkit.NoError(t, err)
	return c
}

// permanent gives the keys that stay for ever.
func (b bundle) permanent(t *testing.T) (keys []string) {
	t.Helper()
	for _, key := range b.rdb.Keys(t.Context(), "*").Val() {
		if b.rdb.PTTL(t.Context(), key).Val() < 0 && key != "test:{once}:redis" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// TestADeletionIsFinishedWhereverItWasBrokenOff breaks it off after each of its steps: whoever goes on finishes it.
// Each request is sent twice.
func TestADeletionIsFinishedWhereverItWasBrokenOff(t *testing.T) {
	t.Parallel()
	const n = 600 // three slices
	for broken := range 6 {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			other := b.add(t, "other", people(0, 3)).Campaign
			testkit.NoError(t, b.Moved(t.Context(), other))
			before := b.permanent(t)
			c := b.over(t, n)
			testkit.NoError(t, b.Mark(t.Context(), c, true))
			for range broken {
				if _, err := b.ClearOnce(t.Context(), "c"); err != nil {
					t.Fatal(err)
				}
			}
			names, err := b.Deleting(t.Context())
			if err != nil || broken < 3 && !slices.Equal(names, []string{"c"}) {
				t.Errorf("being deleted: %v, %v", names, err)
			}
			testkit.NoError(t, b.Clear(t.Context(), "c"))
			testkit.NoError(t, b.Clear(t.Context(), "c"))
			testkit.NoError(t, b.Delete(t.Context(), c, true))
			stub := slices.DeleteFunc(b.permanent(t), func(key string) bool { return slices.Contains(before, key) })
			if len(stub) != 1 || !strings.HasPrefix(stub[0], "test:{once}:deleted:") {
				t.Errorf("left: %v", stub)
			}
			if left := b.get(t, "other"); left.Recipients != 3 || left.State != ledger.Running {
				t.Errorf("another campaign: %+v", left)
			}
			if ttl := b.rdb.TTL(t.Context(), "test:{once}:t:own").Val(); ttl < 29*24*time.Hour {
				t.Errorf("the record of the producer's id is kept for %s", ttl)
			}
		})
	}
}

// TestADeletedCampaignIsGoneForWhoeverAsks: from the mark on, and for ever.
func TestADeletedCampaignIsGoneForWhoeverAsks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.over(t, 6)
	id := b.rdb.HKeys(t.Context(), "test:{once}:c:c:rows").Val()[0]
	ask := func(t *testing.T) {
		for what, do := range map[string]func(ctx context.Context) error{
			"get":    func(ctx context.Context) error { _, err := b.Get(ctx, "c"); return err },
			"each":   func(ctx context.Context) error { return b.Each(ctx, "c", func(ledger.Entry) error { return nil }) },
			"left":   func(ctx context.Context) error { _, err := b.Remains(ctx, "c"); return err },
			"start":  func(ctx context.Context) error { _, err := b.Start(ctx, "c"); return err },
			"pause":  func(ctx context.Context) error { _, err := b.Pause(ctx, "c"); return err },
			"resume": func(ctx context.Context) error { _, err := b.Resume(ctx, "c"); return err },
			"cancel": func(ctx context.Context) error { _, err := b.Cancel(ctx, "c"); return err },
			"revive": func(ctx context.Context) error {
				_, err := b.ReviveOne(ctx, "c", [16]byte([]byte(id)), ledger.Revival{List: ledger.Singles, Since: 1})
				return err
			},
		} {
			if err := do(t.Context()); !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := b.Add(t.Context(), "c", time.Time{}, people(0, 1))
		if deleted, ok := errors.AsType[*ledger.DeletedError](err); !ok || time.Since(deleted.At) > time.Minute {
			t.Errorf("an upload: %v", err)
		}
		err = b.List(t.Context(), func(list []ledger.Campaign) error {
			if len(list) != 0 {
				t.Errorf("listed: %v", list)
			}
			return nil
		})
		testkit.NoError(t, err)
		if p := b.progress(t); p.State != "" {
			t.Errorf("its driver goes on: %+v", p)
		}
		if batch := b.take(t, 5, ledger.Waiting, time.Minute); len(batch.Rows) != 0 {
			t.Errorf("taken: %+v", batch)
		}
		testkit.NoError(t, b.NoteID(t.Context(), "c", "late"))
		testkit.NoError(t, b.NoteExpiry(t.Context(), ledger.Remains{Campaign: c}))
	}
	testkit.NoError(t, b.Mark(t.Context(), c, true))
	ask(t)
	testkit.NoError(t, b.Clear(t.Context(), "c"))
	ask(t)
	if left := b.permanent(t); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestNothingIsDeletedThatMayGoOn: a campaign that is not over, whose calls are in doubt, or that has changed since it
// was looked at.
func TestNothingIsDeletedThatMayGoOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 3))
	refuses := func(why error) {
		t.Helper()
		if err := b.Delete(t.Context(), b.get(t, "c"), true); !errors.Is(err, why) {
			t.Errorf("%v, want %v", err, why)
		}
	}
	refuses(ledger.ErrNotOver)
	called := b.take(t, 2, ledger.Waiting, time.Minute)
	if _, err := b.Cancel(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	refuses(ledger.ErrUnsettled) // a call is under way
	claimed := time.Now()
	if doubt, err := b.OldestDoubt(t.Context(), "c"); err != nil || !doubt.IsZero() {
		t.Errorf("in doubt since %s, %v", doubt, err)
	}
	b.settle(t, sentAs(called.Rows[0], fate.IntentMade, "inv_1", time.Now()),
		waitFor(called.Rows[1], fate.IntentUnknown, ledger.Unsure, 0))
	refuses(ledger.ErrUnsettled) // nobody knows what became of one
	if left, err := b.Remains(t.Context(), "c"); err != nil || left.Unsettled != 1 {
		t.Errorf("%+v, %v", left, err)
	}
	doubt, err := b.OldestDoubt(t.Context(), "c")
	if early := claimed.Sub(doubt); err != nil || doubt.IsZero() || early < -time.Second || early > time.Minute {
		t.Errorf("in doubt since %s, %v", doubt, err)
	}
	asked := b.askLost(t, 1)
	b.settle(t, deadOf(asked.Rows[0], "x"))
	left, err := b.Remains(t.Context(), "c")
	if err != nil || left.Unsettled != 0 || time.Until(left.ExpiresAt) < 29*24*time.Hour {
		t.Errorf("%+v, %v", left, err)
	}
	before := left.Campaign
	before.Generation--
	if err := b.Delete(t.Context(), before, true); !errors.Is(err, ledger.ErrChanged) {
		t.Errorf("as it stood before: %v", err)
	}
	testkit.NoError(t, b.Delete(t.Context(), left.Campaign, true))
}

// TestAnOpenIntentKeepsItsCampaign: a row may be settled while its intent is another call's.
func TestAnOpenIntentKeepsItsCampaign(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.over(t, 3)
	id := b.rdb.HKeys(t.Context(), "test:{once}:c:c:rows").Val()[0]
	long := time.Now().Add(-time.Hour).UnixMilli()
	for stands, unsettled := range map[string]int{
		"c|x|%d|%[1]d": 1, "u|x|%d|%[1]d": 1, "r|x|%d|%[1]d": 1, "garbage": 1,
		"a|x|%d|%[1]d": 0, "a|x|9999999999999|%d": 1, "p|x|%d|%[1]d": 0,
	} {
		if strings.Contains(stands, "%") {
			stands = fmt.Sprintf(stands, long)
		}
		testkit.NoError(t, b.rdb.HSet(t.Context(), "test:{once}:i:"+id, "c:c", stands).Err())
		if left, err := b.Remains(t.Context(), "c"); err != nil || left.Unsettled != unsettled {
			t.Errorf("%s: %d unsettled, %v", stands, left.Unsettled, err)
		}
	}
}

func TestAnExportThatMeetsADeletionFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.over(t, 2000)
	read := 0
	err := b.Each(t.Context(), "c", func(ledger.Entry) error {
		if read++; read == 10 {
			return b.Delete(t.Context(), c, true)
		}
		return nil
	})
	if _, ok := errors.AsType[*ledger.DeletedError](err); !ok || read >= 2000 {
		t.Errorf("%d were read, %v", read, err)
	}
}

// TestAStubIsSmall: whatever the campaign's name, 100 bytes stay of it.
func TestAStubIsSmall(t *testing.T) {
	t.Parallel()
	b := bundle{rdb: testkit.Client(t, testkit.RunRedis(t).Addr)}
	b.Ledgers = ledger.New(b.rdb, "test")
	ctx := t.Context()
	const n = 3000
	for i := range n {
		name := fmt.Sprintf("%064d", i)
		testkit.NoError(t, b.rdb.HSet(ctx, "test:{once}:c:"+name+":meta", "state", "finished", "generation", 12).Err())
		testkit.NoError(t, b.Mark(ctx, ledger.Campaign{Name: name, Generation: 12}, false))
		testkit.NoError(t, b.rdb.Unlink(ctx, "test:{once}:c:"+name+":meta").Err())
	}
	testkit.NoError(t, b.rdb.Unlink(ctx, "test:{once}:deleting").Err())
	total := int64(0)
	for _, key := range b.rdb.Keys(ctx, "*").Val() {
		total += b.rdb.MemoryUsage(ctx, key, 0).Val()
	}
	t.Logf("%d stubs of campaigns with names of 64 bytes: %d bytes each", n, total/n)
	if total/n > 100 {
		t.Errorf("a stub takes %d bytes", total/n)
	}
}

func TestDeadLettersStayUnlessTheyGoToo(t *testing.T) {
	t.Parallel()
	for _, too := range []bool{false, true} {
		b := setup(t)
		c := b.over(t, 6)
		testkit.NoError(t, b.Delete(t.Context(), c, too))
		n, err := deadletter.NewStore(b.rdb, "test").Count(t.Context())
		if err != nil || too != (n == 0) {
			t.Errorf("%d dead letters stand, %v", n, err)
		}
	}
}

// TestADeletionMakesRoomWhenRedisIsFull: and an upload is refused whole, and what was staged of it goes.
func TestADeletionMakesRoomWhenRedisIsFull(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.over(t, 600)
	stage := b.Stage()
	testkit.NoError(t, stage.Add(t.Context(), people(0, 300)))
	testkit.NoError(t, b.rdb.ZAdd(t.Context(), "test:campaigns", redis.Z{Member: "d"}).Err())
	full := func(is string) { testkit.NoError(t, b.rdb.ConfigSet(t.Context(), "maxmemory", is).Err()) }
	full("1")
	if err := stage.Enter(t.Context(), "d", time.Time{}); !store.IsFull(err) || errors.Is(err, ledger.ErrUnsure) {
		t.Errorf("entered: %v", err)
	}
	stage.Discard(t.Context())
	if staged := b.rdb.Keys(t.Context(), "*:stage:*").Val(); len(staged) != 0 {
		t.Errorf("what was staged stays: %v", staged)
	}
	if _, err := b.Add(t.Context(), "e", time.Time{}, people(0, 3)); !store.IsFull(err) {
		t.Errorf("uploaded: %v", err)
	}
	testkit.NoError(t, b.Delete(t.Context(), c, true))
	full("0")
	for _, name := range []string{"c", "d", "e"} {
		if _, err := b.Get(t.Context(), name); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
