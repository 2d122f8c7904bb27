package handle

import (
	"context"
	"errors"
	"sync"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// invites are those that run or wait in this process.
type invites struct {
	mu   sync.Mutex
	runs map[*stoppable]bool
}

// stoppable is a run of an invite that can be ended.
type stoppable struct {
	id      string // of the task
	address store.AddressID
	end     context.CancelCauseFunc
}

// Why the run of an invite that waits is ended: its address was forgotten on request, or somebody has cancelled it.
var (
	errForgotten = errors.New("the address was forgotten")
	errCancelled = errors.New("the task was cancelled")
)

// inviteUntilStopped runs an invite. It ends as cancelled if its address is forgotten, or the task is cancelled, before
// it is in a call.
func (h *Handler) inviteUntilStopped(ctx context.Context, r *run, payload tasks.InvitePayload) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &stoppable{r.id, store.IDOf(payload.Recipient.EmailAddress), cancel}
	h.invites.mu.Lock()
	h.invites.runs[s] = true
	h.invites.mu.Unlock()
	defer func() {
		h.invites.mu.Lock()
		delete(h.invites.runs, s)
		h.invites.mu.Unlock()
	}()
	err := h.invite(ctx, r, payload)
	_, dies := errors.AsType[*died](err)
	if err == nil || dies || errors.Is(err, errEnded) || errors.Is(err, intent.ErrTaken) {
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCancelled):
		return errEnded // so its record says
	case !errors.Is(cause, errForgotten):
		return err
	}
	if err = h.readRecord(h.life.Writing, r); err == nil {
		r.record.State = record.Cancelled
	}
	return err
}

// StopInvites looks, until the context ends, which invites are cancelled by now, or their addresses forgotten, and ends
// their runs. One that is in a call first gets its answer.
func (h *Handler) StopInvites(ctx context.Context) {
	for policy.Sleep(ctx, policy.StoppedCheck) == nil {
		var waiting []*stoppable
		var ids []string
		var addresses []store.AddressID
		h.invites.mu.Lock()
		for one := range h.invites.runs {
			waiting, ids, addresses = append(waiting, one), append(ids, one.id), append(addresses, one.address)
		}
		h.invites.mu.Unlock()
		if len(waiting) == 0 {
			continue
		}
		forgotten, err := h.tombstones.Forgotten(ctx, addresses...)
		if err != nil {
			continue // it is asked again
		}
		records, err := h.records.Several(ctx, ids)
		if err != nil {
			continue
		}
		for i, one := range waiting {
			switch {
			case forgotten[i]:
				one.end(errForgotten)
			case records[i].State.Ended():
				one.end(errCancelled)
			}
		}
	}
}
