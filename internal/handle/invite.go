package handle

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"example.com/usher/internal/ask"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// inviteRun is one run of an invite task. Package fate decides what becomes of its recipient. Here its steps are
// taken, and what was decided is written.
type inviteRun struct {
	h    *Handler
	r    *run
	wish intent.Wish
	subject
}

// subject is a recipient about whom Clerk is asked.
type subject struct {
	recipient    dispatch.Recipient
	known        fate.Known
	campaign     string    // empty of an invite task
	owner, token string    // of its intent, as last seen
	since        time.Time // of its first call of unknown outcome, on our clock
	sinceOnRedis time.Time // the same on Redis's clock; zero if a person has had it retried since
}

func (h *Handler) invite(ctx context.Context, r *run, payload tasks.InvitePayload) error {
	r.about.EmailAddress = payload.Recipient.EmailAddress
	recipient, err := dispatch.NewRecipient(payload.Recipient)
	if err != nil {
		return unreadable(err)
	}
	wish := intent.Wish{Task: r.id, Address: store.IDOf(recipient.Folded()), Born: payload.EnqueuedAt}
	known := knownOf(recipient, r.record.Life())
	i := &inviteRun{h: h, r: r, wish: wish, subject: subject{recipient: recipient, known: known, owner: wish.Owner()}}
	take := map[fate.Step]func(context.Context) (fate.Decision, error){
		fate.Send: i.send, fate.Ask: i.ask, fate.Overcome: i.overcome,
	}
	step := fate.Start(r.again)
	for {
		decision, err := take[step](ctx)
		if err == nil {
			err = i.carryOut(ctx, decision)
		}
		if err != nil {
			return err
		}
		step = decision.Next
	}
}

// knownOf gives what is known of a recipient before Redis or Clerk is asked.
func knownOf(recipient dispatch.Recipient, state fate.State) fate.Known {
	return fate.Known{
		State: state, OnDuplicate: fate.OnDuplicate(recipient.OnDuplicate),
		OnExistingUser: fate.OnExistingUser(recipient.OnExistingUser), IgnoreExisting: recipient.IgnoreExisting,
	}
}

// ask asks Clerk what became of earlier calls. The record is read after the intent: if another run of the task is
// ahead, then either intent and record are both that run's, or the intent's token differs when this run writes.
func (i *inviteRun) ask(ctx context.Context) (fate.Decision, error) {
	if err := i.readIntent(ctx); err != nil {
		return fate.Decision{}, err
	}
	i.r.read = false
	if err := i.h.readRecord(ctx, i.r); err != nil {
		return fate.Decision{}, err
	}
	i.known.State, i.known.Cancel = i.r.record.Life(), i.r.record.Cancel
	return i.h.askAbout(ctx, []subject{i.subject})[0], ctx.Err()
}

// askAbout asks Clerk what became of lost calls for recipients, and gives what follows for each.
func (h *Handler) askAbout(ctx context.Context, subjects []subject) []fate.Decision {
	restored, err := store.ReadRestoration(ctx, store.Open(h.rdb, h.namespace))
	var lost []ask.Lost
	isAsked := make([]bool, len(subjects))
	var admitted []string // of whom Clerk might take a second invitation although they are users
	for i := range subjects {
		s := &subjects[i]
		s.known.Intent.Restored = s.known.Intent.Open && restored.MayHaveUndone(s.sinceOnRedis)
		if s.known.Intent.Open && (!s.known.Foreign || s.known.Intent.Restored) { // of others nothing was lost
			isAsked[i] = true
			lost = append(lost, ask.Lost{Address: s.recipient.EmailAddress, Since: s.since})
		}
		if s.known.Intent.Restored && s.known.IgnoresExisting() {
			admitted = append(admitted, s.recipient.Folded())
		}
	}
	found := h.questions.FindLost(ctx, lost)
	users, err2 := h.questions.Users(ctx, admitted)
	err = cmp.Or(err, err2)
	service := h.service(ctx, subjects)
	decisions := make([]fate.Decision, len(subjects))
	for i, s := range subjects {
		var answer ask.Found
		if isAsked[i] {
			answer, found = found[0], found[1:]
		}
		s.known.Service = service
		if s.known.Intent.Restored {
			s.known.Gone, s.known.User = answer.Gone, slices.Contains(users, s.recipient.Folded())
		}
		backoff := h.policy.Backoff(s.known.Unanswered + 1)
		decisions[i] = s.known.AfterQuestion(answer.IDs, cmp.Or(err, answer.Err), backoff, h.rules)
	}
	return decisions
}

// service reads how Clerk has served others. It is nil if nobody is to be judged by that, or Redis cannot answer.
func (h *Handler) service(ctx context.Context, subjects []subject) fate.Service {
	if !slices.ContainsFunc(subjects, func(s subject) bool { return s.known.Unproven > 0 || s.known.Doubt != nil }) {
		return nil
	}
	history, err := h.caller.Limiter.History(ctx, policy.RestCreate)
	if err != nil {
		h.log.Warn().Err(err).Msg("failures are judged later: Redis cannot answer")
		return nil
	}
	return history
}

// overcome deals with a duplicate, if the intent is as it was when that was decided.
func (i *inviteRun) overcome(ctx context.Context) (fate.Decision, error) {
	token := i.token
	if err := i.readIntent(ctx); err != nil {
		return fate.Decision{}, err
	}
	if i.token != token {
		return i.known.AfterTakeover(), nil
	}
	return i.h.overcome(ctx, i.subject), ctx.Err()
}

// send waits for a call that carries the recipient, and gives what follows from its answer.
func (i *inviteRun) send(ctx context.Context) (fate.Decision, error) {
	result, waited, err := i.h.dispatcher.Send(ctx, i.recipient.As(i.known.State), i.wish)
	i.r.waited += waited
	if err != nil {
		return fate.Decision{}, err
	}
	if result.LookUp != nil {
		err := i.readIntent(ctx)
		return i.known.AfterLookUp(*result.LookUp), err
	}
	claim := result.Claim
	if err := i.adoptRecord(claim); err != nil {
		return fate.Decision{}, err
	}
	i.known.Intent = fate.Intent{Open: claim.Verdict == fate.VerdictGranted}
	i.token, i.known.First, i.known.Now = claim.Token, claim.First, claim.Now
	if claim.Verdict != fate.VerdictGranted {
		return i.known.AfterVerdict(claim.Verdict, claim.Again), nil
	}
	return i.known.AfterAnswer(result.Answer, i.h.policy.Backoff(i.known.Tried()+1), i.h.rules), nil
}

// adoptRecord takes over the record that the claim has found. A first run has not read it before.
func (i *inviteRun) adoptRecord(claim intent.Claim) error {
	if i.r.read || len(claim.Record) == 0 {
		i.r.read = true
		return nil
	}
	found, err := record.Decode(claim.Record)
	if err != nil {
		release := intent.Settlement{Wish: i.wish, Token: claim.Token, End: fate.Release(claim.First)}
		return errors.Join(err, i.settle(release))
	}
	i.r.adopt(found)
	i.known.State = found.Life()
	return nil
}

// readIntent reads how the recipient's intent stands.
func (i *inviteRun) readIntent(ctx context.Context) error {
	return i.h.persist(ctx, func(ctx context.Context) error {
		standing, now, err := i.h.intents.Standing(ctx, i.owner, i.wish.Address)
		i.token, i.known.Intent, i.known.Now = standing.Token, standing.Intent, now
		i.since, i.sinceOnRedis = time.Now().Add(standing.Since.Sub(now)), sinceUnlessRetried(standing)
		return err
	})
}

// sinceUnlessRetried gives when the first call of unknown outcome was claimed. If Redis was restored from a copy after
// that, the copy may not know of a later call. It is zero if a person has had the recipient retried since, and so has
// decided that.
func sinceUnlessRetried(standing intent.Standing) time.Time {
	if standing.Reopened() {
		return time.Time{}
	}
	return standing.Since
}

// carryOut writes a decision and waits as long as it says. The error is errEnded if it is an end.
func (i *inviteRun) carryOut(ctx context.Context, d fate.Decision) error {
	if d.Next == fate.Leave {
		return errEnded
	}
	before := i.known.State
	i.known.State = d.State
	changes := d.Intent != fate.IntentUnchanged || len(d.Revoked) > 0 || !reflect.DeepEqual(before, d.State)
	if d.Next.Ends() || changes {
		if err := i.write(d); err != nil {
			return err
		}
	}
	if d.Next.Ends() {
		i.h.logEnd(i.r)
		return errEnded
	}
	if d.State.Tried() > before.Tried() {
		i.r.logFailed(d.State, d.In)
	}
	return i.h.pause(ctx, i.r, d.In)
}

// write writes a decision in one step: the intent, the task's record and, if the task ends as one, its dead letter.
func (i *inviteRun) write(d fate.Decision) error {
	if d.Intent == fate.IntentOpened {
		i.token = "d" + uuid.NewString()
	}
	r := i.r
	r.record.SetLife(d.State)
	r.noteTimes()
	s := intent.Settlement{
		Wish: i.wish, Token: i.token, End: d.Intent, InvitationID: d.InvitationID, Used: d.Revoked, Record: &r.record,
	}
	if d.Next.Ends() {
		r.record.InvitationID = d.InvitationID
		switch {
		case d.Next == fate.Cancelled:
			r.record.State = record.Cancelled
		case d.Next == fate.Skipped:
			r.record.Skipped, d.Cause = d.Cause, nil
		}
		r.record.Attempts = attemptsOf(d)
		s.Letter = r.conclude(d.Cause)
	}
	return i.settle(s)
}

// settle settles, until Redis takes it or the worker's last grace ends.
func (i *inviteRun) settle(s intent.Settlement) error {
	return i.h.persist(i.h.life.Writing, func(ctx context.Context) error { return i.h.intents.Settle(ctx, s) })
}

// logFailed writes the line of a failed attempt.
func (r *run) logFailed(state fate.State, backoff time.Duration) {
	cause := state.Refusal
	if n := len(state.History); cause == nil && n > 0 {
		cause = &state.History[n-1].Failure
	}
	if cause == nil {
		return
	}
	r.log.Info().Int("attempts", state.Tried()).Int("status", cause.HTTPStatus).Str("code", cause.Code).
		Float64("backoff_seconds", backoff.Seconds()).Msg("attempt failed")
}
