package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// errList means that a list could not be read so that nothing is missing. It may be so the next time.
var errList = errors.New("the list at Clerk could not be read whole")

// errTail means that a list does not begin as the reader was told.
var errTail = errors.New("the list at Clerk has changed where it should not")

// listing is the reading of one of Clerk's lists while rows are added to it and taken from it.
type listing struct {
	status string // pending, accepted, revoked or expired; empty means all but revoked ones
	// each takes every page. Rows come again where a page overlaps the one before, as Clerk shows them then.
	each func(context.Context, []clerkclient.Invitation) error
	// have tells how many different rows were taken, to be compared with how many Clerk counts; nil: they are not compared.
	have func(context.Context) (int, error)
	// known is what was read another time; zero: nothing.
	known tail

	pages, slides int // figures: pages that were read, and how often it was gone back
	count         int // how many rows there must be at least; negative: Clerk does not tell
	short         int // how far was gone back because there were fewer
}

// tail is the end of what is known of a list: all that was created before an instant, of which the rows from an offset on have these ids.
type tail struct {
	before time.Time
	offset int
	ids    []string
}

// readList reads a list from its oldest row to its newest, a page at a time, and never holds more. When it returns nil, each has taken every
// row that was in the list all the while, whatever happened to others. The error is errList when rows are missing all the same or the list
// changes too fast, errTail when it does not have the known tail, or what ended the task.
func (w *Worker) readList(ctx context.Context, r *run, l *listing) error {
	at := newPlace(l.known)
	for {
		page, err := w.listPage(ctx, r, clerkclient.ListQuery{Limit: policy.ListPage, Offset: at.offset, Status: l.status, OrderBy: "+created_at"})
		if err != nil {
			return err
		}
		if l.pages++; l.pages == 1 && !l.known.begins(page.Invitations) {
			return errTail
		}
		follows, err := at.take(page.Invitations)
		if err != nil {
			return err
		}
		if !follows {
			if l.slides++; l.slides > policy.ListSlides {
				return fmt.Errorf("%w: it changed too fast", errList)
			}
			continue
		}
		if err := l.each(ctx, page.Invitations); err != nil {
			return err
		}
		if l.pages == 1 || l.shrinks() {
			l.count = page.TotalCount
		}
		if len(page.Invitations) == policy.ListPage {
			continue
		}
		if at, err = l.end(ctx, at, page.TotalCount); err != nil || at == nil {
			return err
		}
	}
}

// end is what follows a page that was not full: nothing if the rows are as many as Clerk counts, or else the place from which the list is read
// again, further back each time.
func (l *listing) end(ctx context.Context, at *place, total int) (*place, error) {
	have := l.count
	if l.have != nil && l.count >= 0 {
		var err error
		if have, err = l.have(ctx); err != nil {
			return nil, err
		}
	}
	if have >= l.count && at.seen >= total {
		return nil, nil
	}
	if l.short >= at.seen {
		return nil, fmt.Errorf("%w: Clerk counts more rows than it shows", errList)
	}
	l.slides++
	l.short = goBackFactor * max(l.short, policy.ListPage)
	return &place{offset: max(0, at.seen-l.short), overlap: policy.ListOverlap, anew: true}, nil
}

// shrinks tells which count has to be reached. All but revoked, or pending: rows come at the end and leave anywhere, so the latest
// count does. To the others rows come anywhere and none leaves: the first count does, for those that came meanwhile may come before the
// page that is read.
func (l *listing) shrinks() bool { return l.status == "" || l.status == "pending" }

// begins tells whether the first page has exactly the known tail: if a row before it had left the list or come to it, the page would begin
// elsewhere.
func (t tail) begins(page []clerkclient.Invitation) bool {
	var older []string
	for _, inv := range page {
		if inv.CreatedAt.Before(t.before) {
			older = append(older, inv.ID)
		}
	}
	slices.Sort(older)
	return slices.Equal(older, slices.Sorted(slices.Values(t.ids)))
}

// listPage asks for a page until Clerk has answered.
func (w *Worker) listPage(ctx context.Context, r *run, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
	err = w.untilAnswered(ctx, r, policy.Read, func(ctx context.Context) (err error) {
		page, _, err = w.clerk.List(ctx, query)
		return err
	})
	if err == nil {
		r.record.Attempts = 0 // a list is many calls; what counts is how often the same one failed
	}
	return page, err
}

// goBackFactor is how much further is gone back each time.
const goBackFactor = 4

// place is how far a list was read: all that is in it all the while and was created before the instant read has been taken.
//
// A page follows if its first row was created before that instant: whatever lies between is in the page, however many rows before it have
// left the list. So the next page begins before the last rows of one time, whose order among themselves may change from call to call. If so many
// have one time that a page which does so would not lead on, their order is taken for stable, and a page follows that begins with a row of the one
// before.
type place struct {
	offset  int // of the next page
	seen    int // the offset behind the last page
	turn    int // the offset from which is gone back, and
	overlap int // how far
	read    time.Time
	tied    map[string]bool // the rows of the last page, where so many have one time
	anew    bool            // the next page follows, whatever it is
}

func newPlace(known tail) *place {
	return &place{offset: known.offset, turn: known.offset, overlap: policy.ListOverlap, read: known.before, anew: known.offset == 0}
}

// take judges whether a page follows and says where the next one begins: further back if it does not.
func (p *place) take(rows []clerkclient.Invitation) (follows bool, err error) {
	if !slices.IsSortedFunc(rows, func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		return false, fmt.Errorf("%w: it is not in the order of creation that was asked for", errList)
	}
	if !p.follows(rows) {
		p.overlap *= goBackFactor
		p.offset = max(0, p.turn-p.overlap)
		return false, nil
	}
	p.anew, p.overlap, p.seen = false, min(p.overlap, policy.MaxListOverlap), p.offset+len(rows)
	if len(rows) > 0 {
		p.advance(rows)
	}
	return true, nil
}

func (p *place) follows(rows []clerkclient.Invitation) bool {
	if p.anew || p.offset == 0 || len(rows) == 0 {
		return p.anew || p.offset == 0
	}
	first := rows[0]
	return first.CreatedAt.Before(p.read) || first.CreatedAt.Equal(p.read) && p.tied[first.ID]
}

// advance puts the next page before the last rows of one time, or else before the last rows.
func (p *place) advance(rows []clerkclient.Invitation) {
	last := rows[len(rows)-1].CreatedAt
	if last.After(p.read) {
		p.read = last
	}
	p.tied = nil
	p.turn = p.offset + slices.IndexFunc(rows, func(inv clerkclient.Invitation) bool { return inv.CreatedAt.Equal(last) })
	if p.turn-p.overlap < p.offset+policy.ListPage/4 {
		p.turn = p.seen
		p.tied = make(map[string]bool, len(rows))
		for _, inv := range rows {
			p.tied[inv.ID] = true
		}
	}
	p.offset = max(0, p.turn-p.overlap)
}
