package handle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// revoke revokes an invitation, or all pending ones of an address or a campaign.
func (h *Handler) revoke(ctx context.Context, r *run, what tasks.RevokePayload) error {
	r.about.EmailAddress, r.about.Campaign, r.about.InvitationID = what.EmailAddress, what.Campaign, what.InvitationID
	if what.InvitationID == "" {
		return h.revokeAll(ctx, r, what)
	}
	did, err := h.revokeForGood(ctx, r, what.InvitationID)
	h.addressee(ctx, r, what.InvitationID)
	if did {
		r.record.Revoked = 1
	}
	if err == nil {
		r.record.InvitationID = what.InvitationID
	}
	return err
}

// addressee notes whose invitation a task is about, if Clerk has not told and the directory knows it.
func (h *Handler) addressee(ctx context.Context, r *run, id string) {
	if r.about.EmailAddress == "" {
		found, _, _ := h.directory.Get(ctx, []string{id}) // without it the story of the address lacks the task
		r.about.EmailAddress = found[id].EmailAddress
	}
}

// revokeOne makes one call that revokes an invitation, and tells whether it did, and whose invitation Clerk says it is.
// One that is revoked already is no error.
func (h *Handler) revokeOne(ctx context.Context, id string) (did bool, address string, err error) {
	inv, _, err := h.clerk.Revoke(ctx, id)
	if refusal, ok := errors.AsType[*clerkclient.Error](err); ok && refusal.Code == clerkclient.CodeAlreadyRevoked {
		return false, "", nil
	}
	return err == nil, inv.EmailAddress, err
}

// revokeForGood revokes an invitation, by as many calls as it takes, and tells whether it was this run that did. One
// that is revoked already is as it should be, whoever did it: an earlier call whose answer was lost, say.
func (h *Handler) revokeForGood(ctx context.Context, r *run, id string) (did bool, err error) {
	lost := false // a call may have revoked it without our knowing
	err = h.untilAnswered(ctx, r, policy.Revoke, func(ctx context.Context) (err error) {
		did, r.about.EmailAddress, err = h.revokeOne(ctx, id)
		refusal, refused := errors.AsType[*clerkclient.Error](err)
		lost = lost || refused && refusal.Outcome == clerkclient.Transient && refusal.Sent
		did = did || err == nil && lost
		return err
	})
	if dead, ok := errors.AsType[*died](err); ok && dead.cause.Reason == fate.ReasonExhausted {
		if revoked, asked := h.isListed(ctx, id, "revoked"); revoked && asked == nil {
			return lost, nil
		}
	}
	return did, err
}

// isListed tells whether Clerk lists an invitation under a status.
func (h *Handler) isListed(ctx context.Context, id, status string) (bool, error) {
	page, err := h.questions.Page(ctx, clerkclient.ListQuery{Limit: policy.ListPage, Status: status, Query: id})
	return slices.ContainsFunc(page.Invitations, func(inv clerkclient.Invitation) bool { return inv.ID == id }), err
}

// lister asks for pages of a list. A list is many calls; what counts is how often the same one failed, in this run
// and in earlier ones that were broken off.
func (h *Handler) lister(r *run) ask.PageFunc {
	carried := r.record.Attempts
	return func(ctx context.Context, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
		err = h.untilAnswered(ctx, r, policy.Read, func(ctx context.Context) (err error) {
			page, _, err = h.clerk.List(ctx, query)
			return err
		})
		if err == nil {
			r.record.Attempts = carried
		}
		return page, err
	}
}

// revokeAll revokes what is pending of an address or a campaign. All of it is collected first: revoking shortens the
// list. A run that is broken off harms nobody: the next one finds what is pending still.
func (h *Handler) revokeAll(ctx context.Context, r *run, what tasks.RevokePayload) error {
	lag := h.policy.SettlingTime + policy.SettleMargin
	finder := ask.Finder{Redis: h.rdb, Namespace: h.namespace, List: h.lister(r), Lag: lag}
	found, err := finder.Pending(ctx, what)
	switch {
	case errors.Is(err, ask.ErrIncomplete):
		return h.failedRun(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()})
	case err != nil:
		return noCampaign(err)
	}
	r.detail = map[string]int{"revoked": 0, "not_pending": 0, "not_revoked": 0}
	v := &revocation{h: h, task: r, base: r.record}
	err = cmp.Or(call.Several(h.log, len(found), policy.RevokesAtOnce, func(i int) error {
		return v.revoke(ctx, found[i].ID)
	})...)
	r.waited += v.waited
	r.record.Revoked += r.detail["revoked"]
	if errors.Is(err, call.ErrPanicked) { // it counts for the task; what the others have done stays
		return errors.Join(err, h.putRecord(r))
	}
	if err == nil && v.later == nil {
		return v.end(len(found))
	}
	// The next run counts on.
	r.record.Attempts, r.record.History = max(v.worst.Attempts, v.base.Attempts), v.worst.History
	if err = errors.Join(err, h.putRecord(r)); err != nil {
		return err
	}
	return v.later
}

// revocation is one run of a revoke task over several invitations. One that Clerk refuses to revoke does not stop the
// others.
type revocation struct {
	h    *Handler
	task *run
	base record.Record // of the task, before this run

	mu      sync.Mutex    // also for the figures of task
	first   *fate.Failure // of those that are not revoked
	firstID string
	worst   record.Record // that of the most attempts for one of them
	later   error         // one is for a later run, and so are those that come after it
	waited  time.Duration // the longest of one of them, for permits and between attempts
}

// revoke revokes one of them, with attempts of its own. An error breaks the run off.
func (v *revocation) revoke(ctx context.Context, id string) error {
	v.mu.Lock()
	putOff := v.later != nil
	v.mu.Unlock()
	if putOff {
		return nil
	}
	r := &run{id: v.task.id, kind: v.task.kind, queue: v.task.queue, log: v.task.log, record: v.base, read: true}
	r.record.History = slices.Clone(v.base.History)
	did, err := v.h.revokeForGood(ctx, r, id)
	dead, isDead := errors.AsType[*died](err)
	_, putsOff := errors.AsType[*postponed](err)
	gone := isDead && v.h.isNotPending(ctx, id, dead.cause)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waited = max(v.waited, r.waited)
	if (isDead || putsOff) && !gone && r.record.Attempts > v.worst.Attempts {
		v.worst = r.record
	}
	switch {
	case err == nil && did:
		v.task.detail["revoked"]++
	case err == nil, gone:
		v.task.detail["not_pending"]++
	case isDead:
		v.task.detail["not_revoked"]++
		if v.first == nil {
			v.first, v.firstID = &dead.cause, id
		}
	case putsOff:
		v.later = err
	default:
		return err
	}
	return nil
}

// isNotPending tells whether an invitation whose revocation Clerk refused is not pending any more. What Clerk says
// of an expired one is not known; its list tells.
func (h *Handler) isNotPending(ctx context.Context, id string, refusal fate.Failure) bool {
	switch {
	case refusal.Code == clerkclient.CodeAlreadyAccepted:
		return true
	case refusal.Reason != fate.ReasonRejected,
		refusal.HTTPStatus == http.StatusNotFound && refusal.Code != clerkclient.CodeNotFound:
		return false
	}
	listed, err := h.isListed(ctx, id, "pending")
	return err == nil && !listed
}

// end ends the run when all have been tried.
func (v *revocation) end(all int) error {
	v.task.record.Attempts, v.task.record.History = max(1, v.worst.Attempts), v.worst.History
	if v.first == nil {
		return nil
	}
	v.first.Message = fmt.Sprintf("%d of %d invitations are not revoked, one of them %s: %s",
		v.task.detail["not_revoked"], all, v.firstID, v.first.Message)
	return &died{*v.first}
}
