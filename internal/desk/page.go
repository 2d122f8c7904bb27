package desk

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"example.com/usher/internal/store/ledger"
)

// Glimpse is some recipients of a campaign.
type Glimpse struct {
	Recipients []Recipient
	Seen       int    // rows that were looked at
	Next       string // where to go on; empty at the end
}

// Glimpse gives some recipients of a campaign from where another one ended, or from the beginning: those with an
// outcome, or all if it is empty. It looks at a bounded number of rows, whatever the campaign's size. The error is a
// ledger.ErrNotFound if there is no such campaign.
func (d *Desk) Glimpse(
	ctx context.Context, campaign, outcome, from string, most, look int,
) (g Glimpse, err error) {
	head, err := d.ledgers.Get(ctx, campaign)
	if err != nil {
		return g, fmt.Errorf("campaign %w", err)
	}
	found, seen, next, err := d.ledgers.Scan(ctx, campaign, mark(from), most, look, func(e ledger.Entry) bool {
		return outcome == "" || recipientOf(e, head.State).Outcome == outcome
	})
	if err != nil {
		return g, err
	}
	if g.Seen = seen; next != (ledger.Mark{}) {
		g.Next = fmt.Sprintf("%d.%d", next.Cursor, next.Skip)
	}
	for _, e := range found {
		g.Recipients = append(g.Recipients, recipientOf(e, head.State))
	}
	return g, d.complete(ctx, campaign, g.Recipients)
}

// mark reads where a glimpse ended. What is nothing of the kind is the beginning.
func mark(text string) (m ledger.Mark) {
	cursor, skip, _ := strings.Cut(text, ".")
	var err1, err2 error
	m.Cursor, err1 = strconv.ParseUint(cursor, 10, 64)
	m.Skip, err2 = strconv.Atoi(skip)
	if err1 != nil || err2 != nil || m.Skip < 0 {
		return ledger.Mark{}
	}
	return m
}
