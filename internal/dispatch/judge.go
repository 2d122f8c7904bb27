package dispatch

import (
	"errors"
	"fmt"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/tasks"
)

// judge says what an answer means for each recipient of a call. Clerk refuses a bulk whole for one bad address. Those
// that it names are refused and the others wait for another call; where it names nobody, all go alone from now on, so
// that a bad address costs only itself.
func judge(recipients []Recipient, made []clerkclient.Invitation, err error) []Result {
	results := make([]Result, len(recipients))
	refusal, refused := errors.AsType[*clerkclient.Error](err)
	if err != nil && !refused { // nobody knows how far the call got, unless there was none
		refusal = &clerkclient.Error{
			Outcome: clerkclient.Transient, Code: "failed", Message: fmt.Sprintf("%T", err),
			Sent: !errors.Is(err, call.ErrNothingSent),
		}
	}
	named := func(r Recipient) bool { return slices.Contains(refusal.Offenders, r.folded) }
	switch {
	case err == nil:
		ids := make(map[string]string, len(made))
		for _, inv := range made {
			ids[tasks.FoldAddress(inv.EmailAddress)] = inv.ID
		}
		for i, r := range recipients {
			results[i].InvitationID = ids[r.folded]
		}
	case refusal.Outcome == clerkclient.Throttled, refusal.Outcome == clerkclient.Unauthorized:
		for i := range results {
			results[i].Again = true // nothing is wrong with them; the limiter holds them back
		}
	case refusal.Outcome == clerkclient.Rejected && !refusal.Whole && len(recipients) > 1:
		anybody := slices.ContainsFunc(recipients, named)
		for i, r := range recipients {
			if named(r) {
				results[i].Refusal = refusal
				continue
			}
			results[i].Doubt, results[i].Alone = true, !anybody
		}
	default:
		for i := range results {
			results[i].Refusal = refusal
		}
	}
	return results
}
