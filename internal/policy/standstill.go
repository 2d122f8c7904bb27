package policy

import (
	"strings"
	"time"

	"example.com/usher/ratelimit"
)

// Standstill is calls that rest because Clerk serves nobody who makes them.
type Standstill struct {
	Calls     string        // create, revoke, delete, read, writes, or all of a refused key
	Why       string        // status and code of the answer that began it, and its trace id
	Since     time.Time     // zero: Clerk has only asked for a pause
	NextProbe time.Time     // when a call finds out whether it is over; zero: one does now
	Lasts     time.Duration // so far
}

// KeyRefused tells whether it is Clerk's refusal of a key.
func (s Standstill) KeyRefused() bool { return s.Calls == allCalls }

// StopsCreates tells whether no invitation can be created.
func (s Standstill) StopsCreates() bool {
	return !s.Since.IsZero() && (s.Calls == CallsOf(RestCreate) || s.Calls == CallsOf(RestWrites))
}

// NoRight tells whether the key lacks the right to create invitations.
func (s Standstill) NoRight() bool {
	return s.Calls == CallsOf(RestCreate) && strings.HasPrefix(s.Why, "403 authorization_")
}

// Reason is Why without the trace id.
func (s Standstill) Reason() string {
	reason, _, _ := strings.Cut(s.Why, " (trace")
	return reason
}

// Says tells what is wrong, without whom it concerns.
func (s Standstill) Says() string {
	switch {
	case strings.HasPrefix(s.Why, unreachable):
		return "Clerk cannot be reached (is CLERK_API_URL right, and may the worker's machine connect to it?)"
	case s.NotClerk():
		return "something else than Clerk's API answers (is CLERK_API_URL right, or does a proxy or a firewall refuse " +
			"this?): " + strings.TrimSuffix(s.Reason(), NotClerk)
	case s.KeyRefused():
		return "Clerk refuses the workers' key (replace it, or see Clerk's dashboard)"
	}
	return "Clerk serves nobody: " + s.Why
}

// NotClerk ends the reason of calls that something else than Clerk's API has answered.
const NotClerk = " not Clerk's API"

// NotClerk tells whether something else than Clerk's API has answered: a proxy, or Clerk's edge.
func (s Standstill) NotClerk() bool { return strings.HasSuffix(s.Reason(), NotClerk) }

// unreachable is clerkclient.CodeDial, but programs that use only the policy need no Clerk SDK.
const unreachable = "dial"

// String says it in a few words.
func (s Standstill) String() string { return s.Calls + ": " + s.Says() }

// Standstills are the kinds of calls that rest, by name. Whether an earlier key is still refused nobody finds out: it
// is not told of when its rest is over.
func Standstills(usages []ratelimit.Usage) (standstills []Standstill) {
	for _, u := range usages {
		s := Standstill{Calls: CallsOf(u.Name), Why: u.Why, Since: u.Since, NextProbe: u.BlockedUntil}
		lasts := !u.Since.IsZero() && !s.KeyRefused()
		if !OnlyRests(u.Name) || u.BlockedUntil.IsZero() && !lasts {
			continue
		}
		if !u.Since.IsZero() {
			s.Lasts = u.At.Sub(u.Since)
		}
		if s.Why == "" {
			s.Why = "Clerk has asked for a pause"
		}
		standstills = append(standstills, s)
	}
	return standstills
}
