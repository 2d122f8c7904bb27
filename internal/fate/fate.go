// Package fate decides what becomes of a recipient. It is told what is known and what has just happened, and gives the
// next step. It asks nobody, writes nothing and reads no clock: the handlers of invite tasks and of campaigns feed it,
// write what it says and take the step. Each rule about attempts, settling and duplicates stands here, once.
//
// A life is a loop of three steps that ends as Sent, Dead, Skipped or Cancelled:
//
//	Send      make a call that creates the invitation. Redis decides at that moment whether the address is free.
//	Ask       a call may have worked although its answer was lost: look for its invitation at Clerk.
//	Overcome  an invitation that is not ours stands in the way: accept it, or revoke it and send again.
package fate

import "time"

// CodeRestored is the cause of a dead letter that is a person's to judge: after Redis was restored from a copy nobody
// knows whether the recipient was invited.
const CodeRestored = "unknown_after_restore"

// State is what a recipient's life has come to so far. It is kept in Redis between two steps, with these JSON names.
type State struct {
	// Attempts counts the calls that failed or were refused, as far as that is known to be about the recipient.
	Attempts int `json:"n,omitempty"`
	// History holds the latest failed attempts.
	History []Attempt `json:"h,omitempty"`
	// Unproven is how many of the latest in History may be about everybody: they do not count in Attempts yet.
	Unproven int `json:"p,omitempty"`
	// Shared counts the calls that failed and that others were in.
	Shared int `json:"s,omitempty"`
	// Alone means that the recipient may not share a call: it might spoil it for others.
	Alone bool `json:"a,omitempty"`
	// ForAnother means that Clerk refused the last call for another recipient's sake, so that it can create nothing
	// later. It is not set if calls of the recipient ignore existing invitations, because then nothing but the settling
	// time keeps a second invitation away.
	ForAnother bool `json:"d,omitempty"`
	// Foreign means that Refusal is about an invitation that we did not create. In a life that ended as Sent it means
	// that the recipient's invitation is such a one.
	Foreign bool `json:"o,omitempty"`
	// Cleared means that the invitations in the way were revoked. The next call ignores existing ones.
	Cleared bool `json:"x,omitempty"`
	// Refusal is what Clerk, or a look-up, said last. It is believed once Clerk knows of no invitation of ours.
	Refusal *Failure `json:"f,omitempty"`
	// Doubt is set if Refusal, or an earlier one, may be about everybody.
	Doubt *Doubt `json:"w,omitempty"`
	// MayRepeat means that the last call may be made again before the settling time has passed: Clerk answered it with
	// a failure, and refuses a second invitation. So it is not set if calls ignore existing invitations.
	MayRepeat bool `json:"k,omitempty"`
	// Unanswered counts the questions to Clerk that failed since the last one that was answered.
	Unanswered int `json:"q,omitempty"`
}

// Doubt is about refusals of a recipient alone of which nobody knows for whose sake they were.
type Doubt struct {
	Since    time.Time `json:"at"` // of the first call that was refused so
	Times    int       `json:"n"`
	Instance bool      `json:"i,omitempty"` // they may be about the instance; else no table knows them
}

// OnDuplicate is what a recipient wants if an invitation for its address exists already.
type OnDuplicate string

// The values of OnDuplicate. With any other the recipient becomes a dead letter.
const (
	Accept OnDuplicate = "accept" // take a pending invitation for its own
	Resend OnDuplicate = "resend" // revoke it and send a new one
)

// OnExistingUser is what a recipient wants if its address belongs to a user.
type OnExistingUser string

// Skip is the value of OnExistingUser with which the recipient is skipped. With any other it becomes a dead letter.
const Skip OnExistingUser = "skip"

// CodeUser is Clerk's refusal of an address that belongs to a user (documented).
const CodeUser = "form_identifier_exists"

// CodeDuplicate is Clerk's refusal of a second invitation for an address (documented). One that was revoked may count
// too (observed).
const CodeDuplicate = "duplicate_record"

// Intent is how the recipient's intent stands in Redis: the record that a call for its address is or may be under way.
// All instants are on Redis's clock.
type Intent struct {
	// Open means that there is an intent. Without one there is no call whose outcome is unknown.
	Open bool
	// Until is when the last call had ended at the latest: its deadline, or when it was given up.
	Until time.Time
	// RecordLost means that Redis may have lost the records of calls that were made before Until.
	RecordLost bool
	// Restored means that Redis was restored from a copy, and that calls may have been made since the copy was made.
	Restored bool
	// Used are invitations for the address that belong to another recipient or an earlier task.
	Used []string
	// Deleted are invitations for the address that were deleted on request and that a call of the recipient's may have
	// created.
	Deleted []string
}

// Known is all that is known of a recipient before something happens to it.
type Known struct {
	State
	// OnDuplicate, OnExistingUser and IgnoreExisting are what the recipient asks for.
	OnDuplicate    OnDuplicate
	OnExistingUser OnExistingUser
	IgnoreExisting bool
	Intent         Intent
	// First means that no call before the one under way has an unknown outcome.
	First bool
	// Gone are invitations that a question has found and that are revoked or expired. User means that the address
	// belongs to a user. Both are known only if Intent.Restored is set.
	Gone []string
	User bool
	// Service is how Clerk has served calls for others; nil if that is not known.
	Service Service
	// Cancel means that a person wants the life to end as Cancelled. It does once no call has an unknown outcome.
	Cancel bool
	// Stopped means that no call follows, because the recipient's campaign was cancelled. Paused means that nothing may
	// be revoked now: the campaign is paused, or revocations rest.
	Stopped, Paused bool
	// Now is Redis's clock.
	Now time.Time
}

// Service is how calls that create invitations have gone of late.
type Service interface {
	// SucceededAfter tells whether a call has succeeded since an instant.
	SucceededAfter(at time.Time) bool
	// DownAt tells whether nobody was served at an instant.
	DownAt(at time.Time) bool
}

// Rules are the figures that an operator sets.
type Rules struct {
	MaxAttempts  int           // failed calls before a dead letter
	SettlingTime time.Duration // how long after its end a lost call may still create its invitation at Clerk
	Unproven     time.Duration // failures of this age count, although nobody else was sent meanwhile
	Timeout      time.Duration // the longest time for one call
	WaitsAlways  bool          // no call is made again before the settling time has passed
}

// Step is what a recipient does next, or how its life ended.
type Step string

// The steps, and the ends.
const (
	Send      Step = "send"
	Ask       Step = "ask"
	Overcome  Step = "overcome"
	Sent      Step = "sent"      // an invitation exists; see Decision.InvitationID
	Dead      Step = "dead"      // a person must look at it; see Decision.Cause
	Skipped   Step = "skipped"   // no invitation is needed; see Decision.Cause
	Cancelled Step = "cancelled" // nobody wants it any more
	Leave     Step = "leave"     // another run has ended it: nothing is written
)

// Ends tells whether the life is over.
func (s Step) Ends() bool { return s != Send && s != Ask && s != Overcome }

// End is what a decision makes of the recipient's intent.
type End string

// The ends of an intent.
const (
	IntentMade    End = "made"    // the call created the invitation
	IntentFound   End = "found"   // a question found the invitation; one that is used already settles nothing
	IntentRefused End = "refused" // the call created none, and no earlier one did
	IntentAbsent  End = "absent"  // no call so far created one; it may be claimed again; its first call is kept
	// IntentProvisional is IntentAbsent as far as Clerk shows now: the owner may make one call more, which Clerk refuses
	// if an earlier one did work.
	IntentProvisional End = "provisional"
	// IntentReleased means that the call under way created nothing: the intent is what it was before.
	IntentReleased  End = "released"
	IntentUnknown   End = "unknown"   // nobody knows whether the call created one
	IntentUnchanged End = "unchanged" // the intent stays as it is
	IntentOpened    End = "opened"    // there was no call; an intent is opened to keep others from calling
)

// Decision is what to write, and then to do.
type Decision struct {
	// State is what to keep of the recipient.
	State State
	// Next is the step that follows, after a wait of In.
	Next Step
	In   time.Duration
	// Intent is what becomes of the intent.
	Intent End
	// InvitationID is the recipient's invitation, when it is Sent.
	InvitationID string
	// Cause says why the recipient is Dead or Skipped.
	Cause *Failure
	// Revoked are the invitations that stood in the way and are gone, or may be. None of the recipient's calls created
	// them.
	Revoked []string
}

// Start is the first step of a run. A run that is not the first one asks about the calls of those before it.
func Start(again bool) Step {
	if again {
		return Ask
	}
	return Send
}

// IgnoresExisting tells whether the next call creates an invitation although there is or was another.
func (k Known) IgnoresExisting() bool { return k.IgnoreExisting || k.Cleared }

// secondRefused tells whether Clerk would refuse a second invitation, so that a call too many does no harm.
func (k Known) secondRefused() bool { return !k.IgnoresExisting() }

// exhausted tells whether so many failed attempts are all there may be.
func (r Rules) exhausted(attempts int) bool { return attempts >= r.MaxAttempts }

// Tried is how many calls have failed or were refused that may count.
func (s State) Tried() int {
	tried := s.Attempts + s.Unproven
	if s.Doubt != nil {
		tried += s.Doubt.Times
	}
	return tried
}

// Fail counts a failed attempt of a whole task: to revoke, delete or read lists, or a run that panicked. It gives the
// cause back if that was the last attempt. Calls that invite are counted and judged in events.go.
func (s State) Fail(now time.Time, cause Failure, rules Rules) (State, *Failure) {
	s.Attempts++
	if rules.exhausted(s.Attempts) {
		cause.Reason = ReasonExhausted
		return s, &cause
	}
	s.History = Remember(s.History, now, cause)
	return s, nil
}

// decide gives the decision for a step at once.
func (k Known) decide(next Step, intent End) Decision {
	return Decision{State: k.State, Next: next, Intent: intent}
}

// wait gives the decision for a step after a wait.
func (k Known) wait(next Step, in time.Duration, intent End) Decision {
	d := k.decide(next, intent)
	d.In = max(0, in)
	return d
}

// sent ends the life with an invitation. Foreign means that no call of the recipient created it.
func (k Known) sent(id string, foreign bool, intent End) Decision {
	k.Attempts += k.Unproven
	k.Foreign, k.Refusal, k.Doubt, k.History, k.Unproven = foreign, nil, nil, nil, 0
	d := k.decide(Sent, intent)
	d.InvitationID = id
	return d
}

// dead ends the life as a dead letter, or as skipped if the recipient wants that of such a refusal.
func (k Known) dead(cause Failure, reason Reason, intent End) Decision {
	cause.Reason, k.Attempts = reason, k.Attempts+k.Unproven
	k.Refusal, k.Doubt, k.Unproven = nil, nil, 0
	end := Dead
	if reason == ReasonRejected && cause.Code == CodeUser && k.OnExistingUser == Skip {
		end, k.History = Skipped, nil
		if intent == IntentAbsent {
			intent = IntentRefused // nobody calls again
		}
	}
	d := k.decide(end, intent)
	d.Cause = &cause
	return d
}

// Release is what becomes of an intent whose call created nothing. First means that no earlier call is of unknown
// outcome.
func Release(first bool) End {
	if first {
		return IntentRefused
	}
	return IntentReleased
}

// release is what becomes of the intent when the call under way created nothing.
func (k Known) release() End { return k.ifOpen(Release(k.First)) }

// ifOpen gives the end for an intent that may not be there.
func (k Known) ifOpen(end End) End {
	if k.Intent.Open {
		return end
	}
	return IntentUnchanged
}

// overcomes tells whether the recipient wants more than a dead letter after a refusal.
func (k Known) overcomes(refusal Failure) bool {
	return refusal.Code == CodeDuplicate && (k.OnDuplicate == Accept || k.OnDuplicate == Resend)
}
