package retry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/store/retry"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

type bundle struct {
	*retry.Retrier
	letters   *deadletter.Store
	rdb       *redis.Client
	inspector *asynq.Inspector
	ledgers   *ledger.Ledgers
	records   *record.Store
}

func setup(t *testing.T) bundle {
	t.Helper()
	rdb := testkit.MiniRedis(t)
	return bundle{
		letters: deadletter.NewStore(rdb, "test"), Retrier: retry.New(rdb, "test"), rdb: rdb,
		inspector: asynq.NewInspectorFromRedisClient(rdb), ledgers: ledger.New(rdb, "test"),
		records: record.NewStore(rdb, "test"),
	}
}

// retryAlone makes an invite of its own of a recipient's letter.
func (b bundle) retryAlone(t *testing.T, id string) (string, error) {
	t.Helper()
	l, err := b.letters.Get(t.Context(), id)
	testkit.NoError(t, err)
	done := b.RetryEach(t.Context(), []retry.Wish{{Letter: l, Alone: true}})[0]
	return done.Carrier, done.Err
}

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
	if err := b.letters.Each(t.Context(), deadletter.Filter{},
		func(e deadletter.Entry) error { ids = append(ids, e.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestRetryEnqueuesThePayloadUnderANewID(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	if err := b.letters.Put(ctx, letter("a")); err != nil {
		t.Fatal(err)
	}
	next, err := b.Retry(ctx, "a")
	if err != nil || next != "a:retry1" {
		t.Fatalf("%s, %v", next, err)
	}
	info, err := b.inspector.GetTaskInfo("test:interactive", next)
	if err != nil || string(info.Payload) != "payload \x00\xff" {
		t.Errorf("%+v, %v", info, err)
	}
	if left := b.ids(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := b.Retry(ctx, "a"); !errors.Is(err, deadletter.ErrNotFound) {
		t.Errorf("retrying it again: %v", err)
	}
	if err := b.letters.Put(ctx, letter(next)); err != nil {
		t.Fatal(err)
	}
	if second, err := b.Retry(ctx, next); err != nil || second != "a:retry2" {
		t.Errorf("its retry: %s, %v", second, err)
	}
}

// TestABrokenOffRetryIsFinishedByRepeatingIt plays a crash between each two steps of a retry.
func TestABrokenOffRetryIsFinishedByRepeatingIt(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	put := func() {
		if err := b.letters.Put(ctx, letter("a")); err != nil {
			t.Fatal(err)
		}
		b.rdb.HSet(ctx, "test:{once}:d:e:a", "next", "a:retry1") // marked, then broken off
	}
	put()
	if next, err := b.Retry(ctx, "a"); err != nil || next != "a:retry1" {
		t.Fatalf("after marking: %s, %v", next, err)
	}
	put() // enqueued, then broken off: the task is still there
	if _, err := b.Retry(ctx, "a"); err != nil {
		t.Fatalf("after enqueuing: %v", err)
	}
	if info, err := b.inspector.GetQueueInfo("test:interactive"); err != nil || info.Size != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	put() // enqueued and run to its end, then broken off
	if err := b.inspector.DeleteTask("test:interactive", "a:retry1"); err != nil {
		t.Fatal(err)
	}
	if err := b.records.Put(ctx, "a:retry1", record.Record{Type: "invite", State: record.Done}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Retry(ctx, "a"); err != nil {
		t.Fatalf("after its end: %v", err)
	}
	if info, err := b.inspector.GetQueueInfo("test:interactive"); err != nil || info.Size != 0 {
		t.Errorf("it was enqueued again: %+v, %v", info, err)
	}
	if left := b.ids(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestARecipientThatDiesAgainDuringItsRetryIsKept: the retry deletes the letter that it began with, and no newer one.
func TestARecipientThatDiesAgainDuringItsRetryIsKept(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	id := store.IDOf("ada@example.com")
	if _, err := b.ledgers.Add(ctx, "c", time.Time{},
		[]ledger.Recipient{{Folded: "ada@example.com",
			Data: []byte(`{"email_address":"ada@example.com"}`)}}); err != nil {
		t.Fatal(err)
	}
	die := func(travel ledger.List) {
		batch, err := b.ledgers.TakeForCall(ctx, "c", 1, time.Minute, 0, travel)
		if err != nil || len(batch.Rows) != 1 {
			t.Fatalf("%+v, %v", batch, err)
		}
		entry := letter(deadletter.RecipientID("c", id))
		entry.Campaign, entry.Recipient = "c", &id
		if _, err := b.ledgers.Settle(ctx, "c", []ledger.Outcome{{
			Row: batch.Rows[0], Letter: &entry, At: entry.FailedAt,
			Decision: fate.Decision{State: batch.Rows[0].State, Next: fate.Dead, Intent: fate.IntentRefused,
				Cause: &entry.Failure},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	die(ledger.Waiting)
	dead := deadletter.RecipientID("c", id)
	b.rdb.HSet(ctx, "test:{once}:d:e:"+dead, "next", "n") // a retry has begun, revived the recipient,
	testkit.NoError(t, b.ledgers.Revive(ctx, "c", ledger.Revival{Of: id, List: ledger.Singles, Since: 1})[0])
	asked, err := b.ledgers.TakeToAsk(ctx, "c", 1, time.Minute, ledger.Unsure)
	if err != nil || len(asked.Rows) != 1 {
		t.Fatalf("%+v, %v", asked, err)
	}
	if _, err := b.ledgers.Settle(ctx, "c", []ledger.Outcome{{Row: asked.Rows[0],
		Decision: fate.Decision{State: asked.Rows[0].State, Next: fate.Send,
			Intent: fate.IntentAbsent}}}); err != nil {
		t.Fatal(err)
	}
	die(ledger.Singles) // and before it deletes the letter, the recipient dies again
	if got, err := b.letters.Get(ctx, dead); err != nil || got.Next != "" {
		t.Errorf("%+v, %v", got, err)
	}
	task, err := b.Retry(ctx, dead)
	if err != nil || task != "bulk:c:1" {
		t.Errorf("%s, %v", task, err)
	}
	if _, err := b.inspector.GetTaskInfo("test:campaign", task); err != nil {
		t.Errorf("the campaign has no driver: %v", err)
	}
	if left := b.ids(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// beforeRemoval does something once, before a retry removes a letter.
type beforeRemoval struct {
	gone string // the key in which its end is remembered
	do   func()
}

func (h *beforeRemoval) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *beforeRemoval) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.look(cmd)
		return next(ctx, cmd)
	}
}

func (h *beforeRemoval) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.look(cmds...)
		return next(ctx, cmds)
	}
}

func (h *beforeRemoval) look(cmds ...redis.Cmder) {
	removes := func(cmd redis.Cmder) bool { return slices.Contains(cmd.Args(), any(h.gone)) }
	if do := h.do; do != nil && slices.ContainsFunc(cmds, removes) {
		h.do = nil
		do()
	}
}

// TestARetryThatDiesAtOnceIsOne, although its letter is another one by then.
func TestARetryThatDiesAtOnceIsOne(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	dead := letter("a")
	testkit.NoError(t, b.letters.Put(ctx, dead))
	again := dead
	again.FailedAt = dead.FailedAt.Add(time.Second)
	hook := &beforeRemoval{"test:{once}:d:g:a", func() { testkit.NoError(t, b.letters.Put(ctx, again)) }}
	b.rdb.AddHook(hook)
	if carrier, err := b.Retry(ctx, "a"); err != nil || carrier != "a:retry1" || hook.do != nil {
		t.Errorf("%s, %v", carrier, err)
	}
	if left := b.ids(t); !slices.Equal(left, []string{"a"}) {
		t.Errorf("left: %v", left)
	}
}

// TestDeletingALetterForgetsItsOwner: a retry of its task would not ask Clerk any more.
func TestDeletingALetterForgetsItsOwner(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	entry := letter("a")
	entry.EmailAddress = "ada@example.com"
	intents := intent.NewTasks(b.rdb, "test")
	wish := intent.Wish{Task: "a", Address: store.IDOf("ada@example.com")}
	if _, err := intents.Claim(ctx, "1", time.Minute, []intent.Wish{wish}); err != nil {
		t.Fatal(err)
	}
	if err := intents.Settle(ctx, intent.Settlement{Wish: wish, Token: "1", End: fate.IntentAbsent,
		Letter: &entry}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if was, err := b.Delete(ctx, "a"); was != want || err != nil {
			t.Errorf("deleted: %t, %v, want %t", was, err, want)
		}
	}
	if standing, _, err := intents.Standing(ctx, wish.Owner(), wish.Address); err != nil || standing.Open {
		t.Errorf("%+v, %v", standing, err)
	}
}

// TestALetterOfACopyIsAskedAbout although Clerk has refused it: it may have been retried since the copy was made.
func TestALetterOfACopyIsAskedAbout(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	address := store.IDOf("ada@example.com")
	dead := deadletter.Entry{
		ID: deadletter.RecipientID("spring", address), Type: "bulk-invite", Queue: "test:campaign", Campaign: "spring",
		Recipient: &address, Payload: []byte(`{"email_address":"ada@example.com"}`),
		Failure: fate.Failure{Reason: fate.ReasonRejected}, FailedAt: time.Now().Add(-time.Minute).UTC(),
	}
	testkit.NoError(t, b.letters.Put(ctx, dead))
	_, err := store.BeginRestoration(ctx, store.Open(b.rdb, "test"))
	testkit.NoError(t, err)
	_, err = b.retryAlone(t, dead.ID)
	testkit.NoError(t, err)
	want := fmt.Sprintf("r|reopened|%d|%[1]d", dead.FailedAt.UnixMilli())
	for _, intent := range b.rdb.HGetAll(ctx, store.Keys("test").Intents(string(address[:]))).Val() {
		if intent == want {
			return
		}
	}
	t.Error("its invite calls without a question")
}

// TestARecipientOfACampaignGoesOnAsAnInviteOfItsOwn: the invite takes the recipient's intent over, and asks Clerk
// before it calls. A retry that was begun in one way is finished in that way.
func TestARecipientOfACampaignGoesOnAsAnInviteOfItsOwn(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	address := store.IDOf("ada@example.com")
	key := store.Keys("test").Intents(string(address[:]))
	since := time.Now().Add(-time.Hour)
	dead := deadletter.Entry{
		ID: deadletter.RecipientID("spring", address), Type: "bulk-invite", Queue: "test:campaign", Campaign: "spring",
		Recipient: &address, Payload: []byte(`{"email_address":"ada@example.com","template_slug":"invitation"}`),
		Failure: fate.Failure{Reason: fate.ReasonExhausted}, History: []fate.Attempt{{At: since}}, FailedAt: time.Now().UTC(),
	}
	outside, err := b.letters.IDOf(ctx, "spring", address)
	testkit.NoError(t, err)
	if outside == dead.ID {
		t.Errorf("the task's id would tell the address")
	}
	next := "alone:" + outside + ":retry1"
	for step, retry := range []func() (string, error){
		func() (string, error) { return b.retryAlone(t, dead.ID) },
		func() (string, error) { return b.retryAlone(t, dead.ID) }, // after it was broken off
		func() (string, error) { return b.Retry(ctx, dead.ID) },
	} {
		testkit.NoError(t, b.letters.Put(ctx, dead))
		if step == 0 {
			testkit.NoError(t, b.rdb.HSet(ctx, key, "c:spring", "p|x|1|1").Err())
		} else {
			testkit.NoError(t, b.rdb.HSet(ctx, "test:{once}:d:e:"+dead.ID, "next", next).Err())
		}
		if carrier, err := retry(); err != nil || carrier != next {
			t.Fatalf("%d: %s, %v", step, carrier, err)
		}
		info, err := b.inspector.GetTaskInfo("test:interactive", next)
		testkit.NoError(t, err)
		if p, err := tasks.DecodeInvite(info.Payload); err != nil || p.EmailAddress != "ada@example.com" ||
			p.TemplateSlug != "invitation" || info.Type != tasks.TypeInvite {
			t.Errorf("%+v, %v, %s", p, err, info.Type)
		}
		if intents := b.rdb.HGetAll(ctx, key).Val(); len(intents) != 1 ||
			!strings.HasPrefix(intents["t:alone:"+outside], "r|reopened|1|") {
			t.Errorf("intents: %v", intents)
		}
	}
	// it has ended since: nothing stands in for it any more
	testkit.NoError(t, b.inspector.DeleteTask("test:interactive", next))
	testkit.NoError(t, b.records.Put(ctx, next, record.Record{State: record.Done}))
	testkit.NoError(t, b.rdb.Del(ctx, key).Err())
	late := intent.Doubt{Owned: intent.Owned{Owner: "c:spring", Address: address}, Since: since.UnixMilli()}
	testkit.NoError(t, intent.NewTasks(b.rdb, "test").Adopt(ctx, intent.Adoption{Doubt: late, Task: next})[0])
	if n := b.rdb.Exists(ctx, key).Val(); n != 0 {
		t.Error("a late request left an intent")
	}
}

// TestOfManyRetriesEachHasItsOwnEnd: what is wrong with one letter stops no other.
func TestOfManyRetriesEachHasItsOwnEnd(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	var wishes []retry.Wish
	for _, id := range []string{"whole", "again", "gone", "other"} {
		testkit.NoError(t, b.letters.Put(ctx, letter(id)))
		l, err := b.letters.Get(ctx, id)
		testkit.NoError(t, err)
		wishes = append(wishes, retry.Wish{Letter: l})
	}
	again := letter("again") // it was retried and has died again since
	again.FailedAt = again.FailedAt.Add(time.Second)
	testkit.NoError(t, b.letters.Put(ctx, again))
	_, err := b.Delete(ctx, "gone")
	testkit.NoError(t, err)
	nobody := store.IDOf("nobody@example.com") // the campaign has no such recipient
	stray := letter(deadletter.RecipientID("c", nobody))
	stray.Campaign, stray.Recipient = "c", &nobody
	testkit.NoError(t, b.letters.Put(ctx, stray))
	wishes = append(wishes, retry.Wish{Letter: stray}, wishes[0])
	done := b.RetryEach(ctx, wishes)
	for i, want := range []error{
		nil, deadletter.ErrChanged, deadletter.ErrNotFound, nil, ledger.ErrNotFound, deadletter.ErrNotFound,
	} {
		if !errors.Is(done[i].Err, want) || (want == nil) != (done[i].Carrier != "") {
			t.Errorf("%s: %+v", wishes[i].Letter.ID, done[i])
		}
	}
	if left := b.ids(t); len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	if info, err := b.inspector.GetQueueInfo("test:interactive"); err != nil || info.Size != 2 {
		t.Errorf("%+v, %v", info, err)
	}
}
