package ask

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask/listtest"
	"example.com/usher/internal/policy"
)

// readAll reads a list and gives the ids that were taken.
func readAll(t testing.TB, ask PageFunc, status string) (map[string]bool, *Listing, error) {
	t.Helper()
	taken := map[string]bool{}
	l := &Listing{
		Status: status,
		Each: func(_ context.Context, invitations []clerkclient.Invitation) error {
			for _, inv := range invitations {
				taken[inv.ID] = true
			}
			return nil
		},
		Have: func(context.Context) (int, error) { return len(taken), nil },
	}
	err := l.Read(t.Context(), ask)
	return taken, l, err
}

func TestAListIsReadWholeWhileItChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rows, atATime int
		change        func(c *listtest.Moving)
		missing       int // rows that left before their page was read
		slides        bool
		pages         int // the most
	}{
		"empty":           {rows: 0, pages: 1},
		"one row":         {rows: 1, pages: 1},
		"a page but one":  {rows: policy.ListPage - 1, pages: 1},
		"a full page":     {rows: policy.ListPage, pages: 2},
		"a page and one":  {rows: policy.ListPage + 1, pages: 2},
		"many pages":      {rows: 3000, pages: 7},
		"without a count": {rows: 1200, pages: 3, change: func(c *listtest.Moving) { c.Untold = true }},
		"few slide": {rows: 1200, pages: 3,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 0, 10) }) }},
		"many slide": {rows: 1200, pages: 5, slides: true,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 0, 300) }) }},
		"nearly all slide": {rows: 1200, pages: 8, slides: true,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 0, 450) }) }},
		"it shrinks to nothing": {rows: 1200, missing: 700, pages: 8, slides: true,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 0, 1200) }) }},
		"bulks in no order": {rows: 2000, atATime: 10, pages: 5,
			change: func(c *listtest.Moving) { c.Unstable = true }},
		"bulks in no order that slide": {rows: 2000, atATime: 10, pages: 7, slides: true,
			change: func(c *listtest.Moving) {
				c.Unstable = true
				c.At(2, func() { c.Set("revoked", 0, 25) })
			}},
		"hundreds of one time": {rows: 2000, atATime: 300, pages: 9,
			change: func(c *listtest.Moving) { c.Unstable = true }},
		"all of one time": {rows: 2000, atATime: 2000, pages: 5},
		"all of one time, slide": {rows: 2000, atATime: 2000, pages: 8, slides: true,
			change: func(c *listtest.Moving) { c.At(3, func() { c.Set("revoked", 0, 100) }) }},
		"rows come meanwhile": {rows: 1200, pages: 4,
			change: func(c *listtest.Moving) { c.Before = func(int) { c.Add(5, 1) } }},
		"rows show late": {rows: 3000, pages: 12, slides: true, change: func(c *listtest.Moving) {
			late := c.Rows[2700]
			c.Rows[2700].Status = "hidden" // and counted from the last page on
			c.At(7, func() { c.Lie = 1 })
			c.At(8, func() { c.Rows[2700], c.Lie = late, 0 })
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &listtest.Moving{}
			c.Add(test.rows, max(1, test.atATime))
			if test.change != nil {
				test.change(c)
			}
			taken, l, err := readAll(t, c.Ask, "")
			if err != nil || len(taken) < test.rows-test.missing {
				t.Errorf("%d rows of %d, %v", len(taken), test.rows-test.missing, err)
			}
			if l.Slides > 0 != test.slides || l.Pages > test.pages || l.Pages != len(c.Calls) {
				t.Errorf("gone back %d times, %d pages, at most %d wanted", l.Slides, l.Pages, test.pages)
			}
		})
	}
}

func TestAListThatCannotBeReadWholeIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(c *listtest.Moving) PageFunc{
		"it counts more than it shows": func(c *listtest.Moving) PageFunc {
			c.Lie = 3
			return c.Ask
		},
		"it is in no order": func(c *listtest.Moving) PageFunc {
			c.Rows[3].CreatedAt = listtest.Created.Add(time.Hour)
			return func(context.Context, clerkclient.ListQuery) (clerkclient.Page, error) { // as it is kept
				return clerkclient.Page{Invitations: c.Rows[:policy.ListPage], TotalCount: -1}, nil
			}
		},
		"it moves too fast": func(c *listtest.Moving) PageFunc {
			c.Before = func(call int) {
				if call%2 == 0 { // no page after the first one has a row
					c.Rows = nil
				} else {
					c.Add(1200, 1)
				}
			}
			return c.Ask
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &listtest.Moving{}
			c.Add(1200, 1)
			if _, l, err := readAll(t, spoil(c), ""); !errors.Is(err, ErrIncomplete) ||
				l.Pages > 2*policy.ListSlides+10 {
				t.Errorf("%v after %d pages", err, l.Pages)
			}
		})
	}
}

// TestAShortPageIsTheEndOnlyIfClerkCountsNoMore: nobody else counts what was taken.
func TestAShortPageIsTheEndOnlyIfClerkCountsNoMore(t *testing.T) {
	t.Parallel()
	c := &listtest.Moving{Lie: 700}
	c.Add(100, 1)
	l := &Listing{Each: func(context.Context, []clerkclient.Invitation) error { return nil }}
	if err := l.Read(t.Context(), c.Ask); !errors.Is(err, ErrIncomplete) {
		t.Errorf("%v after %d pages", err, l.Pages)
	}
}

// TestAQueryIsPutToEveryPage: and what Clerk counts then may be of all rows.
func TestAQueryIsPutToEveryPage(t *testing.T) {
	t.Parallel()
	c := &listtest.Moving{Lie: 700}
	c.Add(1200, 1)
	taken := 0
	l := &Listing{Status: "pending", Query: "example.com",
		Each: func(_ context.Context, rows []clerkclient.Invitation) error {
			taken += len(rows)
			return nil
		}}
	if err := l.Read(t.Context(), c.Ask); err != nil || taken < 1200 || len(c.Calls) != 3 {
		t.Errorf("%d rows in %d calls, %v", taken, len(c.Calls), err)
	}
	for _, q := range c.Calls {
		if q.Query != "example.com" || q.Status != "pending" {
			t.Errorf("asked %+v", q)
		}
	}
}

// TestRowsThatNothingHappensToAreAlwaysRead lets rows of any times come and leave between the pages.
func TestRowsThatNothingHappensToAreAlwaysRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		c := &listtest.Moving{Unstable: rapid.Bool().Draw(r, "unstable"), Untold: rapid.Bool().Draw(r, "untold")}
		c.Add(rapid.IntRange(0, 2500).Draw(r, "rows"), rapid.SampledFrom([]int{1, 2, 10, 60}).Draw(r, "at a time"))
		status := rapid.SampledFrom([]string{"", "revoked"}).Draw(r, "list")
		other := map[string]string{"": "revoked", "revoked": "pending"}[status]
		if status == "revoked" {
			for i := range c.Rows {
				c.Rows[i].Status = rapid.SampledFrom([]string{"revoked", "pending"}).Draw(r, "status")
			}
		}
		untouched := map[string]bool{}
		for _, inv := range c.Rows {
			untouched[inv.ID] = inv.Status != other
		}
		most := rapid.SampledFrom([]int{0, 3, 30, 300}).Draw(r, "changes")
		c.Before = func(int) {
			for range rapid.IntRange(0, most).Draw(r, "now") {
				if i := rapid.IntRange(0, 3000).Draw(r, "row"); i < len(c.Rows) {
					// which takes it from one list to the other
					c.Rows[i].Status, untouched[c.Rows[i].ID] = "revoked", false
				} else {
					c.Add(1, 1)
				}
			}
		}
		taken, l, err := readAll(t, c.Ask, status)
		if err != nil {
			r.Fatalf("%v after %d pages", err, l.Pages)
		}
		for id := range maps.Keys(untouched) {
			if untouched[id] && !taken[id] {
				r.Fatalf("%s is missing; %d pages, gone back %d times", id, l.Pages, l.Slides)
			}
		}
	})
}
