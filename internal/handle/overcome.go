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
	"example.com/usher/internal/store/ledger"
)

// overcome deals with an invitation that stands in the way of a recipient and that none of its calls created. The
// recipient's intent is open meanwhile, so nobody else calls for the address. All of it may be repeated.
func (h *Handler) overcome(ctx context.Context, s subject) fate.Decision {
	if d, held := h.held(ctx, s); held {
		return d
	}
	unanswered := func(err error) fate.Decision {
		return s.known.AfterOvercoming(fate.Way{}, err, h.policy.Backoff(s.known.Unanswered+1))
	}
	pending, err := h.questions.PendingOf(ctx, s.recipient.EmailAddress)
	if err != nil {
		return unanswered(err)
	}
	ids, ours := make([]string, len(pending)), false
	for i, inv := range pending {
		ids[i] = inv.ID
		ours = ours || h.questions.MadeSince(inv, s.since) && !slices.Contains(s.known.Intent.Used, inv.ID)
	}
	if d, revoke := s.known.AfterPending(ids, ours); !revoke {
		return d
	}
	// While the intent is the same, no run of ours has called, so nothing in the list is ours.
	standing, _, err := h.intents.Standing(ctx, s.owner, store.IDOf(s.recipient.Folded()))
	switch {
	case err != nil:
		return unanswered(err)
	case standing.Token != s.token:
		return s.known.AfterTakeover()
	}
	return h.revokeInTheWay(ctx, s, ids)
}

// revokeInTheWay revokes the invitations that stand in a recipient's way. If it breaks off, it says which are gone: no
// later question may take one of these for the recipient's.
func (h *Handler) revokeInTheWay(ctx context.Context, s subject, ids []string) fate.Decision {
	backoff := h.policy.Backoff(s.known.Unanswered + 1)
	for i, id := range ids {
		var d fate.Decision
		var held bool
		_, err := h.caller.Do(ctx, policy.Revoke, func(ctx context.Context) (err error) {
			if d, held = h.held(ctx, s); held { // since it waits for a permit
				return call.ErrNothingSent
			}
			_, _, err = h.revokeOne(ctx, id)
			return err
		})
		refusal, answered := errors.AsType[*clerkclient.Error](err)
		gone := ids[:i]
		switch {
		case held:
		case err == nil, isGone(err): // it was deleted a moment ago
			continue
		case answered && refusal.Outcome == clerkclient.Rejected: // it was accepted a moment ago, say
			failure := call.FailureOf(refusal)
			d = s.known.AfterOvercoming(fate.Way{Refusal: &failure}, nil, backoff)
		default:
			if answered && refusal.Sent { // it may have worked
				gone = ids[:i+1]
			}
			d = s.known.AfterOvercoming(fate.Way{}, err, backoff)
		}
		d.Revoked = gone
		return d
	}
	return s.known.AfterOvercoming(fate.Way{Revoked: ids}, nil, backoff)
}

// held decides whether a duplicate may not be dealt with now. A person may have paused or cancelled the campaign since
// somebody looked at it last.
func (h *Handler) held(ctx context.Context, s subject) (d fate.Decision, held bool) {
	if s.campaign != "" {
		head, err := h.ledgers.Get(ctx, s.campaign)
		if err != nil {
			return s.known.AfterOvercoming(fate.Way{}, err, h.policy.Backoff(s.known.Unanswered+1)), true
		}
		s.known.Paused, s.known.Stopped = head.State == ledger.Paused, head.State == ledger.Cancelled
	}
	s.known.Paused = s.known.Paused || h.caller.HeldByRestore(policy.Revoke)
	return s.known.BeforeOvercoming(policy.DriverPoll)
}
