package ask

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// ErrIncomplete means that a list could not be read without missing rows. The next reading may succeed.
var ErrIncomplete = errors.New("the list at Clerk could not be read whole")

// errSlid means that rows may have moved from one page to another unseen.
var errSlid = errors.New("the list changed while it was read")

// PageFunc asks Clerk for one page of a list.
type PageFunc func(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, error)

// Listing is one reading of one of Clerk's lists, the oldest row first, while rows are added to the list and taken
// from it.
//
// Clerk's pages are offsets: when a row leaves, all rows behind it move up. So pages overlap. A page follows the one
// before if its first row was created before the last row that was read: whatever lies between is then in the page,
// however many rows have left. Otherwise the reading goes back, further each time.
type Listing struct {
	Status string // pending, accepted, revoked or expired; empty means all but revoked ones
	// Query is what the rows match; empty means all rows. It is not known whether Clerk's count heeds it, so with a
	// query the rows are not compared with the count.
	Query string
	// Each takes every page, which may be empty. Where pages overlap it gets rows again, as Clerk shows them then.
	Each func(context.Context, []clerkclient.Invitation) error
	// Have tells how many different rows Each took, to be compared with Clerk's count; nil: they are not compared.
	Have func(context.Context) (int, error)

	Pages, Slides int // how many pages were read, and how often the reading went back

	count int // how many rows there must be at least; negative: Clerk does not tell
	short int // how far the reading went back because there were fewer
}

// Read reads the list and holds no more than a page. If it returns nil, Each has taken every row that was in the list
// all the while. The error is ErrIncomplete if rows are missing or the list changes too fast, or an error of page,
// Each or Have. A Listing is read once.
func (l *Listing) Read(ctx context.Context, page PageFunc) error {
	at := &place{overlap: policy.ListOverlap, anew: true}
	for {
		p, err := page(ctx, clerkclient.ListQuery{
			Limit: policy.ListPage, Offset: at.offset, Status: l.Status, Query: l.Query, OrderBy: "+created_at",
		})
		if err != nil {
			return err
		}
		if l.Query != "" {
			p.TotalCount = -1
		}
		l.Pages++
		follows, err := at.take(p.Invitations)
		if err != nil {
			return err
		}
		if !follows {
			if l.Slides++; l.Slides > policy.ListSlides {
				return fmt.Errorf("%w: it changed too fast", ErrIncomplete)
			}
			continue
		}
		if err := l.Each(ctx, p.Invitations); err != nil {
			return err
		}
		if l.Pages == 1 || l.shrinks() {
			l.count = p.TotalCount
		}
		if len(p.Invitations) == policy.ListPage {
			continue
		}
		if at, err = l.end(ctx, at, p.TotalCount); err != nil || at == nil {
			return err
		}
	}
}

// end is what follows a page that was not full: nothing if there are as many rows as Clerk counts, or else the place
// from which the list is read again, further back each time.
func (l *Listing) end(ctx context.Context, at *place, total int) (*place, error) {
	have := l.count
	if l.Have != nil && l.count >= 0 {
		var err error
		if have, err = l.Have(ctx); err != nil {
			return nil, err
		}
	}
	if have >= l.count && at.seen >= total {
		return nil, nil
	}
	if l.short >= at.seen {
		return nil, fmt.Errorf("%w: Clerk counts more rows than it shows", ErrIncomplete)
	}
	l.Slides++
	l.short = goBackFactor * max(l.short, policy.ListPage)
	return &place{offset: max(0, at.seen-l.short), overlap: policy.ListOverlap, anew: true}, nil
}

// shrinks tells which of Clerk's counts has to be reached. Rows leave the list of pending ones and that of all but
// revoked ones, and new rows come at the end: the latest count. From the other lists no row leaves and new ones come
// anywhere, perhaps before the page that is read: the first count.
func (l *Listing) shrinks() bool { return l.Status == "" || l.Status == "pending" }

// goBackFactor is how many times further a reading goes back each time.
const goBackFactor = 4

// place is how far a list was read: every row created before the instant read that was in the list all the while was
// taken.
//
// Rows of one time may come in another order in each call. So the next page begins before the last rows of one time.
// If there are so many of them that such a page would not lead on, their order is trusted, and a page follows if it
// begins with a row of the one before.
type place struct {
	offset  int // of the next page
	seen    int // the offset behind the last page
	turn    int // the offset from which the reading goes back
	overlap int // how far it goes back
	read    time.Time
	tied    map[string]bool // the rows of the last page, where so many have one time
	anew    bool            // the next page follows, whatever it is
}

// take judges whether a page follows, and moves to the next page: further back if it does not.
func (p *place) take(rows []clerkclient.Invitation) (follows bool, err error) {
	created := func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) }
	if !slices.IsSortedFunc(rows, created) {
		return false, fmt.Errorf("%w: it is not in the order of creation that was asked for", ErrIncomplete)
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
	isTied := func(inv clerkclient.Invitation) bool { return inv.CreatedAt.Equal(last) }
	p.turn = p.offset + slices.IndexFunc(rows, isTied)
	if p.turn-p.overlap < p.offset+policy.ListPage/4 {
		p.turn = p.seen
		p.tied = make(map[string]bool, len(rows))
		for _, inv := range rows {
			p.tied[inv.ID] = true
		}
	}
	p.offset = max(0, p.turn-p.overlap)
}

// latest reads the rows of a list that were created since an instant, page by page, the newest first; older ones come
// with them, and rows come again where pages overlap. A page follows the one before if it begins with a row that is
// newer than the last of that: whatever lies between is then in the page, however many rows have come or left, and in
// whatever order those of one time come. Only where so many rows have one time that such a page would not lead on is
// their order trusted: then the last row has to come again.
//
// It does not go back: if a page does not follow, rows may have been missed, and it ends with errSlid. So it does if
// the list is not in this order, or ends before Clerk's count. It also ends with an error of page.
func latest(
	ctx context.Context, page PageFunc, status, query string, since time.Time,
) iter.Seq2[[]clerkclient.Invitation, error] {
	return func(yield func([]clerkclient.Invitation, error) bool) {
		q := clerkclient.ListQuery{Limit: policy.ListPage, Status: status, Query: query, OrderBy: "-created_at"}
		var before newest
		for {
			p, err := page(ctx, q)
			rows, ends := p.Invitations, len(p.Invitations) < policy.ListPage
			short := ends && query == "" && q.Offset+len(rows) < p.TotalCount
			if err == nil && (short || q.Offset > 0 && !before.precedes(rows) || !isNewestFirst(rows)) {
				err = errSlid
			}
			if len(rows) == 0 && err == nil || !yield(rows, err) || ends || err != nil {
				return
			}
			var turn int
			if before, turn = endOf(rows); before.last.CreatedAt.Before(since) {
				return
			}
			q.Offset += turn - policy.ListOverlap
		}
	}
}

// newest is how far a list was read, the newest first.
type newest struct {
	last clerkclient.Invitation
	tied bool // so many rows have the time of the last one that their order has to be trusted
}

// endOf gives how far a page leads, and behind which of its rows the next one begins, but for the overlap.
func endOf(rows []clerkclient.Invitation) (end newest, turn int) {
	end.last = rows[len(rows)-1]
	turn = slices.IndexFunc(rows, func(inv clerkclient.Invitation) bool {
		return inv.CreatedAt.Equal(end.last.CreatedAt)
	})
	if turn < policy.ListPage/4 {
		end.tied, turn = true, len(rows)
	}
	return end, turn
}

// precedes tells whether a page follows.
func (n newest) precedes(rows []clerkclient.Invitation) bool {
	isLast := func(inv clerkclient.Invitation) bool { return inv.ID == n.last.ID }
	return len(rows) > 0 && rows[0].CreatedAt.After(n.last.CreatedAt) || n.tied && slices.ContainsFunc(rows, isLast)
}

func isNewestFirst(rows []clerkclient.Invitation) bool {
	return slices.IsSortedFunc(rows, func(a, b clerkclient.Invitation) int { return b.CreatedAt.Compare(a.CreatedAt) })
}
