package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// fakeClerk makes every invitation, and remembers the addresses of each call.
type fakeClerk struct {
	users   []string // who are users already
	pending []string // who are invited already
	answer  func(addresses []string) error
	refuse  error // what look-ups answer

	mu      sync.Mutex
	singles [][]string
	bulks   [][]string
	lookUps int
}

func (f *fakeClerk) called(calls *[][]string, addresses []string) ([]clerkclient.Invitation, error) {
	f.mu.Lock()
	*calls = append(*calls, addresses)
	f.mu.Unlock()
	if f.answer != nil {
		if err := f.answer(addresses); err != nil {
			return nil, err
		}
	}
	made := make([]clerkclient.Invitation, len(addresses))
	for i, address := range addresses {
		made[i] = clerkclient.Invitation{ID: "inv_" + address, EmailAddress: address}
	}
	slices.Reverse(made) // the order of a bulk's answer is not promised
	return made, nil
}

func (f *fakeClerk) Create(
	_ context.Context, p *invitation.CreateParams,
) (clerkclient.Invitation, clerkclient.Answer, error) {
	made, err := f.called(&f.singles, []string{p.EmailAddress})
	if err != nil {
		return clerkclient.Invitation{}, clerkclient.Answer{}, err
	}
	return made[0], clerkclient.Answer{}, nil
}

func (f *fakeClerk) CreateBulk(
	_ context.Context, params []*invitation.CreateParams,
) ([]clerkclient.Invitation, clerkclient.Answer, error) {
	addresses := make([]string, len(params))
	for i, p := range params {
		addresses[i] = p.EmailAddress
	}
	made, err := f.called(&f.bulks, addresses)
	return made, clerkclient.Answer{}, err
}

func (f *fakeClerk) List(_ context.Context, q clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	var page clerkclient.Page
	for _, address := range f.pending {
		page.Invitations = append(page.Invitations, clerkclient.Invitation{EmailAddress: address})
	}
	return page, clerkclient.Answer{}, f.refuse
}

func (f *fakeClerk) UsersByEmail(_ context.Context, addresses []string) ([]string, clerkclient.Answer, error) {
	f.mu.Lock()
	f.lookUps++
	f.mu.Unlock()
	var found []string
	for _, address := range addresses {
		if slices.Contains(f.users, address) {
			found = append(found, address)
		}
	}
	return found, clerkclient.Answer{}, f.refuse
}

// sent gives how often each address was in a call.
func (f *fakeClerk) sent() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	times := map[string]int{}
	for _, call := range append(slices.Clone(f.singles), f.bulks...) {
		for _, address := range call {
			times[address]++
		}
	}
	return times
}

func (f *fakeClerk) singleCalls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.singles)
}

type silent struct{}

func (silent) Called(policy.Call, clerkclient.Outcome, call.Timing) {}
func (silent) LookedUp(time.Duration, bool)                         {}

// setup gives a dispatcher with so many singles and bulks for the whole test. Its campaigns are in memory.
func setup(t *testing.T, clerk *fakeClerk, singles, bulks int) *Dispatcher {
	t.Helper()
	rdb := testkit.MiniRedis(t)
	p := policy.Policy{
		Create: settings.Rate{N: singles, Window: time.Hour}, Bulk: settings.Rate{N: bulks, Window: time.Hour},
		Timeout: 30 * time.Second, BulkMetadata: policy.MetadataAsAsked,
	}
	limiter, err := ratelimit.New(rdb, "test", p.Limits("k")...)
	if err != nil {
		t.Fatal(err)
	}
	caller := &call.Caller{
		Limiter: limiter, Policy: p, Key: "k", Gate: call.NewKeyGate(), Life: t.Context(), Observer: silent{},
		Log: zerolog.Nop(),
	}
	questions := ask.New(clerk, ask.Once(caller), silent{}, zerolog.Nop())
	return New(caller, clerk, questions, intent.NewTasks(rdb, "test"), &ledgers{lists: map[string]*list{}})
}

func person(t *testing.T, r tasks.Recipient) Recipient {
	t.Helper()
	recipient, err := NewRecipient(r)
	if err != nil {
		t.Fatal(err)
	}
	return recipient
}

func people(t *testing.T, name string, n int) []Recipient {
	t.Helper()
	list := make([]Recipient, n)
	for i := range list {
		list[i] = person(t, tasks.Recipient{EmailAddress: fmt.Sprintf("%s%d@example.com", name, i)})
	}
	return list
}

// wish is that of a task for each recipient.
func wish(r Recipient) intent.Wish {
	id := store.IDOf(r.Folded())
	return intent.Wish{Task: r.Folded(), Address: id}
}

type answer struct {
	Result
	err error
}

// sendAll hands over everybody at once and gives what became of each.
func sendAll(t *testing.T, d *Dispatcher, recipients []Recipient) []answer {
	t.Helper()
	answers := make([]answer, len(recipients))
	var sending sync.WaitGroup
	for i, r := range recipients {
		sending.Go(func() { answers[i].Result, _, answers[i].err = d.Send(t.Context(), r, wish(r)) })
	}
	done := make(chan struct{})
	go func() { sending.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("not everybody was sent within a minute")
	}
	return answers
}

// ledgers are campaigns in memory.
type ledgers struct {
	mu    sync.Mutex
	lists map[string]*list
}

// TakeForCall takes from the list of that name.
func (l *ledgers) TakeForCall(_ context.Context, name string, n int, _, _ time.Duration, from ...ledger.List) (
	ledger.Batch, error,
) {
	l.mu.Lock()
	campaign := l.lists[name]
	l.mu.Unlock()
	return campaign.take(n, slices.Contains(from, ledger.Singles))
}

// list is a campaign whose driver only counts.
type list struct {
	feed    *Feed
	take    func(n int, alone bool) (ledger.Batch, error)
	mu      sync.Mutex
	ready   []Recipient
	results []fate.Answer
	settled chan int // how many were settled, delivery by delivery
}

// newList gives a campaign that is not opened yet.
func newList(d *Dispatcher, name string, recipients []Recipient) *list {
	l := &list{ready: recipients, settled: make(chan int, len(recipients)+1000)}
	l.take = l.takeReady
	all := d.ledgers.(*ledgers)
	all.mu.Lock()
	defer all.mu.Unlock()
	all.lists[name] = l
	return l
}

// finish settles what the feed delivers.
func (l *list) finish(delivery *Delivery) {
	l.mu.Lock()
	l.results = append(l.results, delivery.Answers...)
	l.mu.Unlock()
	l.settled <- len(delivery.Answers)
}

func open(d *Dispatcher, name string, recipients []Recipient) *list {
	l := newList(d, name, recipients)
	l.feed = d.Open(name, l.finish)
	l.offer()
	return l
}

func (l *list) offer() {
	l.feed.Reading()
	l.mu.Lock()
	n := len(l.ready)
	l.mu.Unlock()
	l.feed.Offer(Waiting{Ready: n})
}

func (l *list) takeReady(n int, _ bool) (ledger.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.ready))
	var batch ledger.Batch
	for _, r := range l.ready[:n] {
		data, err := json.Marshal(r.Recipient)
		if err != nil {
			return ledger.Batch{}, err
		}
		batch.Rows = append(batch.Rows, ledger.Row{ID: store.IDOf(r.Folded()), Recipient: data})
	}
	l.ready = l.ready[n:]
	return batch, nil
}

// wait returns when so many have been settled.
func (l *list) wait(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		select {
		case some := <-l.settled:
			n -= some
		case <-time.After(time.Minute):
			t.Fatalf("%d are not settled within a minute", n)
		}
	}
}

// close fails the test unless the feed is closed within a minute.
func (l *list) close(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() { l.feed.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the feed is not closed within a minute")
	}
}
