package page

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

const (
	// groupLook is how many of the newest dead letters are grouped by their cause.
	groupLook = 1000
	// countTime is how long the letters of a choice are counted before somebody is asked about them.
	countTime = 200 * time.Millisecond
)

// choice is which dead letters a page or a form is about. Shown is of the one that the page lists, not of a group of
// it.
type choice struct {
	desk.Letters
	Shown bool
}

// chosen reads which dead letters a visit is about.
func (v *visit) chosen() (c choice) {
	c.Code, c.Campaign, c.Reason = v.r.FormValue("code"), v.r.FormValue("campaign"), v.r.FormValue("reason")
	c.NoCode = v.r.FormValue("no_code") != ""
	if id := v.r.FormValue("id"); id != "" {
		c.IDs = []string{id}
	}
	return c
}

// fields are the fields of a form, or of a link, by which chosen reads the choice again.
func (c choice) fields() map[string]string {
	fields := map[string]string{"code": c.Code, "campaign": c.Campaign, "reason": c.Reason}
	if c.NoCode {
		fields["no_code"] = "yes"
	}
	if len(c.IDs) > 0 {
		fields["id"] = c.IDs[0]
	}
	maps.DeleteFunc(fields, func(_, value string) bool { return value == "" })
	return fields
}

// Link leads to a page about the choice, with one more field unless that is empty.
func (c choice) Link(path, field, value string) string {
	query := url.Values{}
	for name, value := range c.fields() {
		query.Set(name, value)
	}
	if value != "" {
		query.Set(field, value)
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// Which is a word for what is chosen.
func (c choice) Which() string {
	if c.Filter().All() {
		return "all"
	}
	return "these"
}

// Words say what is chosen.
func (c choice) Words() string {
	words := "all dead letters"
	switch {
	case len(c.IDs) > 0:
		words = "this dead letter"
	case c.Reason != "":
		words = "all " + c.Reason + " dead letters"
	}
	switch {
	case c.Code != "":
		words += " with the code " + c.Code
	case c.NoCode:
		words += " without a code"
	}
	if c.Campaign != "" {
		words += " of campaign " + c.Campaign
	}
	return words
}

// Title is Words as a title.
func (c choice) Title() string {
	words := c.Words()
	return strings.ToUpper(words[:1]) + words[1:]
}

// letterGroup is the dead letters of one cause.
type letterGroup struct {
	choice
	Count   int
	Example string // what Clerk said to one of them
}

// letterRow is a dead letter as a list shows it.
type letterRow struct {
	deadletter.Entry
	Who string
}

// letterList is a page of dead letters, the newest first.
type letterList struct {
	All        int // dead letters in all
	Grouped    int // the newest ones, which are grouped
	Groups     []letterGroup
	MoreCauses int // that are not shown
	Chosen     choice
	Filtered   bool
	Rows       []letterRow
	Looked     int
	Next       string
	Begun      bool
	Unreadable string
}

func letters(v *visit) (any, error) {
	list := letterList{Chosen: v.chosen()}
	list.Chosen.Shown = true
	list.Chosen.IDs = nil
	list.Filtered = !list.Chosen.Filter().All()
	from := deadletter.ParseCursor(v.r.FormValue("from"))
	list.Begun = from != (deadletter.Cursor{})
	var err error
	if list.All, err = v.desk.DeadLetters.Count(v.ctx); err != nil {
		return nil, err
	}
	if err := list.group(v); err != nil {
		return nil, err
	}
	return list, list.fill(v, from)
}

// group groups the newest letters.
func (l *letterList) group(v *visit) error {
	causes, looked, err := v.desk.DeadLetters.Causes(v.ctx, groupLook)
	l.Grouped, l.MoreCauses = looked, max(0, len(causes)-mostCauses)
	for _, cause := range firstOf(causes, mostCauses) {
		group := letterGroup{Count: cause.Count, choice: choice{Letters: desk.Letters{
			Reason: string(cause.Reason), Code: cause.Code, NoCode: cause.Code == "",
		}}}
		if v.operates() && !cause.Example.FailedAt.IsZero() {
			group.Example = cause.Example.Failure.Words()
		}
		l.Groups = append(l.Groups, group)
	}
	return err
}

// byCount orders groups, the largest first.
func byCount(a, b letterGroup) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Reason, b.Reason))
}

// fill reads the letters behind a cursor that are chosen.
func (l *letterList) fill(v *visit, from deadletter.Cursor) error {
	page, err := v.desk.DeadLetters.Newest(v.ctx, l.Chosen.Filter(), from, pageRows)
	if errors.Is(err, deadletter.ErrCursor) {
		return &problem{http.StatusBadRequest, "The link is none of these pages'", "Begin with the newest ones."}
	}
	unreadable, err := store.SplitPartial(err)
	if err != nil {
		return err
	}
	if unreadable != nil {
		l.Unreadable = unreadable.Error()
	}
	l.Looked = page.Looked
	if page.Next != (deadletter.Cursor{}) {
		l.Next = page.Next.String()
	}
	for _, e := range page.Letters {
		l.Rows = append(l.Rows, v.letterRow(e))
	}
	return nil
}

// letterRow shows a letter. A viewer gets nothing that may hold an address, and no id: there is nothing to do with it.
func (v *visit) letterRow(e deadletter.Entry) letterRow {
	row := letterRow{Entry: e, Who: v.address(e.EmailAddress)}
	switch {
	case v.operates() && row.Who == "":
		row.Who = e.InvitationID
	case !v.operates():
		row.ID, row.TaskID, row.Failure.Message, row.Payload = "", "", "", nil
	}
	return row
}

// letterSheet is one dead letter, and the fields of its request as a form shows them.
type letterSheet struct {
	deadletter.Entry
	Fields []field
	Broken string // why the request cannot be shown
	Faults []desk.MendFault
}

// field is a field of a form. One with choices is one of them.
type field struct {
	Name, Label, Value, Hint string
	Choices                  []string
}

func letter(v *visit) (any, error) {
	e, err := v.desk.DeadLetters.Get(v.ctx, v.r.FormValue("id"))
	if err != nil {
		return nil, err
	}
	return letterSheetOf(e), nil
}

func letterSheetOf(e deadletter.Entry) letterSheet {
	sheet := letterSheet{Entry: e}
	r, err := retry.Request(e)
	if err != nil {
		sheet.Broken = err.Error()
		return sheet
	}
	sheet.Fields = slices.DeleteFunc(fieldsOf(r), func(f field) bool {
		if len(f.Value) <= tasks.MaxMetadataBytes { // earlier versions took more
			return false
		}
		sheet.Broken = f.Name + " is too long for this page; enqueue dead-letter retry --set changes it"
		return true
	})
	return sheet
}

// fieldsOf gives the fields of a request as texts that ParseCorrection reads.
func fieldsOf(r tasks.Recipient) []field {
	metadata := ""
	if len(r.PublicMetadata) > 0 {
		if data, err := r.MetadataJSON(); err == nil {
			metadata = string(data)
		}
	}
	days := ""
	if r.ExpiresInDays > 0 {
		days = fmt.Sprint(r.ExpiresInDays)
	}
	choice := func(name, label, value string, choices ...string) field {
		if !slices.Contains(choices, value) {
			choices = append(choices, value)
		}
		return field{Name: name, Label: label, Value: value, Choices: choices}
	}
	const byDefault = "dead-letter"
	onDuplicate, onUser := cmp.Or(string(r.OnDuplicate), byDefault), cmp.Or(string(r.OnExistingUser), byDefault)
	return []field{
		{Name: "email_address", Label: "E-mail address", Value: r.EmailAddress},
		{
			Name: "public_metadata", Label: "Public metadata", Value: metadata, Hint: "A JSON object; empty for none",
		},
		{Name: "redirect_url", Label: "Redirect URL", Value: r.RedirectURL, Hint: "Where the link in the e-mail leads"},
		{Name: "expires_in_days", Label: "Expires in days", Value: days, Hint: "1 to 365; empty is Clerk's 30"},
		choice("on_duplicate", "If an invitation is pending", onDuplicate, byDefault, "accept", "resend"),
		choice("on_existing_user", "If the address is a user's", onUser, byDefault, "skip"),
		choice("ignore_existing", "Have Clerk ignore existing ones", fmt.Sprint(r.IgnoreExisting), "false", "true"),
		choice("notify", "Have Clerk send an e-mail", fmt.Sprint(!r.NoNotify), "true", "false"),
		choice("template_slug", "Template", r.TemplateSlug, "", "invitation", "waitlist_invitation"),
	}
}

// mendLetter sends one letter again with the fields of a form. What has not changed is left as it is.
func mendLetter(v *visit) error {
	e, err := v.desk.DeadLetters.Get(v.ctx, v.r.PostFormValue("id"))
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return errGone
	case err != nil:
		return err
	case exact(e.FailedAt) != v.r.PostFormValue("failed_at"):
		return deadletter.ErrChanged
	}
	plan := desk.MendPlan{Retry: []desk.Mend{{Letter: e}}}
	sheet := letterSheetOf(e)
	var changed []string
	for i, f := range sheet.Fields {
		if value := strings.TrimSpace(v.r.PostFormValue(f.Name)); v.r.PostForm.Has(f.Name) && value != f.Value {
			changed = append(changed, f.Name+"="+value)
			sheet.Fields[i].Value = value
		}
	}
	if len(changed) > 0 {
		change, err := peoplefile.ParseCorrection(changed)
		if err == nil {
			plan, err = v.desk.PlanChange(v.ctx, []deadletter.Entry{e}, change)
		}
		if err != nil {
			return err
		}
	}
	if sheet.Faults = plan.Faults; len(plan.Faults) > 0 {
		v.render(http.StatusUnprocessableEntity, "letter", false, sheet)
		return nil
	}
	retried, err := v.desk.CarryOut(v.ctx, plan, func(desk.Retried) {})
	if err != nil {
		return err
	}
	what := "sent a dead letter again as it is"
	if len(changed) > 0 {
		what = "mended a dead letter and sent it again"
	}
	return v.done("/dead-letters", what, len(retried))
}

var errGone = &problem{http.StatusConflict, "Somebody was faster",
	"This dead letter was retried or deleted meanwhile. Nothing was done now."}

// confirmLetters asks before letters are retried or deleted. It counts those that are there now.
func confirmLetters(v *visit) (any, error) {
	chosen := v.chosen()
	words := chosen.Words()
	chosen.Until = time.Now().UTC().Truncate(time.Millisecond)
	counted, err := v.desk.CountLetters(v.ctx, chosen.Letters, countTime)
	if _, err := store.SplitPartial(err); err != nil {
		return nil, err
	}
	q := question{
		Title: "Delete " + words + "?", Button: "Delete", Action: "/dead-letters/delete",
		Nothing: counted.N == 0 && counted.All, Cut: chosen.Until,
		Consequence: "What is deleted is gone for good, and nobody is invited by it.", Fields: chosen.fields(),
	}
	chosen.IDs = nil
	q.Back = chosen.Link("/dead-letters", "", "")
	if v.r.FormValue("do") == "retry" {
		q.Title, q.Button, q.Action, q.Mild = "Retry "+words+"?", "Retry", "/dead-letters/retry", true
		q.Consequence = "They are sent again through the same limits. What fails for the same cause comes back."
	}
	q.Ask = fmt.Sprintf("That is %s, as of %s. Whatever dies afterwards is not touched.", sum(counted), clock(q.Cut))
	return q, nil
}

// sum says how many letters are chosen. Where counting them all would take too long it says how far it got.
func sum(c deadletter.Counted) string {
	if c.All {
		return letterCount(c.N)
	}
	return fmt.Sprintf("at least %s (%s among the oldest %s; the others were not counted)", letterCount(c.N),
		count(c.N), count(c.Looked))
}

func letterCount(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return count(n) + " dead letters"
}

func retryLetters(v *visit) error {
	return v.eachChosen("retried", func(chosen desk.Letters, done func(int)) error {
		_, err := v.desk.RetryLetters(v.ctx, chosen, func(retried []desk.Retried, _ int) { done(len(retried)) })
		return err
	})
}

func deleteLetters(v *visit) error {
	return v.eachChosen("deleted", func(chosen desk.Letters, done func(int)) error {
		_, err := v.desk.DeleteLetters(v.ctx, chosen, func(deleted []deadletter.Entry) { done(len(deleted)) })
		return err
	})
}

// eachChosen does something to the letters that a form is about, as they were when it was shown. Those that are gone
// are passed over.
func (v *visit) eachChosen(did string, do func(chosen desk.Letters, done func(int)) error) (err error) {
	chosen := v.chosen()
	words := chosen.Words()
	if chosen.Until, err = cutOff(v.r.PostFormValue("cut")); err != nil {
		return err
	}
	n := 0
	err = do(chosen.Letters, func(more int) { n += more })
	if _, err := store.SplitPartial(err); err != nil {
		if n > 0 {
			v.note(did+" some of "+words, n)
		}
		return desk.PartlyDone(n, err)
	}
	back := choice{Letters: desk.Letters{Campaign: chosen.Campaign}}
	says := did + " " + words + ": " + count(n)
	if n == 0 {
		says = did + " 0 dead letters: nothing was there any more"
	}
	return v.doneSaying(back.Link("/dead-letters", "", ""), did+" "+words, n, says)
}
