package worker

import (
	"context"
	"errors"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/clock"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// inviteRun is one run of an invite task.
type inviteRun struct {
	w      *Worker
	r      *run
	person dispatch.Recipient
	wish   intent.Wish
	// doubt: nobody knows what became of an earlier call; Clerk is asked before the next one.
	doubt bool
	asked int // questions in vain
	// answered: the last call was refused for another's sake, so that nothing of it is to come; see driver.absent.
	answered bool
	// foreign: the refusal is about an invitation that no call of the task has made.
	foreign bool
	// refusal is what Clerk said to the last call; it is believed when Clerk knows nothing of an earlier one.
	refusal *fate.Failure
}

func (w *Worker) invite(ctx context.Context, r *run, payload tasks.InvitePayload) (ending, error) {
	recipient := payload.Recipient
	r.about.EmailAddress = recipient.EmailAddress
	person, err := dispatch.NewRecipient(recipient)
	if err != nil {
		return w.unreadable(r, err)
	}
	i := &inviteRun{w: w, r: r, person: person, wish: intent.Wish{
		Task: r.id, Address: store.IDOf(person.Folded()), Born: payload.EnqueuedAt,
	}}
	i.doubt = r.again // a first run has nothing to ask about; if it should, its claim says so
	for {
		var end ending
		if i.doubt {
			end, err = i.ask(ctx)
		} else {
			end, err = i.call(ctx)
		}
		if err != nil || end.over() || end.written {
			return end, err
		}
	}
}

// call makes one call for the task.
func (i *inviteRun) call(ctx context.Context) (ending, error) {
	i.answered = false
	result, waited, err := i.w.dispatcher.Send(ctx, i.person, i.wish)
	i.r.waited += waited
	if err != nil {
		return ending{}, err
	}
	if err := i.adopt(result.Claim); err != nil {
		return ending{}, err
	}
	switch claim := result.Claim; {
	case result.Found:
		return i.found(ctx, result)
	case claim.Verdict == intent.Ended:
		return ending{}, errAlreadyEnded
	case claim.Verdict == intent.Erased:
		return ending{cancelled: true}, nil
	case claim.Verdict == intent.Busy:
		return ending{}, clock.Sleep(ctx, min(max(claim.Again, 10*time.Millisecond), policy.BusyRest))
	case claim.Verdict == intent.Unsure:
		i.doubt = true
		return ending{}, nil
	case result.Doubt:
		i.doubt, i.answered = true, !i.person.IgnoreExisting
		if result.Alone {
			i.person = i.person.GoingAlone()
		}
		return ending{}, i.write(i.settlement(claim.Token, intent.Unknown))
	case result.Refusal == nil:
		i.r.record.Attempts++
		return i.end(claim.Token, intent.Made, ending{invitationID: result.InvitationID})
	case result.Refusal.Outcome == clerkclient.Rejected:
		return i.rejected(claim, rejection(result))
	}
	return i.failed(ctx, result.Claim, result)
}

// adopt takes over the record that the claim has found.
func (i *inviteRun) adopt(claim intent.Claim) error {
	if i.r.read || claim.Verdict == "" {
		return nil
	}
	i.r.read = true
	if len(claim.Record) == 0 {
		return nil
	}
	found, err := record.Decode(claim.Record)
	if err != nil {
		return errors.Join(err, i.write(i.settlement(claim.Token, claim.Release())))
	}
	i.r.adopt(found)
	return nil
}

// found is told that a look-up before the call found what Clerk would answer. It is not believed before Clerk was asked whether the
// invitation that is in the way was made by an earlier call of the task.
func (i *inviteRun) found(ctx context.Context, result dispatch.Result) (ending, error) {
	failure := rejection(result)
	standing, _, err := i.standing(ctx)
	if err != nil {
		return ending{}, err
	}
	if standing.Open() {
		i.refusal, i.doubt = &failure, true
		return ending{}, nil
	}
	if overcomes(i.person, failure) {
		return i.reserve(ctx, failure)
	}
	return ending{dead: &failure}, nil
}

// rejected is told that Clerk refuses. Where an earlier call's outcome was unknown for a while, Clerk is asked once more before it is
// believed: the refusal may be about the invitation that it made.
func (i *inviteRun) rejected(claim intent.Claim, failure fate.Failure) (ending, error) {
	i.r.record.Attempts++
	if claim.Fresh && overcomes(i.person, failure) {
		i.refusal, i.foreign, i.doubt = &failure, true, true
		return ending{}, i.write(i.settlement(claim.Token, intent.Unknown))
	}
	if claim.Fresh {
		return i.end(claim.Token, intent.Refused, ending{dead: &failure})
	}
	i.refusal, i.doubt = &failure, true
	return ending{}, i.write(i.settlement(claim.Token, intent.Unknown))
}

// failed counts a failed attempt and waits out a short backoff. If the call may have made the invitation all the same, Clerk is
// asked next.
func (i *inviteRun) failed(ctx context.Context, claim intent.Claim, result dispatch.Result) (ending, error) {
	failure := failureOf(result)
	r := i.r
	r.record.Attempts++
	failure.Reason = fate.Exhausted
	exhausted := r.record.Attempts >= i.w.policy.MaxAttempts
	if !result.Refusal.Sent && exhausted {
		return i.end(claim.Token, claim.Release(), ending{dead: &failure})
	}
	failure.Reason = ""
	r.record.History = fate.Remember(r.record.History, time.Now(), failure)
	s := i.settlement(claim.Token, intent.Unknown)
	if i.doubt = result.Refusal.Sent; !i.doubt {
		s.End = claim.Release()
	}
	s.Record = &r.record
	if err := i.write(s); err != nil {
		return ending{}, err
	}
	return i.w.backOff(ctx, r, failure)
}

// ask finds out what became of earlier calls: an invitation that was made ends the task; that there is none counts only when the last call
// could no longer make it.
func (i *inviteRun) ask(ctx context.Context) (ending, error) {
	standing, now, err := i.standing(ctx)
	if err != nil {
		return ending{}, err
	}
	if !standing.Open() {
		i.doubt = false
		return ending{}, nil
	}
	if i.foreign {
		return i.overcome(ctx, standing.Token)
	}
	asked := time.Now()
	found, err := i.w.questions.FindLost(ctx, []ask.Lost{{
		Address: i.person.EmailAddress, Since: asked.Add(standing.Since.Sub(now)),
	}})
	if err != nil {
		i.asked++
		return i.w.pause(ctx, i.r, i.w.policy.Backoff(i.asked))
	}
	for _, inv := range found[i.person.Folded()] {
		end, err := i.end(standing.Token, intent.Found, ending{invitationID: inv.ID})
		if err == nil || !errors.Is(err, intent.ErrTaken) {
			return end, err
		}
	}
	if quiet := standing.Till.Add(i.w.policy.Settle).Sub(now); quiet > 0 && !i.answered {
		return i.w.pause(ctx, i.r, quiet)
	}
	return i.absent(ctx, standing.Token)
}

// absent is told that no call so far has made the invitation: a refusal may be believed now, and an end of attempts.
func (i *inviteRun) absent(ctx context.Context, token string) (ending, error) {
	if i.refusal != nil && overcomes(i.person, *i.refusal) {
		return i.overcome(ctx, token)
	}
	if i.refusal != nil {
		return i.end(token, intent.Absent, ending{dead: i.refusal})
	}
	if history := i.r.record.History; i.r.record.Attempts >= i.w.policy.MaxAttempts && len(history) > 0 {
		failure := history[len(history)-1].Failure
		failure.Reason = fate.Exhausted
		i.r.record.History = history[:len(history)-1] // the ending is the last one
		return i.end(token, intent.Absent, ending{dead: &failure})
	}
	i.doubt = false
	return ending{}, i.write(i.settlement(token, intent.Absent))
}

func (i *inviteRun) standing(ctx context.Context) (standing intent.Standing, now time.Time, err error) {
	err = i.w.persist(ctx, func(ctx context.Context) (err error) {
		standing, now, err = i.w.intents.Standing(ctx, i.wish)
		return err
	})
	return standing, now, err
}

func (i *inviteRun) settlement(token string, end intent.End) intent.Settlement {
	return intent.Settlement{Wish: i.wish, Token: token, End: end}
}

// end settles the intent and writes the task's ending in one go.
func (i *inviteRun) end(token string, settled intent.End, end ending) (ending, error) {
	s := i.settlement(token, settled)
	s.InvitationID = end.invitationID
	before := i.r.record
	entry := i.w.conclude(i.r, end)
	if s.Record = &i.r.record; end.dead != nil {
		s.Letter = &entry
	}
	if err := i.write(s); err != nil {
		i.r.record = before
		return ending{}, err
	}
	i.w.logEnd(i.r, end)
	end.written = true
	return end, nil
}

// write settles, until Redis takes it or the worker's last grace ends.
func (i *inviteRun) write(s intent.Settlement) error {
	return i.w.persist(i.w.settling, func(ctx context.Context) error { return i.w.intents.Settle(ctx, s) })
}
