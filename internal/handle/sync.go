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
func (h *Handler) syncList(ctx context.Context, r *run, _ tasks.SyncListPayload) (ending, error) {
	for {
		end, err := h.syncOnce(ctx, r)
		if !errors.Is(err, ask.ErrIncomplete) && !errors.Is(err, directory.ErrGone) {
			return end, err
		}
		if err := h.failed(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()}); err != nil {
			return ending{}, err
		}
	}
}

// syncRun is one reading of Clerk's list into a draft.
type syncRun struct {
	h      *Handler
	draft  *directory.Draft
	page   ask.PageFunc
	detail map[string]int // figures for the log
}

// syncOnce reads what is not revoked, then what is: a row that is revoked meanwhile is in one of both.
func (h *Handler) syncOnce(ctx context.Context, r *run) (ending, error) {
	s := &syncRun{h: h, page: h.lister(r), detail: map[string]int{}}
	err := h.persist(ctx, func(ctx context.Context) (err error) {
		s.draft, err = h.directory.Begin(ctx)
		return err
	})
	if err != nil {
		return ending{}, err
	}
	for _, revoked := range []bool{false, true} {
		if err := s.read(ctx, revoked); err != nil {
			_ = s.draft.Discard(h.life.Writing) // or else it expires
			return ending{}, err
		}
	}
	published := false
	err = h.persist(h.life.Writing, func(ctx context.Context) (err error) {
		s.detail["invitations"], published, err = s.draft.Publish(ctx)
		return err
	})
	if err == nil && !published {
		h.log.Info().Str("id", r.id).Msg("the directory has a copy that was begun later, which stays")
	}
	r.record.Attempts = 1
	return ending{detail: s.detail}, err
}

// read reads one of the two lists into the draft.
func (s *syncRun) read(ctx context.Context, revoked bool) error {
	l := &ask.Listing{
		Each: func(ctx context.Context, invitations []clerkclient.Invitation) error {
			return s.h.persist(ctx, func(ctx context.Context) error { return s.draft.Add(ctx, invitations) })
		},
		Have: func(ctx context.Context) (n int, err error) {
			err = s.h.persist(ctx, func(ctx context.Context) (err error) {
				n, err = s.draft.Count(ctx, revoked)
				return err
			})
			return n, err
		},
	}
	if revoked {
		l.Status = "revoked"
	}
	err := l.Read(ctx, s.page)
	s.detail["pages"] += l.Pages
	s.detail["slides"] += l.Slides
	return err
}
