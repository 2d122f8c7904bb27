package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/httpd"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/kept"
	"example.com/usher/tasks"
)

const (
	// mostList bounds a list, as the command does; mostField the fields beside it, all together: the page shows them
	// again where one is wrong. mostParts is how many there are.
	mostList  = peoplefile.DefaultMaxBytes
	mostField = 16 << 10
	mostParts = 50
	// mostFaults is how many faults of a list are kept, and faultRows how many a page shows.
	mostFaults, faultRows = 1000, 100
	// listPlaces is how many lists a worker reads at a time: each may take a few hundred megabytes.
	listPlaces = 2
	// alonePause is how long a second confirmation waits before it asks again whether the first one has ended.
	alonePause = 200 * time.Millisecond
)

// listCookie has what opens the list that this browser has uploaded. There is one at a time.
const listCookie = "usher_list"

// listCheck is what the file itself says, without Clerk.
type listCheck struct {
	Order      listOrder             `json:"order"`
	Campaign   string                `json:"campaign"` // the name may derive from the rows
	Recipients int                   `json:"recipients"`
	Fresh      int                   `json:"fresh"` // new to the campaign
	Known      int                   `json:"known"`
	Forgotten  int                   `json:"forgotten"`
	BadRows    int                   `json:"bad_rows"`
	Duplicates int                   `json:"duplicates"`
	LeftOut    int                   `json:"left_out"`
	Understood peoplefile.Understood `json:"understood"`
	Aside      []string              `json:"aside"`  // the first rows that were left out, and what else to know of rows
	Sample     []string              `json:"sample"` // the first addresses
	Faults     []string              `json:"faults"`
	Guesses    []string              `json:"guesses"`
	KeptUntil  time.Time             `json:"kept_until"`
	CheckedAt  time.Time             `json:"checked_at"`
	StartsAt   time.Time             `json:"starts_at"` // zero: at once
	Scheduled  bool                  `json:"scheduled"` // the campaign is, whatever was ordered
	Dead       int                   `json:"dead"`      // of the list, in the campaign
}

// Retry is how many dead letters are sent again.
func (c listCheck) Retry() int {
	if !c.Order.RetriesDead() {
		return 0
	}
	return c.Dead
}

// Button says what sending the list does; nothing if that is nothing.
func (c listCheck) Button() string {
	people, letters := count(c.Fresh)+" people", letterCount(c.Retry())
	if c.Fresh == 1 {
		people = "1 person"
	}
	switch retries := c.Retry() > 0; {
	case c.Fresh > 0 && retries:
		return "Invite " + people + " and retry " + letters
	case c.Fresh > 0:
		return "Invite " + people
	case retries:
		return "Retry " + letters
	}
	return ""
}

// start is until when the campaign still waits; zero for at once.
func (c listCheck) start() time.Time {
	if c.StartsAt.After(time.Now()) {
		return c.StartsAt
	}
	return time.Time{}
}

// check says what a file that was read comes to, in a campaign that shall start at an instant. The error may be that
// of putting it into its campaign.
func (v *visit) check(order listOrder, start time.Time, file peoplefile.File) (listCheck, error) {
	c := listCheck{
		Order: order, Campaign: order.Campaign, Recipients: len(file.Rows), BadRows: file.BadRows(),
		Duplicates: len(file.Duplicates), LeftOut: len(file.LeftOut), Understood: file.Understood,
		KeptUntil: time.Now().Add(kept.For).UTC(), CheckedAt: time.Now().UTC(), StartsAt: start,
	}
	c.Understood.Columns = firstOf(c.Understood.Columns, pageRows)
	c.Understood.PassedOver = firstOf(c.Understood.PassedOver, pageRows)
	c.Understood.Warnings = firstOf(c.Understood.Warnings, pageRows/2)
	c.Aside = asideOf(file)
	for _, r := range file.Sample() {
		c.Sample = append(c.Sample, r.EmailAddress)
	}
	for _, bad := range firstOf(file.Invalid, mostFaults) {
		c.Faults = append(c.Faults, inForm(bad.String()))
	}
	for _, guess := range firstOf(file.Guesses, pageRows) {
		text := guess.String()
		for _, flag := range guess.Flags {
			text += "; to be certain, " + inForm(flag.String())
		}
		c.Guesses = append(c.Guesses, text)
	}
	if len(file.Rows) == 0 {
		return c, nil
	}
	var err error
	request := tasks.BulkRequest{Campaign: order.Campaign, Recipients: file.Recipients()}
	if c.Campaign, err = v.desk.MakeName(v.ctx, request); err != nil {
		return c, err
	}
	r, fresh, err := v.desk.CheckBulk(v.ctx, c.Campaign, file.Rows, start)
	c.Fresh, c.Known, c.Forgotten = fresh, r.Known, r.Forgotten
	if err != nil {
		return c, err
	}
	campaign, err := v.desk.Campaign(v.ctx, c.Campaign)
	switch {
	case errors.Is(err, tasks.ErrNotFound):
		return c, nil
	case err != nil:
		return c, err
	case campaign.State == tasks.CampaignScheduled:
		c.StartsAt, c.Scheduled = campaign.ScheduledAt, true
	}
	if c.Known > 0 && campaign.Dead > 0 {
		var plan desk.MendPlan
		plan, err = v.deadOf(c.Campaign, file.Recipients(), c.CheckedAt)
		c.Dead = len(plan.Retry)
	}
	return c, err
}

// deadOf gives how those of a list are sent again who were dead in a campaign at an instant. Dead letters that cannot
// be read are left as they are.
func (v *visit) deadOf(
	campaign string, recipients []tasks.Recipient, cut time.Time,
) (plan desk.MendPlan, err error) {
	plan, err = v.desk.DeadOf(v.ctx, campaign, recipients)
	plan.Retry = slices.DeleteFunc(plan.Retry, func(m desk.Mend) bool { return m.Letter.FailedAt.After(cut) })
	_, err = store.SplitPartial(err)
	return plan, err
}

// asideOf tells of rows that are not invited as they stand there, and of what else was passed over, as much as a page
// shows.
func asideOf(file peoplefile.File) (said []string) {
	u := file.Understood
	for _, line := range slices.Concat(u.Preamble, u.Footer) {
		said = append(said, fmt.Sprintf("line %d was passed over", line))
	}
	for _, c := range u.Options {
		said = append(said, fmt.Sprintf("the column %q looks like %s and is not taken", c.Column, c.Field))
	}
	if u.Further > 0 {
		said = append(said, count(u.Further)+" × further addresses of a person, which are not used")
	}
	if n := len(file.Cleaned); n > 0 {
		said = append(said, count(n)+" × an address was cleaned")
	}
	for _, l := range file.LeftOut {
		if l.Why != peoplefile.NoAddress {
			said = append(said, l.Place.String()+" "+l.Reason)
		}
	}
	for _, d := range file.Duplicates {
		if d.Cleaned {
			said = append(said, d.Place.String()+" is the address of "+d.First.String()+", once it is cleaned")
		}
	}
	for _, n := range file.Notes {
		said = append(said, n.Place.String()+" "+n.Text)
	}
	if more := len(said) - pageRows; more > 0 {
		said = append(said[:pageRows], "and "+count(more)+" more")
	}
	return said
}

func firstOf[T any](list []T, most int) []T { return list[:min(most, len(list))] }

// take serves an action whose form is large and holds a file.
func (s *Server) take(path string, needs Access, do func(*visit) error) {
	s.mux.HandleFunc("POST "+path, s.guarded(needs, func(v *visit) error {
		_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(actTime + formTime))
		v.r.Body = httpd.Body(v.w, v.r, mostList+mostForm)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), actTime)
		defer cancel()
		v.ctx = ctx
		return do(v)
	}))
}

// place takes one of the places in which lists are read, once one is free.
func (v *visit) place() (leave func(), err error) {
	waiting, cancel := context.WithTimeout(v.ctx, formTime)
	defer cancel()
	select {
	case v.server.lists <- struct{}{}:
		return func() { <-v.server.lists }, nil
	case <-waiting.Done():
		return nil, &problem{http.StatusServiceUnavailable, "Other lists are being read", "Try again in a moment."}
	}
}

// uploadList checks a list and keeps it until it is confirmed.
func uploadList(v *visit) error {
	leave, err := v.place()
	if err != nil {
		return err
	}
	defer leave()
	order, data, err := v.readList()
	if err != nil {
		return err
	}
	refuse := func(why string) error {
		v.render(http.StatusUnprocessableEntity, "upload", false, order.form(why))
		return nil
	}
	if len(data) == 0 {
		return refuse("The list is empty, or none was chosen.")
	}
	if order.Campaign != "" {
		if err := tasks.ValidateCampaign(order.Campaign); err != nil {
			return refuse(sentence(err.Error()))
		}
	}
	start, err := order.start()
	if err != nil {
		return refuse(sentence(inForm(err.Error())))
	}
	file, err := order.read(data)
	if err != nil {
		return refuse(sentence(inForm(err.Error())))
	}
	check, err := v.check(order, start, file)
	if err != nil && statusOf(err) != 0 {
		return refuse(sentence(inForm(err.Error())))
	}
	if err != nil {
		return err
	}
	if err := v.keep(data, check, file.Rows); err != nil {
		return err
	}
	what := "checked a list"
	if check.Campaign != "" {
		what += " for campaign " + check.Campaign
	}
	return v.done("/list", what+"; nobody is invited by that", check.Recipients)
}

// readList reads the form of an upload. The file is not written anywhere on its way.
func (v *visit) readList() (order listOrder, data []byte, err error) {
	order.Fields = map[string]string{}
	parts, err := v.r.MultipartReader()
	if err != nil {
		return order, nil, errForm
	}
	for n, left := 0, mostField; n < mostParts; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return order, data, nil
		}
		if err != nil {
			return order, nil, unreadForm(err)
		}
		most := int64(left)
		if part.FormName() == "list" {
			most = mostList
		}
		value, err := io.ReadAll(io.LimitReader(part, most+1))
		if err != nil {
			return order, nil, unreadForm(err)
		}
		if int64(len(value)) > most {
			return order, nil, errTooLarge
		}
		if part.FormName() != "list" {
			left -= len(value)
		}
		switch name, text := part.FormName(), strings.TrimSpace(string(value)); name {
		case "list":
			data, order.File = value, path.Base(strings.ReplaceAll(part.FileName(), `\`, "/"))
		case "campaign":
			order.Campaign = text
		default:
			order.Fields[name] = text
		}
	}
	return order, nil, errForm
}

var errTooLarge = &problem{http.StatusRequestEntityTooLarge, "The list is too large",
	fmt.Sprintf("A list has at most %d MiB, and what is filled in beside it at most %d KiB. Split it.", mostList>>20,
		mostField>>10)}

// unreadForm tells of a form that did not come.
func unreadForm(err error) error {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return errTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{http.StatusRequestTimeout, "The list came too slowly", "Nothing was done. Try again."}
	}
	return &problem{http.StatusBadRequest, "The list broke off on its way", "Nothing was done. Try again."}
}

// keep keeps a list instead of the one that this browser had uploaded before, and has Clerk asked about it.
func (v *visit) keep(data []byte, check listCheck, rows []peoplefile.Row) error {
	if before, had := v.kept(); had {
		if _, err := before.Drop(v.ctx); err != nil {
			return err
		}
	}
	list, err := v.server.kept.Keep(v.ctx, v.actor, data)
	if errors.Is(err, kept.ErrFull) {
		return &problem{http.StatusServiceUnavailable, "Too many lists wait to be confirmed",
			"Each is kept for half an hour at most. Confirm or throw away one of them, or try again later."}
	}
	if err == nil {
		err = list.Note(v.ctx, kept.Check, check)
	}
	if err != nil {
		return err
	}
	v.cookie(listCookie, list.Secret(), kept.For)
	v.server.askAbout(list, v.desk, check, rows)
	return nil
}

// kept gives the list that this browser has uploaded.
func (v *visit) kept() (*kept.List, bool) {
	cookie, err := v.r.Cookie(listCookie)
	if err != nil {
		return nil, false
	}
	return v.server.kept.Open(cookie.Value, v.actor)
}

var errNoList = &problem{http.StatusNotFound, "No list is kept",
	"A list is kept for half an hour, and for the browser that has uploaded it. It goes earlier when an address is " +
		"forgotten. Upload it again."}

// checked gives the list of this browser and its check.
func (v *visit) checked() (list *kept.List, c listCheck, err error) {
	list, is := v.kept()
	if !is {
		return nil, c, errNoList
	}
	err = list.Read(v.ctx, kept.Check, &c)
	if errors.Is(err, kept.ErrGone) {
		err = errNoList
	}
	return list, c, err
}

// listSheet is a list that is not sent yet, and what would become of it.
type listSheet struct {
	listCheck
	ID       string
	From, To int // of the faults, which are shown
	Shown    []string
	Clerk    answers
}

// Next is where the faults go on; 0 at the end.
func (l listSheet) Next() int {
	if l.To < len(l.Faults) {
		return l.To
	}
	return 0
}

// MoreFaults is how many bad rows are not named.
func (l listSheet) MoreFaults() bool { return len(l.Faults) == mostFaults }

func list(v *visit) (any, error) {
	list, check, err := v.checked()
	if err != nil {
		return nil, err
	}
	sheet := listSheet{listCheck: check, ID: list.ID}
	sheet.From = min(max(0, number(v.r.FormValue("from"))), len(check.Faults))
	sheet.To = min(len(check.Faults), sheet.From+faultRows)
	sheet.Shown = check.Faults[sheet.From:sheet.To]
	if err := list.Read(v.ctx, kept.Answers, &sheet.Clerk); err != nil && !errors.Is(err, kept.ErrGone) {
		return nil, err
	}
	sheet.Clerk.settle()
	return sheet, nil
}

// listTask is the id of the task that a list becomes: confirming it twice finds the first one.
func listTask(id string) string { return "page-list-" + id }

var errOtherList = &problem{http.StatusConflict, "This list is not the one that was shown",
	"Another one was uploaded in this browser since, or it is kept no longer. Look at the list before it is sent."}

// sendList puts the list into its campaign, the bytes that were checked, once, and sends those again who were shown as
// dead there.
func sendList(v *visit) error {
	id := v.r.PostFormValue("list")
	release, err := v.alone()
	if err != nil {
		return err
	}
	defer release()
	list, check, request, err := v.confirmed(id)
	if errors.Is(err, errNoList) {
		task, err := v.desk.Status(v.ctx, listTask(id))
		if err != nil || task.Bulk == nil {
			return errOtherList
		}
		return v.gone("/campaigns/" + url.PathEscape(task.Bulk.Campaign)) // it was sent
	}
	if err != nil {
		return err
	}
	task, err := v.desk.BulkInvite(v.ctx, request, tasks.ID(listTask(list.ID)), tasks.At(check.StartsAt))
	if err != nil && !errors.Is(err, tasks.ErrExists) {
		return err
	}
	exists := err != nil && task.Bulk.Added == 0 // else the first confirmation broke off, and this one has finished it
	what, n := "put a list into campaign "+request.Campaign, task.Bulk.Added
	if exists {
		what, n = "sent a list once more to campaign "+request.Campaign, 0
	}
	retried, err := v.retryDead(check, request)
	if retried > 0 {
		what, n = what+" and retried "+letterCount(retried), n+retried
	}
	if err != nil {
		v.note(what, n)
		return err
	}
	if _, err := list.Drop(v.ctx); err != nil {
		v.server.Log.Warn().Err(err).Msg("a list was sent, and is kept until its time is over")
	}
	v.cookie(listCookie, "", -1)
	to := "/campaigns/" + url.PathEscape(request.Campaign)
	if exists && retried == 0 {
		return v.gone(to)
	}
	return v.done(to, what, n)
}

// alone takes the list of this browser, once no other confirmation has it: one adds all recipients, and can say so.
func (v *visit) alone() (release func(), err error) {
	list, is := v.kept()
	if !is {
		return func() {}, nil
	}
	db := store.Open(v.server.Redis, v.server.Namespace)
	for {
		release, err = db.Take(v.ctx, listTask(list.ID))
		if !errors.Is(err, store.ErrBusy) {
			return release, err
		}
		if err := policy.Sleep(v.ctx, alonePause); err != nil {
			return nil, err
		}
	}
}

// retryDead sends those of a list again who were dead in its campaign when it was checked, if that was ordered.
func (v *visit) retryDead(check listCheck, request tasks.BulkRequest) (retried int, err error) {
	if check.Retry() == 0 {
		return 0, nil
	}
	plan, err := v.deadOf(request.Campaign, request.Recipients, check.CheckedAt)
	if err != nil {
		return 0, err
	}
	all, err := v.desk.CarryOut(v.ctx, plan, func(desk.Retried) {})
	return len(all), err
}

// confirmed gives the list of this browser and what it asks for, as it was shown to who confirms it. The error is
// errNoList if it is another one, or kept no longer.
func (v *visit) confirmed(
	id string,
) (list *kept.List, check listCheck, request tasks.BulkRequest, err error) {
	list, check, err = v.checked()
	if err == nil && list.ID != id {
		err = errNoList
	}
	if err != nil {
		return nil, check, request, err
	}
	for field, n := range map[string]int{"skip_invalid": check.BadRows, "accept_guesses": len(check.Guesses)} {
		if n > 0 && v.r.PostFormValue(field) == "" {
			return nil, check, request, &problem{http.StatusUnprocessableEntity, "The list is not as it should be",
				"Nothing was sent. Correct it and upload it again, or tick that it is meant so."}
		}
	}
	file, err := v.readAgain(list, check.Order)
	return list, check, tasks.BulkRequest{Campaign: check.Campaign, Recipients: file.Recipients()}, err
}

// readAgain reads a list that is kept once more.
func (v *visit) readAgain(list *kept.List, order listOrder) (file peoplefile.File, err error) {
	leave, err := v.place()
	if err != nil {
		return file, err
	}
	defer leave()
	data, err := list.Bytes(v.ctx)
	if errors.Is(err, kept.ErrGone) {
		err = errNoList
	}
	if err != nil {
		return file, err
	}
	return order.read(data)
}

// gone leads to another page without anything having been done.
func (v *visit) gone(to string) error {
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// dropList throws the list of this browser away.
func dropList(v *visit) error {
	if list, had := v.kept(); had {
		if _, err := list.Drop(v.ctx); err != nil {
			return err
		}
	}
	v.cookie(listCookie, "", -1)
	return v.gone("/campaigns")
}

// askAgain has Clerk asked once more about the list of this browser.
func askAgain(v *visit) error {
	list, check, err := v.checked()
	if err != nil {
		return err
	}
	file, err := v.readAgain(list, check.Order)
	if err != nil {
		return err
	}
	v.server.askAbout(list, v.desk, check, file.Rows)
	return v.gone("/list")
}
