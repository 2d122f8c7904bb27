package forecast

import (
	"slices"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/queues"
	"example.com/usher/ratelimit"
)

// Reason is a kind of standstill.
type Reason string

// The reasons for standstills.
const (
	ClosedWindow Reason = "window"    // the limits are used up
	OnlyInvites  Reason = "reserve"   // the single calls that are left are kept for invites
	Endpoint     Reason = "endpoint"  // Clerk has asked for a pause, or serves nobody
	RefusedKey   Reason = "key"       // Clerk refuses the workers' key
	Doubt        Reason = "doubt"     // a call's outcome is unknown, and Clerk is asked
	Paused       Reason = "paused"    // a person has paused it
	NoWorker     Reason = "no_worker" // no worker runs
	FullRedis    Reason = "redis"     // Redis takes no writes
	Restored     Reason = "restored"  // Redis was restored from a copy, and nobody has let work go on yet
	Backoff      Reason = "backoff"   // calls have failed, and the next attempt comes later
	LookUp       Reason = "look_up"   // its recipients are being looked up
	Uploading    Reason = "upload"    // recipients are being added
	PausedQueue  Reason = "queue"     // another program has paused its queue
	NoQueue      Reason = "no_queue"  // its enqueuing broke off, or another program has deleted it
)

// Standstill is why a campaign or a task makes no call at present. Instants that are not known are zero.
type Standstill struct {
	Reason Reason    `json:"reason"`
	Since  time.Time `json:"since,omitzero"`
	// Until is when it makes its next call.
	Until time.Time `json:"until,omitzero"`
	// Message says it to a person.
	Message string `json:"message"`
}

// Usual tells whether it waits for a window to open, as most campaigns do most of the time. There is nothing usual
// about none.
func (s *Standstill) Usual() bool {
	return s != nil && (s.Reason == ClosedWindow || s.Reason == OnlyInvites)
}

// Words say it to a person, with the times that are known as clock writes them.
func (s *Standstill) Words(clock func(time.Time) string) string {
	words := s.Message
	if !s.Since.IsZero() {
		words += ", since " + clock(s.Since)
	}
	if !s.Until.IsZero() {
		words += ", until " + clock(s.Until)
	}
	return words
}

// Why nobody makes a call.
const (
	saysNeverRan = "no worker has run yet, so its limits are unknown"
	saysNoWorker = "no worker runs"
	saysFull     = "Redis is full, and workers cannot work (raise its maxmemory, or delete campaigns)"
)

// Why recipients of a campaign are not ready for a call.
const (
	saysLookUp  = "its recipients are being looked up"
	saysBackoff = "its recipients wait for another attempt, because calls have failed"
	saysDoubt   = "calls for its recipients have outcomes that nobody knows, and Clerk is asked"
)

// standstill is the longest wait for the next call that is not a standstill.
const standstill = time.Second

// rest is the standstill of calls that rest because Clerk serves nobody.
func rest(s policy.Standstill) *Standstill {
	stands := &Standstill{Reason: Endpoint, Since: s.Since, Until: s.NextProbe, Message: s.Says()}
	if s.KeyRefused() && !s.NotClerk() {
		stands.Reason = RefusedKey
	}
	return stands
}

// Rested tells whether nothing is changed at Clerk because Redis was restored from a copy.
func (o Outlook) Rested() bool { return o.Trouble != nil && o.Trouble.Reason == Restored }

// Resting is the standstill of some kinds of calls, if one of them rests; else nil.
func (o Outlook) Resting(calls ...policy.Call) *Standstill {
	for _, s := range o.Rests {
		stops := func(want ratelimit.Want) bool { return policy.CallsOf(want.Limit) == s.Calls }
		for _, call := range calls {
			if wants, _ := (policy.Policy{}).Wants(call, ""); slices.ContainsFunc(wants, stops) {
				return rest(s)
			}
		}
	}
	return nil
}

// PausedIn is the standstill of tasks in a queue that another program has paused.
func PausedIn(q queues.Waiting) *Standstill {
	return &Standstill{Reason: PausedQueue, Message: "another program, such as asynqmon, has paused the queue " + q.Queue +
		", and workers take nothing from it (resume it there)"}
}

// closed is the standstill of what makes its first call only after a while. free tells whether a single call could be
// made earlier by an invite.
func (o Outlook) closed(first time.Duration, free bool) *Standstill {
	s := &Standstill{Reason: ClosedWindow, Until: o.At.Add(first), Message: "the limits are used up"}
	for _, p := range []Places{o.Create, o.Bulk, o.Overall} {
		if p.Blocked > 0 && p.Blocked <= first {
			s.Reason, s.Message = Endpoint, "Clerk has asked for a rest (429)"
		}
	}
	if free && s.Reason == ClosedWindow {
		s.Reason, s.Message = OnlyInvites, "the calls that are left are reserved for single invites"
	}
	return s
}

// Invite predicts when an invite is sent that has some ahead of it, and why it is not sent now. Invites go before
// campaigns.
func (o Outlook) Invite(ahead int) Forecast {
	if o.Trouble != nil {
		return Forecast{Assumption: "no ETA: " + o.Trouble.Message, Standstill: o.Trouble}
	}
	o.Campaigns, o.Invites = nil, ahead+1
	p := &play{Outlook: o.sane()}
	first, called := time.Duration(0), false
	for work := 0; p.Invites > 0 && work < maxWork; work++ {
		call, at := p.next()
		if call == "" || at > horizon {
			break
		}
		if !called {
			first, called = at, true
		}
		p.now = at
		p.make(call)
	}
	f := Forecast{Assumption: "no ETA: the limits leave it no calls, or too many invites are ahead of it"}
	if p.Invites <= 0 {
		f = Forecast{ETA: o.At.Add(p.now), Assumption: ifs}
	}
	if p.now > standstill {
		f.Standstill = o.closed(first, false)
		f.Standstill.Until = f.ETA
	}
	return f
}

// Standstill is why no invitation is sent at present or, if single ones can be sent, why no campaign makes a call. It
// is nil if nothing stands in the way of either.
func (o Outlook) Standstill() *Standstill {
	if o.Trouble == nil && o.Interactive.Paused {
		return PausedIn(o.Interactive)
	}
	if stands := o.Invite(0).Standstill; stands != nil {
		return stands
	}
	o.Campaigns, o.Invites = nil, 0
	return o.Hypothetical(1, o.At).Standstill
}

// Stops says what a standstill of everything stops, to a person.
func (s *Standstill) Stops() string {
	switch s.Reason {
	case OnlyInvites:
		return "No campaign makes a call at present"
	case PausedQueue:
		return "No single invite is sent at present"
	}
	return "No invitation is sent at present"
}

// Overdrawn is the standstill of calls that only the limit of all calls counts, if it is used up; else nil.
func (o Outlook) Overdrawn() *Standstill {
	o = o.sane()
	if first := o.Overall.next(0); first > standstill {
		o.Create, o.Bulk = Places{}, Places{}
		return o.closed(first, false)
	}
	return nil
}
