package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

const (
	// watchFirst is the pause before the second look at a campaign; it grows to watchLast.
	watchFirst = 100 * time.Millisecond
	watchLast  = 500 * time.Millisecond
	// watchPatience is how long a watch bears with a Redis that cannot answer.
	watchPatience = 2 * time.Minute
)

// Watch tells again and again how a campaign stands, and how many of its recipients get their outcome in an hour (0:
// not known). It ends when the campaign is over, tell returns an error, or the context ends, whose cause is then the
// error. It bears with a Redis that is away for a while.
func (d *Desk) Watch(
	ctx context.Context, name string, tell func(c tasks.Campaign, perHour float64) error,
) (tasks.Campaign, error) {
	p, _, _ := policy.Announced(ctx, d.rdb, d.namespace) // zero if it is not known
	measure := pace{window: max(p.Create.Window, p.Bulk.Window)}
	var failingSince time.Time
	for pause := watchFirst; ; pause = min(pause*3/2, watchLast) {
		campaign, err := d.Campaign(ctx, name)
		switch {
		case ctx.Err() != nil:
			return campaign, context.Cause(ctx)
		case err == nil:
			failingSince = time.Time{}
			if err := tell(campaign, measure.perHour(campaign, time.Now())); err != nil || campaign.State.Over() {
				return campaign, err
			}
		case errors.Is(err, tasks.ErrNotFound):
			return campaign, err
		case failingSince.IsZero():
			failingSince = time.Now()
		case time.Since(failingSince) > watchPatience:
			return campaign, err
		}
		if policy.Sleep(ctx, pause) != nil {
			return campaign, context.Cause(ctx)
		}
	}
}

// leastPace is the shortest time over which a pace is measured.
const leastPace = 10 * time.Second

// pace measures how many recipients get their outcome. It looks at one window and no less: they come in bursts when
// one begins.
type pace struct {
	window time.Duration
	seen   []seen // the oldest first; only the first one may be older than the window
}

type seen struct {
	at   time.Time
	done int
}

// perHour is how many recipients get their outcome in an hour, at the pace of the last window. Before the campaign was
// watched for so long, it is the pace since the campaign started. 0 means that it is not known.
func (p *pace) perHour(c tasks.Campaign, now time.Time) float64 {
	if c.StartedAt.IsZero() {
		return 0
	}
	window, done := max(p.window, leastPace), c.Settled()
	p.seen = append(p.seen, seen{now, done})
	for len(p.seen) > 1 && now.Sub(p.seen[1].at) >= window {
		p.seen = p.seen[1:]
	}
	if first := p.seen[0]; now.Sub(first.at) >= window {
		return float64(done-first.done) / now.Sub(first.at).Hours()
	}
	if !c.FinishedAt.IsZero() {
		now = c.FinishedAt
	}
	return float64(done) / max(now.Sub(c.StartedAt), window).Hours()
}

// Recipient is what became of a recipient of a campaign. What is not known is zero.
type Recipient struct {
	EmailAddress string `json:"email_address"`
	// Outcome is waiting, open, sent, dead, skipped, or cancelled for one that a cancelled campaign did not reach.
	Outcome          string    `json:"outcome"`
	InvitationID     string    `json:"invitation_id"`
	SettledAt        time.Time `json:"settled_at"`
	Cause            string    `json:"cause"`             // the code of a dead or skipped one
	Message          string    `json:"message"`           // what its dead letter says, while it stands
	Attempts         int       `json:"attempts"`          // calls that were made for it
	InvitationStatus string    `json:"invitation_status"` // what the directory says of the invitation
	SyncedAt         time.Time `json:"synced_at"`         // as of when the directory says it
	MendedFrom       string    `json:"mended_from"`       // the address in the list, if this one has taken its place
}

// lookedUp is how many recipients are looked up in the directory together.
const lookedUp = 500

// ErrUploading means that a campaign does not have all its recipients yet.
var ErrUploading = errors.New("recipients are being added to it; try again when that has ended")

// whole gives the head of a campaign that has all its recipients.
func (d *Desk) whole(ctx context.Context, campaign string) (ledger.Campaign, error) {
	head, err := d.ledgers.Get(ctx, campaign)
	switch {
	case err != nil:
		return head, fmt.Errorf("campaign %w", err)
	case head.Uploads > 0 && head.State != ledger.Cancelled:
		return head, fmt.Errorf("campaign %s: %w", campaign, ErrUploading)
	}
	return head, nil
}

// Recipients gives a function that calls do for every recipient of a campaign, in the order in which they were
// uploaded, until it returns an error. It holds a few hundred of them at a time. The error is a ledger.ErrNotFound if
// there is no such campaign, or ErrUploading.
func (d *Desk) Recipients(
	ctx context.Context, campaign string,
) (each func(do func(Recipient) error) error, err error) {
	head, err := d.whole(ctx, campaign)
	if err != nil {
		return nil, err
	}
	return func(do func(Recipient) error) error { return d.eachRecipient(ctx, head, do) }, nil
}

// RecipientsAfter gives some recipients of a campaign in the order of Recipients, beginning behind a place, -1 at
// first: those with an outcome, or all if that is empty, until there are most of them. next is the place to go on
// behind; -1 at the end. Those who share a place come together. All rows are read for the first page, and for another
// one only its own if orders are kept, while nobody is added to the campaign or removed from it.
func (d *Desk) RecipientsAfter(
	ctx context.Context, campaign, outcome string, after, most int,
) (page []Recipient, next int, err error) {
	head, err := d.whole(ctx, campaign)
	if err != nil {
		return nil, -1, err
	}
	order, known, err := d.Orders.of(ctx, d.ledgers, head)
	if err != nil {
		return nil, -1, err
	}
	page, next, gone, err := d.pageAfter(ctx, head, order, outcome, after, most)
	if gone && known && err == nil { // one may have taken the place of one who is gone
		d.Orders.drop(campaign)
		return d.RecipientsAfter(ctx, campaign, outcome, after, most)
	}
	if err != nil {
		return nil, -1, err
	}
	return page, next, d.complete(ctx, campaign, page)
}

// pageAfter is RecipientsAfter in a known order. gone tells that a recipient of the order is not there any more.
func (d *Desk) pageAfter(
	ctx context.Context, head ledger.Campaign, order []ledger.Placed, outcome string, after, most int,
) (page []Recipient, next int, gone bool, err error) {
	start, _ := slices.BinarySearchFunc(order, after+1, func(p ledger.Placed, place int) int {
		return cmp.Compare(p.Place, place)
	})
	last, full, at, atOnce := after, errors.New("the page is full"), start, most+1
	if outcome != "" { // of which there may be few
		atOnce = max(atOnce, lookedUp)
	}
	err = d.ledgers.EachPlaced(ctx, head.Name, order[start:], atOnce, func(e ledger.Entry) error {
		gone = gone || e.ID != order[at].ID
		at++
		if len(page) >= most && e.Place > last {
			return full
		}
		last = e.Place
		if r := recipientOf(e, head.State); outcome == "" || r.Outcome == outcome {
			page = append(page, r)
		}
		return nil
	})
	switch {
	case errors.Is(err, full):
		return page, last, gone, nil
	case err != nil:
		return nil, -1, gone, err
	}
	return page, -1, gone || at < len(order), nil
}

// mostOrders is how many orders are kept: of 200,000 recipients, one takes 5 MB.
const mostOrders = 4

// Orders keeps the orders of the campaigns that were paged through last: no index of Redis has them. Several desks may
// share them.
type Orders struct {
	mu   sync.Mutex
	kept []keptOrder // the last used one first
}

type keptOrder struct {
	campaign              string
	recipients, forgotten int // when it was read
	order                 []ledger.Placed
}

// of gives the order of a campaign, and tells whether it was known. Then recipients may be gone.
func (o *Orders) of(
	ctx context.Context, ledgers *ledger.Ledgers, head ledger.Campaign,
) (order []ledger.Placed, known bool, err error) {
	if one, known := o.take(head.Name); known && one.recipients == head.Recipients && one.forgotten == head.Forgotten {
		o.keep(one)
		return one.order, true, nil
	}
	if order, err = ledgers.Order(ctx, head.Name); err != nil {
		return nil, false, err
	}
	o.keep(keptOrder{head.Name, head.Recipients, head.Forgotten, order})
	return order, false, nil
}

// take gives an order that is kept, and keeps it no longer.
func (o *Orders) take(campaign string) (one keptOrder, known bool) {
	if o == nil {
		return one, false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.kept, func(k keptOrder) bool { return k.campaign == campaign })
	if i < 0 {
		return keptOrder{}, false
	}
	one = o.kept[i]
	o.kept = slices.Delete(o.kept, i, i+1)
	return one, true
}

// drop forgets the order of a campaign.
func (o *Orders) drop(campaign string) { o.take(campaign) }

// keep keeps an order as the last used one.
func (o *Orders) keep(one keptOrder) {
	if o == nil {
		return
	}
	o.drop(one.campaign)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = slices.Insert(o.kept, 0, one)
	o.kept = slices.Delete(o.kept, min(mostOrders, len(o.kept)), len(o.kept))
}

func (d *Desk) eachRecipient(ctx context.Context, head ledger.Campaign, do func(Recipient) error) error {
	chunk := make([]Recipient, 0, lookedUp)
	flush := func() error {
		if err := d.complete(ctx, head.Name, chunk); err != nil {
			return err
		}
		for _, recipient := range chunk {
			if err := do(recipient); err != nil {
				return err
			}
		}
		chunk = chunk[:0]
		return nil
	}
	err := d.ledgers.InOrder(ctx, head.Name, func(e ledger.Entry) error {
		if chunk = append(chunk, recipientOf(e, head.State)); len(chunk) < lookedUp {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// complete adds to recipients what is not in their rows.
func (d *Desk) complete(ctx context.Context, campaign string, chunk []Recipient) error {
	var ids []string
	var dead []store.AddressID
	for _, recipient := range chunk {
		if recipient.InvitationID != "" {
			ids = append(ids, recipient.InvitationID)
		}
		if recipient.Outcome == string(ledger.RowDead) {
			dead = append(dead, store.IDOf(recipient.EmailAddress))
		}
	}
	found, syncedAt, err := d.Directory.Get(ctx, ids)
	if err != nil {
		return err
	}
	mended, err := d.mendedFrom(ctx, campaign, chunk)
	if err != nil {
		return err
	}
	causes, _, err := d.DeadLetters.OfRecipients(ctx, campaign, dead) // one that cannot be read hides no recipient
	if err != nil {
		return err
	}
	for i := range chunk {
		recipient := &chunk[i]
		if recipient.InvitationID != "" {
			recipient.InvitationStatus, recipient.SyncedAt = found[recipient.InvitationID].Status, syncedAt
		}
		recipient.MendedFrom = mended[store.IDOf(recipient.EmailAddress)]
		if recipient.Outcome == string(ledger.RowDead) {
			recipient.Message = causes[store.IDOf(recipient.EmailAddress)].Failure.Message
		}
	}
	return nil
}

func (d *Desk) mendedFrom(
	ctx context.Context, campaign string, chunk []Recipient,
) (map[store.AddressID]string, error) {
	ids := make([]store.AddressID, len(chunk))
	for i, recipient := range chunk {
		ids[i] = store.IDOf(recipient.EmailAddress)
	}
	return d.ledgers.Mended(ctx, campaign, ids)
}

func recipientOf(e ledger.Entry, campaign ledger.State) Recipient {
	var said struct {
		EmailAddress string `json:"email_address"`
	}
	_ = json.Unmarshal(e.Recipient, &said) // a newer version's has other fields; one that cannot be read has a row too
	recipient := Recipient{
		EmailAddress: said.EmailAddress, Outcome: string(e.State), InvitationID: e.InvitationID, Attempts: e.Attempts,
	}
	switch {
	case e.State == ledger.RowDead, e.State == ledger.RowSkipped:
		recipient.Cause = e.Code
	case e.State == ledger.RowSent && !e.Foreign:
		recipient.Attempts++ // the one that made it
	case e.State == ledger.RowWaiting && campaign == ledger.Cancelled:
		recipient.Outcome = "cancelled"
	}
	if e.SettledAt > 0 {
		recipient.SettledAt = time.Unix(e.SettledAt, 0).UTC()
	}
	return recipient
}

// RecipientColumns are the columns of a CSV of recipients. The last one says how its cells are written.
func RecipientColumns() []string {
	return []string{
		"email_address", "outcome", "invitation_id", "settled_at", "cause", "message", "attempts", "invitation_status",
		"synced_at", "mended_from", peoplefile.ColumnFormat,
	}
}

// Cells are the row of a recipient under RecipientColumns. None of them is a formula.
func (r Recipient) Cells() []string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	cells := []string{
		r.EmailAddress, r.Outcome, r.InvitationID, at(r.SettledAt), r.Cause, r.Message, strconv.Itoa(r.Attempts),
		r.InvitationStatus, at(r.SyncedAt), r.MendedFrom,
	}
	for i, cell := range cells {
		cells[i] = peoplefile.Harmless(cell)
	}
	return append(cells, peoplefile.FormatHarmless)
}
