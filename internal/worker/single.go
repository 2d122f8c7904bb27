package worker

import (
	"context"
	"errors"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/record"
)

// Clerk is what the worker asks of Clerk.
type Clerk interface {
	dispatch.Clerk
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
}

// revoke revokes an invitation. One that is revoked already is as it should be, whoever did it: an earlier call whose answer was lost, say.
func (w *Worker) revoke(ctx context.Context, r *run, id string) (ending, error) {
	r.about.InvitationID = id
	err := w.untilAnswered(ctx, r, policy.Revoke, func(ctx context.Context) error {
		return w.revokeOne(ctx, id)
	})
	end, err := endingOf(err, id)
	if err == nil && end.dead != nil && end.dead.Reason == record.Exhausted && w.isRevoked(ctx, id) {
		return ending{invitationID: id}, nil
	}
	return end, err
}

// revokeOne makes one call that revokes an invitation. One that is revoked already is no error.
func (w *Worker) revokeOne(ctx context.Context, id string) error {
	_, _, err := w.clerk.Revoke(ctx, id)
	if refusal, ok := errors.AsType[*clerkclient.Error](err); ok && refusal.Code == codeAlreadyRevoked {
		return nil
	}
	return err
}

// codeAlreadyRevoked is Clerk's answer to the second revocation of an invitation (documented).
const codeAlreadyRevoked = "invitation_already_revoked"

// isRevoked looks before a revocation is given up: the answer of a call that did it may have been lost.
func (w *Worker) isRevoked(ctx context.Context, id string) bool {
	var page clerkclient.Page
	_, err := w.caller.Call(ctx, policy.Read, func(ctx context.Context) (err error) {
		page, _, err = w.clerk.List(ctx, clerkclient.ListQuery{Limit: policy.ListPage, Status: "revoked", Query: id})
		return err
	})
	return err == nil && slices.ContainsFunc(page.Invitations, func(inv clerkclient.Invitation) bool { return inv.ID == id })
}

// endingOf turns what untilAnswered returned into an ending.
func endingOf(err error, invitationID string) (ending, error) {
	if e, ok := errors.AsType[*ended](err); ok {
		return e.ending, nil
	}
	return ending{invitationID: invitationID}, err
}
