package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

type deadLetterCommand struct {
	List   deadListCommand   `cmd:"" aliases:"ls" help:"List dead letters, the oldest first."`
	Show   deadShowCommand   `cmd:"" help:"Show one dead letter with its history and payload."`
	Retry  deadRetryCommand  `cmd:"" help:"Try dead letters again, through the same limits."`
	Delete deadDeleteCommand `cmd:"" help:"Delete dead letters for good."`
	Export deadExportCommand `cmd:"" help:"Write dead letters as CSV, or with --json as JSON lines."`
}

// LettersFlags choose dead letters; all that is given must match. kong calls AfterApply when it has read them.
type LettersFlags struct {
	IDs      []string `arg:"" optional:"" name:"id" help:"Dead letters by id."`
	Code     string   `placeholder:"C" help:"Those with this code, such as duplicate_record."`
	Campaign string   `placeholder:"NAME" help:"Those of this campaign."`
	Reason   string   `placeholder:"R" help:"Those that were rejected, exhausted or invalid."`

	unreadable bool // those too that cannot be read, if they are named
	inOrder    bool // of one campaign in the order of its list
}

// AfterApply checks the reason. An id that is given twice is meant once.
func (f *LettersFlags) AfterApply() (err error) {
	f.IDs = settings.Distinct(f.IDs)
	if f.Reason != "" {
		reasons := []string{string(fate.ReasonRejected), string(fate.ReasonExhausted), string(fate.ReasonInvalid)}
		f.Reason, err = settings.OneOf("--reason", f.Reason, reasons...)
	}
	return err
}

// everyFlag chooses all dead letters.
type everyFlag struct {
	All bool `help:"Every dead letter."`
}

// chosen tells whether anything was said.
func (f *LettersFlags) chosen() bool {
	return len(f.IDs) > 0 || f.Code != "" || f.Campaign != "" || f.Reason != ""
}

func (f *LettersFlags) letters() desk.Letters {
	return desk.Letters{
		IDs: f.IDs, Code: f.Code, Campaign: f.Campaign, Reason: f.Reason, Unreadable: f.unreadable, InOrder: f.inOrder,
	}
}

// read does something for all that are chosen, which changes nothing.
func (f *LettersFlags) read(a *app, do func(deadletter.Entry) error) error {
	found, err := a.desk.ReadLetters(a.ctx, f.letters(), do)
	return f.judge(a, found, err)
}

// judge says why nothing was found, if something may be misspelled: an unknown campaign is an error, and for a code
// that nobody has those are named that are there.
func (f *LettersFlags) judge(a *app, found desk.FoundLetters, err error) error {
	if err != nil || found.Matched > 0 || len(f.IDs) > 0 {
		return err
	}
	if f.Campaign != "" {
		if _, err := a.desk.Campaign(a.ctx, f.Campaign); err != nil {
			return err
		}
	}
	if f.Code == "" || len(found.Codes) == 0 {
		return nil
	}
	text := fmt.Sprintf("no dead letter has the code %s; those that are there: %s", f.Code,
		counted("", found.Codes, ""))
	if a.out.note("%s", sentence(text)); a.out.json && !a.out.told {
		a.out.failure("no_match", text, []badRow{}, view{"codes": found.Codes})
	}
	return nil
}

type deadListCommand struct {
	LettersFlags
	PageFlags
	listFlag
}

func (c *deadListCommand) Run(a *app) error {
	_, _, err := c.list(a.out, "No dead letters.", "id,for,cause,failed_at", func(write func(view) error) error {
		return c.read(a, func(e deadletter.Entry) error {
			if a.out.json {
				return write(letterView(e))
			}
			return write(view{"id": e.ID, "for": aboutWhom(e), "cause": causeOf(e), "failed_at": known(e.FailedAt)})
		})
	})
	return err
}

const letterColumns = "id,task_id,type,campaign,email_address,invitation_id,reason,http_status,code,message," +
	"trace_id,attempts,failed_at"

func letterView(e deadletter.Entry) view {
	f := e.Failure
	return view{
		"id": e.ID, "task_id": e.TaskID, "type": e.Type, "campaign": known(e.Campaign), "reason": f.Reason,
		"email_address": known(e.EmailAddress), "invitation_id": known(e.InvitationID), "code": known(f.Code),
		"http_status": known(f.HTTPStatus), "message": known(f.Message), "trace_id": known(f.TraceID),
		"attempts": e.Attempts, "failed_at": known(e.FailedAt), "retrying": e.Next != "",
	}
}

// requestColumns are the fields of a request, by which a file of dead letters can be corrected.
const requestColumns = "public_metadata,redirect_url,notify,ignore_existing,expires_in_days,template_slug," +
	"on_duplicate,on_existing_user"

// requestView is letterView with the fields of the request, if the letter has one.
func requestView(e deadletter.Entry) view {
	v := letterView(e)
	for field := range strings.SplitSeq(requestColumns, ",") {
		v[field] = nil
	}
	r, err := retry.Request(e)
	if err != nil {
		return v
	}
	v["email_address"], v["redirect_url"], v["template_slug"] = r.EmailAddress, known(r.RedirectURL), known(r.TemplateSlug)
	v["notify"], v["ignore_existing"], v["expires_in_days"] = !r.NoNotify, r.IgnoreExisting, known(r.ExpiresInDays)
	v["on_duplicate"], v["on_existing_user"] = known(r.OnDuplicate), known(r.OnExistingUser)
	if data, err := json.Marshal(r.PublicMetadata); err == nil && len(r.PublicMetadata) > 0 {
		v["public_metadata"] = json.RawMessage(data)
	}
	return v
}

func attemptView(h fate.Attempt) view {
	return view{
		"at": known(h.At), "http_status": known(h.HTTPStatus), "code": known(h.Code), "message": known(h.Message),
		"trace_id": known(h.TraceID), "found_before_sending": h.FoundBeforeSending,
	}
}

func causeOf(e deadletter.Entry) string {
	return cause(tasks.FailureOf(e.Failure))
}

func aboutWhom(e deadletter.Entry) string {
	if e.Type == tasks.TypeRevoke && e.Campaign != "" {
		return "campaign " + e.Campaign
	}
	return e.EmailAddress + e.InvitationID
}

type deadShowCommand struct {
	ID string `arg:"" help:"The dead letter's id."`
}

func (c *deadShowCommand) Run(a *app) error {
	e, err := a.desk.Letter(a.ctx, c.ID)
	if err != nil {
		return err
	}
	a.out.say("Dead letter %s", e.ID)
	for _, line := range [][2]string{
		{"task", e.TaskID + " (" + e.Type + ")"}, {"campaign", e.Campaign}, {"for", aboutWhom(e)},
		{"cause", causeOf(e)}, {"trace id", e.Failure.TraceID},
		{"failed", local(e.FailedAt) + ", after " + plural(e.Attempts, "attempt")},
		{"to do", desk.Advice(string(e.Failure.Reason), e.Failure.Code)},
	} {
		if line[1] != "" {
			a.out.say("  %-9s %s", line[0], line[1])
		}
	}
	for _, h := range e.History {
		found := ""
		if h.FoundBeforeSending {
			found = " (found by a look-up; no call was made)"
		}
		a.out.say("    %s  %s%s", local(h.At), h.Words(), found)
	}
	v := letterView(e)
	v["queue"], v["history"] = e.Queue, views(e.History, attemptView)
	const indent = "            "
	var payload bytes.Buffer
	if err := json.Indent(&payload, e.Payload, indent, "  "); err == nil {
		v["payload"] = json.RawMessage(e.Payload)
		a.out.say("  payload   %s", payload.String())
	} else { // garbage is kept byte for byte
		v["payload"], v["payload_base64"] = nil, e.Payload
		a.out.say("  payload   %q (no JSON)", e.Payload)
	}
	a.out.object(v)
	return nil
}

// changeFlags are those of commands that change dead letters.
type changeFlags struct {
	LettersFlags
	everyFlag
	DryRun bool `help:"Only show which ones."`
}

// AfterApply wants dead letters to be chosen: no choice would be all of them. kong calls it.
func (c *changeFlags) AfterApply() error {
	if !c.chosen() && !c.All {
		return usage("say which dead letters: by id, --code, --campaign, --reason or --all")
	}
	return c.LettersFlags.AfterApply()
}

type deadDeleteCommand struct {
	changeFlags
	Yes bool `help:"Do not ask."`
}

func (c *deadDeleteCommand) Run(a *app) error {
	c.unreadable = true
	ask := !c.Yes && !c.DryRun
	count := 0
	if ask {
		counted, err := a.desk.CountLetters(a.ctx, c.letters(), 0)
		if _, err = store.SplitPartial(err); err != nil {
			return err
		}
		if count = counted.N; count == 0 {
			unreadable, err := store.SplitPartial(c.read(a, func(deadletter.Entry) error { return nil }))
			if err == nil {
				a.out.say("%s deleted.", plural(count, "dead letter"))
			}
			return errors.Join(err, unreadable)
		}
	}
	if err := a.confirm(!ask, "Delete "+plural(count, "dead letter")+" for good?"); err != nil {
		return err
	}
	if c.DryRun {
		return c.show(a)
	}
	count = 0
	found, err := a.desk.DeleteLetters(a.ctx, c.letters(), func(deleted []deadletter.Entry) {
		count += len(deleted)
		for _, e := range deleted {
			a.out.object(view{"id": e.ID, "dry_run": false})
		}
		if count > 0 {
			a.work.parts(count, "dead letter", "deleted")
		}
	})
	a.out.say("%s deleted.", plural(count, "dead letter"))
	return c.judge(a, found, desk.PartlyDone(count, err))
}

// show shows which letters would be deleted.
func (c *deadDeleteCommand) show(a *app) error {
	count := 0
	err := c.read(a, func(e deadletter.Entry) error {
		a.out.say("%s  %s  %s", e.ID, aboutWhom(e), codeOr(e.Failure.Code))
		a.out.object(view{"id": e.ID, "dry_run": true})
		count++
		return nil
	})
	a.out.say("%s would be deleted.", plural(count, "dead letter"))
	return err
}

type deadExportCommand struct {
	LettersFlags
	everyFlag
	outputFlag
}

func (c *deadExportCommand) Run(a *app) error {
	c.inOrder = true
	return c.export(a.out, letterColumns+","+requestColumns, func(write func(view) error) error {
		return c.read(a, func(e deadletter.Entry) error { return write(requestView(e)) })
	})
}
