// Package clerklist reads Clerk's lists of invitations, a page at a time, while rows are added to them and taken from them: so that no row
// slides from one page to another unseen.
package clerklist

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// ErrIncomplete means that a list could not be read so that nothing is missing. It may be so the next time.
var ErrIncomplete = errors.New("the list at Clerk could not be read whole")

// ErrTail means that a list does not begin as the reader was told.
var ErrTail = errors.New("the list at Clerk has changed where it should not")

// Ask asks Clerk for one page, until it has answered for good.
type Ask func(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, error)

// Listing is one reading of one of Clerk's lists, from its oldest row to its newest.
type Listing struct {
	Status string // pending, accepted, revoked or expired; empty means all but revoked ones
	// Query is what the rows match; empty means all. Whether Clerk's count heeds it is not known: with one, rows are not compared with it.
	Query string
	// Each takes every page, which may be empty. Rows come again where a page overlaps the one before, as Clerk shows them then.
	Each func(context.Context, []clerkclient.Invitation) error
	// Have tells how many different rows were taken, to be compared with how many Clerk counts; nil: they are not compared.
	Have func(context.Context) (int, error)
	// Known is what was read another time; zero: nothing.
	Known Tail

	Pages, Slides int // figures: pages that were read, and how often it was gone back

	count int // how many rows there must be at least; negative: Clerk does not tell
	short int // how far was gone back because there were fewer
}

// Tail is the end of what is known of a list: all that was created before an instant, of which the rows from an offset on have these ids.
type Tail struct {
	Before time.Time
	Offset int
	IDs    []string
}

// Read reads the list and never holds more than a page. When it returns nil, Each has taken every row that was in the list all the while,
// whatever happened to others. The error is ErrIncomplete when rows are missing all the same or the list changes too fast, ErrTail when it
// does not have the known tail, or what Ask, Each or Have returned. A Listing is read once.
func (l *Listing) Read(ctx context.Context, ask Ask) error {
	at := newPlace(l.Known)
	for {
		page, err := ask(ctx, l.query(at.offset))
		if err != nil {
			return err
		}
		if l.Query != "" {
			page.TotalCount = -1
		}
		if l.Pages++; l.Pages == 1 && !l.Known.begins(page.Invitations) {
			return ErrTail
		}
		follows, err := at.take(page.Invitations)
		if err != nil {
			return err
		}
		if !follows {
			if l.Slides++; l.Slides > policy.ListSlides {
				return fmt.Errorf("%w: it changed too fast", ErrIncomplete)
			}
			continue
		}
		if err := l.Each(ctx, page.Invitations); err != nil {
			return err
		}
		if l.Pages == 1 || l.shrinks() {
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

func (l *Listing) query(offset int) clerkclient.ListQuery {
	return clerkclient.ListQuery{Limit: policy.ListPage, Offset: offset, Status: l.Status, Query: l.Query, OrderBy: "+created_at"}
}

// end is what follows a page that was not full: nothing if the rows are as many as Clerk counts, or else the place from which the list is read
// again, further back each time.
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

// shrinks tells which count has to be reached. All but revoked, or pending: rows come at the end and leave anywhere, so the latest
// count does. To the others rows come anywhere and none leaves: the first count does, for those that came meanwhile may come before the
// page that is read.
func (l *Listing) shrinks() bool { return l.Status == "" || l.Status == "pending" }

// begins tells whether the first page has exactly the known tail: if a row before it had left the list or come to it, the page would begin
// elsewhere.
func (t Tail) begins(page []clerkclient.Invitation) bool {
	var older []string
	for _, inv := range page {
		if inv.CreatedAt.Before(t.Before) {
			older = append(older, inv.ID)
		}
	}
	slices.Sort(older)
	return slices.Equal(older, slices.Sorted(slices.Values(t.IDs)))
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

func newPlace(known Tail) *place {
	return &place{offset: known.Offset, turn: known.Offset, overlap: policy.ListOverlap, read: known.Before, anew: known.Offset == 0}
}

// take judges whether a page follows and says where the next one begins: further back if it does not.
func (p *place) take(rows []clerkclient.Invitation) (follows bool, err error) {
	if !slices.IsSortedFunc(rows, func(a, b clerkclient.Invitation) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
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
