package retention_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/retention"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

const (
	day  = 24 * time.Hour
	keep = 90 * day
)

type bundle struct {
	*ledger.Ledgers
	rdb *redis.Client
	log *testkit.Buffer
}

func setup(t *testing.T) bundle {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	return bundle{ledger.New(rdb, "test"), rdb, &testkit.Buffer{}}
}

// pass lets a worker look what was kept for long enough, so much later.
func (b bundle) pass(t *testing.T, keep, later time.Duration) {
	t.Helper()
	b.rdb.Del(t.Context(), store.Keys("test").Keeping())
	testkit.NoError(t, retention.New(b.rdb, "test", keep, zerolog.New(b.log)).Ahead(later).Turn(t.Context()))
}

// campaign gives one of three recipients, sent at an instant, whose invitations expire after some days.
func (b bundle) campaign(t *testing.T, name string, at time.Time, days int) ledger.Campaign {
	t.Helper()
	var list []ledger.Recipient
	for i := range 3 {
		address := fmt.Sprintf("%s%d@example.com", name, i)
		data, _ := json.Marshal(map[string]any{"email_address": address, "expires_in_days": days})
		list = append(list, ledger.Recipient{Folded: address, Data: data})
	}
	_, err := b.Add(t.Context(), name, time.Time{}, list)
	testkit.NoError(t, err)
	batch, err := b.TakeForCall(t.Context(), name, 3, time.Minute, 0, ledger.Waiting)
	testkit.NoError(t, err)
	var outcomes []ledger.Outcome
	for _, row := range batch.Rows {
		decision := fate.Decision{State: row.State, Next: fate.Sent, Intent: fate.IntentMade, InvitationID: "inv"}
		outcomes = append(outcomes, ledger.Outcome{Row: row, Decision: decision, At: at})
	}
	recorded, err := b.Settle(t.Context(), name, outcomes)
	if err != nil || len(recorded) != 3 {
		t.Fatal(recorded, err)
	}
	_, err = b.Advance(t.Context(), name, 1)
	testkit.NoError(t, err)
	c, err := b.Get(t.Context(), name)
	testkit.NoError(t, err)
	testkit.NoError(t, b.Moved(t.Context(), c))
	return c
}

func (b bundle) there(t *testing.T, name string) bool {
	t.Helper()
	_, err := b.Get(t.Context(), name)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// TestACampaignIsKeptFromTheLatestOfWhatCounts: its end, its last upload, the expiry of its last invitation, and the
// first start of a worker that knows the setting.
func TestACampaignIsKeptFromTheLatestOfWhatCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, now := t.Context(), time.Now()
	meta := func(name, field string, at time.Time) {
		testkit.NoError(t, b.rdb.HSet(ctx, store.Keys("test").Ledger(name, "meta"), field, at.UnixMilli()).Err())
	}
	long := now.Add(-400 * day)
	for _, name := range []string{"old", "ended", "uploaded", "sent"} {
		sent := long
		if name == "sent" {
			sent = now
		}
		b.campaign(t, name, sent, 30)
		for _, field := range []string{"created_at", "uploaded_at", "finished_at"} {
			meta(name, field, long)
		}
	}
	meta("ended", "finished_at", now.Add(-keep+day))
	_, err := b.Add(ctx, "uploaded", time.Time{}, []ledger.Recipient{ // it adds nothing
		{Folded: "uploaded0@example.com", Data: json.RawMessage(`{}`)},
	})
	testkit.NoError(t, err)
	expect := func(when string, names map[string]bool) {
		t.Helper()
		for name, want := range names {
			if got := b.there(t, name); got != want {
				t.Errorf("%s, %s: there %t, want %t", when, name, got, want)
			}
		}
	}
	all := map[string]bool{"old": true, "ended": true, "uploaded": true, "sent": true}
	b.pass(t, keep, 0)
	expect("when a worker knows the setting first", all)
	testkit.NoError(t, b.rdb.Set(ctx, store.Keys("test").KeepingSince(), long.UnixMilli(), 0).Err())
	b.pass(t, 0, 1000*day)
	expect("kept for ever", all)
	b.pass(t, keep, 0)
	expect("later", map[string]bool{"old": false, "ended": true, "uploaded": true, "sent": true})
	if c, err := b.Get(ctx, "sent"); err != nil || c.ExpiresAt.Sub(now).Round(day) != 30*day {
		t.Errorf("when its last invitation expires is not noted: %+v, %v", c, err)
	}
	b.pass(t, keep, 2*day)
	expect("after its end", map[string]bool{"ended": false, "uploaded": true, "sent": true})
	b.pass(t, keep, 91*day)
	expect("after its last upload", map[string]bool{"uploaded": false, "sent": true})
	b.pass(t, keep, 119*day)
	expect("before the expiry is as old", map[string]bool{"sent": true})
	b.pass(t, keep, 121*day)
	expect("after the expiry", map[string]bool{"sent": false})
}

// TestNothingGoesByItselfThatIsInDoubt: a campaign that is not over, a call whose outcome nobody knows, and a dead
// letter, of a recipient or of a task about the campaign.
func TestNothingGoesByItselfThatIsInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	letters := deadletter.NewStore(b.rdb, "test")
	b.campaign(t, "letter", time.Now(), 30)
	testkit.NoError(t, letters.Put(ctx, deadletter.Entry{ID: "x", Campaign: "letter", Type: "revoke"}))
	b.campaign(t, "doubt", time.Now(), 30)
	id := store.IDOf("doubt0@example.com")
	intents := store.Keys("test").Intents(string(id[:]))
	testkit.NoError(t, b.rdb.HSet(ctx, intents, "c:doubt", "u|x|1|1").Err())
	b.campaign(t, "running", time.Now(), 30)
	_, err := b.Add(ctx, "running", time.Time{}, []ledger.Recipient{{Folded: "new", Data: json.RawMessage(`{}`)}})
	testkit.NoError(t, err)
	b.pass(t, keep, 0)
	b.pass(t, keep, 1000*day)
	for _, name := range []string{"letter", "doubt", "running"} {
		if !b.there(t, name) {
			t.Errorf("%s is gone", name)
		}
	}
	_, err = letters.Delete(ctx, "x", deadletter.Deleted)
	testkit.NoError(t, err)
	testkit.NoError(t, b.rdb.Del(ctx, intents).Err())
	b.pass(t, keep, 1000*day)
	if b.there(t, "letter") || b.there(t, "doubt") || !b.there(t, "running") {
		t.Error("they stay, or more is gone")
	}
}

// before does something before each command of a name.
type before struct {
	name string
	do   func()
}

func (b before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == b.name {
			b.do()
		}
		return next(ctx, cmd)
	}
}

func (b before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestOneWorkerAtATimeDeletes: a second one finds that it is not its turn, and the first stops if it has lost it.
func TestOneWorkerAtATimeDeletes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, turn := t.Context(), store.Keys("test").Keeping()
	b.pass(t, keep, 0)
	b.campaign(t, "c", time.Now(), 30)
	later := retention.New(b.rdb, "test", keep, zerolog.New(b.log)).Ahead(1000 * day)
	if testkit.NoError(t, later.Turn(ctx)); !b.there(t, "c") {
		t.Fatal("deleted in another worker's turn")
	}
	b.rdb.AddHook(before{"zscan", func() { b.rdb.Set(ctx, turn, "another", time.Hour) }})
	b.rdb.Del(ctx, turn)
	if testkit.NoError(t, later.Turn(ctx)); !b.there(t, "c") {
		t.Fatal("deleted after the turn was lost")
	}
}

// TestWhatWasBrokenOffIsFinished: a deletion, and an upload that was indexed and never entered.
func TestWhatWasBrokenOffIsFinished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, key := t.Context(), store.Keys("test")
	c := b.campaign(t, "c", time.Now(), 30)
	stopped, stop := context.WithCancel(ctx)
	dying := testkit.Client(t, b.rdb.Options().Addr)
	dying.AddHook(before{"zrem", stop})
	if err := ledger.New(dying, "test").Delete(stopped, c, false); err == nil {
		t.Fatal("it was not broken off")
	}
	testkit.NoError(t, b.rdb.ZAdd(ctx, key.Campaigns(), redis.Z{Score: 1, Member: "never"}).Err())
	b.pass(t, 0, 0)
	left := append(b.rdb.Keys(ctx, "*:c:c:[^r]*").Val(), b.rdb.ZRange(ctx, key.Campaigns(), 0, -1).Val()...)
	if len(left) != 0 || b.rdb.Exists(ctx, key.Deleting()).Val() != 0 {
		t.Errorf("left: %v", left)
	}
}
