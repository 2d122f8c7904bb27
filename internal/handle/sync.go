package handle

import (
	"context"
	"errors"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/directory"
	"example.com/usher/tasks"
)

// codeListIncomplete is the failure of a task that could not read Clerk's list whole.
const codeListIncomplete = "list_incomplete"

// syncList copies Clerk's list into the directory. The copy before stays until the new one is whole.
func (h *Handler) syncList(ctx context.Context, r *run, _ tasks.SyncListPayload) error {
	for {
		err := h.syncOnce(ctx, r)
		if !errors.Is(err, ask.ErrIncomplete) && !errors.Is(err, directory.ErrGone) {
			return err
		}
		if err := h.failed(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()}); err != nil {
			return err
		}
	}
}

// syncOnce reads what is not revoked, then what is: a row that is revoked meanwhile is in one of both.
func (h *Handler) syncOnce(ctx context.Context, r *run) error {
	draft, err := persisted(ctx, h, h.directory.Begin)
	if err != nil {
		return err
	}
	page, detail := h.lister(r), map[string]int{}
	for _, status := range []string{"", "revoked"} {
		l := h.listingInto(draft, status)
		err := l.Read(ctx, page)
		detail["pages"] += l.Pages
		detail["slides"] += l.Slides
		if err != nil {
			_ = draft.Discard(h.life.Writing) // or else it expires
			return err
		}
	}
	published := false
	err = h.persist(h.life.Writing, func(ctx context.Context) (err error) {
		detail["invitations"], published, err = draft.Publish(ctx)
		return err
	})
	if err == nil && !published {
		h.log.Info().Str("id", r.id).Msg("the directory has a copy that was begun later, which stays")
	}
	r.record.Attempts, r.detail = 1, detail
	return err
}

// listingInto reads one of the two lists into a draft.
func (h *Handler) listingInto(draft *directory.Draft, status string) *ask.Listing {
	return &ask.Listing{
		Status: status,
		Each: func(ctx context.Context, invitations []clerkclient.Invitation) error {
			return h.persist(ctx, func(ctx context.Context) error { return draft.Add(ctx, invitations) })
		},
		Have: func(ctx context.Context) (int, error) {
			return persisted(ctx, h, func(ctx context.Context) (int, error) { return draft.Count(ctx, status != "") })
		},
	}
}
