package ask

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask/listtest"
	"example.com/usher/internal/policy"
)

func TestTheLatestAreReadOrTheListIsSaidToSlide(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		since   int // rows that are older than what is asked for
		change  func(c *listtest.Moving)
		enough  int // rows after which no more are wanted
		missing int // rows that need not be taken
		pages   int
		slid    bool
	}{
		"all of them":         {pages: 5},
		"the young ones":      {since: 1300, pages: 2},
		"the youngest":        {since: 1900, pages: 1},
		"as many as wanted":   {enough: 600, missing: 1400, pages: 2},
		"bulks in no order":   {pages: 5, change: func(c *listtest.Moving) { c.Unstable = true }},
		"rows come meanwhile": {pages: 5, change: func(c *listtest.Moving) { c.Before = func(int) { c.Add(10, 10) } }},
		"many rows come":      {pages: 6, change: func(c *listtest.Moving) { c.At(2, func() { c.Add(700, 10) }) }},
		"few slide": {pages: 5,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 1980, 1990) }) }},
		"bulks in no order that slide": {pages: 5, change: func(c *listtest.Moving) {
			c.Add(5, 10) // so that a bulk is on two pages
			c.Unstable = true
			c.At(2, func() { c.Set("revoked", 1970, 1988) })
		}},
		"all of one time": {pages: 5, change: func(c *listtest.Moving) {
			c.Rows = nil
			c.Add(2000, 2000)
		}},
		"more are counted than shown": {pages: 5, slid: true, change: func(c *listtest.Moving) { c.Lie = 1 }},
		"many slide": {pages: 2, slid: true,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 1900, 1930) }) }},
		"nothing is left": {pages: 2, slid: true,
			change: func(c *listtest.Moving) { c.At(2, func() { c.Set("revoked", 0, 2000) }) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &listtest.Moving{}
			c.Add(2000, 10)
			if test.change != nil {
				test.change(c)
			}
			taken := map[string]bool{}
			since := listtest.Created.Add(time.Duration(test.since/10) * time.Second)
			var err error
			for rows, failure := range latest(t.Context(), c.Ask, "", "", since) {
				err = failure
				for _, inv := range rows {
					taken[inv.ID] = true
				}
				if test.enough > 0 && len(taken) >= test.enough {
					break
				}
			}
			if errors.Is(err, errSlid) != test.slid || !test.slid && err != nil || len(c.Calls) != test.pages {
				t.Errorf("%v after %d pages", err, len(c.Calls))
			}
			for _, inv := range c.Rows[test.since+test.missing : 2000] {
				if !test.slid && !taken[inv.ID] {
					t.Fatalf("%s is missing", inv.ID)
				}
			}
		})
	}
}

func TestAnEmptyListHasNoLatest(t *testing.T) {
	t.Parallel()
	c := &listtest.Moving{}
	for rows, err := range latest(t.Context(), c.Ask, "revoked", "ada", time.Time{}) {
		t.Errorf("%v, %v: a page without a row is of no use", rows, err)
	}
	want := clerkclient.ListQuery{Limit: policy.ListPage, Status: "revoked", Query: "ada", OrderBy: "-created_at"}
	if len(c.Calls) != 1 || c.Calls[0] != want {
		t.Errorf("%+v", c.Calls)
	}
}

// TestAListInAnotherOrderProvesNothing: its last row says nothing about when those behind it were created.
func TestAListInAnotherOrderProvesNothing(t *testing.T) {
	t.Parallel()
	c := &listtest.Moving{}
	c.Add(2000, 10)
	oldestFirst := func(ctx context.Context, q clerkclient.ListQuery) (clerkclient.Page, error) {
		q.OrderBy = "+created_at"
		return c.Ask(ctx, q)
	}
	for _, err := range latest(t.Context(), oldestFirst, "", "", time.Time{}) {
		if !errors.Is(err, errSlid) {
			t.Errorf("it was believed: %v", err)
		}
	}
}
