package handle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/tasks"
)

// delete deletes an invitation at Clerk, or all of an address, and ends when Clerk lists none of them any more.
func (h *Handler) delete(ctx context.Context, r *run, what tasks.DeletePayload) error {
	r.about.EmailAddress, r.about.InvitationID = what.EmailAddress, what.InvitationID
	if what.EmailAddress != "" {
		if err := h.untilNoCall(ctx, r, what.EmailAddress); err != nil {
			return err
		}
	}
	d := deletion{h: h, r: r, tried: map[string]bool{}, moved: time.Now()}
	for {
		left, err := ask.Listed(ctx, h.lister(r), what.EmailAddress, what.InvitationID)
		if id := what.InvitationID; id != "" && len(left) == 0 && !d.tried[id] {
			left = []clerkclient.Invitation{{ID: id}} // a list may not show it yet
		}
		if errors.Is(err, ask.ErrIncomplete) {
			err = h.failedRun(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()})
		}
		if err == nil && len(left) > 0 {
			err = d.round(ctx, left)
		}
		if err != nil || len(left) == 0 {
			h.addressee(ctx, r, what.InvitationID)
			r.record.Attempts, r.record.InvitationID = max(1, r.record.Attempts), what.InvitationID
			r.detail = map[string]int{"deleted": r.record.Deleted}
			return err
		}
	}
}

// untilNoCall waits, for an address that was forgotten on request, until no call can create an invitation for it any
// more: none was claimed after its tombstone was set.
func (h *Handler) untilNoCall(ctx context.Context, r *run, address string) error {
	var since, now time.Time
	err := h.persist(ctx, func(ctx context.Context) (err error) {
		if since, err = h.tombstones.Since(ctx, store.IDOf(address)); err == nil && !since.IsZero() {
			now, err = h.rdb.Time(ctx).Result()
		}
		return err
	})
	wait := since.Add(h.policy.Timeout + h.policy.SettlingTime).Sub(now)
	if err != nil || since.IsZero() || wait <= 0 {
		return err
	}
	if wait > policy.LongBackoff {
		return &postponed{delay: wait}
	}
	return policy.Sleep(ctx, wait)
}

// deletion is one run of a delete task.
type deletion struct {
	h     *Handler
	r     *run
	tried map[string]bool // ids
	moved time.Time       // when the latest call deleted something, or found that it is gone
}

// round deletes what is listed. What it has tried already may be listed for a while: lists lag.
func (d *deletion) round(ctx context.Context, listed []clerkclient.Invitation) error {
	for _, inv := range listed {
		if d.tried[inv.ID] {
			continue
		}
		if err := d.delete(ctx, inv); err != nil {
			return err
		}
		d.moved = time.Now()
	}
	if time.Since(d.moved) > d.h.policy.SettlingTime+policy.SettleMargin {
		const why = "Clerk still lists %d invitations that it has deleted or does not know"
		return notOffered(fmt.Sprintf(why, len(listed)))
	}
	return policy.Sleep(ctx, policy.RedisRest)
}

// delete deletes one invitation. First it is noted: an open intent whose call created it must not send again.
func (d *deletion) delete(ctx context.Context, inv clerkclient.Invitation) error {
	d.tried[inv.ID] = true
	if inv.EmailAddress != "" {
		d.r.about.EmailAddress = inv.EmailAddress
		created := d.h.questions.OnOurClock(inv.CreatedAt)
		err := d.h.persist(ctx, func(ctx context.Context) error {
			return d.h.intents.NoteDeleted(ctx, store.IDOf(inv.EmailAddress), inv.ID, created)
		})
		if err != nil {
			return err
		}
	}
	var answer error
	err := d.h.untilAnswered(ctx, d.r, policy.Delete, func(ctx context.Context) error {
		_, answer = d.h.clerk.Delete(ctx, inv.ID)
		if isMissing(answer) {
			return nil
		}
		return answer
	})
	if err == nil && isMissing(answer) && !isGone(answer) {
		return notOffered("Clerk answers that there is no such operation")
	}
	if err == nil && answer == nil {
		d.r.record.Deleted++
	}
	return err
}

// isGone tells whether Clerk does not know the invitation of a call any more.
func isGone(err error) bool {
	e, ok := errors.AsType[*clerkclient.Error](err)
	return ok && isMissing(err) && e.Code == clerkclient.CodeNotFound
}

// isMissing tells whether there is no such invitation, or no such operation.
func isMissing(err error) bool {
	e, ok := errors.AsType[*clerkclient.Error](err)
	return ok && e.Status == http.StatusNotFound
}

func notOffered(why string) error {
	return &died{fate.Failure{
		Reason: fate.ReasonRejected, HTTPStatus: http.StatusNotFound, Code: "delete_not_offered",
		Message: "invitations cannot be deleted: " + why,
	}}
}
