package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

type bundle struct {
	*ledger.Ledgers
	rdb *redis.Client
}

// setup gives the campaigns of a Redis that gets each request twice, of which the first one's answer is lost.
func setup(t *testing.T) bundle {
	t.Helper()
	server := testkit.RunRedis(t)
	rdb := testkit.Client(t, server.Addr)
	rdb.AddHook(testkit.Twice{})
	return bundle{ledger.New(rdb, "test"), rdb}
}

func people(from, to int) []ledger.Recipient {
	var list []ledger.Recipient
	for i := from; i < to; i++ {
		address := fmt.Sprintf("p%d@example.com", i)
		data, _ := json.Marshal(map[string]string{"email_address": address})
		list = append(list, ledger.Recipient{Folded: address, Data: data})
	}
	return list
}

// add uploads and wants no error.
func (b bundle) add(t *testing.T, name string, list []ledger.Recipient) ledger.Upload {
	t.Helper()
	upload, err := b.Add(t.Context(), name, time.Time{}, list)
	if err != nil {
		t.Fatal(err)
	}
	return upload
}

func (b bundle) take(t *testing.T, n int, travel ledger.List, hold time.Duration) ledger.Batch {
	t.Helper()
	batch, err := b.TakeForCall(t.Context(), "c", n, hold, 0, travel)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func (b bundle) settle(t *testing.T, outcomes ...ledger.Outcome) int {
	t.Helper()
	recorded, err := b.Settle(t.Context(), "c", outcomes)
	if err != nil {
		t.Fatal(err)
	}
	return len(recorded)
}

func (b bundle) progress(t *testing.T) ledger.Progress {
	t.Helper()
	p, err := b.Advance(t.Context(), "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sent(batch ledger.Batch) []ledger.Outcome {
	var outcomes []ledger.Outcome
	for _, row := range batch.Rows {
		outcomes = append(outcomes, sentAs(row, fate.IntentMade, "inv_1", time.Now()))
	}
	return outcomes
}

// deadOf lets a recipient be a dead letter.
func deadOf(row ledger.Row, code string) ledger.Outcome {
	cause := fate.Failure{Reason: fate.ReasonRejected, Code: code}
	letter := deadletter.Entry{
		ID: deadletter.RecipientID("c", row.ID), Campaign: "c", Recipient: &row.ID, Failure: cause,
		FailedAt: time.Now().UTC(),
	}
	decision := fate.Decision{State: row.State, Next: fate.Dead, Intent: fate.IntentRefused, Cause: &cause}
	return ledger.Outcome{Row: row, Decision: decision, Letter: &letter, At: letter.FailedAt}
}

func TestTheWayOfACampaign(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if upload := b.add(t, "c", people(0, 1234)); upload.Added != 1234 || upload.Campaign.Generation != 1 ||
		upload.Campaign.State != ledger.Running {
		t.Fatalf("%+v", upload)
	}
	if upload := b.add(t, "c", people(1200, 1240)); upload.Added != 6 || upload.Known != 34 ||
		upload.Campaign.Recipients != 1240 || upload.Campaign.Generation != 1 {
		t.Errorf("growing: %+v", upload)
	}
	if state, err := b.Start(t.Context(), "c"); err != nil || state != ledger.Running {
		t.Fatalf("%s, %v", state, err)
	}
	seen := map[store.AddressID]bool{}
	for {
		batch := b.take(t, 10, ledger.Waiting, time.Minute)
		if len(batch.Rows) == 0 {
			break
		}
		for _, row := range batch.Rows {
			if seen[row.ID] {
				t.Fatal("a recipient was taken twice")
			}
			seen[row.ID] = true
		}
		if n := b.settle(t, sent(batch)...); n != len(batch.Rows) {
			t.Fatalf("%d settled of %d", n, len(batch.Rows))
		}
	}
	if p := b.progress(t); p.State != ledger.Finished || len(seen) != 1240 {
		t.Errorf("%+v after %d recipients", p, len(seen))
	}
	c, err := b.Get(t.Context(), "c")
	if err != nil || c.Sent != 1240 || c.Remaining() != 0 || c.FinishedAt.IsZero() || c.StartedAt.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	if upload := b.add(t, "c", people(0, 5)); upload.Campaign.State != ledger.Finished ||
		upload.Campaign.Generation != 1 {
		t.Errorf("nothing new reopened it: %+v", upload.Campaign)
	}
	if upload := b.add(t, "c", people(2000, 2001)); upload.Campaign.State != ledger.Running ||
		upload.Campaign.Generation != 2 {
		t.Errorf("something new did not reopen it: %+v", upload.Campaign)
	}
}

// askLost takes for a question whoever is unsure, once there are so many.
func (b bundle) askLost(t *testing.T, n int) ledger.Batch {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for b.progress(t).Unsure < n {
		if time.Now().After(deadline) {
			t.Fatal("the lost ones are not unsure")
		}
	}
	batch, err := b.TakeToAsk(t.Context(), "c", 100, time.Minute, ledger.Unsure)
	if err != nil || len(batch.Rows) != n {
		t.Fatalf("%+v, %v, want %d", batch, err, n)
	}
	return batch
}

// TestACallWhoseHoldHasPassedIsAskedAboutAndCannotBeSettled: nobody is given out for a call again before Clerk was
// asked.
func TestACallWhoseHoldHasPassedIsAskedAboutAndCannotBeSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 3))
	lost := b.take(t, 2, ledger.Waiting, 50*time.Millisecond)
	asked := b.askLost(t, 2)
	if other := b.take(t, 3, ledger.Waiting, time.Minute); len(other.Rows) != 1 {
		t.Fatalf("%d were given out for a call, want the one that was in none", len(other.Rows))
	} else if n := b.settle(t, sent(other)...); n != 1 {
		t.Errorf("%d settled", n)
	}
	for _, row := range asked.Rows {
		if !row.Intent.Open || row.Intent.Since.After(row.Intent.Until) {
			t.Errorf("intent %+v", row.Intent)
		}
	}
	b.settle(t, sentAs(asked.Rows[0], fate.IntentFound, "inv_found", time.Now()),
		waitFor(asked.Rows[1], fate.IntentAbsent, ledger.Ready, 0))
	again := b.take(t, 3, ledger.Ready, time.Minute)
	if len(again.Rows) != 1 || again.Rows[0].ID != asked.Rows[1].ID ||
		again.Rows[0].Intent.Since.UnixMilli() != asked.Rows[1].Intent.Since.UnixMilli() {
		t.Fatalf("%+v: the absent one waits for a call again, and keeps its first call's time", again.Rows)
	}
	if n := b.settle(t, sent(lost)...); n != 0 {
		t.Errorf("%d outcomes of a lost batch were recorded", n)
	}
	if n := b.settle(t, sent(again)...); n != 1 {
		t.Errorf("%d outcomes were recorded, want 1", n)
	}
	if n := b.settle(t, sent(again)...); n != 0 {
		t.Errorf("repeating a settlement recorded %d more", n)
	}
	if c, err := b.Get(t.Context(), "c"); err != nil || c.Sent != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWaitingAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 12))
	batch := b.take(t, 3, ledger.Waiting, time.Minute)
	failed := batch.Rows[0]
	failed.Attempts, failed.History = 1, fate.Remember(nil, time.Now(), fate.Failure{HTTPStatus: 503})
	looked := b.take(t, 1, ledger.Waiting, time.Minute)
	b.settle(t, goOn(looked.Rows[0], fate.IntentRefused, ledger.Ready))
	b.settle(t, waitFor(failed, fate.IntentRefused, ledger.Ready, time.Hour),
		waitFor(batch.Rows[1], fate.IntentRefused, ledger.Singles, 0),
		waitFor(batch.Rows[2], fate.IntentRefused, ledger.Ready, 0))
	if p := b.progress(t); p.Waiting != 8 || p.Ready != 2 || p.Singles != 1 || p.Later != 1 || p.Open != 0 ||
		p.NextDue < 59*time.Minute || p.State != ledger.Running {
		t.Errorf("%+v", p)
	}
	if single := b.take(t, 5, ledger.Singles, time.Minute); len(single.Rows) != 1 ||
		single.Rows[0].ID != batch.Rows[1].ID {
		t.Errorf("singles: %+v", single.Rows)
	}
	if next := b.take(t, 1, ledger.Ready, time.Minute); next.Rows[0].ID != batch.Rows[2].ID {
		t.Error("one that waits again does not come before the others")
	}
	// its time has come
	if err := b.rdb.ZAdd(t.Context(), "test:{once}:c:c:later",
		redis.Z{Score: 1, Member: string(failed.ID[:])}).Err(); err != nil {
		t.Fatal(err)
	}
	if next := b.take(t, 1, ledger.Ready, time.Minute); next.Rows[0].ID != failed.ID || next.Rows[0].Attempts != 1 ||
		len(next.Rows[0].History) != 1 {
		t.Errorf("the failed one comes back as %+v", next.Rows)
	}
}

func TestRevive(t *testing.T) {
	again := ledger.Revival{List: ledger.Singles, Since: 1}
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 2))
	batch := b.take(t, 2, ledger.Waiting, time.Minute)
	batch.Rows[0].Attempts = 7
	dead := batch.Rows[0]
	b.settle(t, deadOf(dead, "duplicate_record"), sentAs(batch.Rows[1], fate.IntentMade, "inv_1", time.Now()))
	if p := b.progress(t); p.State != ledger.Finished {
		t.Fatalf("%+v", p)
	}
	if c, err := b.Get(t.Context(), "c"); err != nil || c.Dead != 1 ||
		!maps.Equal(c.DeadByCode, map[string]int{"duplicate_record": 1}) {
		t.Errorf("%+v, %v", c, err)
	}
	for range 2 { // repeating it changes nothing
		c, err := b.ReviveOne(t.Context(), "c", dead.ID, again)
		if err != nil || c.State != ledger.Running || c.Generation != 2 || c.Dead != 0 || len(c.DeadByCode) != 0 ||
			c.Sent != 1 || c.Remaining() != 1 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	asked := b.askLost(t, 1) // a retry begins with a question
	if !asked.Rows[0].Alone || !asked.Rows[0].Intent.Open {
		t.Errorf("revived: %+v", asked.Rows)
	}
	b.settle(t, waitFor(asked.Rows[0], fate.IntentAbsent, ledger.Singles, 0))
	revived := b.take(t, 2, ledger.Singles, time.Minute)
	if len(revived.Rows) != 1 || revived.Rows[0].Attempts != 0 {
		t.Errorf("revived: %+v", revived.Rows)
	}
	if c, err := b.ReviveOne(t.Context(), "c", batch.Rows[1].ID, again); err != nil || c.Sent != 1 {
		t.Errorf("reviving one that was sent: %+v, %v", c, err)
	}
	if _, err := b.ReviveOne(t.Context(), "c", store.IDOf("nobody@example.com"), again); !errors.Is(err,
		ledger.ErrNotFound) {
		t.Errorf("reviving nobody: %v", err)
	}
}

func TestStatesAndGarbage(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	at := time.Now().Add(time.Hour)
	upload, err := b.Add(ctx, "c", at, people(0, 1))
	if err != nil || upload.Campaign.State != ledger.Scheduled ||
		upload.Campaign.ScheduledAt.UnixMilli() != at.UnixMilli() {
		t.Fatalf("%+v, %v", upload, err)
	}
	if batch := b.take(t, 1, ledger.Waiting, time.Minute); len(batch.Rows) != 0 {
		t.Error("a scheduled campaign gave out a recipient")
	}
	if _, err := b.Start(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(ctx, "c", at, people(1, 2)); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("a start for a running campaign: %v", err)
	}
	if _, err := b.Start(ctx, "nobody"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("starting nothing: %v", err)
	}
	id := store.IDOf("p0@example.com")
	b.rdb.HSet(ctx, "test:{once}:c:c:rows", string(id[:]), "wb{garbage")
	if batch := b.take(t, 1, ledger.Waiting, time.Minute); len(batch.Rows) != 0 ||
		string(batch.Garbage[id]) != "wb{garbage" {
		t.Errorf("garbage came out as %+v", batch)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "state", "cancelled")
	if _, err := b.Add(ctx, "c", time.Time{}, people(5, 6)); !errors.Is(err, ledger.ErrCancelled) {
		t.Errorf("adding to a cancelled campaign: %v", err)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "v", "99")
	if _, err := b.Get(ctx, "c"); !errors.Is(err, store.ErrNewer) {
		t.Errorf("a newer campaign: %v", err)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "v", "1", "sent", "many")
	if _, err := b.Get(ctx, "c"); !errors.Is(err, store.ErrGarbage) {
		t.Errorf("garbage: %v", err)
	}
	if stages := b.rdb.Keys(ctx, "*stage*").Val(); len(stages) != 0 && b.rdb.TTL(ctx, stages[0]).Val() <= 0 {
		t.Errorf("an upload that was refused stays for ever: %v", stages)
	}
}

func TestANewDriverTakesBackWhatItsPredecessorAskedAbout(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.add(t, "c", people(0, 5))
	b.progress(t)
	asked, err := b.TakeToAsk(ctx, "c", 2, time.Hour, ledger.Waiting)
	if err != nil || len(asked.Rows) != 2 {
		t.Fatalf("%+v, %v", asked, err)
	}
	called := b.take(t, 1, ledger.Waiting, time.Hour)
	if p := b.progress(t); p.Open != 3 {
		t.Errorf("the driver took back its own: %+v", p)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 1)
	if _, err := b.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := b.Advance(ctx, "c", 2)
	if err != nil || p.Open != 1 || p.Waiting != 4 {
		t.Errorf("%+v, %v; want only the call open", p, err)
	}
	if n := b.settle(t, sent(called)...); n != 1 {
		t.Error("the predecessor's call could not be settled")
	}
}

// FuzzRow feeds garbage to what reads a stored recipient.
func FuzzRow(f *testing.F) {
	f.Add("wb", []byte(`{"r":{"email_address":"ada@example.com"},"n":1}`))
	f.Add("", []byte(`{`))
	f.Fuzz(func(t *testing.T, head string, data []byte) {
		row, err := ledger.DecodeRow(string(make([]byte, 16)), head+string(data))
		if err != nil && !errors.Is(err, store.ErrGarbage) {
			t.Errorf("%+v, %v", row, err)
		}
	})
}

func TestTheSweepFindsACampaignWhoseDriverIsGone(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.add(t, "c", people(0, 1))
	sweep := func() []ledger.Orphan {
		orphans, err := b.Sweep(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return orphans
	}
	if orphans := sweep(); len(orphans) != 0 {
		t.Errorf("it has just been enqueued: %v", orphans)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 1) // the driver has not been heard of for a while
	if orphans := sweep(); len(orphans) != 1 || orphans[0] != (ledger.Orphan{Name: "c", Generation: 2}) {
		t.Errorf("%v", orphans)
	}
	if orphans := sweep(); len(orphans) != 0 {
		t.Errorf("found twice: %v", orphans)
	}
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 1)
	if p := b.progress(t); p.Generation != 2 { // the driver of generation 1 wakes up
		t.Errorf("%+v", p)
	}
	if orphans := sweep(); len(orphans) != 1 {
		t.Errorf("a replaced driver keeps the campaign: %v", orphans)
	}
	batch := b.take(t, 1, ledger.Waiting, time.Minute)
	b.settle(t, sent(batch)...)
	b.progress(t)
	b.rdb.HSet(ctx, "test:{once}:c:c:meta", "lease_until", 1)
	if orphans := sweep(); len(orphans) != 0 {
		t.Errorf("a finished campaign: %v", orphans)
	}
}

// TestATakeNoticesThatAnEarlierOneIsLost: by the count of its process. Whoever waits is asked about first.
func TestATakeNoticesThatAnEarlierOneIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Memory = store.NewMemory()
	b.add(t, "c", people(0, 3))
	if first := b.take(t, 1, ledger.Waiting, time.Minute); len(first.Rows) != 1 {
		t.Fatalf("%+v", first)
	}
	count := b.Memory.Keys(store.Keys("test"))[2]
	if n := b.rdb.Del(t.Context(), count).Val(); n != 1 {
		t.Fatal("a take does not raise the count")
	}
	if second := b.take(t, 2, ledger.Waiting, time.Minute); len(second.Rows) != 0 {
		t.Errorf("%d were given out for a call, although earlier ones may be lost", len(second.Rows))
	}
	b.askLost(t, 2)
}

// TestANewDriverTakesBackAllThatItsPredecessorAskedAbout, in however many steps.
func TestANewDriverTakesBackAllThatItsPredecessorAskedAbout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 900))
	for _, take := range []int{300, 300} {
		batch, err := b.TakeToAsk(t.Context(), "c", take, time.Hour, ledger.Waiting)
		if err != nil || len(batch.Rows) != take {
			t.Fatalf("%d taken, %v", len(batch.Rows), err)
		}
	}
	inCall := b.take(t, 100, ledger.Waiting, time.Hour)
	p := b.progress(t)
	if p.Waiting != 800 || p.Open != len(inCall.Rows) {
		t.Errorf("%+v", p)
	}
	if _, err := b.TakeToAsk(t.Context(), "c", 10, time.Hour, ledger.Waiting); err != nil {
		t.Fatal(err)
	}
	if p := b.progress(t); p.Waiting != 790 {
		t.Errorf("it takes back what it asks about itself: %+v", p)
	}
}
