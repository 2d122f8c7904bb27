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

// invites are those that run or wait.
type invites struct {
	mu   sync.Mutex
	runs map[*inviteLife]bool
}

// inviteLife lets a run of an invite be ended.
type inviteLife struct {
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
	life := &inviteLife{r.id, store.IDOf(payload.Recipient.EmailAddress), cancel}
	h.invites.mu.Lock()
	h.invites.runs[life] = true
	h.invites.mu.Unlock()
	defer func() {
		h.invites.mu.Lock()
		delete(h.invites.runs, life)
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

// StopInvites ends the runs of invites that wait and are to wait no longer, until the context ends.
func (h *Handler) StopInvites(ctx context.Context) {
	for policy.Sleep(ctx, policy.StoppedCheck) == nil {
		var lives []*inviteLife
		var ids []string
		var addresses []store.AddressID
		h.invites.mu.Lock()
		for life := range h.invites.runs {
			lives, ids, addresses = append(lives, life), append(ids, life.id), append(addresses, life.address)
		}
		h.invites.mu.Unlock()
		if len(lives) == 0 {
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
		for i, life := range lives {
			switch {
			case forgotten[i]:
				life.end(errForgotten)
			case records[i].State.Ended():
				life.end(errCancelled)
			}
		}
	}
}
