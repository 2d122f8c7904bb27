package fate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
)

// The lives of two recipients with one address are played here: an invite task with two runs, and a campaign's
// recipient with two drivers. They use the real scripts, on a clock of the test's own. Clerk loses answers, commits
// late and lists late; runs crash; a person cancels the task; commands arrive twice, or a second time long after. Then
// everything must end as docs/guarantees.md promises.

const (
	address  = "ada@example.com"
	campaign = "spring"
	timeout  = 10 * time.Second
	settle   = 30 * time.Second
	hold     = 20 * time.Second // how long a driver holds a recipient beyond its call or question
)

var lifeRules = fate.Rules{MaxAttempts: 4, SettlingTime: settle, Unproven: time.Hour}

func TestEveryLifeEndsAsPromised(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		defer w.close()
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			w.act(t)
		}
		w.calm(t)
		w.judge(t)
	})
}

// world is Redis, Clerk, and everybody who works.
type world struct {
	server  *miniredis.Miniredis
	rdb     *redis.Client
	repeats *repeats
	now     time.Time
	clerk   clerk
	owners  []*owner
	runs    []*run
}

func newWorld(t *rapid.T) *world {
	w := &world{now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), repeats: &repeats{draw: t}}
	var err error
	if w.server, err = miniredis.Run(); err != nil {
		t.Fatal(err)
	}
	w.server.SetTime(w.now)
	w.rdb = redis.NewClient(&redis.Options{Addr: w.server.Addr()})
	id := store.IDOf(address)
	ledgers, intents, records := ledger.New(w.rdb, "life"), intent.NewTasks(w.rdb, "life"),
		record.NewStore(w.rdb, "life")
	if _, err := ledgers.Add(context.Background(), campaign, time.Time{},
		[]ledger.Recipient{{Folded: address, Data: []byte(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"task", "campaign"} {
		o := &owner{name: name}
		o.onDuplicate = rapid.SampledFrom([]fate.OnDuplicate{"", fate.Accept, fate.Resend}).Draw(t,
			name+" on duplicate")
		o.ignore = o.onDuplicate == "" && rapid.Bool().Draw(t, name+" ignores existing")
		w.owners = append(w.owners, o)
		for n := range 2 {
			r := &run{owner: o, again: n > 0, at: w.now}
			if name == "task" {
				r.place = &taskPlace{intents: intents, records: records, wish: intent.Wish{
					Task: name, Address: id, Born: w.now.UnixMilli(),
				}}
			} else {
				r.place = &ledgerPlace{ledgers: ledgers, intents: intents}
			}
			w.runs = append(w.runs, r)
		}
	}
	w.rdb.AddHook(w.repeats)
	return w
}

func (w *world) close() {
	_ = w.rdb.Close()
	w.server.Close()
}

// act lets one thing happen.
func (w *world) act(t *rapid.T) {
	switch rapid.SampledFrom([]string{"step", "step", "step", "step", "step", "step", "time", "time", "crash",
		"late", "cancel"}).Draw(t, "act") {
	case "step":
		w.step(t, w.runs[rapid.IntRange(0, 3).Draw(t, "run")])
	case "time":
		w.pass(time.Duration(rapid.SampledFrom([]int{1, 100, 2_000, 9_000, 31_000, 60_000}).Draw(t,
			"ms")) * time.Millisecond)
	case "crash":
		w.runs[rapid.IntRange(0, 3).Draw(t, "run")].crash(w.now)
	case "late":
		w.repeats.deliver()
	case "cancel":
		w.runs[0].place.(*taskPlace).cancel(t)
		w.owners[0].cancelled = true
	}
}

// calm lets everybody work on without faults until all lives have ended.
func (w *world) calm(t *rapid.T) {
	w.repeats.off, w.clerk.calm = true, true
	w.repeats.deliver()
	for range 400 {
		if w.over(t) {
			return
		}
		for _, r := range w.runs {
			for range 6 {
				w.step(t, r)
			}
		}
		w.pass(5 * time.Second)
	}
	t.Fatalf("lives do not end: %+v, %+v, runs %+v %+v %+v %+v", *w.owners[0], *w.owners[1], *w.runs[0], *w.runs[1],
		*w.runs[2], *w.runs[3])
}

func (w *world) over(t *rapid.T) bool {
	for i, o := range w.owners {
		if o.end = w.runs[2*i].place.ending(t); o.end == nil {
			return false
		}
	}
	return true
}

// pass lets time pass; what Clerk carries out late happens meanwhile.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.server.SetTime(w.now)
	w.clerk.pass(w.now)
}

// judge holds the ends against what Clerk has.
func (w *world) judge(t *rapid.T) {
	w.pass(time.Hour)
	taken := map[string]string{}
	for _, o := range w.owners {
		var made []string
		for _, inv := range w.clerk.invitations {
			if inv.owner == o.name {
				made = append(made, inv.id)
			}
		}
		switch {
		case len(made) > 1:
			t.Fatalf("%s was invited %d times", o.name, len(made))
		case len(made) == 1 && (o.end.state != "sent" || o.end.id != made[0]):
			t.Fatalf("%s was invited by %s and ended as %+v", o.name, made[0], *o.end)
		case o.end.state == "sent" && len(made) == 0 && o.onDuplicate != fate.Accept:
			t.Fatalf("%s ended as sent by %s, which none of its calls made", o.name, o.end.id)
		case o.end.state == "sent" && len(made) == 0 && !w.clerk.has(o.end.id):
			t.Fatalf("%s accepted %q, which is not there", o.name, o.end.id)
		}
		if other := taken[o.end.id]; len(made) == 1 && other != "" {
			t.Fatalf("%s and %s share %s", o.name, other, o.end.id)
		}
		if len(made) == 1 {
			taken[o.end.id] = o.name
		}
	}
}

// owner is a recipient's task or campaign.
type owner struct {
	name        string
	onDuplicate fate.OnDuplicate
	ignore      bool
	cancelled   bool // by a person
	end         *ending
}

// ending is what became of a life, as Redis tells.
type ending struct{ state, id string }

// run is a run of a task, or a driver. Between two of its steps anything may happen.
type run struct {
	owner *owner
	place place
	again bool // not the first run of its task
	at    time.Time
	gone  bool // has nothing to do until it crashes

	begun bool
	known fate.Known
	step  fate.Step
	call  *call          // in flight
	todo  *fate.Decision // to be written
	seen  []invitation   // what Clerk has listed
	since time.Time      // of the first call of unknown outcome, when seen
	doing string         // asked, listed, revoking, or nothing
}

func (r *run) crash(now time.Time) {
	*r = run{owner: r.owner, place: r.place, again: true, at: now.Add(time.Second)}
	r.place.forget()
}

// place is where a recipient comes from, and where what became of it is written.
type place interface {
	// begin gives what is known and the first step, and false if there is nothing to do now.
	begin(t *rapid.T, again bool) (known fate.Known, step fate.Step, ok bool)
	// claim asks to call.
	claim(t *rapid.T, known fate.Known) (fate.Known, fate.Verdict, time.Duration)
	// standing reads the intent for a step, and gives false if the recipient is another's to ask about.
	standing(t *rapid.T, known fate.Known, step fate.Step) (fate.Known, time.Time, bool)
	// token is the intent's as last read, tokenNow as it is.
	token() string
	tokenNow(t *rapid.T) string
	// write writes a decision, and tells whether it counted.
	write(t *rapid.T, d fate.Decision) bool
	ending(t *rapid.T) *ending
	forget()
}

// step lets a run do one thing, if its time has come.
func (w *world) step(t *rapid.T, r *run) {
	switch {
	case r.gone || w.now.Before(r.at):
	case !r.begun:
		if r.known, r.step, r.begun = r.place.begin(t, r.again); !r.begun {
			r.at = w.now.Add(time.Second)
		}
		r.known.OnDuplicate, r.known.IgnoreExisting = r.owner.onDuplicate, r.owner.ignore
	case r.todo != nil:
		w.carryOut(t, r)
	case r.call != nil && !r.call.written:
		w.clerk.write(t, r.call, w.now)
		r.at = r.call.end
	case r.call != nil:
		w.decide(t, r, r.known.AfterAnswer(r.call.answer, time.Second, lifeRules))
	case r.doing == "asked":
		var ids []string
		for _, inv := range r.seen {
			ids = append(ids, inv.id)
		}
		r.known.Service = service{t, w.clerk.calm}
		w.decide(t, r, r.known.AfterQuestion(ids, w.clerk.unanswered(t), time.Second, lifeRules))
	case r.doing == "listed":
		ids, ours := make([]string, len(r.seen)), false
		for i, inv := range r.seen {
			ids[i] = inv.id
			ours = ours || !inv.created.Before(r.since) && !slices.Contains(r.known.Intent.Used, inv.id)
		}
		d, revoke := r.known.AfterPending(ids, ours)
		switch {
		case !revoke:
			w.decide(t, r, d)
		case r.place.token() != r.place.tokenNow(t):
			w.decide(t, r, r.known.AfterTakeover())
		default:
			r.doing = "revoking"
		}
	case r.doing == "revoking":
		way, err := w.clerk.revoke(t, r.seen)
		w.decide(t, r, r.known.AfterOvercoming(way, err, time.Second))
	default:
		w.begin(t, r)
	}
}

func (w *world) decide(t *rapid.T, r *run, d fate.Decision) {
	t.Logf("%s %s: %s after %s: %s in %s, intent %s", w.now.Format("05.000"), r.owner.name, r.doing, r.step,
		d.Next, d.In, d.Intent)
	r.todo, r.call, r.seen, r.doing = &d, nil, nil, ""
}

// begin begins a step.
func (w *world) begin(t *rapid.T, r *run) {
	if r.step == fate.Send {
		known, verdict, again := r.place.claim(t, r.known)
		r.known = known
		switch verdict {
		case fate.VerdictGranted:
			if r.owner.cancelled {
				t.Fatalf("%s makes a call after it was cancelled", r.owner.name)
			}
			ignore := r.known.IgnoresExisting()
			r.call = &call{owner: r.owner, ignore: ignore, deadline: w.now.Add(timeout), alone: r.known.Alone}
		case "":
			r.crash(w.now) // a driver got nobody
		default:
			w.decide(t, r, known.AfterVerdict(verdict, again))
		}
		return
	}
	known, since, ok := r.place.standing(t, r.known, r.step)
	if !ok {
		r.crash(w.now)
		return
	}
	r.known = known
	if !r.known.Foreign {
		r.doing, r.seen = "asked", w.clerk.since(since.Add(-2*time.Second), w.now)
		return
	}
	if d, held := r.known.BeforeOvercoming(time.Second); held {
		w.decide(t, r, d)
		return
	}
	r.doing, r.seen, r.since = "listed", w.clerk.pending(w.now), since.Add(-2*time.Second)
}

// carryOut writes a decision and waits as it says.
func (w *world) carryOut(t *rapid.T, r *run) {
	d := *r.todo
	r.todo = nil
	if d.Next == fate.Leave {
		r.gone = true
		return
	}
	if !r.place.write(t, d) {
		t.Logf("%s %s: not written", w.now.Format("05.000"), r.owner.name)
		r.crash(w.now)
		return
	}
	r.known.State, r.step, r.at, r.gone = d.State, d.Next, w.now.Add(d.In), d.Next.Ends()
	if _, ok := r.place.(*ledgerPlace); ok {
		r.crash(w.now) // a driver takes whoever comes next
	}
}

// taskPlace is an invite task.
type taskPlace struct {
	intents *intent.Tasks
	records *record.Store
	wish    intent.Wish
	held    string
}

func (p *taskPlace) forget() { p.held = "" }

func (p *taskPlace) begin(t *rapid.T, again bool) (known fate.Known, step fate.Step, ok bool) {
	r, found, err := p.records.Get(context.Background(), p.wish.Task)
	if err != nil {
		t.Fatal(err)
	}
	if found && r.State.Ended() {
		return known, fate.Leave, false
	}
	known.State = r.Life()
	return known, fate.Start(again), true
}

func (p *taskPlace) claim(t *rapid.T, known fate.Known) (fate.Known, fate.Verdict, time.Duration) {
	claims, err := p.intents.Claim(context.Background(), "t"+uuid.NewString(), timeout, []intent.Wish{p.wish})
	if err != nil {
		t.Fatal(err)
	}
	c := claims[0]
	p.held = c.Token
	known.Intent, known.First, known.Now = fate.Intent{Open: c.Verdict == fate.VerdictGranted}, c.First, c.Now
	if len(c.Record) > 0 {
		r, err := record.Decode(c.Record)
		if err != nil {
			t.Fatal(err)
		}
		known.State = r.Life()
	}
	return known, c.Verdict, c.Again
}

func (p *taskPlace) token() string { return p.held }

func (p *taskPlace) tokenNow(t *rapid.T) string {
	s, _, err := p.intents.Standing(context.Background(), p.wish.Owner(), p.wish.Address)
	if err != nil {
		t.Fatal(err)
	}
	return s.Token
}

func (p *taskPlace) standing(t *rapid.T, known fate.Known, step fate.Step) (fate.Known, time.Time, bool) {
	s, now, err := p.intents.Standing(context.Background(), p.wish.Owner(), p.wish.Address)
	if err != nil {
		t.Fatal(err)
	}
	if step == fate.Overcome {
		known.Intent, known.Now = s.Intent, now
		return known, s.Since, s.Token == p.held
	}
	p.held, known.Intent, known.Now = s.Token, s.Intent, now
	r, found, err := p.records.Get(context.Background(), p.wish.Task)
	if err != nil {
		t.Fatal(err)
	}
	if found {
		known.State, known.Cancel = r.Life(), r.Cancel
		known.Foreign = false
	}
	return known, s.Since, !r.State.Ended()
}

func (p *taskPlace) write(t *rapid.T, d fate.Decision) bool {
	r := record.Record{State: record.Open, InvitationID: d.InvitationID, Error: d.Cause}
	r.SetLife(d.State)
	switch d.Next {
	case fate.Sent:
		r.State = record.Done
	case fate.Dead:
		r.State = record.Dead
	case fate.Cancelled:
		r = r.Cancelled("")
	}
	if d.Intent == fate.IntentOpened {
		p.held = "d" + uuid.NewString()
	}
	s := intent.Settlement{
		Wish: p.wish, Token: p.held, End: d.Intent, InvitationID: d.InvitationID, Used: d.Revoked, Record: &r,
	}
	if d.Next == fate.Dead {
		s.Letter = &deadletter.Entry{ID: p.wish.Task, Type: "invite", EmailAddress: address,
			FailedAt: time.UnixMilli(0)}
	}
	err := p.intents.Settle(context.Background(), s)
	if err != nil && !errors.Is(err, intent.ErrTaken) {
		t.Fatal(err)
	}
	return err == nil
}

func (p *taskPlace) ending(t *rapid.T) *ending {
	r, _, err := p.records.Get(context.Background(), p.wish.Task)
	if err != nil {
		t.Fatal(err)
	}
	switch r.State {
	case record.Done:
		return &ending{"sent", r.InvitationID}
	case record.Dead:
		return &ending{"dead", ""}
	case record.Cancelled:
		return &ending{"cancelled", ""}
	}
	return nil
}

// cancel is a person who cancels the task.
func (p *taskPlace) cancel(t *rapid.T) {
	r, stored, err := p.records.Stored(context.Background(), p.wish.Task)
	if err == nil && !r.State.Ended() {
		_, err = p.intents.Cancel(context.Background(), p.wish, r, stored)
	}
	if err != nil && !errors.Is(err, intent.ErrChanged) { // changed: an answer was lost, and the command repeated
		t.Fatal(err)
	}
}

// ledgerPlace is a campaign's ledger, as one driver sees it.
type ledgerPlace struct {
	ledgers *ledger.Ledgers
	intents *intent.Tasks
	batch   ledger.Batch
}

func (p *ledgerPlace) forget() { p.batch = ledger.Batch{} }

func (p *ledgerPlace) take(t *rapid.T, known *fate.Known, batch ledger.Batch, err error) bool {
	if err != nil || len(batch.Garbage) > 0 {
		t.Fatal(err, batch.Garbage)
	}
	if len(batch.Rows) == 0 {
		return false
	}
	row := batch.Rows[0]
	p.batch = batch
	known.State, known.Intent, known.Now = row.State, row.Intent.Intent, batch.Now
	known.First = row.Intent.Since.Equal(batch.Now)
	return true
}

func (p *ledgerPlace) begin(t *rapid.T, _ bool) (known fate.Known, step fate.Step, ok bool) {
	progress, err := p.ledgers.Advance(context.Background(), campaign, 1)
	if err != nil {
		t.Fatal(err)
	}
	if progress.Unsure > 0 {
		return known, fate.Ask, true
	}
	return known, fate.Send, progress.Waiting+progress.Ready+progress.Singles > 0
}

func (p *ledgerPlace) claim(t *rapid.T, known fate.Known) (fate.Known, fate.Verdict, time.Duration) {
	batch, err := p.ledgers.TakeForCall(context.Background(), campaign, 1, timeout, hold, ledger.Waiting,
		ledger.Ready, ledger.Singles)
	if !p.take(t, &known, batch, err) {
		return known, "", 0
	}
	return known, fate.VerdictGranted, 0
}

func (p *ledgerPlace) token() string { return p.batch.Rows[0].Intent.Token }

func (p *ledgerPlace) tokenNow(t *rapid.T) string {
	s, _, err := p.intents.Standing(context.Background(), intent.CampaignOwner(campaign), store.IDOf(address))
	if err != nil {
		t.Fatal(err)
	}
	return s.Token
}

func (p *ledgerPlace) standing(t *rapid.T, known fate.Known, _ fate.Step) (fate.Known, time.Time, bool) {
	batch, err := p.ledgers.TakeToAsk(context.Background(), campaign, 1, hold, ledger.Unsure)
	ok := p.take(t, &known, batch, err)
	if !ok {
		return known, time.Time{}, false
	}
	return known, batch.Rows[0].Intent.Since, true
}

func (p *ledgerPlace) write(t *rapid.T, d fate.Decision) bool {
	outcome := ledger.Outcome{Row: p.batch.Rows[0], Decision: d, At: p.batch.Now}
	if d.Next == fate.Dead {
		outcome.Letter = &deadletter.Entry{ID: "letter", Campaign: campaign, Recipient: &outcome.Row.ID}
	}
	recorded, err := p.ledgers.Settle(context.Background(), campaign, []ledger.Outcome{outcome})
	if err != nil {
		t.Fatal(err)
	}
	return len(recorded) == 1
}

func (p *ledgerPlace) ending(t *rapid.T) *ending {
	var end *ending
	err := p.ledgers.Each(context.Background(), campaign, func(e ledger.Entry) error {
		switch e.State {
		case ledger.RowSent:
			end = &ending{"sent", e.Row.InvitationID}
		case ledger.RowDead:
			end = &ending{"dead", ""}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// call is one call to Clerk.
type call struct {
	owner       *owner
	ignore      bool
	alone       bool
	deadline    time.Time
	written     bool
	answer      fate.Answer
	end         time.Time // when its caller knows, or gives up
	mayComeTill time.Time // until then Clerk may carry it out
	harmless    bool      // it was refused for another's sake
}

type invitation struct {
	id, owner        string
	created, visible time.Time
	revoked          bool
}

// clerk is Clerk with all its faults.
type clerk struct {
	calm        bool
	calls       []*call
	invitations []invitation
	coming      []invitation // what it carries out late; created is when
	ignoring    []bool
}

func (c *clerk) has(id string) bool {
	return slices.ContainsFunc(c.invitations, func(inv invitation) bool { return inv.id == id })
}

func (c *clerk) duplicate() bool {
	return slices.ContainsFunc(c.invitations, func(inv invitation) bool { return !inv.revoked })
}

// pass carries out what is due.
func (c *clerk) pass(now time.Time) {
	for i := 0; i < len(c.coming); {
		inv := c.coming[i]
		if inv.created.After(now) {
			i++
			continue
		}
		ignore := c.ignoring[i]
		c.coming, c.ignoring = slices.Delete(c.coming, i, i+1), slices.Delete(c.ignoring, i, i+1)
		if ignore || !c.duplicate() {
			c.invitations = append(c.invitations, inv)
		}
	}
}

// write takes a call's request.
func (c *clerk) write(t *rapid.T, x *call, now time.Time) {
	x.written, x.end = true, now
	if !now.Before(x.deadline) {
		x.answer = fate.Answer{Kind: fate.KindNotSent}
		return
	}
	for _, other := range c.calls {
		harmless := other.harmless || other.answer.Answered && other.owner == x.owner && !other.ignore
		if now.Before(other.mayComeTill) && !(harmless && !x.ignore) {
			t.Fatalf("a call for %s while one for %s of unknown outcome may still be carried out",
				x.owner.name, other.owner.name)
		}
	}
	t.Logf("%s %s: call, ignoring existing %t", now.Format("05.000"), x.owner.name, x.ignore)
	c.calls = append(c.calls, x)
	kinds := []string{"created", "created", "lost before", "lost after", "lost late", "not sent", "throttled",
		"refused", "doubted", "for another"}
	if c.calm {
		kinds = kinds[:1]
	}
	alone := x.owner.name == "task" || x.alone
	if alone {
		kinds = kinds[:min(len(kinds), 9)]
	}
	within := x.deadline.Sub(now)
	x.end = now.Add(c.draw(t, "answer after", within))
	inv := invitation{id: fmt.Sprintf("inv_%d", len(c.calls)), owner: x.owner.name, created: now,
		visible: now.Add(c.draw(t, "list lag", settle/2))}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "created", "lost after":
		if !x.ignore && c.duplicate() {
			x.answer = fate.Answer{Kind: fate.KindRefused, Failure: fate.Failure{Code: fate.CodeDuplicate}}
		} else {
			c.invitations = append(c.invitations, inv)
			x.answer = fate.Answer{Kind: fate.KindCreated, InvitationID: inv.id}
		}
		if kind == "lost after" {
			x.answer = fate.Answer{Kind: fate.KindLost, Failure: fate.Failure{Code: "reset"}}
		}
	case "lost late":
		x.answer = fate.Answer{Kind: fate.KindLost, Failure: fate.Failure{Code: "timeout"}}
		inv.created = x.end.Add(c.draw(t, "commit after", settle/2-time.Millisecond))
		inv.visible = inv.created.Add(c.draw(t, "late list lag", settle/2-time.Millisecond))
		x.mayComeTill = inv.created
		c.coming, c.ignoring = append(c.coming, inv), append(c.ignoring, x.ignore)
	case "lost before":
		x.answer = fate.Answer{Kind: fate.KindLost, Failure: fate.Failure{Code: "reset"}}
	case "not sent":
		x.answer = fate.Answer{Kind: fate.KindNotSent, Failure: fate.Failure{Code: "refused"}}
	case "throttled":
		x.answer = fate.Answer{Kind: fate.KindNothingYet}
	case "doubted":
		if x.answer.Kind = fate.KindForAnother; alone {
			x.answer = fate.Answer{
				Kind: fate.KindDoubted, Instance: rapid.Bool().Draw(t, "instance"),
				Failure: fate.Failure{Code: "doubtful"},
			}
		}
	case "refused":
		x.answer = fate.Answer{Kind: fate.KindRefused, Failure: fate.Failure{Code: "not_allowed_access"}}
	case "for another":
		x.harmless = true
		x.answer = fate.Answer{Kind: fate.KindForAnother, Alone: true}
	}
	x.answer.Answered = x.answer.Kind == fate.KindLost && alone && rapid.Bool().Draw(t, "answered")
}

// service is how others were served: anyhow.
type service struct {
	t    *rapid.T
	calm bool
}

func (s service) SucceededAfter(time.Time) bool {
	return !s.calm && rapid.Bool().Draw(s.t, "others are served")
}
func (s service) DownAt(time.Time) bool { return !s.calm && rapid.Bool().Draw(s.t, "nobody is served") }

func (c *clerk) draw(t *rapid.T, what string, most time.Duration) time.Duration {
	if c.calm {
		return 0
	}
	return time.Duration(rapid.Int64Range(0, most.Milliseconds()).Draw(t, what)) * time.Millisecond
}

var errUnanswered = errors.New("no answer")

func (c *clerk) unanswered(t *rapid.T) error {
	if !c.calm && rapid.IntRange(0, 4).Draw(t, "question fails") == 0 {
		return errUnanswered
	}
	return nil
}

// since lists what was created since an instant and can be seen, the oldest first.
func (c *clerk) since(from, now time.Time) []invitation {
	var listed []invitation
	for _, inv := range c.invitations {
		if !inv.created.Before(from) && !inv.visible.After(now) {
			listed = append(listed, inv)
		}
	}
	slices.SortStableFunc(listed, func(a, b invitation) int { return a.created.Compare(b.created) })
	return listed
}

// pending lists what is pending and can be seen.
func (c *clerk) pending(now time.Time) []invitation {
	return slices.DeleteFunc(c.since(time.Time{}, now), func(inv invitation) bool { return inv.revoked })
}

// revoke revokes what was listed.
func (c *clerk) revoke(t *rapid.T, listed []invitation) (way fate.Way, err error) {
	if err := c.unanswered(t); err != nil {
		return way, err
	}
	for _, inv := range listed {
		for i := range c.invitations {
			c.invitations[i].revoked = c.invitations[i].revoked || c.invitations[i].id == inv.id
		}
		way.Revoked = append(way.Revoked, inv.id)
	}
	return way, nil
}

// repeats lets Redis run commands twice, as go-redis does after a time-out: at once, or the first copy long after.
type repeats struct {
	draw *rapid.T
	off  bool
	late []func()
}

func (h *repeats) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *repeats) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *repeats) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.off || cmd.Name() != "evalsha" {
			return next(ctx, cmd)
		}
		again := redis.NewCmd(ctx, cmd.Args()...)
		switch rapid.IntRange(0, 11).Draw(h.draw, "repeat") {
		case 0:
			_ = next(ctx, again)
		case 1:
			h.late = append(h.late, func() { _ = next(ctx, again) })
		}
		return next(ctx, cmd)
	}
}

func (h *repeats) deliver() {
	for _, run := range h.late {
		run()
	}
	h.late = nil
}
