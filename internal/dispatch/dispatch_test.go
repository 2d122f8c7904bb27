package dispatch

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

func TestAnInviteAloneGoesAtOnceAndIsNotLookedUp(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"p0@example.com"}}
	d := setup(t, clerk, 100, 25)
	if a := sendAll(t, d, people(t, "p", 1))[0]; a.err != nil || a.Answer.InvitationID != "inv_p0@example.com" {
		t.Errorf("%+v", a)
	}
	if len(clerk.singles) != 1 || len(clerk.bulks) != 0 || clerk.lookUps != 0 {
		t.Errorf("singles %v, bulks %v, %d look-ups", clerk.singles, clerk.bulks, clerk.lookUps)
	}
}

// TestABurstOfInvitesFitsIntoBothBudgets: several workers share the budgets, and none of them wastes a bulk on a few.
func TestABurstOfInvitesFitsIntoBothBudgets(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 20, 4)
	for _, a := range sendAll(t, d, people(t, "p", 20+4*10-4)) { // kept singles: 4
		if a.err != nil || a.Answer.Kind != fate.KindCreated || a.Answer.InvitationID == "" {
			t.Errorf("%+v", a)
		}
	}
	for address, times := range clerk.sent() {
		if times != 1 {
			t.Errorf("%s was sent %d times", address, times)
		}
	}
	for _, bulk := range clerk.bulks {
		if len(bulk) != policy.BulkSize {
			t.Errorf("a bulk left with %d", len(bulk))
		}
	}
}

func TestWithoutALimitOfBulksTenThatWaitShareACall(t *testing.T) {
	t.Parallel()
	var refused atomic.Bool
	clerk := &fakeClerk{answer: func(addresses []string) error {
		if len(addresses) == policy.BulkSize && refused.CompareAndSwap(false, true) { // one of the two
			return &clerkclient.Error{Status: 422, Outcome: clerkclient.Rejected, Reach: clerkclient.ReachRequest}
		}
		return nil
	}}
	d := setup(t, clerk, 0, 0)
	recipients := people(t, "p", 25)
	apart := []Recipient{
		person(t, tasks.Recipient{EmailAddress: "again@example.com", IgnoreExisting: true}),
		person(t, tasks.Recipient{EmailAddress: "data@example.com", PublicMetadata: map[string]any{"plan": "pro"}}),
	}
	var waiters []*waiter
	for _, r := range append(apart, recipients...) {
		waiters = append(waiters, d.newWaiter(r, wish(r)))
	}
	d.change(func() { d.waiters = append(d.waiters, waiters...) })
	kinds := map[fate.Kind]int{}
	for _, w := range waiters {
		result := <-w.told
		kinds[result.Answer.Kind]++
		if result.Answer.Kind == fate.KindForAnother && !result.Answer.Alone {
			t.Errorf("%s may share another call after one that was refused", w.folded)
		}
	}
	if want := map[fate.Kind]int{fate.KindCreated: 17, fate.KindForAnother: 10}; !maps.Equal(kinds, want) {
		t.Errorf("the answers are %v, want %v", kinds, want)
	}
	if len(clerk.bulks) != 2 || len(clerk.singles) != 7 || clerk.lookUps > 0 {
		t.Errorf("%d bulks, %d singles and %d look-ups; want 2, 7 and none",
			len(clerk.bulks), len(clerk.singles), clerk.lookUps)
	}
}

// TestWithoutALimitOfBulksInvitesWaitAMomentForCompany: not those that may not share a call.
func TestWithoutALimitOfBulksInvitesWaitAMomentForCompany(t *testing.T) {
	t.Parallel()
	d := setup(t, &fakeClerk{}, 0, 0)
	came := time.Now()
	come := func(recipients ...Recipient) {
		for _, r := range recipients {
			w := d.newWaiter(r, wish(r))
			w.since = came
			d.waiters = append(d.waiters, w)
		}
	}
	come(person(t, tasks.Recipient{EmailAddress: "alone@example.com", IgnoreExisting: true}))
	come(people(t, "p", policy.BulkSize-1)...)
	for _, at := range []struct {
		after, again  time.Duration
		singles, bulk int
	}{
		{0, policy.FreeCompany, 1, 0},
		{policy.FreeCompany - 1, 1, 1, 0},
		{policy.FreeCompany, 0, policy.BulkSize, 0},
	} {
		calls, _, again := d.demand(came.Add(at.after))
		if calls[policy.Create] != at.singles || calls[policy.Bulk] != at.bulk || again != at.again {
			t.Errorf("after %v: %v, and again after %v", at.after, calls, again)
		}
	}
	come(people(t, "last", 1)...)
	if calls, _, again := d.demand(came); calls[policy.Create] != 1 || calls[policy.Bulk] != 1 || again != 0 {
		t.Errorf("with ten: %v, and again after %v", calls, again)
	}
}

// TestWhomNoBulkOfAWindowCanTakeGoesAlone at the same time. All others wait for bulks while there may be some.
func TestWhomNoBulkOfAWindowCanTakeGoesAlone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		ready, behind int
		blocked       bool // bulks
		singles       int
	}{
		"bulks can take all":               {50, 200, false, 0},
		"they cannot":                      {250, 7, false, 7},
		"few of those are looked up":       {5, 300, false, 5},
		"bulks are used up":                {50, 200, true, 50},
		"they are, and could not take all": {100, 200, true, 100},
	} {
		d := setup(t, &fakeClerk{}, 100, 25)
		feed := d.newFeed("c", nil)
		feed.waiting = Waiting{Ready: c.ready, Behind: c.behind, Coming: c.behind > 0}
		d.feeds = []*Feed{feed}
		if c.blocked {
			d.queues[policy.Bulk].blocked = now.Add(time.Minute)
		}
		if calls, _, _ := d.demand(now); calls[policy.CreateCampaign] != c.singles {
			t.Errorf("%s: %d go alone, want %d", name, calls[policy.CreateCampaign], c.singles)
		}
	}
	d := setup(t, &fakeClerk{}, 100, 0)
	feed := d.newFeed("c", nil)
	feed.waiting.Ready = 1000
	d.feeds = []*Feed{feed}
	if calls, _, _ := d.demand(now); calls[policy.CreateCampaign] != 0 || calls[policy.Bulk] != 100 {
		t.Errorf("where bulks have no limit: %v", calls)
	}
}

func TestWhoMayNotShareACallTravelsAlone(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"user@example.com"}}
	d := setup(t, clerk, 1, 25)
	sendAll(t, d, people(t, "first", 1)) // takes the only single
	recipients := people(t, "p", 9)
	recipients = append(recipients, recipients[0]) // the same address
	sendAll(t, d, recipients)
	for _, bulk := range clerk.bulks {
		seen := map[string]bool{}
		for _, address := range bulk {
			if seen[address] {
				t.Errorf("%s is twice in %v", address, bulk)
			}
			seen[address] = true
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := []tasks.Recipient{
		{EmailAddress: "meta@example.com", PublicMetadata: map[string]any{"plan": "pro"}},
		{EmailAddress: "user@example.com", IgnoreExisting: true},
	}
	ended := make(chan error)
	for _, r := range waiting {
		go func() {
			_, _, err := d.Send(ctx, person(t, r), wish(person(t, r)))
			ended <- err
		}()
	}
	sendAll(t, d, people(t, "q", 10)) // they pass those who wait for a single
	cancel()
	for range waiting {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("one that gave up: %v", err)
		}
	}
	for address := range clerk.sent() {
		if strings.HasPrefix(address, "meta") || strings.HasPrefix(address, "user") {
			t.Errorf("%s was sent", address)
		}
	}
}

func TestACallInFlightIsNotTakenBack(t *testing.T) {
	t.Parallel()
	started, goOn := make(chan struct{}), make(chan struct{})
	clerk := &fakeClerk{answer: func([]string) error {
		close(started)
		<-goOn
		return nil
	}}
	d := setup(t, clerk, 100, 25)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan answer)
	go func() {
		result, _, err := d.Send(ctx, people(t, "p", 1)[0], wish(people(t, "p", 1)[0]))
		ended <- answer{result, err}
	}()
	<-started
	cancel()
	close(goOn)
	if a := <-ended; a.err != nil || a.Answer.InvitationID == "" {
		t.Errorf("%+v", a)
	}
}

func TestThrottledOnesTravelAgainUncounted(t *testing.T) {
	t.Parallel()
	calls := 0
	clerk := &fakeClerk{}
	clerk.answer = func([]string) error {
		if calls++; calls == 1 {
			return &clerkclient.Error{Outcome: clerkclient.Throttled, Status: 429, RetryAfter: 1, Sent: true}
		}
		return nil
	}
	d := setup(t, clerk, 100, 25)
	if a := sendAll(t, d, people(t, "p", 1))[0]; a.err != nil || a.Answer.InvitationID == "" || calls != 2 {
		t.Errorf("%+v after %d calls", a, calls)
	}
}

func TestCampaignsFillBulksAndThenUseSinglesAboveTheReserve(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 20, 3)
	d.caller.Policy.Reserve = 5
	l := open(d, "c", people(t, "p", 3*10+15+10))
	l.wait(t, 3*10+15)
	if len(clerk.bulks) != 3 || len(clerk.singles) != 15 {
		t.Errorf("%d bulks and %d singles", len(clerk.bulks), len(clerk.singles))
	}
	for _, bulk := range clerk.bulks {
		if len(bulk) != policy.BulkSize {
			t.Errorf("a bulk left with %d", len(bulk))
		}
	}
	sendAll(t, d, people(t, "invite", 5)) // the reserve
	l.close(t)
	if n := len(clerk.sent()); n != 3*10+15+5 {
		t.Errorf("%d were sent", n)
	}
}

func TestABulkWaitsForThoseWhoAreBeingLookedUp(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 20, 3)
	l := open(d, "c", nil)
	l.ready = people(t, "p", 13)
	l.feed.Reading()
	l.feed.Offer(Waiting{Ready: 13, Coming: true})
	l.wait(t, 10)
	l.ready = append(l.ready, people(t, "q", 7)...)
	l.offer()
	l.wait(t, 10)
	if len(clerk.bulks) != 2 || len(clerk.bulks[1]) != 10 {
		t.Errorf("%v", clerk.bulks)
	}
	l.close(t)
}

func TestCampaignsTakeTurns(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 1, 30)
	hold := make(chan struct{})
	clerk.answer = func([]string) error { <-hold; return nil }
	big, small := newList(d, "big", people(t, "big", 200)), newList(d, "small", people(t, "small", 30))
	d.mu.Lock() // both offer before the first call leaves
	for name, l := range map[string]*list{"big": big, "small": small} {
		l.feed = d.newFeed(name, l.finish)
		l.feed.waiting.Ready = len(l.ready)
	}
	d.feeds = []*Feed{big.feed, small.feed}
	d.balance()
	d.mu.Unlock()
	close(hold)
	small.wait(t, 30)
	big.wait(t, 200)
	last := 0
	for i, bulk := range clerk.bulks {
		if strings.HasPrefix(bulk[0], "small") {
			last = i
		}
	}
	if last > 12 { // its third turn is the sixth call; calls that fly at once may overtake each other
		t.Errorf("the small campaign was in call %d of %d at last", last+1, len(clerk.bulks))
	}
	big.feed.Close()
	small.close(t)
}

// slowLedgers hold each taking until the test lets it go on, and note how many it takes and how long the calls may
// last.
type slowLedgers struct {
	ready  int // so many wait
	hold   chan struct{}
	taken  []int
	within []time.Duration
}

func (s *slowLedgers) TakeForCall(_ context.Context, _ string, n int, within, _ time.Duration, _ ...ledger.List) (
	batch ledger.Batch, err error,
) {
	s.taken, s.within = append(s.taken, n), append(s.within, within)
	<-s.hold
	for range min(n, s.ready) {
		batch.Rows = append(batch.Rows, ledger.Row{Place: s.ready})
		s.ready--
	}
	return batch, nil
}

// TestCallsThatComeTogetherTakeTogether: each gets its own recipients, and the claims last until the last one's end.
func TestCallsThatComeTogetherTakeTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &slowLedgers{ready: 90, hold: make(chan struct{})}
		d := &Dispatcher{caller: &call.Caller{Log: zerolog.Nop()}, ledgers: slow}
		feed := d.newFeed("c", func(*Delivery) {})
		calls := make([]*takeRequest, 12)
		var takes sync.WaitGroup
		for i := range calls {
			lasts := time.Hour - (time.Duration(i-5) * time.Second).Abs() // the sixth the longest
			calls[i] = &takeRequest{ctx: t.Context(), deadline: time.Now().Add(lasts), n: 10}
			takes.Go(func() { testkit.NoError(t, feed.together.Do(calls[i], 10)) })
			synctest.Wait() // they come in this order
		}
		close(slow.hold)
		takes.Wait()
		places := map[int]bool{}
		for i, c := range calls {
			if want := min(10, max(0, 90-10*i)); len(c.batch.Rows) != want {
				t.Errorf("call %d got %d recipients, want %d", i, len(c.batch.Rows), want)
			}
			for _, row := range c.batch.Rows {
				places[row.Place] = true
			}
		}
		if len(places) != 90 || !slices.Equal(slow.taken, []int{10, 100, 10}) || slow.within[1] != time.Hour {
			t.Errorf("%d were taken, in steps of %v for %v", len(places), slow.taken, slow.within)
		}
	})
}

// TestAProbeIsForWhomItTellsMost: after a refusal that may be about the options of a request, for one with others, and
// one whom Clerk does not invite twice.
func TestAProbeIsForWhomItTellsMost(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 1000, 1000)
	all := people(t, "p", 4)
	for i, r := range []tasks.Recipient{
		{TemplateSlug: "waitlist_invitation"}, {TemplateSlug: "waitlist_invitation"}, {IgnoreExisting: true}, {},
	} {
		r.EmailAddress = all[i].EmailAddress
		all[i] = person(t, r)
	}
	first, best := all[0].EmailAddress, all[3].EmailAddress
	clerk.answer = func(addresses []string) error {
		if addresses[0] != first {
			return nil
		}
		return &clerkclient.Error{
			Outcome: clerkclient.Rejected, Reach: clerkclient.ReachInstance, Status: 402, Code: "plan", Sent: true,
		}
	}
	l := newList(d, "c", nil)
	l.take = func(n int, alone bool) (ledger.Batch, error) {
		l.mu.Lock()
		l.ready = all // they are there again each time
		l.mu.Unlock()
		return l.takeReady(n, alone)
	}
	l.feed = d.Open("c", l.finish)
	for _, want := range []int{1, len(all)} {
		l.feed.Reading()
		l.feed.Offer(Waiting{Alone: want})
		l.wait(t, want)
	}
	if want := [][]string{{first}, {best}}; !reflect.DeepEqual(clerk.singles, want) {
		t.Errorf("calls were for %v, not for %v", clerk.singles, want)
	}
	l.close(t)
}

func TestAPanicFailsTheCallAndNothingElse(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{answer: func([]string) error { panic("secret") }}
	d := setup(t, clerk, 100, 25)
	if a := sendAll(t, d, people(t, "p", 1))[0]; a.err != nil || a.Answer.Kind != fate.KindLost ||
		a.Answer.Failure.Code != "panic" {
		t.Errorf("%+v", a)
	}
	clerk.answer = nil
	if a := sendAll(t, d, people(t, "q", 1))[0]; a.Answer.InvitationID == "" {
		t.Errorf("after a panic: %+v", a)
	}
}

func TestAFeedWhoseLedgerPanicsCanBeClosed(t *testing.T) {
	t.Parallel()
	d := setup(t, &fakeClerk{}, 100, 25)
	l := open(d, "c", nil)
	panicked := make(chan struct{})
	l.take = func(int, bool) (ledger.Batch, error) {
		l.take = l.takeReady
		close(panicked)
		panic("secret")
	}
	l.feed.Offer(Waiting{Ready: 1})
	<-panicked
	l.mu.Lock()
	l.ready = people(t, "p", 15)
	l.mu.Unlock()
	stop := offerAgain(l)
	l.wait(t, 15)
	stop()
	l.close(t)
}

// panickyIntents spoils the first claim of several addresses, or those that are given back.
type panickyIntents struct {
	Intents
	claimed int // so many of them are claimed; none: it panics
	panics  int // so many that are given back panic
	once    sync.Once
}

func (p *panickyIntents) Claim(
	ctx context.Context, token string, within time.Duration, wishes []intent.Wish,
) ([]intent.Claim, error) {
	if len(wishes) > 1 {
		p.once.Do(func() {
			if wishes = wishes[:min(p.claimed, len(wishes))]; len(wishes) == 0 {
				panic("secret")
			}
		})
	}
	return p.Intents.Claim(ctx, token, within, wishes)
}

func (p *panickyIntents) Settle(ctx context.Context, s intent.Settlement) error {
	if p.panics > 0 {
		p.panics--
		panic("secret")
	}
	return p.Intents.Settle(ctx, s)
}

// offerAgain offers a list again and again, as a driver does, once the first call has claimed it.
func offerAgain(l *list) (stop func()) {
	ended := make(chan struct{})
	var offering sync.WaitGroup
	offering.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
			l.feed.d.mu.Lock()
			claimed := l.feed.waiting.Ready == 0
			l.feed.d.mu.Unlock()
			if claimed {
				l.offer()
			}
		}
	})
	return func() { close(ended); offering.Wait() }
}

// TestWhoWasChosenForACallThatPanickedWaitsOn: and so can the feed be closed whose recipients were chosen with them.
func TestWhoWasChosenForACallThatPanickedWaitsOn(t *testing.T) {
	t.Parallel()
	for name, claimed := range map[string]int{"claiming panics": 0, "a few are claimed": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setup(t, &fakeClerk{}, 1, 25)
			d.intents = &panickyIntents{Intents: d.intents, claimed: claimed}
			sendAll(t, d, people(t, "first", 1)) // takes the only single
			l := open(d, "c", nil)
			l.ready = people(t, "c", 3)
			l.feed.Offer(Waiting{Ready: 3, Coming: true}) // they wait for seven others
			stop := sync.OnceFunc(offerAgain(l))
			defer stop()
			for _, a := range sendAll(t, d, people(t, "p", 7)) {
				if a.err != nil || a.Answer.InvitationID == "" {
					t.Errorf("%+v", a)
				}
			}
			l.wait(t, 3)
			stop()
			l.close(t)
		})
	}
}

// TestWhenHandingBackPanicsTheOthersAreTold: Clerk throttles a bulk, and giving back the first claims panics, once
// more while what is left is handed back.
func TestWhenHandingBackPanicsTheOthersAreTold(t *testing.T) {
	t.Parallel()
	var throttled atomic.Bool
	clerk := &fakeClerk{answer: func(addresses []string) error {
		if len(addresses) > 1 && throttled.CompareAndSwap(false, true) {
			return &clerkclient.Error{Outcome: clerkclient.Throttled, Status: 429, RetryAfter: 1, Sent: true}
		}
		return nil
	}}
	d := setup(t, clerk, 1, 25)
	d.intents = &panickyIntents{Intents: d.intents, claimed: 10, panics: 2}
	sendAll(t, d, people(t, "first", 1)) // takes the only single
	l := open(d, "c", nil)
	l.ready = people(t, "c", 3)
	l.feed.Offer(Waiting{Ready: 3, Coming: true}) // they wait for seven others
	stop := sync.OnceFunc(offerAgain(l))
	defer stop()
	busy := 0
	for _, a := range sendAll(t, d, people(t, "p", 7)) {
		switch {
		case a.Claim.Verdict == fate.VerdictBusy: // its claim stands until the deadline of the call
			busy++
		case a.err != nil || a.Answer.InvitationID == "":
			t.Errorf("%+v", a)
		}
	}
	l.wait(t, 3)
	stop()
	l.close(t)
	if busy != 2 {
		t.Errorf("%d claims were not given back, want 2", busy)
	}
	testkit.Eventually(t, "no call is under way", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.queues[policy.Bulk].flying == 0
	})
	if l.results[0].Kind != fate.KindNothingYet {
		t.Errorf("the campaign was told %+v of a throttled call", l.results[0])
	}
}

func TestCloseWaitsUntilEachDeliveryIsFinished(t *testing.T) {
	t.Parallel()
	called := make(chan struct{})
	d := setup(t, &fakeClerk{answer: func([]string) error { close(called); return nil }}, 100, 25)
	l := newList(d, "c", people(t, "p", 10))
	var finished atomic.Bool
	deliveries := make(chan *Delivery)
	l.feed = d.Open("c", func(delivery *Delivery) {
		deliveries <- delivery
		finished.Store(true)
	})
	l.offer()
	<-called
	closed := make(chan struct{})
	go func() { l.feed.Close(); close(closed) }()
	time.Sleep(20 * time.Millisecond)
	select {
	case <-closed:
		t.Error("the feed was closed before its delivery was finished")
	default:
	}
	delivery := <-deliveries
	if len(delivery.Answers) != 10 || delivery.Answers[0].InvitationID != "inv_p0@example.com" {
		t.Errorf("delivered: %+v", delivery)
	}
	if <-closed; !finished.Load() {
		t.Error("the feed was closed before its delivery was finished")
	}
}

// TestWhoIsInNoCallIsHandedBack: one that cannot be read, and one that may not share a bulk.
func TestWhoIsInNoCallIsHandedBack(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{}
	d := setup(t, clerk, 100, 25)
	d.caller.Policy.BulkMetadata = policy.MetadataNever
	good := people(t, "p", 1)[0]
	meta := person(t, tasks.Recipient{EmailAddress: "m@example.com", PublicMetadata: map[string]any{"plan": "pro"}})
	l := newList(d, "c", []Recipient{good, meta})
	l.take = func(n int, alone bool) (ledger.Batch, error) {
		batch, err := l.takeReady(n, alone)
		batch.Rows = append(batch.Rows, ledger.Row{Recipient: []byte(`{"email_address":"bad"}`)})
		return batch, err
	}
	deliveries := make(chan *Delivery, 1)
	l.feed = d.Open("c", func(delivery *Delivery) { deliveries <- delivery })
	l.feed.Offer(Waiting{Ready: 3})
	delivery := <-deliveries
	l.close(t)
	results := delivery.Answers
	if len(results) != 3 || results[0].InvitationID == "" || len(clerk.bulks) != 1 || len(clerk.bulks[0]) != 1 {
		t.Fatalf("%+v after %v", results, clerk.bulks)
	}
	if results[1].Kind != fate.KindNothingYet || !results[1].Alone || results[2].Kind != fate.KindUnreadable {
		t.Errorf("%+v", results)
	}
	if r := delivery.Recipients[2]; r.EmailAddress != "bad" {
		t.Errorf("of one that cannot be read: %+v", r)
	}
}
