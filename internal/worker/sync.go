package worker

import (
	"context"
	"errors"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/directory"
)

// codeListIncomplete is the failure of a task that could not read Clerk's list whole.
const codeListIncomplete = "list_incomplete"

// syncList copies Clerk's list into the directory. The copy before stays until the new one is whole.
func (w *Worker) syncList(ctx context.Context, r *run, whole bool) (ending, error) {
	for tries := r.record.Attempts; ; tries++ {
		end, err := w.syncOnce(ctx, r, whole)
		if errors.Is(err, ask.ErrTail) {
			w.log.Info().Str("id", r.id).Msg("the copy before is of no use; Clerk's list is read whole")
			whole = true
			end, err = w.syncOnce(ctx, r, whole)
		}
		if !errors.Is(err, ask.ErrIncomplete) && !errors.Is(err, directory.ErrGone) {
			return end, err
		}
		r.record.Attempts = tries
		end, err = w.failed(ctx, r, fate.Failure{Code: codeListIncomplete, Message: err.Error()})
		if err != nil || end.over() {
			return end, err
		}
	}
}

// syncRun is one reading of Clerk's list into a draft.
type syncRun struct {
	w      *Worker
	r      *run
	draft  *directory.Draft
	fullAt time.Time      // that of the copy it becomes
	before time.Time      // what was created before it was kept from the copy before; zero: nothing was
	totals map[string]int // of the final statuses, as Clerk counted them at the beginning; nil unless something was kept
	detail map[string]int // figures for the log
}

// syncOnce reads what is not revoked, then what is, so that a row that is revoked meanwhile is in one of both.
func (w *Worker) syncOnce(ctx context.Context, r *run, whole bool) (ending, error) {
	s := &syncRun{w: w, r: r, detail: map[string]int{}}
	err := w.persist(ctx, func(ctx context.Context) (err error) {
		s.draft, err = w.directory.Begin(ctx)
		return err
	})
	if err != nil {
		return ending{}, err
	}
	broken := true
	defer func() {
		if broken {
			_ = s.draft.Discard(w.settling) // or else it expires
		}
	}()
	s.fullAt = s.draft.BegunAt
	if !whole {
		if err := s.keep(ctx); err != nil {
			return endingOf(err, "")
		}
	}
	for _, revoked := range []bool{false, true} {
		if err := s.read(ctx, revoked); err != nil {
			return endingOf(err, "")
		}
	}
	if err := s.verify(ctx); err != nil {
		return endingOf(err, "")
	}
	broken = false // whatever is heard of its publication
	return s.publish()
}

// publish puts the draft in the place of the copy before.
func (s *syncRun) publish() (ending, error) {
	published := false
	err := s.w.persist(s.w.settling, func(ctx context.Context) (err error) {
		s.detail["invitations"], published, err = s.draft.Publish(ctx, s.fullAt)
		return err
	})
	if err == nil && !published {
		s.w.log.Info().Str("id", s.r.id).Msg("the directory has a copy that was begun later, which stays")
	}
	s.r.record.Attempts = 1
	return ending{detail: s.detail}, err
}

// keep takes over from the copy before what can have changed no more. The error is ask.ErrTail if that is of no use.
func (s *syncRun) keep(ctx context.Context) error {
	var copy directory.Copy
	err := s.w.persist(ctx, func(ctx context.Context) (err error) {
		copy, err = s.w.directory.Copy(ctx)
		return err
	})
	if errors.Is(err, directory.ErrNoCopy) || errors.Is(err, directory.ErrGarbage) || err == nil && s.draft.BegunAt.Sub(copy.FullAt) > policy.SyncWhole {
		return nil
	}
	if err != nil {
		return err
	}
	if s.totals, err = s.count(ctx); err != nil {
		return err
	}
	err = s.w.persist(ctx, func(ctx context.Context) (err error) {
		s.before, err = s.draft.Keep(ctx, copy, copy.SyncedAt.Add(-policy.SyncMargin))
		return err
	})
	if errors.Is(err, directory.ErrReplaced) || errors.Is(err, directory.ErrGarbage) {
		return ask.ErrTail
	}
	s.fullAt = copy.FullAt
	for _, revoked := range []bool{false, true} {
		n, err := s.have(ctx, revoked)
		if err != nil {
			return err
		}
		s.detail["kept"] += n
	}
	if s.detail["kept"] < policy.ListPage {
		return ask.ErrTail // it saves no call
	}
	return nil
}

// page asks for a page until Clerk has answered.
func (s *syncRun) page(ctx context.Context, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
	err = s.w.untilAnswered(ctx, s.r, policy.Read, func(ctx context.Context) (err error) {
		page, _, err = s.w.clerk.List(ctx, query)
		return err
	})
	if err == nil {
		s.r.record.Attempts = 0 // a list is many calls; what counts is how often the same one failed
	}
	return page, err
}

// finals are the statuses that are counted: that of the revoked is a list of its own.
var finals = []string{"accepted", "expired"}

// count asks Clerk how many invitations have a final status. The error is ask.ErrTail if it does not tell.
func (s *syncRun) count(ctx context.Context) (map[string]int, error) {
	counts := map[string]int{}
	for _, status := range finals {
		page, err := s.page(ctx, clerkclient.ListQuery{Limit: 1, Status: status})
		if err != nil {
			return nil, err
		}
		if page.TotalCount < 0 {
			return nil, ask.ErrTail
		}
		counts[status] = page.TotalCount
	}
	return counts, nil
}

// have tells how many invitations of one of the two lists the draft has.
func (s *syncRun) have(ctx context.Context, revoked bool) (n int, err error) {
	err = s.w.persist(ctx, func(ctx context.Context) (err error) {
		n, err = s.draft.Count(ctx, revoked)
		return err
	})
	return n, err
}

// read reads one of the two lists into the draft.
func (s *syncRun) read(ctx context.Context, revoked bool) error {
	l := &ask.Listing{
		Each: func(ctx context.Context, invitations []clerkclient.Invitation) error {
			return s.w.persist(ctx, func(ctx context.Context) error { return s.draft.Add(ctx, directoryRows(invitations)) })
		},
		Have: func(ctx context.Context) (int, error) { return s.have(ctx, revoked) },
	}
	if revoked {
		l.Status = "revoked"
	}
	if s.totals != nil {
		l.Known.Before = s.before
		err := s.w.persist(ctx, func(ctx context.Context) (err error) {
			l.Known.IDs, l.Known.Offset, err = s.draft.Tail(ctx, revoked, s.before, policy.ListOverlap)
			return err
		})
		if err != nil {
			return err
		}
		if len(l.Known.IDs) > policy.ListPage/2 {
			return ask.ErrTail // so many of one time leave a page no room to lead on
		}
	}
	err := l.Read(ctx, s.page)
	s.detail["pages"] += l.Pages
	s.detail["slides"] += l.Slides
	return err
}

// verify holds what was kept against Clerk's counts: an invitation keeps a final status, so the draft has no fewer of them than Clerk
// had at the beginning, and no more than it has now. The error is ask.ErrTail if it is not so.
func (s *syncRun) verify(ctx context.Context) error {
	if s.totals == nil {
		return nil
	}
	now, err := s.count(ctx)
	if err != nil {
		return err
	}
	var have map[string]int
	err = s.w.persist(ctx, func(ctx context.Context) (err error) {
		have, err = s.draft.Statuses(ctx)
		return err
	})
	if errors.Is(err, directory.ErrReplaced) {
		return directory.ErrGone
	}
	if err != nil {
		return err
	}
	for _, status := range finals {
		if have[status] < s.totals[status] || have[status] > now[status] {
			return ask.ErrTail
		}
	}
	return nil
}

func directoryRows(invitations []clerkclient.Invitation) []directory.Invitation {
	rows := make([]directory.Invitation, len(invitations))
	for i, inv := range invitations {
		rows[i] = directory.Invitation{
			ID: inv.ID, EmailAddress: inv.EmailAddress, Status: inv.Status, Revoked: inv.Revoked, PublicMetadata: inv.PublicMetadata,
			CreatedAt: inv.CreatedAt, UpdatedAt: inv.UpdatedAt,
		}
		if !inv.ExpiresAt.IsZero() {
			rows[i].ExpiresAt = &inv.ExpiresAt
		}
	}
	return rows
}
