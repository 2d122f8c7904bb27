package intent_test

import (
	"errors"
	"testing"
	"time"

	"example.com/usher/internal/fate"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

type bundle struct {
	*intent.Tasks
	t    *testing.T
	rdb  *redis.Client
	born int64
}

func setup(t *testing.T) bundle {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	return bundle{intent.NewTasks(rdb, "test"), t, rdb, time.Now().UnixMilli()}
}

func (b bundle) wish(task string) intent.Wish {
	return intent.Wish{Task: task, Address: [16]byte{1}, Born: b.born}
}

func (b bundle) claim(task, token string, within time.Duration) intent.Claim {
	b.t.Helper()
	claims, err := b.Claim(b.t.Context(), token, within, []intent.Wish{b.wish(task)})
	if err != nil {
		b.t.Fatal(err)
	}
	return claims[0]
}

func (b bundle) want(task, token string, within time.Duration, verdict fate.Verdict) intent.Claim {
	b.t.Helper()
	claim := b.claim(task, token, within)
	if claim.Verdict != verdict {
		b.t.Fatalf("%s: %+v, want %s", task, claim, verdict)
	}
	return claim
}

func (b bundle) settle(task, token string, end fate.End, id string) error {
	return b.Settle(b.t.Context(), intent.Settlement{Wish: b.wish(task), Token: token, End: end, InvitationID: id})
}

func (b bundle) mustSettle(task, token string, end fate.End, id string) {
	b.t.Helper()
	if err := b.settle(task, token, end, id); err != nil {
		b.t.Fatal(err)
	}
}

// TestARepeatedClaimIsGranted: its first answer was lost. Still one run of a script grants an address once.
func TestARepeatedClaimIsGranted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.rdb.AddHook(testkit.Twice{})
	for range 2 {
		wishes := []intent.Wish{b.wish("a"), b.wish("a:retry1"), b.wish("b")}
		claims, err := b.Claim(t.Context(), "1", time.Minute, wishes)
		if err != nil || claims[0].Verdict != fate.VerdictGranted || claims[1].Verdict != fate.VerdictBusy ||
			claims[2].Verdict != fate.VerdictBusy {
			t.Errorf("%+v, %v", claims, err)
		}
	}
	b.want("a", "2", time.Minute, fate.VerdictBusy)
}

func TestOneClaimAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if claim := b.want("a", "1", time.Minute, fate.VerdictGranted); !claim.First ||
		fate.Release(claim.First) != fate.IntentRefused {
		t.Errorf("%+v", claim)
	}
	if busy := b.want("a", "2", time.Minute, fate.VerdictBusy); busy.Again < 50*time.Second {
		t.Errorf("another run of the task may ask again after %s", busy.Again)
	}
	b.want("b", "3", time.Minute, fate.VerdictBusy)
	b.mustSettle("a", "1", fate.IntentRefused, "")
	b.want("b", "4", time.Minute, fate.VerdictGranted)
	if err := b.settle("a", "1", fate.IntentMade, "inv_1"); !errors.Is(err, intent.ErrTaken) {
		t.Errorf("settling what is settled: %v", err)
	}
}

func TestAnUnknownOutcomeIsAskedAboutBeforeTheNextCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.want("a", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("a", "1", fate.IntentUnknown, "")
	b.want("a", "2", time.Minute, fate.VerdictUnsure)
	b.want("a:retry1", "2", time.Minute, fate.VerdictUnsure)
	b.want("b", "3", time.Minute, fate.VerdictBusy)
	standing, now, err := b.Standing(t.Context(), intent.TaskOwner("a"), [16]byte{1})
	if err != nil || standing.Token != "1" || standing.Until.After(now) || !standing.Since.Equal(first.Now) {
		t.Errorf("%+v, %v", standing, err)
	}
	b.mustSettle("a", "1", fate.IntentAbsent, "")
	if again := b.want("a", "4", time.Minute, fate.VerdictGranted); again.First ||
		fate.Release(again.First) != fate.IntentReleased {
		t.Errorf("%+v", again)
	}
	if ttl := b.rdb.PTTL(t.Context(), b.key()).Val(); ttl > 0 {
		t.Errorf("an open intent expires in %s", ttl)
	}
}

// TestASecondCallThatMadeNothingLeavesTheIntentAsItWas: provisional, and in everybody's way but its owner's. When
// Clerk was asked again, it is in nobody's.
func TestASecondCallThatMadeNothingLeavesTheIntentAsItWas(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		b := setup(t)
		b.want("a", "1", time.Minute, fate.VerdictGranted)
		b.mustSettle("a", "1", fate.IntentUnknown, "")
		b.mustSettle("a", "1", fate.IntentProvisional, "")
		b.want("b", "2", time.Minute, fate.VerdictBusy)
		b.want("a", "3", time.Minute, fate.VerdictGranted)
		if asked { // its worker had died
			b.mustSettle("a", "3", fate.IntentAbsent, "")
			b.want("b", "4", time.Minute, fate.VerdictGranted)
			continue
		}
		b.mustSettle("a", "3", fate.IntentReleased, "")
		b.want("b", "4", time.Minute, fate.VerdictBusy)
		b.want("a", "5", time.Minute, fate.VerdictGranted)
	}
}

func (b bundle) key() string {
	return store.Keys("test").Intents(string(append([]byte{1}, make([]byte, 15)...)))
}

func TestAClaimWhoseHolderDiedIsUnsure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.want("a", "1", time.Millisecond, fate.VerdictGranted)
	deadline := time.Now().Add(30 * time.Second)
	for b.claim("a", "2", time.Minute).Verdict == fate.VerdictBusy {
		if time.Now().After(deadline) {
			t.Fatal("the claim stands for ever")
		}
	}
	b.want("a", "3", time.Minute, fate.VerdictUnsure)
	b.want("b", "4", time.Minute, fate.VerdictBusy)
}

// TestOneInvitationSettlesOneIntent: of two tasks for one address the second finds what the first has made.
func TestOneInvitationSettlesOneIntent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.want("a", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("a", "1", fate.IntentMade, "inv_1")
	if ttl := b.rdb.PTTL(t.Context(), b.key()).Val(); ttl <= 0 || ttl > 10*time.Minute {
		t.Errorf("with nothing open it expires in %s", ttl)
	}
	b.want("b", "2", time.Minute, fate.VerdictGranted)
	b.mustSettle("b", "2", fate.IntentUnknown, "")
	if standing, _, err := b.Standing(t.Context(), intent.TaskOwner("b"), [16]byte{1}); err != nil ||
		len(standing.Used) != 1 || standing.Used[0] != "inv_1" {
		t.Errorf("%+v, %v", standing, err)
	}
	if err := b.settle("b", "2", fate.IntentFound, "inv_1"); !errors.Is(err, intent.ErrTaken) {
		t.Errorf("one invitation has settled two intents: %v", err)
	}
	b.mustSettle("b", "2", fate.IntentFound, "inv_2")
}

func TestAnEndedTaskMakesNoCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.want("a", "1", time.Minute, fate.VerdictGranted)
	err := b.Settle(t.Context(), intent.Settlement{
		Wish: b.wish("a"), Token: "1", End: fate.IntentMade, InvitationID: "inv_1",
		Record: &record.Record{State: record.Done},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.want("a", "2", time.Minute, fate.VerdictEnded)
	if ttl := b.rdb.TTL(t.Context(), "test:{once}:t:a").Val(); ttl <= 0 {
		t.Errorf("the record of an ended task is kept for ever: %s", ttl)
	}
}

func TestAfterRedisLostItsMemoryWhoeverWasThereBeforeIsAskedAbout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.rdb.Set(t.Context(), store.Keys("test").Lost(), b.born+1, 0)
	b.want("old", "1", time.Minute, fate.VerdictUnsure)
	standing, _, err := b.Standing(t.Context(), intent.TaskOwner("old"), [16]byte{1})
	if err != nil || standing.Since.UnixMilli() != b.born || standing.Until.UnixMilli() != b.born+1 ||
		!standing.RecordLost {
		t.Errorf("%+v, %v, want since %d", standing, err, b.born)
	}
	b.mustSettle("old", standing.Token, fate.IntentAbsent, "")
	b.want("old", "2", time.Minute, fate.VerdictGranted)
	b.mustSettle("old", "2", fate.IntentMade, "inv_1")
	b.born += 2
	b.want("new", "3", time.Minute, fate.VerdictGranted)
}

// TestAfterALossNoEarlierAnswerCounts: that there was no call until then says nothing about one whose record is lost.
func TestAfterALossNoEarlierAnswerCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.want("a", "1", time.Hour, fate.VerdictGranted)
	b.mustSettle("a", "1", fate.IntentAbsent, "") // the call failed before it was made
	lost := b.rdb.Time(t.Context()).Val().Truncate(time.Millisecond).Add(time.Millisecond)
	testkit.Eventually(t, "it is lost", func() bool { return b.rdb.Time(t.Context()).Val().After(lost) })
	b.rdb.Set(t.Context(), store.Keys("test").Lost(), lost.UnixMilli(), 0)
	b.want("a", "2", time.Minute, fate.VerdictUnsure)
	standing, _, err := b.Standing(t.Context(), intent.TaskOwner("a"), [16]byte{1})
	if err != nil || !standing.RecordLost || !standing.Until.Equal(lost) || standing.Since.After(first.Now) {
		t.Errorf("%+v, %v", standing, err)
	}
	b.mustSettle("a", standing.Token, fate.IntentAbsent, "")
	b.want("a", "3", time.Minute, fate.VerdictGranted)
}

// TestTheFirstClaimOnAnotherRedisSeesIt: no worker has to look before.
func TestTheFirstClaimOnAnotherRedisSeesIt(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t, testkit.Durable()...)
	rdb := testkit.Client(t, server.Addr)
	b := bundle{intent.NewTasks(rdb, "test"), t, rdb, time.Now().UnixMilli()}
	b.want("a", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("a", "1", fate.IntentRefused, "")
	server.Kill()
	testkit.NoError(t, server.Start(t.Context()))
	b.want("a", "2", time.Minute, fate.VerdictUnsure)
	b.born = time.Now().Add(time.Second).UnixMilli()
	b.want("b", "3", time.Minute, fate.VerdictGranted)
}

func TestADeadLettersRetryIsAskedAboutAndIsInNobodysWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	reopen := func(since int64) {
		t.Helper()
		owned := intent.Owned{Owner: intent.TaskOwner("a"), Address: [16]byte{1}}
		testkit.NoError(t, b.Reopen(t.Context(), intent.Doubt{Owned: owned, Since: since})[0])
	}
	reopen(0) // it was refused at once: there is nothing to ask about
	b.want("a:retry1", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("a:retry1", "1", fate.IntentAbsent, "")
	reopen(0)
	b.want("b", "2", time.Minute, fate.VerdictGranted)
	b.mustSettle("b", "2", fate.IntentMade, "inv_1")
	b.want("a:retry2", "3", time.Minute, fate.VerdictUnsure)
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.rdb.HSet(t.Context(), b.key(), intent.TaskOwner("a"), "garbage")
	b.want("a", "1", time.Minute, fate.VerdictUnsure)
	standing, _, err := b.Standing(t.Context(), intent.TaskOwner("a"), [16]byte{1})
	if err != nil || !standing.Open {
		t.Fatalf("%+v, %v", standing, err)
	}
	b.mustSettle("a", standing.Token, fate.IntentAbsent, "")
	b.want("a", "2", time.Minute, fate.VerdictGranted)
}

// FuzzParse feeds garbage to what reads a standing.
func FuzzParse(f *testing.F) {
	f.Add("c|1|2|3")
	f.Add("u|t|1764000000000|1764000000000\ninv_1\ninv_2")
	f.Add("|||")
	f.Fuzz(func(t *testing.T, text string) {
		if standing, err := intent.Parse(text); err != nil && (!errors.Is(err, store.ErrGarbage) || standing.Open) {
			t.Errorf("%+v, %v", standing, err)
		}
	})
}

// TestAClaimNoticesThatAnEarlierOneIsLost: by the count of its process, although the Redis seems the same.
func TestAClaimNoticesThatAnEarlierOneIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Memory = store.NewMemory()
	b.want("first", "1", time.Minute, fate.VerdictGranted)
	b.mustSettle("first", "1", fate.IntentMade, "inv_1")
	b.want("second", "2", time.Minute, fate.VerdictGranted)
	run := store.Keys("test").Run()
	is := b.rdb.Get(t.Context(), run).Val()
	testkit.NoError(t, b.rdb.FlushAll(t.Context()).Err()) // as a replica that lacks it all
	testkit.NoError(t, b.rdb.Set(t.Context(), run, is, 0).Err())
	b.want("second", "3", time.Minute, fate.VerdictUnsure)
}
