package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/httpd"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// mostUpload bounds the body of an upload.
const mostUpload = peoplefile.DefaultMaxBytes

// ListOptions say how a list is read: the flags of enqueue bulk-invite.
type ListOptions struct {
	SkipInvalid     bool     `query:"skip_invalid" doc:"Go on without bad rows; the answer names them."`
	EmailColumn     string   `query:"email_column" maxLength:"200" doc:"Column that holds the addresses."`
	Map             []string `query:"map,explode" nullable:"false" maxItems:"50" example:"redirect_url=Link" doc:"Take a field from a column: FIELD=COLUMN."`
	NoHeader        bool     `query:"no_header" doc:"The first line is a person; columns have numbers."`
	Sheet           string   `query:"sheet" maxLength:"31" doc:"The sheet of an .xlsx."`
	Encoding        string   `query:"encoding" maxLength:"40" example:"windows-1252" doc:"What a CSV is written in if not UTF-8."`
	IgnoreColumns   bool     `query:"ignore_columns" doc:"Ignore columns that are no field of an invitation."`
	Split           bool     `query:"split" doc:"Invite each address of a cell that holds several."`
	IncludeOptedOut bool     `query:"include_opted_out" doc:"Invite also people whom the list marks as not to be written to."`
	RetryDead       bool     `query:"retry_dead" doc:"Retry those of the list who are dead in the campaign."`

	Metadata       string `query:"public_metadata" maxLength:"8192" example:"{\"plan\":\"pro\"}" doc:"For rows that say none, as JSON."`
	RedirectURL    string `query:"redirect_url" maxLength:"4096" doc:"For rows that say none, as are the next ones."`
	Notify         string `query:"notify" enum:"true,false"`
	IgnoreExisting bool   `query:"ignore_existing"`
	ExpiresInDays  int    `query:"expires_in_days" minimum:"1" maximum:"365"`
	TemplateSlug   string `query:"template_slug" enum:"invitation,waitlist_invitation"`
	OnDuplicate    string `query:"on_duplicate" enum:"dead-letter,accept,resend"`
	OnExistingUser string `query:"on_existing_user" enum:"dead-letter,skip"`
}

// read gives the options as the reader takes them.
func (l ListOptions) read() (peoplefile.Options, error) {
	bad := func(field, reason string) error { return &tasks.InvalidError{Index: -1, Field: field, Reason: reason} }
	o := peoplefile.Options{
		Name: "the list", EmailColumn: l.EmailColumn, Map: map[string]string{}, NoHeader: l.NoHeader, Encoding: l.Encoding,
		Sheet: l.Sheet, Split: l.Split, IncludeOptedOut: l.IncludeOptedOut, IgnoreColumns: l.IgnoreColumns,
		MaxBytes: mostUpload, MaxRows: tasks.MaxRecipients,
	}
	for _, text := range l.Map {
		field, column, err := peoplefile.ParseMap(text)
		if err != nil {
			return o, bad("map", settings.FlagsAsKeys(err.Error()))
		}
		if _, twice := o.Map[field]; twice || field == "email_address" && l.EmailColumn != "" {
			return o, bad("map", "two columns are named for "+field)
		}
		o.Map[field] = column
	}
	if l.Encoding != "" {
		if err := peoplefile.CheckEncoding(l.Encoding); err != nil {
			return o, bad("encoding", err.Error())
		}
	}
	o.Defaults = tasks.Recipient{
		EmailAddress: "someone@example.com", RedirectURL: l.RedirectURL, NoNotify: l.Notify == "false",
		IgnoreExisting: l.IgnoreExisting, ExpiresInDays: l.ExpiresInDays, TemplateSlug: l.TemplateSlug,
		OnDuplicate: tasks.OnDuplicate(l.OnDuplicate), OnExistingUser: tasks.OnExistingUser(l.OnExistingUser),
	}
	if l.Metadata != "" {
		err := peoplefile.DecodeJSON([]byte(l.Metadata), &o.Defaults.PublicMetadata)
		if err != nil || o.Defaults.PublicMetadata == nil {
			return o, bad("public_metadata", `is not a JSON object such as {"plan":"pro"}`)
		}
	}
	return o, o.Defaults.Validate() // so that a bad option is told once, and not for every row
}

// CampaignPath is the name of a campaign in a path.
type CampaignPath struct {
	Name string `path:"name" pattern:"^[A-Za-z0-9._-]{1,64}$" example:"spring"`
}

type uploadInput struct {
	Keyed
	Timed
	CampaignPath
	ListOptions
	DryRun string `query:"dry_run" enum:"true,clerk" doc:"true: check list and campaign, and enqueue nothing. clerk: ask Clerk too, as a task."`

	ctx huma.Context
}

// Resolve is for huma: the body is read piece by piece.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.ctx = ctx
	return nil
}

// Upload is what an upload has come to.
type Upload struct {
	Task
	Exists      bool       `json:"exists" doc:"Whether an earlier request with the same Idempotency-Key has done it."`
	Added       int        `json:"added" doc:"Recipients new to the campaign."`
	Known       int        `json:"known" doc:"Recipients that the campaign had already."`
	Forgotten   int        `json:"forgotten" doc:"Left out, because they were forgotten on request."`
	Invalid     int        `json:"invalid" doc:"Bad rows, which skip_invalid leaves out."`
	InvalidRows []Fault    `json:"invalid_rows" nullable:"false" doc:"The first 1,000 of them."`
	Duplicates  int        `json:"duplicates"`
	KnownDead   int        `json:"known_dead" doc:"Those of the list who were dead in the campaign before."`
	Retried     int        `json:"retried"`
	Understood  Understood `json:"understood"`
}

// Checked is what an upload would come to.
type Checked struct {
	DryRun      bool       `json:"dry_run"`
	Campaign    string     `json:"campaign"`
	Recipients  int        `json:"recipients"`
	WouldAdd    int        `json:"would_add"`
	Known       int        `json:"known"`
	Forgotten   int        `json:"forgotten"`
	Invalid     int        `json:"invalid"`
	InvalidRows []Fault    `json:"invalid_rows" nullable:"false"`
	Duplicates  int        `json:"duplicates"`
	ScheduledAt *time.Time `json:"scheduled_at"`
	Understood  Understood `json:"understood"`
}

// Understood says how a list was read.
type Understood struct {
	Form       string   `json:"form"`
	Sheet      *string  `json:"sheet"`
	Export     *string  `json:"export" doc:"The known program that wrote it."`
	Rows       int      `json:"rows"`
	Columns    []Use    `json:"columns" nullable:"false"`
	PassedOver []string `json:"passed_over" nullable:"false" doc:"Columns that were ignored."`
	LeftOut    int      `json:"left_out" doc:"Rows that are no recipients, such as people who have opted out."`
	Guesses    []string `json:"guesses" nullable:"false"`

	LeftOutRows []Fault  `json:"left_out_rows" nullable:"false" doc:"The first 1,000 of them, and why."`
	NotMapped   []Use    `json:"not_mapped" nullable:"false" doc:"Columns that look like options; only map takes them."`
	Around      []int    `json:"passed_over_lines" nullable:"false" doc:"Lines in front of the list and at its end."`
	Further     int      `json:"further_addresses" doc:"People who have more addresses than the one that counts."`
	Cleaned     int      `json:"cleaned" doc:"Addresses that did not stand there as they are used."`
	Notes       []Fault  `json:"notes" nullable:"false" doc:"The first 1,000 things to know about rows."`
	Warnings    []string `json:"warnings" nullable:"false" doc:"What cannot be known."`
	Sample      []string `json:"sample" nullable:"false" doc:"The first addresses."`
}

// Use is a column and the field that it sets.
type Use struct {
	Column string `json:"column"`
	Field  string `json:"field"`
}

func understood(f peoplefile.File) Understood {
	u := Understood{
		Form: f.Understood.Form, Export: known(f.Understood.Export), Rows: f.Understood.Rows, Columns: []Use{},
		PassedOver: append([]string{}, f.Understood.PassedOver...), LeftOut: len(f.LeftOut), Guesses: []string{},
		LeftOutRows: []Fault{}, Sheet: known(f.Understood.Sheet), NotMapped: []Use{}, Notes: []Fault{}, Sample: []string{},
		Around:  append(append([]int{}, f.Understood.Preamble...), f.Understood.Footer...),
		Further: f.Understood.Further, Cleaned: len(f.Cleaned), Warnings: append([]string{}, f.Understood.Warnings...),
	}
	for _, c := range f.Understood.Options {
		u.NotMapped = append(u.NotMapped, Use{c.Column, c.Field})
	}
	for _, n := range f.Notes[:min(mostFaults, len(f.Notes))] {
		u.Notes = append(u.Notes, faultOf(n.Place, "", n.Text))
	}
	for _, r := range f.Sample() {
		u.Sample = append(u.Sample, r.EmailAddress)
	}
	for _, l := range f.LeftOut[:min(mostFaults, len(f.LeftOut))] {
		u.LeftOutRows = append(u.LeftOutRows, faultOf(l.Place, "", l.Reason))
	}
	for _, c := range f.Understood.Columns {
		u.Columns = append(u.Columns, Use{c.Column, c.Field})
	}
	for _, g := range f.Guesses[:min(mostFaults, len(f.Guesses))] {
		u.Guesses = append(u.Guesses, g.String())
	}
	return u
}

// upload answers an upload.
func (s *Server) upload(ctx context.Context, a *asker, in *uploadInput) (*uploadOutput, error) {
	options, err := in.ListOptions.read()
	if err != nil {
		return nil, err
	}
	at, past, err := in.Timed.when()
	if err != nil {
		return nil, err
	}
	release, err := s.alone(ctx, a)
	if p, is := errors.AsType[*Problem](err); is {
		return nil, p.early()
	}
	if err != nil {
		return nil, err
	}
	defer release()
	file, err := s.readList(ctx, a, in, options)
	if err != nil {
		return nil, err
	}
	if err := in.judge(file); err != nil {
		return nil, err
	}
	if in.DryRun != "" {
		if past != nil {
			return nil, past
		}
		return s.rehearse(ctx, a, in, file, at)
	}
	return s.add(ctx, a, in, file, at, past)
}

// readList reads the body, in one of few places: a list takes memory.
func (s *Server) readList(
	ctx context.Context, a *asker, in *uploadInput, options peoplefile.Options,
) (file peoplefile.File, err error) {
	r, w := humago.Unwrap(in.ctx)
	form, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(listTypes(), form) {
		return file, problem(http.StatusUnsupportedMediaType, mediaType, "the body must be JSON, CSV or .xlsx, and the "+
			"header Content-Type must say so: %s", strings.Join(listTypes(), ", ")).early()
	}
	for _, places := range []chan struct{}{a.uploads, s.uploads} {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			return file, problem(http.StatusTooManyRequests, busy, "too many uploads are under way").after(1).early()
		}
	}
	if r.ContentLength > mostUpload {
		return file, problem(http.StatusRequestEntityTooLarge, tooLarge, "a list has at most %d bytes", mostUpload).early()
	}
	body := bufio.NewReader(httpd.Body(w, r, mostUpload))
	is, err := formOf(body)
	switch {
	case err != nil:
		return file, unread(err, mostUpload)
	case is != form:
		return file, faulty(invalid, "the list cannot be read; nothing was enqueued", []Fault{{
			Field: "body", Reason: "is not what its Content-Type says: a JSON array, a CSV or an .xlsx",
		}})
	}
	file, err = peoplefile.Read(body, options)
	if _, isFault := errors.AsType[*peoplefile.Error](err); err != nil && !isFault {
		return file, unread(err, mostUpload)
	}
	return file, err
}

// unread is the problem of a body that did not come.
func unread(err error, most int64) *Problem {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return problem(http.StatusRequestEntityTooLarge, tooLarge, "the body has at most %d bytes", most).early()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem(http.StatusRequestTimeout, badRequest, "the body came too slowly; nothing was done").early()
	}
	return problem(http.StatusBadRequest, badRequest, "the body broke off; nothing was done").early()
}

// The types of lists.
const (
	typeJSON     = "application/json"
	typeCSV      = "text/csv"
	typeWorkbook = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
)

func listTypes() []string { return []string{typeJSON, typeCSV, typeWorkbook} }

// formOf tells the type of a list by how it begins; empty if it is JSON and no array.
func formOf(body *bufio.Reader) (string, error) {
	if start, err := body.Peek(4); err == nil && peoplefile.IsWorkbook(start) {
		return typeWorkbook, nil
	}
	for n := 1; ; n++ {
		seen, err := body.Peek(n)
		switch {
		case len(seen) == n && !bytes.ContainsAny(seen[n-1:], " \t\r\n"):
			switch seen[n-1] {
			case '[':
				return typeJSON, nil
			case '{':
				return "", nil
			}
			return typeCSV, nil
		case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
			return typeCSV, nil
		case err != nil:
			return "", err
		}
	}
}

// judge refuses a list with bad rows or guesses, unless they were accepted.
func (in *uploadInput) judge(file peoplefile.File) error {
	faults := rowFaults(file)
	switch {
	case len(faults) > 0 && !in.SkipInvalid:
		return faulty(invalid, "some rows are wrong; nothing was enqueued (skip_invalid leaves them out)", faults)
	case len(file.Rows) == 0:
		return faulty(invalid, "nobody is left to invite; nothing was enqueued",
			append([]Fault{{Field: "body", Reason: "has no valid row"}}, faults...))
	case len(file.Guesses) > 0 && in.DryRun == "":
		var doubts []Fault
		for _, g := range file.Guesses {
			reason := g.What
			for _, flag := range g.Flags {
				reason += "; to be certain, " + flag.Key()
			}
			doubts = append(doubts, Fault{Line: g.Line, Field: "body", Reason: reason})
		}
		return faulty(guessed, "the list can be read in more than one way; nothing was enqueued", doubts)
	}
	return nil
}

// rowFaults gives the faults of the rows of a list.
func rowFaults(file peoplefile.File) []Fault {
	faults := make([]Fault, 0, len(file.Invalid))
	for _, row := range file.Invalid {
		faults = append(faults, faultOf(row.Place, row.Field, settings.FlagsAsKeys(row.Reason)))
	}
	return faults
}

// faultOf says something of a row, or of a field of it.
func faultOf(at peoplefile.Place, field, reason string) Fault {
	f := Fault{Line: at.Line, Field: cmp.Or(field, "row"), Reason: reason}
	if at.Element > 0 {
		f.Pointer = fmt.Sprintf("/%d", at.Element-1)
		if field != "" {
			f.Pointer += "/" + strings.ReplaceAll(field, ".", "/")
		}
		f.Line = 0
	}
	return f
}

type uploadOutput struct {
	Status   int
	Location string `header:"Location"`
	Replayed string `header:"Idempotency-Replayed"`
	Body     any
}

// add puts a list into its campaign, all of it or nothing.
func (s *Server) add(
	ctx context.Context, a *asker, in *uploadInput, file peoplefile.File, at time.Time, past error,
) (*uploadOutput, error) {
	o, err := s.once(ctx, a, file.Recipients())
	if err != nil {
		return nil, err
	}
	before := s.knows(ctx, a, o)
	if past != nil && !before {
		return nil, past
	}
	request := tasks.BulkRequest{Campaign: in.Name, Recipients: file.Recipients()}
	task, err := a.desk.BulkInvite(ctx, request, a.options(o), tasks.At(at))
	exists := errors.Is(err, tasks.ErrExists)
	switch _, refused := errors.AsType[*tasks.InvalidError](err); {
	case refused && before: // it was done, and the campaign was cancelled since
		if task, err = a.desk.Status(ctx, record.OwnedID(a.name, o.id)); err != nil {
			return nil, err
		}
		exists = true
	case err != nil && !exists:
		return nil, err
	}
	b := *task.Bulk
	out := Upload{
		Exists: exists, Added: b.Added, Known: b.Known, Forgotten: b.Forgotten, Invalid: file.BadRows(),
		Duplicates: len(file.Duplicates), Understood: understood(file), InvalidRows: firstFaults(file),
	}
	if b.Known > 0 && b.Dead > 0 && !exists {
		if out.KnownDead, out.Retried, err = a.retryDead(ctx, in, request); err != nil {
			return nil, err
		}
	}
	out.Task = a.task(task)
	answer := &uploadOutput{Status: http.StatusAccepted, Location: taskPath(task.ID), Body: out}
	if exists {
		answer.Replayed = "true"
	}
	return answer, nil
}

func firstFaults(file peoplefile.File) []Fault {
	faults := rowFaults(file)
	return faults[:min(mostFaults, len(faults))]
}

// retryDead counts those of a list who were dead in the campaign before, and retries them if that was asked.
func (a *asker) retryDead(ctx context.Context, in *uploadInput, r tasks.BulkRequest) (dead, retried int, err error) {
	plan, err := a.desk.DeadOf(ctx, r.Campaign, r.Recipients)
	if dead = len(plan.Retry); err != nil || !in.RetryDead {
		return dead, 0, err
	}
	all, err := a.desk.CarryOut(ctx, plan, func(desk.Retried) {})
	return dead, len(all), err
}

// addUploads adds the operation that puts recipients into a campaign.
func (s *Server) addUploads() {
	op := huma.Operation{
		OperationID: "upload", Method: http.MethodPost, Path: "/v1/campaigns/{name}/recipients", Tags: []string{"create"},
		Summary: "Put a list of recipients into a campaign, all or none",
		Description: "A JSON array of invitations, a CSV or an .xlsx whose header names their fields. At most 200,000 " +
			"rows.",
		DefaultStatus: http.StatusAccepted,
		Responses: map[string]*huma.Response{
			"200": s.response("With dry_run=true: what it would come to.", Checked{}),
			"202": s.response("The recipients are in the campaign; with dry_run=clerk: the task of the dry run.",
				Upload{}, Created{}),
		},
		RequestBody: &huma.RequestBody{Required: true},
	}
	register(s, op, []tokens.Scope{tokens.Enqueue}, s.upload)
	s.documentUpload(op)
}
