package fate

import (
	"slices"
	"time"
)

// Verdict is what Redis says when a call for the recipient's address is about to be made.
type Verdict string

// The verdicts.
const (
	Granted Verdict = "ok"     // the call may be made
	Busy    Verdict = "busy"   // another recipient's intent for the address is open
	Unsure  Verdict = "unsure" // an earlier call's outcome is unknown, or Redis may have lost it
	Ended   Verdict = "ended"  // the task has ended before
	Erased  Verdict = "erased" // the address was forgotten on request
)

// A recipient asks for a busy address again after at least busyMin and at most busyMax.
const (
	busyMin = 10 * time.Millisecond
	busyMax = 2 * time.Second
)

// AfterVerdict decides when no call is granted. Again is when it makes sense to ask for a busy address again.
func (k Known) AfterVerdict(verdict Verdict, again time.Duration) Decision {
	switch verdict {
	case Busy:
		return k.wait(Send, min(max(again, busyMin), busyMax), IntentUntold)
	case Ended:
		return k.decide(Leave, IntentUntold)
	case Erased:
		return k.decide(Cancelled, IntentUntold)
	}
	return k.decide(Ask, IntentUntold)
}

// Kind is what the answer to a call means for one recipient in it.
type Kind string

// The kinds of answers.
const (
	Created    Kind = "created"     // the call created the invitation
	NothingYet Kind = "nothing yet" // the call created nothing and says nothing about the recipient
	ForAnother Kind = "for another" // the call was refused for another recipient's sake
	Refused    Kind = "refused"     // Clerk refused the recipient
	NotSent    Kind = "not sent"    // the call failed before it reached Clerk
	Lost       Kind = "lost"        // the call failed, and may have created the invitation all the same
	Unreadable Kind = "unreadable"  // what is stored of the recipient cannot be read, so it was in no call
)

// Answer is what became of one recipient in a call.
type Answer struct {
	Kind         Kind
	InvitationID string  // of the invitation that was created
	Failure      Failure // why there is none
	Alone        bool    // from now on the recipient may not share a call
}

// UnreadableAnswer is the answer for a recipient that cannot be read.
func UnreadableAnswer(why string) Answer {
	return Answer{Kind: Unreadable, Failure: Failure{Code: "invalid_recipient", Message: why}}
}

// AfterAnswer decides after a call. Backoff is the wait before another attempt, if one follows.
func (k Known) AfterAnswer(a Answer, backoff time.Duration, rules Rules) Decision {
	k.Alone = k.Alone || a.Alone
	switch a.Kind {
	case Created:
		return k.sent(a.InvitationID, false, IntentMade)
	case ForAnother:
		k.ForAnother = !k.IgnoresExisting() // Clerk refuses a second call, so nothing has to be waited for
		return k.decide(Ask, IntentUnknown)
	case Refused:
		return k.refused(a.Failure)
	case NotSent:
		state, exhausted := k.Fail(k.Now, a.Failure, rules)
		if k.State = state; exhausted != nil {
			return k.dead(*exhausted, Exhausted, k.release())
		}
		return k.wait(Send, backoff, k.release())
	case Lost: // even the last attempt is asked about
		k.Attempts++
		k.History = Remember(k.History, k.Now, a.Failure)
		return k.wait(Ask, backoff, IntentUnknown)
	case Unreadable:
		return k.dead(a.Failure, Invalid, k.release())
	}
	return k.decide(Send, k.release())
}

// refused believes a refusal only if no earlier call of unknown outcome can be its cause.
func (k Known) refused(refusal Failure) Decision {
	k.Attempts++
	switch {
	case !k.First:
		k.Refusal = &refusal
		return k.decide(Ask, IntentUnknown)
	case k.overcomes(refusal):
		k.Refusal, k.Foreign = &refusal, true
		return k.decide(Overcome, IntentUnknown)
	}
	return k.dead(refusal, Rejected, k.release())
}

// LookUp is what a look-up before any call has found about a recipient.
type LookUp struct {
	Refusal   *Failure // what Clerk would answer; nil if nothing is known to stand in the way
	PendingID string   // of the pending invitation that stands in the way
	Alone     bool     // the recipient may not share a call
}

// AfterLookUp acts on a predicted refusal as on a real one, but counts no attempt.
func (k Known) AfterLookUp(l LookUp) Decision {
	k.Alone = k.Alone || l.Alone
	switch {
	case l.Refusal == nil:
		return k.decide(Send, IntentUntold)
	case k.Intent.Open:
		k.Refusal = l.Refusal
		return k.decide(Ask, IntentUntold)
	case !k.overcomes(*l.Refusal):
		return k.dead(*l.Refusal, Rejected, IntentUntold)
	case k.OnDuplicate == Accept && l.PendingID != "":
		return k.sent(l.PendingID, true, IntentUntold)
	}
	k.Refusal, k.Foreign = l.Refusal, true
	return k.decide(Overcome, IntentOpened)
}

// AfterQuestion decides after Clerk was asked for invitations that were created since the intent's first call. Found
// are their ids, the oldest first. With an error the answer is not whole; backoff is the wait before the question is
// put again.
func (k Known) AfterQuestion(found []string, err error, backoff time.Duration, rules Rules) Decision {
	switch {
	case !k.Intent.Open:
		k.ForAnother, k.Foreign, k.Refusal, k.Unanswered = false, false, nil, 0
		return k.decide(Send, IntentUntold)
	case k.Foreign: // nothing was lost
		return k.decide(Overcome, IntentUntold)
	case len(k.Intent.Deleted) > 0:
		k.Attempts, k.Unanswered = max(0, k.Attempts-1), 0
		return k.sent(k.Intent.Deleted[0], false, IntentFound)
	case err != nil:
		k.Unanswered++
		return k.wait(Ask, backoff, IntentUntold)
	}
	k.Unanswered = 0
	for _, id := range found {
		if !slices.Contains(k.Intent.Used, id) {
			k.Attempts = max(0, k.Attempts-1) // the lost call counted as failed
			return k.sent(id, false, IntentFound)
		}
	}
	return k.absent(rules)
}

// absent decides when Clerk knows of no invitation of ours. That counts only after the last call's end and the
// settling time: until then a lost call may still create one, and with ignore_existing Clerk would not refuse the
// next call. Only a call that Clerk refused for another's sake needs no wait.
func (k Known) absent(rules Rules) Decision {
	if wait := k.Intent.Until.Add(rules.Settle).Sub(k.Now); wait > 0 && !k.ForAnother {
		return k.wait(Ask, wait, IntentUntold)
	}
	switch {
	case k.Refusal != nil && k.overcomes(*k.Refusal):
		k.Foreign = true
		return k.decide(Overcome, IntentUntold)
	case k.Refusal != nil:
		return k.dead(*k.Refusal, Rejected, IntentAbsent)
	case k.Attempts >= rules.MaxAttempts && len(k.History) > 0:
		last := len(k.History) - 1
		cause := k.History[last].Failure
		k.History = slices.Clone(k.History[:last]) // the cause is written by itself
		return k.dead(cause, Exhausted, IntentAbsent)
	}
	k.ForAnother = false
	return k.decide(Send, IntentAbsent)
}

// Campaign says what keeps a recipient's campaign from running. Nothing keeps an invite task.
type Campaign struct{ Paused, Cancelled bool }

// BeforeOvercoming decides whether a duplicate may be dealt with now. A paused campaign revokes nothing and is
// looked at again after poll, a cancelled one gives up. Without an open intent others may call meanwhile, so the
// claim of the next call decides. It returns false if the recipient may go ahead.
func (k Known) BeforeOvercoming(campaign Campaign, poll time.Duration) (d Decision, held bool) {
	switch {
	case campaign.Paused:
		return k.wait(Overcome, poll, IntentUntold), true
	case campaign.Cancelled:
		return k.decide(Send, k.ifOpen(IntentAbsent)), true
	case !k.Intent.Open:
		k.Foreign, k.Refusal = false, nil
		return k.decide(Send, IntentUntold), true
	}
	return Decision{}, false
}

// AfterTakeover decides when another run has changed the intent since this one decided to overcome a duplicate. What
// is pending at Clerk may be that run's own invitation, so nothing is revoked.
func (k Known) AfterTakeover() Decision {
	k.Foreign = false
	return k.decide(Ask, IntentUntold)
}

// Way is what could be done about the invitation in the way.
type Way struct {
	Accepted string   // the pending invitation that counts as the recipient's from now on
	Refusal  *Failure // why nothing can be done
	Revoked  []string // the invitations that are out of the way
}

// AfterOvercoming decides after the invitation in the way was dealt with. With an error Clerk could not be asked;
// backoff is the wait before it is asked again.
func (k Known) AfterOvercoming(way Way, err error, backoff time.Duration) Decision {
	switch {
	case err != nil:
		k.Unanswered++
		return k.wait(Overcome, backoff, IntentUntold)
	case way.Accepted != "":
		return k.sent(way.Accepted, true, k.ifOpen(IntentRefused))
	case way.Refusal != nil:
		return k.dead(*way.Refusal, Rejected, k.ifOpen(IntentAbsent))
	}
	k.Foreign, k.ForAnother, k.Refusal, k.Cleared, k.Unanswered = false, false, nil, true, 0
	d := k.decide(Send, k.ifOpen(IntentAbsent))
	d.Revoked = way.Revoked
	return d
}
