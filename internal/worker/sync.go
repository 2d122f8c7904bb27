package worker

import (
	"context"
	"errors"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/directory"
)

// codeListIncomplete is the failure of a task that could not read Clerk's list whole.
const codeListIncomplete = "list_incomplete"

// syncList copies Clerk's list into the directory. The copy before stays until the new one is whole.
func (w *Worker) syncList(ctx context.Context, r *run) (ending, error) {
	for {
		end, err := w.syncOnce(ctx, r)
		if !errors.Is(err, ask.ErrIncomplete) && !errors.Is(err, directory.ErrGone) {
			return end, err
		}
		end, err = w.failed(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()})
		if err != nil || end.over() {
			return end, err
		}
	}
}

// syncRun is one reading of Clerk's list into a draft.
type syncRun struct {
	w      *Worker
	draft  *directory.Draft
	page   ask.PageFunc
	detail map[string]int // figures for the log
}

// syncOnce reads what is not revoked, then what is: a row that is revoked meanwhile is in one of both.
func (w *Worker) syncOnce(ctx context.Context, r *run) (ending, error) {
	s := &syncRun{w: w, page: w.lister(r), detail: map[string]int{}}
	err := w.persist(ctx, func(ctx context.Context) (err error) {
		s.draft, err = w.directory.Begin(ctx)
		return err
	})
	if err != nil {
		return ending{}, err
	}
	for _, revoked := range []bool{false, true} {
		if err := s.read(ctx, revoked); err != nil {
			_ = s.draft.Discard(w.settling) // or else it expires
			return endingOf(err, "")
		}
	}
	published := false
	err = w.persist(w.settling, func(ctx context.Context) (err error) {
		s.detail["invitations"], published, err = s.draft.Publish(ctx)
		return err
	})
	if err == nil && !published {
		w.log.Info().Str("id", r.id).Msg("the directory has a copy that was begun later, which stays")
	}
	r.record.Attempts = 1
	return ending{detail: s.detail}, err
}

// read reads one of the two lists into the draft.
func (s *syncRun) read(ctx context.Context, revoked bool) error {
	l := &ask.Listing{
		Each: func(ctx context.Context, invitations []clerkclient.Invitation) error {
			return s.w.persist(ctx, func(ctx context.Context) error { return s.draft.Add(ctx, invitations) })
		},
		Have: func(ctx context.Context) (n int, err error) {
			err = s.w.persist(ctx, func(ctx context.Context) (err error) {
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
