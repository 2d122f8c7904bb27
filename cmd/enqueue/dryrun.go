package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/ask"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// dryRun tells what enqueuing a file would come to, and enqueues nothing.
func (c *bulkCommand) dryRun(a *app, file peoplefile.File, request tasks.BulkRequest) error {
	name, err := request.Name()
	if err != nil {
		return err
	}
	start := c.at
	if !start.After(time.Now()) {
		start = time.Time{}
	}
	view := map[string]any{
		"dry_run": true, "campaign": name, "recipients": len(file.Rows), "invalid": file.BadRows(), "duplicates": len(file.Duplicates),
		"known": nil, "forgotten": nil, "would_send": nil, "skipped": nil, "refused": nil, "refused_by_code": nil, "refused_rows": nil, "unknown": nil,
		"scheduled_at": timeOrNull(start), "finish_at": nil, "assumption": nil,
	}
	asker, err := a.asker(c.Clerk)
	if err != nil {
		return err
	}
	var r rehearsal
	if asker != nil {
		defer asker.close()
		if r, err = rehearse(a, asker, name, file, start); err != nil {
			return err
		}
		maps.Copy(view, r.view())
	}
	a.out.say("%s: %s to invite, %s, %s. Campaign: %s. Nothing was enqueued.", c.name(), plural(len(file.Rows), "recipient"),
		plural(len(file.Duplicates), "duplicate"), plural(file.BadRows(), "bad row"), name)
	if asker != nil {
		r.tell(a.out)
	} else {
		a.out.say("Nobody was looked up at Clerk, because no key is set (CLERK_SECRET_KEY).")
	}
	if !start.IsZero() {
		a.out.say("It would start at %s.", local(start))
	}
	return a.out.object(view)
}

// rehearsal is what would become of the rows of a file.
type rehearsal struct {
	known     int // in the campaign already: they keep their outcome
	forgotten int // on request: they are left out
	accepted  int // have a pending invitation, which they take for theirs
	send      int
	refused   []refusedRow
	byCode    map[string]int
	unknown   int
	why       error // of the unknown
	forecast  forecast.Forecast
}

// refusedRow is a row that Clerk would refuse.
type refusedRow struct {
	Line   int    `json:"line"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

// rehearse finds out who is in the campaign already, and asks Clerk about the others.
func rehearse(a *app, q *asker, name string, file peoplefile.File, start time.Time) (rehearsal, error) {
	r := rehearsal{byCode: map[string]int{}, refused: []refusedRow{}}
	fresh, err := newRows(a, name, file, start)
	if err != nil {
		return r, err
	}
	r.known = len(file.Rows) - len(fresh)
	if fresh, err = withoutForgotten(a, fresh); err != nil {
		return r, err
	}
	r.forgotten = len(file.Rows) - r.known - len(fresh)
	recipients := make([]tasks.Recipient, len(fresh))
	for i, row := range fresh {
		recipients[i] = row.Recipient
	}
	if len(recipients) > 0 {
		a.out.note("Asking Clerk about %s …", plural(len(recipients), "recipient"))
	}
	findings, err := q.questions.Survey(q.ctx, recipients)
	if r.why = q.why(err); errors.Is(r.why, errKeyRefused) || a.ctx.Err() != nil {
		return r, r.why
	}
	for i, f := range findings {
		var wants tasks.OnDuplicate
		if f.Refusal != nil && f.Refusal.Code == ask.CodeDuplicate {
			wants = fresh[i].Recipient.OnDuplicate
		}
		switch {
		case wants == tasks.AcceptDuplicate:
			r.accepted++
		case wants == tasks.ResendDuplicate:
			r.send++
		case f.Refusal != nil:
			r.byCode[f.Refusal.Code]++
			r.refused = append(r.refused, refusedRow{Line: fresh[i].Line, Code: f.Refusal.Code, Reason: f.Refusal.Message})
		case f.Unknown:
			r.unknown++
		default:
			r.send++
		}
	}
	return r, r.foretell(a, start)
}

// foretell foretells when all that would be sent, and whoever is unknown, were through.
func (r *rehearsal) foretell(a *app, start time.Time) error {
	if r.send+r.unknown == 0 {
		return nil
	}
	outlook, err := forecast.Read(a.ctx, a.rdb, a.namespace)
	r.forecast = outlook.Hypothetical(r.send+r.unknown, start)
	return err
}

// withoutForgotten leaves out rows whose addresses were forgotten on request.
func withoutForgotten(a *app, rows []peoplefile.Row) (kept []peoplefile.Row, err error) {
	addresses := make([]store.AddressID, len(rows))
	for i, row := range rows {
		addresses[i] = store.IDOf(row.Recipient.EmailAddress)
	}
	forgotten, err := store.NewTombstones(a.rdb, a.namespace).Forgotten(a.ctx, addresses...)
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		if !forgotten[i] {
			kept = append(kept, row)
		}
	}
	return kept, nil
}

// newRows gives the rows that the campaign does not have yet. The error is that of enqueuing them where the campaign takes none.
func newRows(a *app, name string, file peoplefile.File, start time.Time) ([]peoplefile.Row, error) {
	campaign, err := a.ledgers.Get(a.ctx, name)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return file.Rows, nil
	case err == nil:
		err = tasks.CampaignState(campaign.State).Refuses(!start.IsZero())
	}
	if err != nil {
		return nil, err
	}
	ids := make([]store.AddressID, len(file.Rows))
	for i, row := range file.Rows {
		ids[i] = store.IDOf(row.Recipient.EmailAddress)
	}
	has, err := a.ledgers.Find(a.ctx, name, ids)
	var fresh []peoplefile.Row
	for i, row := range file.Rows {
		if _, known := has[ids[i]]; !known {
			fresh = append(fresh, row)
		}
	}
	return fresh, err
}

// skipped are those for whom no call is made, and who are no dead letters.
func (r rehearsal) skipped() int { return r.known + r.accepted + r.forgotten }

// view is what --json answers of it.
func (r rehearsal) view() map[string]any {
	return map[string]any{
		"known": r.known, "forgotten": r.forgotten, "would_send": r.send, "skipped": r.skipped(), "refused": len(r.refused), "refused_by_code": r.byCode,
		"refused_rows": r.refused, "unknown": r.unknown, "finish_at": timeOrNull(r.forecast.ETA), "assumption": orNull(r.forecast.Assumption),
	}
}

// refusedShown bounds how many refused rows a person is shown.
const refusedShown = 10

// tell tells a person.
func (r rehearsal) tell(out *output) {
	out.say("%d would be sent, %d skipped (%d in the campaign already, %d with a pending invitation that they accept, %d forgotten on request), %d refused%s.",
		r.send, r.skipped(), r.known, r.accepted, r.forgotten, len(r.refused), r.codes())
	for _, row := range r.refused[:min(refusedShown, len(r.refused))] {
		out.say("line %d: %s", row.Line, reason(row))
	}
	if more := len(r.refused) - refusedShown; more > 0 {
		out.say("… and %s more (--json shows all).", plural(more, "refused row"))
	}
	switch {
	case r.send+r.unknown == 0:
	case r.forecast.ETA.IsZero():
		out.say("When it would finish cannot be foretold: %s.", r.forecast.Assumption)
	default:
		out.say("It would finish at %s: %s.", local(r.forecast.ETA), r.forecast.Assumption)
	}
	if r.unknown > 0 {
		out.say("Whether Clerk would refuse the other %d is not known: %v", r.unknown, r.why)
	}
}

// codes counts the refusals by cause.
func (r rehearsal) codes() string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(r.byCode)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.byCode[code], code))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// reason is why a row would be refused, in a few words.
func reason(row refusedRow) string {
	switch row.Code {
	case "form_identifier_exists":
		return "belongs to a user already"
	case ask.CodeDuplicate:
		return "has a pending invitation already"
	}
	return row.Reason
}
