package handle

import (
	"context"
	"errors"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// overcome deals with an invitation that stands in the way of a recipient and that none of its calls created: it
// accepts or revokes what is pending. The recipient's intent is open meanwhile, so nobody else calls for the address.
// All of it may be repeated.
func (h *Handler) overcome(ctx context.Context, s subject) fate.Decision {
	s.known.Paused = s.known.Paused || h.caller.Rests(policy.Revoke)
	if d, held := s.known.BeforeOvercoming(policy.DriverPoll); held {
		return d
	}
	after := func(way fate.Way, err error) fate.Decision {
		return s.known.AfterOvercoming(way, err, h.policy.Backoff(s.known.Unanswered+1))
	}
	pending, err := h.questions.PendingOf(ctx, s.recipient.EmailAddress)
	ours := func(inv clerkclient.Invitation) bool { // a list may have shown it late
		return h.questions.MadeSince(inv, s.since) && !slices.Contains(s.known.Intent.Used, inv.ID)
	}
	switch {
	case err != nil:
		return after(fate.Way{}, err)
	case len(s.known.History) > 0 && slices.ContainsFunc(pending, ours):
		return s.known.AfterTakeover()
	case s.known.OnDuplicate == fate.Accept && len(pending) > 0:
		return after(fate.Way{Accepted: pending[0].ID}, nil)
	case s.known.OnDuplicate == fate.Accept:
		return after(fate.Way{Refusal: s.known.Refusal}, nil) // what stands in the way is not pending
	}
	// While the intent is the same, no run of ours has called, so nothing in the list is ours.
	standing, _, err := h.intents.Standing(ctx, s.owner, store.IDOf(s.recipient.Folded()))
	switch {
	case err != nil:
		return after(fate.Way{}, err)
	case standing.Token != s.token:
		return s.known.AfterTakeover()
	}
	var way fate.Way
	for _, inv := range pending {
		_, err := h.caller.Do(ctx, policy.Revoke, func(ctx context.Context) error {
			_, _, err := h.revokeOne(ctx, inv.ID)
			return err
		})
		refusal, answered := errors.AsType[*clerkclient.Error](err)
		switch {
		case isGone(err): // it was deleted a moment ago
		case answered && refusal.Outcome == clerkclient.Rejected: // it was accepted a moment ago, say
			failure := call.FailureOf(refusal)
			return after(fate.Way{Refusal: &failure}, nil)
		case err != nil:
			return after(fate.Way{}, err)
		}
		way.Revoked = append(way.Revoked, inv.ID)
	}
	return after(way, nil)
}
