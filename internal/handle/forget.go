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
	runs map[*inviteLife]store.AddressID
}

// inviteLife lets a run of an invite be ended.
type inviteLife struct{ end context.CancelCauseFunc }

// errForgotten ends the run of an invite whose address was forgotten on request.
var errForgotten = errors.New("the address was forgotten")

// inviteUntilForgotten runs an invite, which is cancelled if its address is forgotten before it is in a call.
func (h *Handler) inviteUntilForgotten(ctx context.Context, r *run, payload tasks.InvitePayload) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	life := &inviteLife{cancel}
	h.invites.mu.Lock()
	h.invites.runs[life] = store.IDOf(payload.Recipient.EmailAddress)
	h.invites.mu.Unlock()
	defer func() {
		h.invites.mu.Lock()
		delete(h.invites.runs, life)
		h.invites.mu.Unlock()
	}()
	err := h.invite(ctx, r, payload)
	_, dies := errors.AsType[*died](err)
	forgotten := errors.Is(context.Cause(ctx), errForgotten)
	if err == nil || !forgotten || dies || errors.Is(err, errEnded) || errors.Is(err, intent.ErrTaken) {
		return err
	}
	if err = h.readRecord(h.life.Writing, r); err == nil {
		r.record.State = record.Cancelled
	}
	return err
}

// ObeyForget ends the runs of invites whose address is forgotten on request, until the context ends.
func (h *Handler) ObeyForget(ctx context.Context) {
	for policy.Sleep(ctx, policy.ForgottenCheck) == nil {
		var lives []*inviteLife
		var addresses []store.AddressID
		h.invites.mu.Lock()
		for life, address := range h.invites.runs {
			lives, addresses = append(lives, life), append(addresses, address)
		}
		h.invites.mu.Unlock()
		if len(lives) == 0 {
			continue
		}
		forgotten, err := h.tombstones.Forgotten(ctx, addresses...)
		if err != nil {
			continue // it is asked again
		}
		for i, life := range lives {
			if forgotten[i] {
				life.end(errForgotten)
			}
		}
	}
}
