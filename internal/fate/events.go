package fate

import (
	"errors"
	"slices"
	"time"
)

// Verdict is what Redis says when a call for the recipient's address is about to be made.
type Verdict string

// The verdicts.
const (
	VerdictGranted Verdict = "ok"     // the call may be made
	VerdictBusy    Verdict = "busy"   // another recipient's intent for the address is open
	VerdictUnsure  Verdict = "unsure" // an earlier call's outcome is unknown, or Redis may have lost it
	VerdictEnded   Verdict = "ended"  // the task has ended before
	VerdictErased  Verdict = "erased" // the address was forgotten on request
)

// A recipient asks for a busy address again after at least busyMin and at most busyMax.
const (
	busyMin = 10 * time.Millisecond
	busyMax = 2 * time.Second
)

// AfterVerdict decides when no call is granted. Again is when it makes sense to ask for a busy address again.
func (k Known) AfterVerdict(verdict Verdict, again time.Duration) Decision {
	switch verdict {
	case VerdictBusy:
		return k.wait(Send, min(max(again, busyMin), busyMax), IntentUnchanged)
	case VerdictEnded:
		return k.decide(Leave, IntentUnchanged)
	case VerdictErased:
		return k.decide(Cancelled, IntentUnchanged)
	}
	return k.decide(Ask, IntentUnchanged)
}

// Kind is what the answer to a call means for one recipient in it.
type Kind string

// The kinds of answers.
const (
	KindCreated    Kind = "created"     // the call created the invitation
	KindNothingYet Kind = "nothing yet" // the call created nothing and says nothing about the recipient
	KindForAnother Kind = "for another" // the call was refused for another recipient's sake
	KindRefused    Kind = "refused"     // Clerk refused the recipient
	KindDoubted    Kind = "doubted"     // Clerk refused the call, alone, and nobody knows whether it would refuse others
	KindNotSent    Kind = "not sent"    // the call failed before it reached Clerk
	KindLost       Kind = "lost"        // the call failed, and may have created the invitation all the same
	KindUnreadable Kind = "unreadable"  // what is stored of the recipient cannot be read, so it was in no call
)

// Answer is what became of one recipient in a call.
type Answer struct {
	Kind         Kind
	InvitationID string  // of the invitation that was created
	Failure      Failure // why there is none
	Alone        bool    // from now on the recipient may not share a call
	Shared       bool    // others were in the call
	Instance     bool    // of Doubted: the refusal may be about the instance
	Answered     bool    // of Lost: Clerk has answered, and the call was the recipient's alone
	Own          bool    // of Lost: the failure is not Clerk's, so it counts at once
}

// UnreadableAnswer is the answer for a recipient that cannot be read.
func UnreadableAnswer(why string) Answer {
	return Answer{Kind: KindUnreadable, Failure: Failure{Code: "invalid_recipient", Message: why}}
}

// AfterAnswer decides after a call. Backoff is the wait before another attempt, if one follows.
func (k Known) AfterAnswer(a Answer, backoff time.Duration, rules Rules) Decision {
	k.Alone, k.MayRepeat = k.Alone || a.Alone, false
	switch a.Kind {
	case KindCreated:
		return k.sent(a.InvitationID, false, IntentMade)
	case KindForAnother:
		k.ForAnother = k.secondRefused() // so nothing has to be waited for
		return k.decide(Ask, IntentUnknown)
	case KindRefused:
		return k.refused(a.Failure)
	case KindDoubted:
		return k.doubted(a, backoff)
	case KindNotSent:
		k.failed(a)
		return k.wait(Ask, backoff, k.release())
	case KindLost: // even the last attempt is asked about
		k.failed(a)
		k.MayRepeat = a.Answered && k.secondRefused() && !rules.WaitsAlways
		k.Alone = k.Alone || k.MayRepeat
		return k.wait(Ask, backoff, IntentUnknown)
	case KindUnreadable:
		return k.dead(a.Failure, ReasonInvalid, k.release())
	}
	return k.decide(Send, k.release())
}

// refused believes a refusal only if no earlier call of unknown outcome can be its cause.
func (k Known) refused(refusal Failure) Decision {
	k.Attempts++
	switch {
	case !k.First:
		k.Refusal, k.Doubt = &refusal, nil
		return k.decide(Ask, IntentUnknown)
	case k.overcomes(refusal):
		k.Refusal, k.Doubt, k.Foreign = &refusal, nil, true
		return k.decide(Overcome, IntentUnknown)
	}
	return k.dead(refusal, ReasonRejected, k.release())
}

// sharedFailures is after how many shared calls that failed a recipient goes alone: if it is the cause, it costs its
// neighbours no more.
const sharedFailures = 2

// failed notes a failure. Unless it is the recipient's own, nobody knows yet whether it counts.
func (k *Known) failed(a Answer) {
	k.History = Remember(k.History, k.Now, a.Failure)
	if a.Own {
		k.Attempts, k.Unproven = k.Attempts+k.Unproven+1, 0
	} else {
		k.Unproven = min(k.Unproven+1, len(k.History))
	}
	if a.Shared {
		k.Shared++
	}
	k.Alone = k.Alone || k.Shared >= sharedFailures
}

// doubtedMin is the shortest wait after a refusal that may be about everybody. Meanwhile others are served, or not.
const doubtedMin = time.Second

// doubted is for a refusal of which nobody knows for whose sake it is.
func (k Known) doubted(a Answer, backoff time.Duration) Decision {
	doubt := Doubt{Since: k.Now, Instance: a.Instance}
	if k.Doubt != nil && k.Doubt.Instance == a.Instance {
		doubt = *k.Doubt
	}
	doubt.Times++
	k.Doubt, k.Refusal, k.Alone = &doubt, &a.Failure, true
	intent := k.release()
	if !k.First {
		intent = IntentUnknown
	}
	return k.wait(Ask, max(backoff, doubtedMin), intent)
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
		return k.decide(Send, IntentUnchanged)
	case k.Intent.Open:
		k.Refusal, k.Doubt = l.Refusal, nil
		return k.decide(Ask, IntentUnchanged)
	case !k.overcomes(*l.Refusal):
		return k.dead(*l.Refusal, ReasonRejected, IntentUnchanged)
	case k.OnDuplicate == Accept && l.PendingID != "":
		return k.sent(l.PendingID, true, IntentUnchanged)
	}
	k.Refusal, k.Doubt, k.Foreign = l.Refusal, nil, true
	return k.decide(Overcome, IntentOpened)
}

// ErrNotAsked means that a question did not get to the recipient in its time, so that nothing is known of it.
var ErrNotAsked = errors.New("the question had no time for it")

// AfterQuestion decides after Clerk was asked for invitations that were created since the intent's first call. Found
// are their ids, the oldest first. With an error the answer is not whole; backoff is the wait before the question is
// put again.
func (k Known) AfterQuestion(found []string, err error, backoff time.Duration, rules Rules) Decision {
	switch {
	case !k.Intent.Open:
		k.ForAnother, k.Foreign, k.Unanswered = false, false, 0
		if k.Doubt == nil {
			k.Refusal = nil
		}
		return k.uninvited(rules, IntentUnchanged)
	case k.Foreign && !k.Intent.Restored: // nothing was lost
		return k.decide(Overcome, IntentUnchanged)
	case len(k.Intent.Deleted) > 0:
		k.found()
		return k.sent(k.Intent.Deleted[0], false, IntentFound)
	case errors.Is(err, ErrNotAsked):
		return k.decide(Ask, IntentUnchanged)
	case err != nil:
		k.Unanswered++
		return k.wait(Ask, backoff, IntentUnchanged)
	}
	k.Unanswered = 0
	for _, id := range found {
		if !slices.Contains(k.Intent.Used, id) && !slices.Contains(k.Gone, id) {
			k.found()
			return k.sent(id, false, IntentFound)
		}
	}
	if k.Intent.Restored {
		k.Foreign = false
		if why := k.unknowable(); why != "" {
			d := k.dead(Failure{Code: CodeRestored, Message: why}, ReasonRejected, IntentAbsent)
			d.Revoked = k.Gone
			return d
		}
	}
	return k.absent(rules)
}

// unknowable says why nobody knows whether a recipient was invited since the copy of Redis was made that was put back;
// empty if that is known, or if Clerk would refuse a second invitation.
func (k Known) unknowable() string {
	unused := func(id string) bool { return !slices.Contains(k.Intent.Used, id) }
	switch {
	case slices.ContainsFunc(k.Gone, unused):
		return "Redis was restored from a copy, and since the recipient was enqueued an invitation for the address was " +
			"made that is revoked or expired: whether it was this one nobody knows."
	case k.User && !k.secondRefused():
		return "Redis was restored from a copy, and the address belongs to a user: whether it was invited since nobody " +
			"knows."
	}
	return ""
}

// found corrects the count: the lost call counted as failed.
func (k *Known) found() {
	if k.Unanswered = 0; k.Unproven > 0 {
		k.Unproven--
		return
	}
	k.Attempts = max(0, k.Attempts-1)
}

// absent is for a recipient of whom Clerk shows no invitation. A lost call may still make one until the settling time
// has passed, so the recipient waits until then and is asked about again. It does not wait if its last call was refused
// for another's sake, and it may be sent at once if Clerk has answered that call or its record was lost. All three need
// that Clerk would refuse a second invitation: AfterAnswer sets ForAnother and MayRepeat only then.
func (k Known) absent(rules Rules) Decision {
	wait := k.Intent.Until.Add(rules.SettlingTime).Sub(k.Now)
	recordLost := k.Intent.RecordLost
	if recordLost {
		wait += rules.Timeout // a call without a record may last as long
	}
	switch {
	case wait <= 0 || k.ForAnother && !recordLost:
		return k.uninvited(rules, IntentAbsent)
	case !k.Stopped && (k.MayRepeat || recordLost && k.secondRefused()) && k.Refusal == nil:
		if d := k.uninvited(rules, IntentProvisional); d.Next == Send {
			return d
		}
	}
	return k.wait(Ask, wait, IntentUnchanged)
}

// uninvited decides what follows for a recipient that no call of its own has invited, as far as is known: by its
// refusal and its failures. Here it becomes a dead letter when its attempts are used up.
func (k Known) uninvited(rules Rules, intent End) Decision {
	k.weigh(rules)
	switch {
	case k.Cancel:
		return k.decide(Cancelled, k.ifOpen(IntentRefused))
	case k.Refusal != nil && k.Doubt != nil:
		return k.judgeDoubt(intent)
	case k.Refusal != nil && k.overcomes(*k.Refusal):
		k.Foreign = true
		return k.decide(Overcome, IntentUnchanged)
	case k.Refusal != nil:
		return k.dead(*k.Refusal, ReasonRejected, intent)
	case rules.exhausted(k.Attempts) && len(k.History) > 0:
		last := len(k.History) - 1
		cause := k.History[last].Failure
		k.History = slices.Clone(k.History[:last]) // the cause is written by itself
		return k.dead(cause, ReasonExhausted, intent)
	}
	k.ForAnother, k.MayRepeat = false, false
	return k.decide(Send, intent)
}

// weigh finds out which failures count, the oldest first: those after which somebody else was served, and old ones.
// Those of a time when nobody was served do not count.
func (k *Known) weigh(rules Rules) {
	if k.Unproven == 0 || k.Service == nil {
		return
	}
	k.History = slices.Clone(k.History)
	unproven := k.History[max(0, len(k.History)-k.Unproven):]
	old := k.Now.Sub(unproven[0].At) >= rules.Unproven
	for i := range unproven {
		switch at := unproven[i].At; {
		case k.Service.DownAt(at):
			unproven[i].Excused = true
		case old || k.Service.SucceededAfter(at):
			k.Attempts++
		default:
			return
		}
		k.Unproven--
	}
}

// ServedLately is how long before a refusal about the instance somebody else may have been served for it to be the
// recipient's own, if it comes again and nobody else gets one.
const ServedLately = time.Minute

// judgeDoubt believes a refusal of the recipient if somebody else was served after it, or when it comes again: at once
// if no table knows it, and else if somebody was served lately. Otherwise the recipient is sent again. That shows
// whether others are refused, too.
func (k Known) judgeDoubt(intent End) Decision {
	own := k.Doubt.Times > 1
	if k.Doubt.Instance {
		served := func(since time.Time) bool { return k.Service != nil && k.Service.SucceededAfter(since) }
		own = served(k.Doubt.Since) || own && served(k.Doubt.Since.Add(-ServedLately))
		if k.Service != nil && k.Service.DownAt(k.Doubt.Since) {
			own, k.Doubt = false, nil
		}
	}
	if own {
		k.Attempts += k.Doubt.Times
		return k.dead(*k.Refusal, ReasonRejected, intent)
	}
	k.Refusal, k.ForAnother, k.MayRepeat = nil, false, false
	return k.decide(Send, intent)
}

// BeforeOvercoming decides whether a duplicate may be dealt with now. While nothing may be revoked, that is looked at
// again after poll; a recipient that nobody wants any more gives up. Without an open intent others may call meanwhile,
// so the claim of the next call decides. It returns false if the recipient may go ahead.
func (k Known) BeforeOvercoming(poll time.Duration) (d Decision, held bool) {
	switch {
	case k.Paused:
		return k.wait(Overcome, poll, IntentUnchanged), true
	case k.Stopped || k.Cancel:
		return k.decide(Send, k.ifOpen(IntentAbsent)), true
	case !k.Intent.Open:
		k.Foreign, k.Refusal = false, nil
		return k.decide(Send, IntentUnchanged), true
	}
	return Decision{}, false
}

// AfterPending decides by the pending invitations of the address, the newest first, which another one than the
// recipient's calls has made. Ours means that a lost call may have made one of them all the same, which Clerk's list
// showed late. It returns true if they are to be revoked.
func (k Known) AfterPending(pending []string, ours bool) (d Decision, revoke bool) {
	switch {
	case ours && len(k.History) > 0:
		return k.AfterTakeover(), false
	case k.OnDuplicate == Resend:
		return Decision{}, true
	case len(pending) > 0:
		return k.sent(pending[0], true, k.ifOpen(IntentRefused)), false
	}
	return k.AfterOvercoming(Way{Refusal: k.Refusal}, nil, 0), false // what stands in the way is not pending
}

// AfterTakeover decides when another run has changed the intent since this one decided to overcome a duplicate. What
// is pending at Clerk may be that run's own invitation, so nothing is revoked.
func (k Known) AfterTakeover() Decision {
	k.Foreign = false
	return k.decide(Ask, IntentUnchanged)
}

// Way is what could be done about the invitation in the way.
type Way struct {
	Refusal *Failure // why nothing can be done
	Revoked []string // the invitations that are out of the way
}

// AfterOvercoming decides after the invitation in the way was dealt with. With an error Clerk could not be asked;
// backoff is the wait before it is asked again.
func (k Known) AfterOvercoming(way Way, err error, backoff time.Duration) Decision {
	switch {
	case err != nil:
		k.Unanswered++
		return k.wait(Overcome, backoff, IntentUnchanged)
	case way.Refusal != nil:
		return k.dead(*way.Refusal, ReasonRejected, k.ifOpen(IntentAbsent))
	}
	k.Foreign, k.ForAnother, k.Refusal, k.Cleared, k.Unanswered = false, false, nil, true, 0
	d := k.decide(Send, k.ifOpen(IntentAbsent))
	d.Revoked = way.Revoked
	return d
}
