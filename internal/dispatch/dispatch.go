// Package dispatch decides who is sent when. Clerk has two budgets for invitations, single calls and bulk calls, and
// the dispatcher spends both. Invite tasks come first: one alone goes at once on a single permit; when singles run
// short, up to ten that wait share a bulk. Recipients of campaigns fill bulks to ten, and use singles above the
// reserve when bulks are spent.
package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Clerk makes invitations.
type Clerk interface {
	Create(context.Context, *invitation.CreateParams) (clerkclient.Invitation, clerkclient.Answer, error)
	CreateBulk(context.Context, []*invitation.CreateParams) ([]clerkclient.Invitation, clerkclient.Answer, error)
}

// Intents claims the addresses of invite tasks for a call, and gives them back after a call that made nothing.
type Intents interface {
	Claim(ctx context.Context, token string, within time.Duration, wishes []intent.Wish) ([]intent.Claim, error)
	Settle(ctx context.Context, s intent.Settlement) error
}

// Ledgers gives out recipients of campaigns for a call and claims their addresses.
type Ledgers interface {
	TakeForCall(ctx context.Context, campaign string, n int, within, margin time.Duration, from ...ledger.List) (
		ledger.Batch, error)
}

// Dispatcher sends recipients: those that invite tasks hand it one by one, and those of campaigns, which it takes
// from their ledgers.
type Dispatcher struct {
	caller    *call.Caller
	clerk     Clerk
	questions *ask.Questions
	intents   Intents
	ledgers   Ledgers

	mu      sync.Mutex
	waiters []*waiter // in no call, the oldest first
	feeds   []*Feed   // the one whose turn it is first
	queues  map[policy.Call]*queue
	lookUps int         // look-ups of waiters that are under way
	alarm   *time.Timer // looks again when a waiter has waited for company long enough
}

// waiter is the recipient of an invite task.
type waiter struct {
	Recipient
	wish    intent.Wish
	shares  bool // may share a bulk
	since   time.Time
	waited  time.Duration // until it was in a call
	looking bool          // is being looked up
	looked  bool          // was looked up, or need not be
	leaving bool          // its task has given up
	result  Result        // of the call that it is in
	told    chan Result   // gets the result that its task waits for
}

// queue is where calls of one kind wait for their permits.
type queue struct {
	kind    policy.Call
	waiting int       // for a permit
	flying  int       // have one
	blocked time.Time // no permit before, as far as is known
	ctx     context.Context
	cancel  context.CancelFunc // ends the waiting of all
}

func (q *queue) isBlocked(now time.Time) bool { return now.Before(q.blocked) }

// New gives a dispatcher.
func New(caller *call.Caller, clerk Clerk, questions *ask.Questions, intents Intents, ledgers Ledgers) *Dispatcher {
	d := &Dispatcher{
		caller: caller, clerk: clerk, questions: questions, intents: intents, ledgers: ledgers,
		queues: map[policy.Call]*queue{},
	}
	for _, kind := range []policy.Call{policy.Create, policy.CreateBurst, policy.CreateCampaign, policy.Bulk} {
		d.queues[kind] = &queue{kind: kind}
	}
	d.alarm = time.AfterFunc(time.Hour, func() { d.change(func() {}) })
	d.alarm.Stop()
	return d
}

// Send hands over the recipient of an invite task. It returns what became of it in one call, or why its address could
// not be claimed for one, and how long it was in no call. The caller settles the claim. If ctx ends before the
// recipient is in a call, the error is ctx's and nothing was sent.
func (d *Dispatcher) Send(ctx context.Context, r Recipient, wish intent.Wish) (Result, time.Duration, error) {
	w := d.newWaiter(r, wish)
	d.change(func() { d.waiters = append(d.waiters, w) })
	var result Result
	select {
	case result = <-w.told:
	case <-ctx.Done():
		d.change(func() {
			if w.leaving = true; d.leave(w) {
				w.waited = time.Since(w.since)
				w.told <- nothingYet
			}
		})
		result = <-w.told // a call that it is in ends by itself
	}
	if result.Answer.Kind == fate.KindNothingYet {
		return Result{}, w.waited, ctx.Err()
	}
	return result, w.waited, nil
}

// newWaiter gives a waiter that is in no call yet.
func (d *Dispatcher) newWaiter(r Recipient, wish intent.Wish) *waiter {
	w := &waiter{Recipient: r, wish: wish, since: time.Now(), told: make(chan Result, 1)}
	w.looked = !d.caller.Policy.LooksUp() // while bulk permits are not scarce, a refused bulk wastes none
	w.shares = !w.alone && d.caller.Policy.RidesInBulk(w.HasMetadata(), false) && !(w.looked && w.IgnoreExisting)
	return w
}

// nothingYet is the result of a waiter whose task has given up.
var nothingYet = Result{Answer: fate.Answer{Kind: fate.KindNothingYet}}

// leave takes a waiter out of those in no call, if it is there.
func (d *Dispatcher) leave(w *waiter) bool {
	before := len(d.waiters)
	d.waiters = without(d.waiters, w)
	return len(d.waiters) < before
}

// without copies: the slice may be in use.
func without[T comparable](list []T, gone T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(item T) bool { return item == gone })
}

// change changes what waits, and then starts the calls that should be waiting for permits now.
func (d *Dispatcher) change(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
	d.balance()
}

// balance lets as many calls wait for their permits as there is demand for.
func (d *Dispatcher) balance() {
	calls, lookUp, again := d.demand(time.Now())
	for kind, q := range d.queues {
		d.fill(q, calls[kind])
	}
	if len(lookUp) > 0 {
		d.lookUp(lookUp)
	}
	d.alarm.Stop()
	if again > 0 {
		d.alarm.Reset(again)
	}
}

// fill starts calls of a kind until enough wait. If none is needed, those that wait stop waiting.
func (d *Dispatcher) fill(q *queue, demand int) {
	if demand == 0 {
		if q.ctx != nil {
			q.cancel()
			q.ctx = nil
		}
		return
	}
	if q.ctx == nil {
		q.ctx, q.cancel = context.WithCancel(context.Background())
	}
	for q.waiting < demand && q.waiting+q.flying < policy.MaxFlight {
		q.waiting++
		go d.deliver(q.ctx, q)
	}
}

// lookUp looks up waiters before they share a bulk, and tells them what was found. Meanwhile one may leave on a single
// permit.
func (d *Dispatcher) lookUp(waiters []*waiter) {
	d.lookUps++
	recipients := make([]tasks.Recipient, len(waiters))
	for i, w := range waiters {
		w.looking, recipients[i] = true, w.Recipient.Recipient
	}
	go func() {
		findings := d.questions.LookUp(d.caller.Life, recipients)
		d.change(func() {
			d.lookUps--
			for i, w := range waiters {
				w.looking, w.looked = false, true
				w.shares = w.shares && !findings[i].Alone
				if findings[i].Refusal != nil && d.leave(w) {
					w.told <- Result{LookUp: &findings[i].LookUp}
				}
			}
		})
	}()
}
