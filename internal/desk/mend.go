package desk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

// Mend is a dead letter that is to be sent again.
type Mend struct {
	Letter deadletter.Entry
	As     *tasks.Recipient // the request that is sent instead; nil: the letter's
	Line   int              // of the file that says so; 0 if there is none
}

// MendFault says why a dead letter cannot be sent again as it is asked.
type MendFault struct {
	ID     string `json:"id"`
	Line   int    `json:"line"` // of the file; 0 if there is none
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// MendPlan is what is to become of dead letters. While it has faults nothing is done.
type MendPlan struct {
	Retry     []Mend
	Unchanged []Mend // rows of a file that say nothing new, and are not sent
	Gone      []Mend // letters that were retried or deleted since the file was written
	Faults    []MendFault
}

// addressIn is an address in a campaign, or in none.
type addressIn struct {
	campaign string
	id       store.AddressID
}

// The columns by which a row of a file of dead letters finds its letter.
const (
	ColumnID       = "id"
	ColumnFailedAt = "failed_at"
)

func (p *MendPlan) fault(m Mend, field, format string, args ...any) {
	fault := MendFault{ID: m.Letter.ID, Line: m.Line, Field: field, Reason: fmt.Sprintf(format, args...)}
	p.Faults = append(p.Faults, fault)
}

// apply takes a correction of a letter's request into the plan.
func (p *MendPlan) apply(m Mend, c peoplefile.Correction, all bool) {
	now, err := retry.Request(m.Letter)
	if err != nil {
		if c.Line > 0 { // it has no fields, in the file either
			p.take(m, all)
			return
		}
		p.fault(m, "", "%v", err)
		return
	}
	recipient, faults := c.Apply(now)
	for _, f := range faults {
		p.fault(m, f.Field, "%s", f.Reason)
	}
	if len(faults) > 0 {
		return
	}
	if !same(now, recipient) {
		m.As = &recipient
	}
	p.take(m, all)
}

// take takes a letter that is sent again if something is new, or all are.
func (p *MendPlan) take(m Mend, all bool) {
	if m.As == nil && !all {
		p.Unchanged = append(p.Unchanged, m)
		return
	}
	p.Retry = append(p.Retry, m)
}

// same tells whether two requests are one.
func same(a, b tasks.Recipient) bool {
	one, err1 := json.Marshal(a.Normalize())
	other, err2 := json.Marshal(b.Normalize())
	return err1 == nil && err2 == nil && string(one) == string(other)
}

// PlanChange plans to send letters again with fields changed as a correction says.
func (d *Desk) PlanChange(
	ctx context.Context, letters []deadletter.Entry, change peoplefile.Correction,
) (p MendPlan, err error) {
	for _, letter := range letters {
		p.apply(Mend{Letter: letter}, change, true)
	}
	return p, d.check(ctx, &p)
}

// PlanMend plans to send one letter again with another request, whose fields were checked.
func (d *Desk) PlanMend(ctx context.Context, m Mend) (p MendPlan, err error) {
	if _, err := retry.Request(m.Letter); err != nil {
		p.fault(m, "", "%v", err)
		return p, nil
	}
	p.take(m, true)
	return p, d.check(ctx, &p)
}

// PlanFile plans to send again what a file says of dead letters: those whose request it changes or, if that is asked,
// all of them.
func (d *Desk) PlanFile(ctx context.Context, rows []peoplefile.Correction, all bool) (p MendPlan, err error) {
	var ids []string
	for _, row := range rows {
		ids = append(ids, row.Keys[ColumnID])
	}
	letters, unreadable, err := d.DeadLetters.Several(ctx, ids)
	if err != nil {
		return p, err
	}
	lines := map[string]int{}
	for _, row := range rows {
		id := row.Keys[ColumnID]
		m := Mend{Letter: deadletter.Entry{ID: id}, Line: row.Line}
		if len(row.Faults) > 0 {
			for _, f := range row.Faults {
				p.fault(m, f.Field, "%s", f.Reason)
			}
			continue
		}
		one := id // a letter has two ids: one may be of an earlier version
		if letter, there := letters[id]; there {
			one = letter.ID
		}
		if first := lines[one]; first > 0 {
			p.fault(m, ColumnID, "stands in line %d already", first)
			continue
		}
		lines[one] = row.Line
		if unreadable[id] != nil {
			p.fault(m, ColumnID, "the dead letter cannot be read (enqueue dead-letter delete deletes it)")
			continue
		}
		if err := d.planRow(ctx, &p, m, row, letters, all); err != nil {
			return p, err
		}
	}
	return p, d.check(ctx, &p)
}

// planRow plans for one row that can be read.
func (d *Desk) planRow(
	ctx context.Context, p *MendPlan, m Mend, row peoplefile.Correction, letters map[string]deadletter.Entry, all bool,
) error {
	at, err := time.Parse(time.RFC3339Nano, row.Keys[ColumnFailedAt])
	if err != nil {
		p.fault(m, ColumnFailedAt, "is not as it was exported, such as 2026-11-28T06:34:20.023662573Z")
		return nil
	}
	letter, there := letters[m.Letter.ID]
	if there && letter.FailedAt.Equal(at) {
		m.Letter = letter
		p.apply(m, row, all)
		return nil
	}
	_, known, err := d.DeadLetters.Gone(ctx, m.Letter.ID, at)
	end, once := deadletter.End(""), false
	if err == nil && !there && !known {
		end, once, err = d.DeadLetters.LastGone(ctx, m.Letter.ID)
	}
	failed := letter.FailedAt.Format(time.RFC3339Nano)
	switch {
	case err != nil:
		return err
	case there && known:
		p.fault(m, ColumnFailedAt, "it was retried since and died again at %s: export it anew", failed)
	case there:
		p.fault(m, ColumnFailedAt, "is not when this dead letter failed, which is %s: put that there, or export it anew",
			failed)
	case known:
		p.Gone = append(p.Gone, m)
	case once:
		p.fault(m, ColumnFailedAt, "is not when this dead letter failed, which was %s already: leave the row out", end)
	default:
		p.fault(m, ColumnID, "there is no such dead letter, and was none in the last 30 days")
	}
	return nil
}

// check finds what is wrong with the addresses that requests are sent to.
func (d *Desk) check(ctx context.Context, p *MendPlan) error {
	seen := map[addressIn]Mend{}
	for _, m := range slices.Concat(p.Unchanged, p.Retry) {
		in, about := m.address()
		if !about {
			continue
		}
		other, twice := seen[in]
		if twice && other.Letter.ID != m.Letter.ID && (m.As != nil || other.As != nil) {
			where := "dead letter " + other.Letter.ID
			if other.Line > 0 {
				where = fmt.Sprintf("line %d", other.Line)
			}
			p.fault(m, "email_address", "is also that of %s", where)
		}
		seen[in] = m
	}
	byCampaign := map[string][]Mend{}
	for _, m := range p.Retry {
		in, _ := m.address()
		byCampaign[in.campaign] = append(byCampaign[in.campaign], m)
	}
	for _, campaign := range slices.Sorted(maps.Keys(byCampaign)) {
		if err := d.checkIn(ctx, p, campaign, byCampaign[campaign]); err != nil {
			return err
		}
	}
	slices.SortStableFunc(p.Faults, func(a, b MendFault) int { return a.Line - b.Line })
	return nil
}

// address is where a request is sent to.
func (m Mend) address() (in addressIn, about bool) {
	if m.Letter.Recipient != nil { // a revocation has a campaign too, and is in none
		in.campaign = m.Letter.Campaign
	}
	if m.As != nil {
		in.id = store.IDOf(m.As.EmailAddress)
		return in, true
	}
	if m.Letter.Recipient == nil && m.Letter.Type != tasks.TypeInvite {
		return in, false
	}
	in.id, about = m.Letter.Address()
	return in, about
}

// checkIn checks those of one campaign, or of none.
func (d *Desk) checkIn(ctx context.Context, p *MendPlan, campaign string, mends []Mend) error {
	var moved []Mend
	var ids []store.AddressID
	for _, m := range mends {
		if m.As == nil {
			continue
		}
		if m.Letter.Next != "" { // a retry was broken off: it is finished as it began
			payload, err := retry.Payload(m.Letter, m.As)
			if err != nil || !bytes.Equal(payload, m.Letter.Mended) {
				p.fault(m, "", "%v", deadletter.ErrBegun)
			}
			continue
		}
		in, _ := m.address()
		if own, _ := m.Letter.Address(); own != in.id {
			moved, ids = append(moved, m), append(ids, in.id)
		}
	}
	forgotten, err := d.tombstones.Forgotten(ctx, ids...)
	if err != nil {
		return err
	}
	var found map[store.AddressID]ledger.Entry
	if campaign != "" {
		head, err := d.ledgers.Get(ctx, campaign)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if err != nil || head.State == ledger.Cancelled {
			for _, m := range mends {
				p.fault(m, "", "campaign %s is cancelled or gone, so nobody in it is sent", campaign)
			}
			return nil
		}
		if found, err = d.ledgers.Find(ctx, campaign, ids); err != nil {
			return err
		}
	}
	for i, m := range moved {
		switch _, there := found[ids[i]]; {
		case forgotten[i]:
			p.fault(m, "email_address", "was forgotten on request (enqueue forget --lift ends that)")
		case there:
			if err := d.checkThere(ctx, p, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkThere checks a letter whose new address is in its campaign already: somebody else may have just mended it.
func (d *Desk) checkThere(ctx context.Context, p *MendPlan, m Mend) error {
	letter, err := d.DeadLetters.Get(ctx, m.Letter.ID)
	if errors.Is(err, deadletter.ErrNotFound) {
		p.Gone = append(p.Gone, m)
		p.Retry = slices.DeleteFunc(p.Retry, func(other Mend) bool { return other.Letter.ID == m.Letter.ID })
		return nil
	}
	if err != nil {
		return err
	}
	payload, err := retry.Payload(letter, m.As)
	if err != nil || letter.Next == "" || !bytes.Equal(payload, letter.Mended) { // else it is finished as it began
		p.fault(m, "email_address", "is in campaign %s already", m.Letter.Campaign)
	}
	return nil
}

// Retried is a dead letter that was sent again.
type Retried struct {
	Mend
	TaskID string // that carries it
}

// CarryOut sends letters again as planned, some at a time, and tells of each. One that somebody else has retried
// meanwhile is passed over. The plan must have no faults. Where it breaks off, all that it tells of were sent again.
func (d *Desk) CarryOut(ctx context.Context, p MendPlan, told func(Retried)) (retried []Retried, err error) {
	for some := range slices.Chunk(p.Retry, lettersAtOnce) {
		done, err := d.retrySome(ctx, some, false)
		retried = append(retried, done...)
		for _, one := range done {
			told(one)
		}
		if err != nil {
			return retried, PartlyDone(len(retried), err)
		}
	}
	return retried, nil
}

// RetryLetters sends the dead letters that are chosen again as they are, in the order of EachLetter, some at a time.
// Each time it tells of those that are sent again, and how many somebody else has retried or deleted meanwhile. The
// error is as EachLetter's, or what it broke off at; others were sent again then that come before.
func (d *Desk) RetryLetters(
	ctx context.Context, chosen Letters, told func(retried []Retried, gone int),
) (found FoundLetters, err error) {
	return d.someLetters(ctx, chosen, func(some []deadletter.Entry) error {
		retried, err := d.retrySome(ctx, asTheyAre(some), false)
		gone := len(some) - len(retried)
		if err != nil {
			gone = 0 // nobody knows
		}
		told(retried, gone)
		return err
	})
}

func asTheyAre(letters []deadletter.Entry) []Mend {
	mends := make([]Mend, len(letters))
	for i, e := range letters {
		mends[i].Letter = e
	}
	return mends
}

// retrySome sends up to lettersAtOnce letters again, alone if they are recipients of a campaign that is to be deleted,
// and gives those that are. It passes over what somebody else has retried meanwhile. One that is to be mended must not
// have died again since. The error is the first one; all others were sent again then.
func (d *Desk) retrySome(ctx context.Context, some []Mend, alone bool) (retried []Retried, err error) {
	wishes := make([]retry.Wish, len(some))
	for i, m := range some {
		wishes[i] = retry.Wish{Letter: m.Letter, As: m.As, Alone: alone}
	}
	for i, done := range d.Retrier.RetryEach(ctx, wishes) {
		m := some[i]
		switch {
		case done.Err == nil:
			retried = append(retried, Retried{Mend: m, TaskID: done.Carrier})
		case errors.Is(done.Err, deadletter.ErrNotFound),
			m.As == nil && errors.Is(done.Err, deadletter.ErrChanged):
		case err == nil:
			err = done.Err
		}
	}
	return retried, err
}

// Ended is what became of letters that were sent again.
type Ended struct {
	Sent      int
	Skipped   int
	Dead      []string // ids of their dead letters
	Cancelled int
	States    map[string]string // of each by the id of the letter: sent, skipped, dead, cancelled, or done
}

// note notes what became of a letter.
func (e *Ended) note(letter, state, dead string) {
	e.States[letter] = state
	switch state {
	case "sent", "done":
		e.Sent++
	case "skipped":
		e.Skipped++
	case "dead":
		e.Dead = append(e.Dead, dead)
	default:
		e.Cancelled++
	}
}

// AwaitRetried waits until letters that were sent again have their outcome, and tells waiting which task it waits for.
// It bears with a Redis that is away for a while.
func (d *Desk) AwaitRetried(
	ctx context.Context, retried []Retried, waiting func(task string),
) (e Ended, err error) {
	e.States = map[string]string{}
	carriers := map[string]string{}                      // the tasks that drive campaigns
	campaigns := map[string]map[store.AddressID]string{} // the letters of addresses
	for _, r := range retried {
		if name := r.Letter.Campaign; r.Letter.Recipient != nil {
			in, _ := r.address()
			if campaigns[name] == nil {
				campaigns[name] = map[store.AddressID]string{}
			}
			campaigns[name][in.id], carriers[name] = r.Letter.ID, r.TaskID
			continue
		}
		waiting(r.TaskID)
		task, err := d.Wait(ctx, r.TaskID)
		if err != nil {
			return e, err
		}
		state := string(task.State)
		switch {
		case task.Skipped != nil:
			state = "skipped"
		case task.State == tasks.StateDone && r.Letter.Type == tasks.TypeInvite:
			state = "sent"
		}
		e.note(r.Letter.ID, state, task.ID)
	}
	for _, campaign := range slices.Sorted(maps.Keys(campaigns)) {
		waiting(carriers[campaign])
		if err := d.awaitRows(ctx, campaign, campaigns[campaign], &e); err != nil {
			return e, err
		}
	}
	return e, nil
}

// awaitRows waits until recipients of a campaign have their outcome.
func (d *Desk) awaitRows(
	ctx context.Context, campaign string, letters map[store.AddressID]string, e *Ended,
) error {
	var failingSince time.Time
	ids := slices.Collect(maps.Keys(letters))
	for pause := watchFirst; len(ids) > 0; pause = min(pause*3/2, watchLast) {
		head, err := d.ledgers.Get(ctx, campaign)
		var found map[store.AddressID]ledger.Entry
		if err == nil {
			found, err = d.ledgers.Find(ctx, campaign, ids)
		}
		if err == nil {
			ids, err = d.noteEnded(ctx, head, ids, found, letters, e)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			failingSince = time.Time{}
		case errors.Is(err, ledger.ErrNotFound):
			return err
		case failingSince.IsZero():
			failingSince = time.Now()
		case time.Since(failingSince) > watchPatience:
			return err
		}
		if len(ids) > 0 && policy.Sleep(ctx, pause) != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// noteEnded notes those of some recipients that have their outcome, and gives the others.
func (d *Desk) noteEnded(
	ctx context.Context, head ledger.Campaign, ids []store.AddressID, found map[store.AddressID]ledger.Entry,
	letters map[store.AddressID]string, e *Ended,
) (left []store.AddressID, err error) {
	for i, id := range ids {
		state := endOf(id, head.State, found)
		if state == "" {
			left = append(left, id)
			continue
		}
		letter, err := d.DeadLetters.IDOf(ctx, head.Name, id)
		if err != nil {
			return append(left, ids[i:]...), err
		}
		e.note(letters[id], state, letter)
	}
	return left, nil
}

// endOf tells what became of a recipient of a campaign; empty if it has no outcome yet.
func endOf(id store.AddressID, campaign ledger.State, found map[store.AddressID]ledger.Entry) string {
	switch row, there := found[id]; {
	case there && slices.Contains([]ledger.RowState{ledger.RowSent, ledger.RowSkipped, ledger.RowDead}, row.State):
		return string(row.State)
	case !there, campaign == ledger.Cancelled && row.State == ledger.RowWaiting:
		return "cancelled"
	}
	return ""
}

// DeadOf gives the dead letters of those of some recipients who are dead in a campaign, each with the recipient as it
// is given. A recipient whose dead letter was deleted is left out; one whose dead letter cannot be read is a
// *store.Partial.
func (d *Desk) DeadOf(ctx context.Context, campaign string, recipients []tasks.Recipient) (p MendPlan, err error) {
	ids := make([]store.AddressID, len(recipients))
	for i, r := range recipients {
		ids[i] = store.IDOf(r.EmailAddress)
	}
	found, err := d.ledgers.Find(ctx, campaign, ids)
	if err != nil {
		return p, err
	}
	dead := slices.DeleteFunc(slices.Clone(ids), func(id store.AddressID) bool {
		return found[id].State != ledger.RowDead
	})
	there, unreadable, err := d.DeadLetters.OfRecipients(ctx, campaign, dead)
	if err != nil {
		return p, err
	}
	var partial store.Partial
	for i, id := range ids {
		partial.Add(unreadable[id])
		if letter, ok := there[id]; ok {
			m := Mend{Letter: letter}
			if now, err := retry.Request(letter); err != nil || !same(now, recipients[i]) {
				as := recipients[i].Normalize()
				m.As = &as
			}
			p.Retry = append(p.Retry, m)
		}
	}
	return p, partial.With(nil)
}
