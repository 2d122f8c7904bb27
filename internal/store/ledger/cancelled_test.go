package ledger_test

import (
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
)

// claims tells whether an invite of its own, and another campaign, may call now for the recipients of people(0, n).
// Nothing is left of a claim that is granted.
func (b bundle) claims(t *testing.T, n int) (granted bool) {
	t.Helper()
	invites, other := intent.NewTasks(b.rdb, "test"), "other"+time.Now().Format("150405.000000000")
	granted = true
	for _, person := range people(0, n) {
		wish := intent.Wish{Task: other + person.Folded, Address: store.IDOf(person.Folded), Born: time.Now().UnixMilli()}
		claimed, err := invites.Claim(t.Context(), "token", time.Minute, []intent.Wish{wish})
		testkit.NoError(t, err)
		if claimed[0].Verdict != fate.VerdictGranted {
			granted = false
			continue
		}
		testkit.NoError(t, invites.Settle(t.Context(), intent.Settlement{
			Wish: wish, Token: claimed[0].Token, End: fate.IntentRefused, Record: &record.Record{State: record.Done},
		}))
	}
	b.add(t, other, people(0, n))
	batch, err := b.TakeForCall(t.Context(), other, n, time.Minute, 0, ledger.Waiting)
	testkit.NoError(t, err)
	var outcomes []ledger.Outcome
	for _, row := range batch.Rows {
		outcomes = append(outcomes, waitFor(row, fate.IntentRefused, ledger.Ready, 0))
	}
	_, err = b.Settle(t.Context(), other, outcomes)
	testkit.NoError(t, err)
	return granted && len(batch.Rows) == n
}

// drained asks about all who are unsure, of whom Clerk shows nothing, until nobody is: as the driver of a campaign
// that was cancelled does.
func (b bundle) drained(t *testing.T, rules fate.Rules) {
	t.Helper()
	testkit.Eventually(t, "nobody is unsure", func() bool {
		p := b.progress(t)
		batch, err := b.TakeToAsk(t.Context(), "c", 10, time.Minute, ledger.Unsure)
		testkit.NoError(t, err)
		var outcomes []ledger.Outcome
		for _, row := range batch.Rows {
			known := fate.Known{State: row.State, Intent: row.Intent.Intent, Now: batch.Now, Stopped: true}
			outcomes = append(outcomes, ledger.Outcome{Row: row, Decision: known.AfterQuestion(nil, nil, 0, rules)})
		}
		b.settle(t, outcomes...)
		return p.Open+p.Unsure+p.Later == 0
	})
}

// move is what becomes of a call, or of a question about it, and where the recipient waits then.
type move struct {
	end    fate.End
	travel ledger.List
	delay  time.Duration
}

// live takes the recipients of a campaign through a call, a question about it and a second call, as far as there are
// moves, and cancels the campaign after them or, if that is asked, while the last one is under way.
func (b bundle) live(t *testing.T, n int, moves []move, amid bool) {
	t.Helper()
	for i, m := range moves {
		var batch ledger.Batch
		if i == 1 {
			batch = b.askLost(t, n)
		} else {
			batch = b.take(t, n, []ledger.List{ledger.Waiting, 0, ledger.Singles}[i], time.Minute)
		}
		if len(batch.Rows) != n {
			t.Fatalf("move %d: %d recipients", i, len(batch.Rows))
		}
		if amid && i == len(moves)-1 {
			b.cancel(t)
			if b.claims(t, n) {
				t.Error("free while a call is under way")
			}
		}
		var outcomes []ledger.Outcome
		for _, row := range batch.Rows {
			outcomes = append(outcomes, waitFor(row, m.end, m.travel, m.delay))
		}
		b.settle(t, outcomes...)
	}
	b.cancel(t)
}

func (b bundle) cancel(t *testing.T) {
	t.Helper()
	_, err := b.Cancel(t.Context(), "c")
	testkit.NoError(t, err)
}

// TestAnAddressOfACancelledCampaignIsFree for others: at once if no call of the campaign's can have invited it, and
// otherwise when that is known.
func TestAnAddressOfACancelledCampaignIsFree(t *testing.T) {
	t.Parallel()
	const n = 3
	lost := move{fate.IntentUnknown, ledger.Unsure, 0}
	alone := move{fate.IntentProvisional, ledger.Singles, 0}
	second := move{fate.IntentReleased, ledger.Singles, 0}
	for name, test := range map[string]struct {
		waits bool // until Clerk was asked
		amid  bool // the cancel comes while the last move is under way
		moves []move
	}{
		"waiting":                         {},
		"ready":                           {moves: []move{{fate.IntentRefused, ledger.Ready, 0}}},
		"alone":                           {moves: []move{{fate.IntentRefused, ledger.Singles, 0}}},
		"later":                           {moves: []move{{fate.IntentRefused, ledger.Ready, time.Hour}}},
		"in a call that is refused":       {amid: true, moves: []move{{fate.IntentRefused, ledger.Ready, 0}}},
		"an earlier call made nothing":    {moves: []move{lost, {fate.IntentAbsent, ledger.Ready, 0}}},
		"unsure":                          {waits: true, moves: []move{lost}},
		"unsure, and later":               {waits: true, moves: []move{{fate.IntentUnknown, ledger.Unsure, time.Second}}},
		"in a call whose answer is lost":  {waits: true, amid: true, moves: []move{lost}},
		"answered, and alone":             {waits: true, moves: []move{lost, alone}},
		"answered, and ready":             {waits: true, moves: []move{lost, {fate.IntentProvisional, ledger.Ready, 0}}},
		"answered, and later":             {waits: true, moves: []move{lost, {fate.IntentProvisional, ledger.Ready, time.Hour}}},
		"asked about, and then answered":  {waits: true, amid: true, moves: []move{lost, alone}},
		"a second call made nothing":      {waits: true, moves: []move{lost, alone, second}},
		"in a second call":                {waits: true, amid: true, moves: []move{lost, alone, second}},
		"in a second call, which is lost": {waits: true, amid: true, moves: []move{lost, alone, lost}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.add(t, "c", people(0, n))
			b.live(t, n, test.moves, test.amid)
			b.progress(t)
			if free := b.claims(t, n); free == test.waits {
				t.Errorf("free at once: %t", free)
			}
			b.drained(t, fate.Rules{MaxAttempts: 3, SettlingTime: 300 * time.Millisecond, Timeout: 100 * time.Millisecond})
			if !b.claims(t, n) {
				t.Error("not free although Clerk was asked")
			}
		})
	}
}

// TestACallOfAWorkerThatDiedBlocksNobodyForEver once its campaign is cancelled: its hold passes, and Clerk is asked.
func TestACallOfAWorkerThatDiedBlocksNobodyForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 3))
	b.take(t, 3, ledger.Waiting, 100*time.Millisecond)
	b.cancel(t)
	b.drained(t, fate.Rules{MaxAttempts: 3, SettlingTime: 300 * time.Millisecond})
	if !b.claims(t, 3) {
		t.Error("not free although Clerk was asked")
	}
}

// TestACancelledCampaignWhoseRecipientIsInDoubtGetsADriver also when its own has ended meanwhile.
func TestACancelledCampaignWhoseRecipientIsInDoubtGetsADriver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(t, "c", people(0, 1))
	b.live(t, 1, []move{{fate.IntentUnknown, ledger.Unsure, 0}, {fate.IntentProvisional, ledger.Singles, 0}}, false)
	b.rdb.HSet(t.Context(), "test:{once}:c:c:meta", "lease_until", 1)
	if orphans, err := b.Sweep(t.Context()); len(orphans) != 1 || err != nil {
		t.Errorf("%v, %v", orphans, err)
	}
}
