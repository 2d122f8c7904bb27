package dispatch

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/google/uuid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// deliver makes one call, as soon as it has a permit. After a panic it lands the call and hands back who is left, so
// that nobody waits for ever.
func (d *Dispatcher) deliver(ctx context.Context, q *queue) {
	log := d.caller.Log.With().Str("call", string(q.kind)).Logger()
	var flight *call.Flight
	err := call.Guarded(log, func() (err error) {
		noteNext := func(next time.Time) { d.change(func() { q.blocked = next }) }
		flight, err = d.caller.Begin(ctx, q.kind, noteNext)
		return err
	})
	if err != nil {
		d.change(func() { q.waiting-- })
		return
	}
	l := &load{d: d, q: q, flight: flight}
	if call.Guarded(log, l.call) != nil {
		l.failed = true
		flight.Land(call.ErrPanicked)
	}
	for call.Guarded(log, l.handBack) != nil { // each time there is one less to hand back
	}
	d.change(func() { q.flying-- })
}

// load is who goes in one call, and the call.
type load struct {
	d       *Dispatcher
	q       *queue
	flight  *call.Flight
	waiters []*waiter // who were chosen, until they are told
	failed  bool      // Redis could not answer, or the call panicked
	// deliveries are what campaigns give to the call, until they are handed back.
	deliveries []*Delivery

	// Who is in the call, and where to put the answer for each.
	recipients []Recipient
	answers    []*fate.Answer
}

// call makes the call, and notes what the answer means for each who is in it. Who that is is decided when the permit
// is there, so that a bulk leaves with everybody who waits at that moment.
func (l *load) call() error {
	l.choose()
	l.claim()
	for _, delivery := range l.deliveries {
		l.take(delivery)
	}
	if l.flight.Probes() {
		l.keepOne()
	}
	if len(l.recipients) > 0 {
		id := store.IDOf(l.recipients[0].folded)
		l.flight.Carries(call.Party{
			ID: hex.EncodeToString(id[:]), Options: l.recipients[0].options(),
			Several: len(l.recipients) > 1, Again: l.recipients[0].doubted,
		})
	}
	made, err := l.send()
	l.flight.Land(err)
	for i, answer := range judge(l.recipients, made, err) {
		*l.answers[i] = answer
	}
	return nil
}

// choose chooses who shall be in the call: invite tasks first, then campaigns in turn.
func (l *load) choose() {
	l.d.change(func() {
		l.q.waiting, l.q.flying = l.q.waiting-1, l.q.flying+1
		if l.flight.Probes() {
			l.chooseProbe()
			return
		}
		switch l.q.kind {
		case policy.CreateCampaign:
			l.chooseLone(1)
		case policy.Bulk:
			l.chooseWaiters(policy.BulkSize, func(w *waiter) bool { return w.looked && w.shares })
			l.chooseFromCampaigns(policy.BulkSize-len(l.waiters), false)
		case policy.Create:
			l.chooseWaiters(1, func(w *waiter) bool { return !w.shares })
			fallthrough // if there was none
		default:
			l.chooseWaiters(1, func(*waiter) bool { return true })
		}
	})
}

// chooseLone lets campaigns give up to n recipients: those that must go alone, if there are any.
func (l *load) chooseLone(n int) {
	if l.chooseFromCampaigns(n, true); len(l.deliveries) == 0 {
		l.chooseFromCampaigns(n, false)
	}
}

// chooseProbe chooses for a call that finds out whether Clerk serves anybody again. It may fail, so it is for one of a
// campaign, for whom nobody waits, or else for the best one of the invite tasks.
func (l *load) chooseProbe() {
	if l.q.kind == policy.Bulk {
		l.chooseFromCampaigns(policy.BulkSize, false)
	} else {
		l.chooseLone(policy.BulkSize)
	}
	if len(l.deliveries) > 0 {
		return
	}
	for rank := range worstProbe + 1 {
		l.chooseWaiters(1, func(w *waiter) bool {
			return (l.q.kind != policy.Bulk || w.looked && w.shares) && l.rankProbe(w.Recipient) == rank
		})
	}
}

// worstProbe is the last rank that rankProbe gives.
const worstProbe = 3

// rankProbe tells how good a probe a call for the recipient is, 0 the best. One with other options than the request
// that failed last tells whether the fault is in them, and one whom Clerk does not invite twice can do no harm.
func (l *load) rankProbe(r Recipient) (rank int) {
	if suspect := l.flight.Suspect(); suspect != "" && suspect == r.options() {
		rank += 2
	}
	if r.IgnoreExisting {
		rank++
	}
	return rank
}

// keepOne keeps the best recipient of a probe in the call. The others wait for another one.
func (l *load) keepOne() {
	best := 0
	for i, r := range l.recipients {
		if l.rankProbe(r) < l.rankProbe(l.recipients[best]) {
			best = i
		}
	}
	for i := range l.recipients {
		if i != best {
			*l.answers[i] = nothingYet.Answer
		}
	}
	if len(l.recipients) > 0 {
		l.recipients, l.answers = l.recipients[best:best+1], l.answers[best:best+1]
	}
}

// chooseWaiters chooses more, up to n in all, no two with one address.
func (l *load) chooseWaiters(n int, fits func(*waiter) bool) {
	l.d.waiters = slices.DeleteFunc(l.d.waiters, func(w *waiter) bool {
		twice := func(other *waiter) bool { return other.folded == w.folded }
		if len(l.waiters) == n || !fits(w) || slices.ContainsFunc(l.waiters, twice) {
			return false
		}
		w.waited, w.result = time.Since(w.since), nothingYet
		l.waiters = append(l.waiters, w)
		return true
	})
}

// chooseFromCampaigns lets campaigns give up to n recipients. It ends the turn of each that gives some. Who they are is
// known when they are taken.
func (l *load) chooseFromCampaigns(n int, alone bool) {
	for _, f := range slices.Clone(l.d.feeds) {
		if some := min(n, *f.waiting.of(alone)); some > 0 {
			l.deliveries = append(l.deliveries, f.choose(some, alone))
			l.d.feeds = append(without(l.d.feeds, f), f)
			n -= some
		}
	}
}

// claim claims the addresses of invite tasks. It tells those at once whose address cannot be claimed.
func (l *load) claim() {
	if len(l.waiters) == 0 {
		return
	}
	wishes := make([]intent.Wish, len(l.waiters))
	for i, w := range l.waiters {
		wishes[i] = w.wish
	}
	claims, err := l.d.intents.Claim(l.flight.Context(), "t"+uuid.NewString(), time.Until(l.flight.Deadline()), wishes)
	if err != nil {
		l.gaveNone(err, "no address claimed: Redis cannot answer")
		return
	}
	for i, w := range l.waiters {
		w.result.Claim = claims[i]
	}
	l.waiters = slices.DeleteFunc(l.waiters, func(w *waiter) bool {
		if w.result.Claim.Verdict == fate.VerdictGranted {
			l.add(w.Recipient, &w.result.Answer)
			return false
		}
		w.told <- Result{Claim: w.result.Claim}
		return true
	})
}

// take takes recipients from a campaign's ledger, which claims their addresses. Who cannot be read, or may not share a
// bulk, is not in the call.
func (l *load) take(s *Delivery) {
	defer s.endTaking()
	batcher := s.feed.together
	if s.Alone {
		batcher = s.feed.alone
	}
	t := &takeRequest{ctx: l.flight.Context(), deadline: l.flight.Deadline(), n: s.n}
	if err := batcher.Do(t, t.n); err != nil {
		l.gaveNone(err, "no recipients taken: Redis cannot answer")
		return
	}
	s.Batch = t.batch
	s.Recipients, s.Answers = make([]Recipient, len(t.batch.Rows)), make([]fate.Answer, len(t.batch.Rows))
	for i, row := range t.batch.Rows {
		r, err := ReadRow(row)
		s.Recipients[i], s.Answers[i] = r, nothingYet.Answer
		switch {
		case err != nil:
			s.Answers[i] = fate.UnreadableAnswer(err.Error())
		case !s.Alone && !l.d.caller.Policy.RidesInBulk(r.HasMetadata(), true):
			s.Answers[i].Alone = true
		default:
			l.add(r, &s.Answers[i])
		}
	}
}

// gaveNone notes that Redis has given nobody for the call. That work rests after a restoration is told elsewhere.
func (l *load) gaveNone(err error, message string) {
	l.failed = true
	if !store.IsRestoring(err) {
		l.d.caller.Log.Warn().Err(err).Msg(message)
	}
}

// add puts a recipient into the call, unless its address is in it already. Until the answer is known, the recipient
// counts as one whose call was lost.
func (l *load) add(r Recipient, answer *fate.Answer) {
	if slices.ContainsFunc(l.recipients, func(other Recipient) bool { return other.folded == r.folded }) {
		return
	}
	*answer = fate.Answer{Kind: fate.KindLost, Own: true, Failure: call.Panicked()}
	l.recipients, l.answers = append(l.recipients, r), append(l.answers, answer)
}

// send makes the call.
func (l *load) send() (made []clerkclient.Invitation, err error) {
	if len(l.recipients) == 0 {
		return nil, call.ErrNothingSent
	}
	params := make([]*invitation.CreateParams, len(l.recipients))
	for i, r := range l.recipients {
		params[i] = r.params
	}
	var answer clerkclient.Answer
	if l.q.kind == policy.Bulk {
		made, answer, err = l.d.clerk.CreateBulk(l.flight.Context(), params)
	} else {
		made = make([]clerkclient.Invitation, 1)
		made[0], answer, err = l.d.clerk.Create(l.flight.Context(), params[0])
	}
	l.d.questions.NoteDate(answer.Date)
	return made, err
}

// handBack tells everybody what became of them: the tasks of waiters, which wait in Send, and the drivers of campaigns,
// whose finish it calls.
func (l *load) handBack() error {
	if l.failed && len(l.recipients) == 0 {
		_ = policy.Sleep(l.d.caller.Life, policy.RedisRest) // the next call would fail, too
	}
	for len(l.waiters) > 0 {
		w := l.waiters[0]
		l.waiters = l.waiters[1:]
		l.tell(w)
	}
	for len(l.deliveries) > 0 {
		delivery := l.deliveries[0]
		l.deliveries = l.deliveries[1:]
		delivery.endTaking()
		delivery.Probe = l.flight.Probes()
		delivery.feed.calls.Go(func() { delivery.feed.finish(delivery) })
		delivery.feed.calls.Done() // as it was chosen
	}
	return nil
}

// tell tells a waiter what became of its recipient, or lets it wait for another call.
func (l *load) tell(w *waiter) {
	if w.result.Answer.Kind == fate.KindForAnother && !l.d.caller.Policy.LooksUp() {
		w.result.Answer.Alone = true // a call of its own costs no permit, and nobody's fault delays it again
	}
	if w.result.Answer.Kind != fate.KindNothingYet {
		w.told <- w.result
		return
	}
	defer l.waitAgain(w) // also if giving the claim back panics
	l.release(w)
}

// waitAgain lets a waiter wait for another call.
func (l *load) waitAgain(w *waiter) {
	l.d.change(func() {
		switch {
		case w.leaving:
			w.told <- nothingYet
		case l.flight.Probes():
			l.d.waiters = append(l.d.waiters, w) // the next probe is for somebody else
		default:
			l.d.waiters = append([]*waiter{w}, l.d.waiters...) // before all others
		}
	})
}

// release gives the claim of a waiter back, if it has one: no call was made.
func (l *load) release(w *waiter) {
	claim := w.result.Claim
	if claim.Verdict != fate.VerdictGranted {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), policy.SettleGrace)
	defer cancel()
	err := l.d.intents.Settle(ctx, intent.Settlement{Wish: w.wish, Token: claim.Token, End: fate.Release(claim.First)})
	if err != nil { // Clerk is asked about it when its deadline has passed
		l.d.caller.Log.Warn().Err(err).Msg("claim could not be given back")
	}
}
