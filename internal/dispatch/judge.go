package dispatch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/tasks"
)

// judge says what an answer means for each recipient of a call. Clerk refuses a bulk whole for one bad address. Those
// that it names are refused and the others wait for another call; where it names nobody, all go alone from now on, so
// that a bad address costs only itself. A refusal that may be about everybody does not count against anybody yet.
func judge(recipients []Recipient, made []clerkclient.Invitation, err error) []fate.Answer {
	answers := make([]fate.Answer, len(recipients))
	if err == nil {
		ids := make(map[string]string, len(made))
		for _, inv := range made {
			ids[tasks.FoldAddress(inv.EmailAddress)] = inv.ID
		}
		for i, r := range recipients {
			answers[i] = fate.Answer{Kind: fate.KindCreated, InvitationID: ids[r.folded]}
		}
		return answers
	}
	refusal, refused := errors.AsType[*clerkclient.Error](err)
	if !refused { // nobody knows how far the call got, unless there was none
		refusal = &clerkclient.Error{
			Outcome: clerkclient.Transient, Code: "failed", Message: fmt.Sprintf("%T", err),
			Sent: !errors.Is(err, call.ErrNothingSent),
		}
	}
	named := func(r Recipient) bool { return slices.Contains(refusal.Offenders, r.folded) }
	shared := len(recipients) > 1
	forSome := refusal.Outcome == clerkclient.Rejected && shared
	alone := forSome && !slices.ContainsFunc(recipients, named)
	for i, r := range recipients {
		if forSome && !named(r) {
			answers[i] = fate.Answer{Kind: fate.KindForAnother, Alone: alone}
			continue
		}
		answers[i] = fate.Answer{
			Kind: kindOf(refusal), Failure: call.FailureOf(refusal), Shared: shared,
			Instance: refusal.Reach == clerkclient.ReachInstance, Answered: !shared && answered(refusal),
		}
	}
	return answers
}

// kindOf gives what a call that was in vain means for each recipient in it.
func kindOf(refusal *clerkclient.Error) fate.Kind {
	switch {
	case call.HeldBack(refusal.Outcome):
		return fate.KindNothingYet // nothing is wrong with them
	case refusal.Outcome == clerkclient.Rejected && refusal.Reach == clerkclient.ReachRequest:
		return fate.KindRefused
	case refusal.Outcome == clerkclient.Rejected:
		return fate.KindDoubted
	case !refusal.Sent:
		return fate.KindNotSent
	}
	return fate.KindLost
}

// answered tells whether a call failed with a complete answer of Clerk's own. Answers of others on the way (502, 504)
// do not tell whether Clerk has carried the call out.
func answered(failure *clerkclient.Error) bool {
	own := failure.Status == http.StatusInternalServerError || failure.Status == http.StatusServiceUnavailable
	return own && !failure.NotClerk && failure.Code != ""
}
