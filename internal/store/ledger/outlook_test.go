package ledger_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

func TestOutlookTellsWhoIsToBeCalled(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.add(t, "c", people(0, 30))
	if _, err := b.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	b.take(t, 10, ledger.Waiting, time.Minute)
	b.take(t, 3, ledger.Waiting, time.Minute)
	asked, err := b.TakeToAsk(ctx, "c", 2, time.Minute, ledger.Waiting)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.settle(t, goOn(asked.Rows[0], fate.IntentUnchanged, ledger.Singles)); n != 1 {
		t.Fatal(n)
	}
	if _, err := b.Add(ctx, "later", time.Now().Add(time.Hour), people(0, 5)); err != nil {
		t.Fatal(err)
	}
	b.add(t, "paused", people(0, 5))
	if _, err := b.Pause(ctx, "paused"); err != nil {
		t.Fatal(err)
	}
	b.add(t, "garbage", people(0, 5))
	b.rdb.HSet(ctx, "test:{once}:c:garbage:meta", "sent", "many")
	b.rdb.SAdd(ctx, "test:{once}:running", "gone")

	standings, err := b.Outlook(ctx)
	if err != nil || len(standings) != 2 {
		t.Fatalf("%+v, %v", standings, err)
	}
	c := standings[0]
	if c.Name != "c" || c.InCalls != 13 || c.Singles != 1 || c.Remaining() != 30 || c.StartedAt.IsZero() {
		t.Errorf("%+v", c)
	}
	if c := standings[1]; c.Name != "later" || c.State != ledger.Scheduled || c.InCalls != 0 ||
		c.ScheduledAt.IsZero() {
		t.Errorf("%+v", c)
	}
}

// TestOutlookTellsWhoWaitsToBeAskedAbout from those whose calls have failed.
func TestOutlookTellsWhoWaitsToBeAskedAbout(t *testing.T) {
	t.Parallel()
	for travel, doubted := range map[ledger.List]bool{ledger.Unsure: true, ledger.Waiting: false} {
		b, ctx := setup(t), t.Context()
		b.add(t, "c", people(0, 1))
		if _, err := b.Start(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		batch := b.take(t, 1, ledger.Waiting, time.Minute)
		if n := b.settle(t, waitFor(batch.Rows[0], fate.IntentUnchanged, travel, time.Minute)); n != 1 {
			t.Fatal(n)
		}
		if c, err := b.Standing(ctx, "c"); err != nil || c.Later != 1 || c.Doubted != doubted {
			t.Errorf("%+v, %v, want doubted: %t", c, err, doubted)
		}
	}
}

// TestWhoIsAskedAboutIsToldFromWhoIsLookedUp: both are held by a question, and only of the first nobody knows the
// outcome.
func TestWhoIsAskedAboutIsToldFromWhoIsLookedUp(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.add(t, "c", people(0, 30))
	_, err := b.Start(ctx, "c")
	testkit.NoError(t, err)
	lost := b.take(t, 9, ledger.Waiting, time.Minute)
	var outcomes []ledger.Outcome
	for _, row := range lost.Rows {
		outcomes = append(outcomes, goOn(row, fate.IntentUnknown, ledger.Unsure))
	}
	b.settle(t, outcomes...)
	for travel, n := range map[ledger.List]int{ledger.Unsure: 4, ledger.Waiting: 3} {
		_, err := b.TakeToAsk(ctx, "c", n, time.Minute, travel)
		testkit.NoError(t, err)
	}
	c, err := b.Standing(ctx, "c")
	if err != nil || c.Asked != 4 || c.Unsure != 5 || c.Open != 7 || c.InCalls != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = b.TakeToAsk(ctx, "c", 5, time.Minute, ledger.Unsure)
	testkit.NoError(t, err)
	called := lost.Rows[0].Intent.Since
	if since, err := b.OldestDoubt(ctx, "c"); err != nil || !since.Equal(called) {
		t.Errorf("while all are asked about the oldest doubt is of %s, %v, want %s", since, err, called)
	}
}

// TestTheNewestRunningCampaignsAreUnderWay where there are too many to read: always the same ones, and the others are
// counted.
func TestTheNewestRunningCampaignsAreUnderWay(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		const running, newer = 1050, 210
		b, ctx := bundle{ledger.New(rdb, "test"), rdb}, t.Context()
		b.add(t, "c", people(0, 1))
		_, err := b.Start(ctx, "c")
		testkit.NoError(t, err)
		head := rdb.HGetAll(ctx, "test:{once}:c:c:meta").Val()
		begin, err := strconv.Atoi(head["created_at"])
		testkit.NoError(t, err)
		_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := 1; i < running+newer; i++ {
				name, at := fmt.Sprint("c", i*7919%10_000), begin+i
				pipe.HSet(ctx, "test:{once}:c:"+name+":meta", head)
				pipe.HSet(ctx, "test:{once}:c:"+name+":meta", "created_at", at)
				pipe.ZAdd(ctx, "test:campaigns", redis.Z{Score: float64(at), Member: name})
				if i < running {
					pipe.SAdd(ctx, "test:{once}:running", name)
				} else { // as new as can be, and over
					pipe.HSet(ctx, "test:{once}:c:"+name+":meta", "state", "cancelled")
				}
			}
			return nil
		})
		testkit.NoError(t, err)
		heads, others, err := b.UnderWay(ctx)
		testkit.NoError(t, err)
		if len(heads) != 1000 || others != running-1000 {
			t.Fatalf("%d are given, and %d others counted", len(heads), others)
		}
		for i, c := range heads {
			if want := begin + running - 1 - i; c.CreatedAt.UnixMilli() != int64(want) {
				t.Fatalf("the campaign at place %d was created at %d, want %d", i, c.CreatedAt.UnixMilli(), want)
			}
		}
	})
}
