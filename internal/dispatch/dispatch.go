// Package dispatch decides which call carries whom, and when. Clerk has two budgets for invitations, single calls and bulk
// calls, and the dispatcher spends both. Invite tasks come first: alone, one goes at once on a single permit; when singles run short, up to
// ten that wait share a bulk. Recipients of campaigns fill bulks to ten, and use singles above the reserve when bulks are spent.
package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/intent"
	"example.com/usher/tasks"
)

// Intents claims the addresses of invite tasks for a call. Those of campaigns are claimed when they are taken.
type Intents interface {
	Claim(ctx context.Context, token string, within time.Duration, wishes []intent.Wish) ([]intent.Claim, error)
	Settle(ctx context.Context, s intent.Settlement) error
}

// Clerk makes invitations.
type Clerk interface {
	Create(context.Context, *invitation.CreateParams) (clerkclient.Invitation, clerkclient.Answer, error)
	CreateBulk(context.Context, []*invitation.CreateParams) ([]clerkclient.Invitation, clerkclient.Answer, error)
}

// Dispatcher sends recipients: those that invite tasks hand it one by one, and those of campaigns, which it takes from their feeds.
type Dispatcher struct {
	questions *ask.Questions
	caller    *call.Caller
	clerk     Clerk
	policy    policy.Policy
	intents   Intents
	log       zerolog.Logger

	mu    sync.Mutex
	queue []*rider // of invite tasks, in no call, the oldest first
	feeds []*Feed  // the one whose turn it is first
	lines map[policy.Call]*line
	// lookUps is how many look-ups of invite tasks' recipients are under way.
	lookUps int
	alarm   *time.Timer // looks again when a recipient has waited for company long enough
}

// rider is a recipient of an invite task.
type rider struct {
	Recipient
	wish    intent.Wish
	claim   intent.Claim
	rides   bool // may share a bulk
	since   time.Time
	waited  time.Duration // until it was in a call
	looking bool          // is being looked up
	looked  bool
	leaving bool // its task has given up
	result  chan Result
}

// line is where calls of one kind wait for their permits.
type line struct {
	call    policy.Call
	waiting int // for a permit
	flying  int
	blocked time.Time // no permit before, as far as is known
	ctx     context.Context
	cancel  context.CancelFunc // ends the waiting of all
}

// New gives a dispatcher that makes its calls through the caller.
func New(caller *call.Caller, clerk Clerk, questions *ask.Questions, intents Intents) *Dispatcher {
	d := &Dispatcher{
		caller: caller, clerk: clerk, questions: questions, policy: caller.Policy, intents: intents, log: caller.Log,
		lines: map[policy.Call]*line{},
	}
	for _, kind := range []policy.Call{policy.Create, policy.CreateBurst, policy.CreateCampaign, policy.Bulk} {
		d.lines[kind] = &line{call: kind}
	}
	d.alarm = time.AfterFunc(time.Hour, func() { d.change(func() {}) })
	d.alarm.Stop()
	return d
}

// Send hands over the recipient of an invite task, and returns what became of it in one call, or why its address could not be claimed
// for one. waited is how long it was in no call. The claim is the caller's to settle. When the context ends before the
// recipient is in a call, the error is the context's and nothing was sent.
func (d *Dispatcher) Send(ctx context.Context, recipient Recipient, wish intent.Wish) (result Result, waited time.Duration, err error) {
	r := &rider{
		Recipient: recipient, wish: wish, since: time.Now(), result: make(chan Result, 1),
		rides: !recipient.alone && d.policy.LooksUp() && d.policy.RidesInBulk(recipient.HasMetadata(), false),
	}
	d.change(func() { d.queue = append(d.queue, r) })
	select {
	case result = <-r.result:
	case <-ctx.Done():
		d.change(func() { d.withdraw(r) })
		result = <-r.result // if it is in a call, that is the dispatcher's, and ends by itself
	}
	if result.Again {
		return Result{}, r.waited, ctx.Err()
	}
	return result, r.waited, nil
}

// withdraw takes back the recipient of a task that gives up, unless it is in a call.
func (d *Dispatcher) withdraw(r *rider) {
	r.leaving = true
	if d.leave(r) {
		r.waited = time.Since(r.since)
		r.result <- Result{Again: true}
	}
}

// leave takes a recipient out of the queue, if it is there.
func (d *Dispatcher) leave(r *rider) bool {
	before := len(d.queue)
	d.queue = without(d.queue, r)
	return len(d.queue) < before
}

// requeue lets a recipient wait again, before all others.
func (d *Dispatcher) requeue(r *rider) {
	if r.leaving {
		r.result <- Result{Again: true}
		return
	}
	d.queue = append([]*rider{r}, d.queue...)
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
	demand := d.demand(time.Now())
	d.staff(d.lines[policy.Create], demand.lone)
	d.staff(d.lines[policy.CreateBurst], demand.burst)
	d.staff(d.lines[policy.CreateCampaign], demand.campaign)
	d.staff(d.lines[policy.Bulk], demand.bulk)
	if len(demand.lookUp) > 0 {
		d.lookUpRiders(demand.lookUp)
	}
	d.alarm.Stop()
	if demand.again > 0 {
		d.alarm.Reset(demand.again)
	}
}

// staff starts calls of a line until enough wait; when there is no demand left, nobody waits on.
func (d *Dispatcher) staff(l *line, demand int) {
	if demand == 0 {
		if l.ctx != nil {
			l.cancel()
			l.ctx = nil
		}
		return
	}
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(context.Background())
	}
	for l.waiting < demand && l.waiting+l.flying < policy.MaxFlight {
		l.waiting++
		go d.send(l.ctx, l)
	}
}

// lookUpRiders looks up recipients of invite tasks before they ride in a bulk. Meanwhile one may leave on a single permit all the same.
func (d *Dispatcher) lookUpRiders(riders []*rider) {
	d.lookUps++
	recipients := make([]tasks.Recipient, len(riders))
	for i, r := range riders {
		r.looking, recipients[i] = true, r.Recipient.Recipient
	}
	go func() { d.lookedUp(riders, d.questions.LookUp(d.caller.Life, recipients)) }()
}

// lookedUp tells recipients of invite tasks what their look-up has found.
func (d *Dispatcher) lookedUp(riders []*rider, findings []ask.Finding) {
	d.change(func() {
		d.lookUps--
		for i, r := range riders {
			r.looking, r.looked = false, true
			r.rides = r.rides && !findings[i].Alone
			if findings[i].Refusal != nil && d.leave(r) {
				r.result <- FoundBefore(findings[i])
			}
		}
	})
}

var _ Clerk = (*clerkclient.Client)(nil)
