package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

type bulkCommand struct {
	File        string `arg:"" help:"The file, or - for standard input."`
	Campaign    string `placeholder:"NAME" help:"Its name. Default: one that derives from its rows and options."`
	DryRun      bool   `help:"Check the file and enqueue nothing. With a key, ask Clerk whom it would refuse."`
	SkipInvalid bool   `help:"Go on without bad rows, and write them to FILE.invalid.csv."`
	InvalidTo   string `placeholder:"PATH" help:"With --skip-invalid: where to write bad rows. Never overwrites."`
	ListFlags
	RecipientFlags
	settings.Clerk
	TaskFlags
	RetryDead  bool `help:"Retry those of the list who are dead in the campaign, with the options that are given now."`
	FailOnDead bool `help:"With --wait: exit 3 if a recipient is dead."`

	name  string // of the file, for messages
	aside string // where bad rows were written
}

// AfterApply refuses flags that would do nothing.
func (c *bulkCommand) AfterApply() error {
	if c.name = c.File; c.File == "-" {
		c.name = "standard input"
	}
	switch {
	case c.DryRun && c.Wait:
		return usage("--dry-run enqueues nothing, so there is nothing to --wait for")
	case c.DryRun && c.RetryDead:
		return usage("--dry-run enqueues nothing, so it retries nobody")
	case c.FailOnDead && !c.Wait:
		return usage("--fail-on-dead needs --wait")
	case c.InvalidTo != "" && !c.SkipInvalid:
		return usage("--invalid-to needs --skip-invalid")
	}
	return nil
}

func (c *bulkCommand) Run(a *app) error {
	file, err := c.read(a)
	if err != nil {
		return err
	}
	tell := a.out.note // on standard error, since the answer follows
	if c.DryRun {
		tell = a.out.say
	}
	understood(file, c.name, tell)
	if err := c.judgeInvalid(a, file); err != nil {
		return err
	}
	if err := c.judgeGuesses(a, file); err != nil {
		return err
	}
	request := tasks.BulkRequest{Campaign: c.Campaign, Each: file.Each()}
	if c.DryRun {
		return c.dryRun(a, file, request)
	}
	brief := file.Brief()
	task, err := a.desk.BulkInvite(a.ctx, request, c.options...)
	exists := errors.Is(err, tasks.ErrExists)
	if err != nil && !exists {
		if c.aside != "" {
			_ = os.Remove(c.aside) // or else the same command could not be repeated
		}
		if !errors.Is(err, tasks.ErrUnsure) {
			a.work.onlyRead() // or else the error says that nobody knows it
		}
		return err
	}
	return c.tell(a, brief, file.Rows, task, exists)
}

func (c *bulkCommand) read(a *app) (file peoplefile.File, err error) {
	sound := c.recipient
	sound.EmailAddress = "someone@example.com" // so that a bad option is told once, and not for every row
	if err := sound.Validate(); err != nil {
		return file, err
	}
	opts := c.readOptions()
	opts.Name, opts.Defaults = c.name, c.recipient
	if c.File == "-" {
		file, err = peoplefile.Read(a.stdin, opts)
	} else {
		a.readingFrom(c.File)
		file, err = peoplefile.ReadFile(c.File, opts)
	}
	if err != nil {
		return file, &usageError{error: err}
	}
	return file, nil
}

// judgeInvalid stops at bad rows, or sets them aside if that was asked.
func (c *bulkCommand) judgeInvalid(a *app, file peoplefile.File) error {
	bad := plural(file.BadRows(), "bad row")
	if len(file.Invalid) > 0 && !c.SkipInvalid {
		const format = "%s: %s; nothing was enqueued (--skip-invalid leaves them out)"
		return badRows(file, fmt.Errorf(format, c.name, bad))
	}
	switch {
	case c.InvalidTo == "" && c.File == "-" && c.SkipInvalid && !c.DryRun:
		return usage("--skip-invalid with standard input needs --invalid-to PATH")
	case len(file.Rows) == 0 && len(file.LeftOut) > 0 && c.DryRun:
		return nil
	case len(file.Rows) == 0 && len(file.LeftOut) > 0:
		err := fmt.Errorf("%s: everybody in it is left out (%s), so there is nothing to enqueue", c.name,
			reasons(file))
		return &usageError{error: err, more: view{"understood": understoodView(file)}}
	case len(file.Rows) == 0:
		return badRows(file, fmt.Errorf("%s has no valid row, so there is nothing to enqueue", c.name))
	case len(file.Invalid) == 0 || c.DryRun:
		return nil
	}
	path := cmp.Or(c.InvalidTo, c.File+".invalid.csv")
	var rows bytes.Buffer
	if err := peoplefile.WriteInvalid(&rows, file); err != nil {
		return fmt.Errorf("writing bad rows to %s: %w", path, err)
	}
	if !holds(path, rows.Bytes()) { // else the command is repeated
		aside, err := create(path)
		if err != nil {
			return err
		}
		c.aside = path
		a.work.makes(path)
		_, err = aside.Write(rows.Bytes())
		if err := errors.Join(err, aside.Close()); err != nil {
			return fmt.Errorf("writing bad rows to %s: %w", path, err)
		}
	}
	a.out.note("%s left out, see %s.", bad, path)
	return nil
}

// holds tells whether a file is there and has a content.
func holds(path string, content []byte) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(content)) {
		return false
	}
	was, err := os.ReadFile(path)
	return err == nil && bytes.Equal(was, content)
}

// badRows is an error that names all bad rows of a file.
func badRows(file peoplefile.File, err error) error {
	faulty := &usageError{error: err, more: view{"understood": understoodView(file)}}
	for _, row := range file.Invalid {
		faulty.rows = append(faulty.rows, badRowOf(row))
	}
	return faulty
}

// tell tells what was enqueued.
func (c *bulkCommand) tell(
	a *app, file peoplefile.File, rows []peoplefile.Row, task tasks.Task, exists bool,
) error {
	b := task.Bulk
	a.work.makes("")
	a.work.did("campaign %s has its recipients and goes on: enqueue campaign status %s", b.Campaign, b.Campaign)
	a.out.say("Campaign %s: %d added, %d known already, %s left out, %s: task %s, %s.", b.Campaign, b.Added, b.Known,
		plural(file.BadRows(), "bad row"), plural(len(file.Duplicates), "duplicate"), task.ID, stateWords(task.State))
	dead, retried, err := c.deadOnes(a, rows, &task)
	if err != nil {
		return err
	}
	a.out.sayIf(b.Forgotten > 0, "%s left out that were forgotten on request.", plural(b.Forgotten, "recipient"))
	if task.State == tasks.StateScheduled {
		other := ""
		if !c.at.IsZero() && c.at.Sub(task.ScheduledAt).Abs() >= time.Second {
			other = ", as it was scheduled before, and not at " + local(c.at)
		}
		a.out.say("It starts at %s%s.", local(task.ScheduledAt), other)
	}
	return a.finish(task, c.TaskFlags, c.FailOnDead, view{
		"exists": exists, "added": b.Added, "known": b.Known, "forgotten": b.Forgotten, "invalid": file.BadRows(),
		"duplicates": len(file.Duplicates), "understood": understoodView(file), "known_dead": dead, "retried": retried,
	})
}

// deadOnes tells how many of the list were dead in the campaign before, and retries them if that was asked.
func (c *bulkCommand) deadOnes(
	a *app, rows []peoplefile.Row, task *tasks.Task,
) (dead, retried int, err error) {
	if task.Bulk.Known == 0 || task.Bulk.Dead == 0 {
		return 0, 0, nil
	}
	name := task.Bulk.Campaign
	plan, err := a.desk.DeadOf(a.ctx, name, peoplefile.File{Rows: rows}.Recipients())
	err = a.warnPartial(err)
	if dead = len(plan.Retry); err != nil || dead == 0 {
		return dead, 0, err
	}
	if !c.RetryDead {
		a.out.say("Not sent again: %s of this list. --retry-dead retries with the options given now; "+
			"enqueue dead-letter export --campaign %s shows why.", plural(dead, "dead letter"), name)
		return dead, 0, nil
	}
	count := 0
	all, err := a.desk.CarryOut(a.ctx, plan, func(desk.Retried) {
		count++
		a.work.parts(count, "dead letter", "retried")
	})
	if err != nil || len(all) == 0 {
		return dead, len(all), err
	}
	a.out.say("%s of this list retried.", plural(len(all), "dead letter"))
	a.work.did("%s of this list retried: enqueue campaign status %s", plural(len(all), "dead letter"), name)
	b := *task.Bulk
	now, err := a.desk.Status(a.ctx, all[len(all)-1].TaskID)
	if err == nil {
		*task = now
		task.Bulk.Added, task.Bulk.Known = b.Added, b.Known
		task.Bulk.Duplicates, task.Bulk.Forgotten = b.Duplicates, b.Forgotten
	}
	return dead, len(all), err
}

// dryRun tells what enqueuing a file would come to, and enqueues nothing.
func (c *bulkCommand) dryRun(a *app, file peoplefile.File, request tasks.BulkRequest) error {
	if !c.at.After(time.Now()) {
		c.at = time.Time{}
	}
	clerk, err := clerkOf(c.Clerk)
	if err != nil {
		return err
	}
	name, err := c.campaignOf(a, clerk, file, request)
	if err != nil {
		return err
	}
	recipients := plural(len(file.Rows), "recipient")
	if clerk.Key != "" && len(file.Rows) > 0 {
		a.out.note("Asking Clerk about %s …", recipients)
	}
	r, err := c.rehearse(a, clerk, name, file)
	if err != nil && !(r != nil && errors.Is(err, desk.ErrKeyRefused)) { // which is said at the end
		return err
	}
	campaign := ""
	switch {
	case name != "":
		campaign = " Campaign: " + name + "."
	case len(file.Rows) > 0:
		campaign = " The campaign is named when the list is uploaded."
	}
	a.out.say("%s: %s to invite, %s, %s.%s Nothing was enqueued.", c.name, recipients,
		plural(len(file.Duplicates), "duplicate"), plural(file.BadRows(), "bad row"), campaign)
	c.tellSkipped(a, file)
	switch {
	case r != nil:
		rehearsed(r, a.out)
	case len(file.Rows) > 0:
		a.out.say("Nobody was looked up at Clerk, because no key is set (CLERK_SECRET_KEY).")
	}
	a.out.sayIf(!c.at.IsZero(), "It would start at %s.", local(c.at))
	answer := rehearsalView(cmp.Or(r, &desk.Rehearsal{}))
	if r == nil { // nothing of it is known
		for field := range answer {
			answer[field] = nil
		}
	}
	maps.Copy(answer, view{
		"dry_run": true, "campaign": known(name), "clerk_asked": r != nil && r.Asked, "recipients": len(file.Rows),
		"invalid_rows": views(file.Invalid, func(row peoplefile.Invalid) view { return viewOf(badRowOf(row)) }),
		"invalid":      file.BadRows(),
		"duplicates":   len(file.Duplicates), "scheduled_at": known(c.at), "understood": understoodView(file),
	})
	a.out.object(answer)
	if r != nil && r.Unknown > 0 {
		return fmt.Errorf("unknown: %d: %w: %w", r.Unknown, errNotRehearsed, r.Why)
	}
	return nil
}

// campaignOf gives the name of the campaign of a dry run; nothing if it is not known yet. Without a key of Clerk's a
// file can be checked where there is no Redis: what fails there is no failure then.
func (c *bulkCommand) campaignOf(
	a *app, clerk settings.Instance, file peoplefile.File, request tasks.BulkRequest,
) (string, error) {
	switch {
	case len(file.Rows) == 0:
		return request.Campaign, nil
	case clerk.Key != "":
		return a.desk.Name(a.ctx, request)
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(a.ctx, patience)
	defer cancel()
	name, err := a.desk.Name(ctx, request)
	if len(tasks.Faults(err)) == 0 {
		err = a.ctx.Err()
	}
	return name, err
}

// errNotRehearsed means that a rehearsal does not tell of all what would become of them.
var errNotRehearsed = errors.New("whether Clerk would refuse them is not known, because it could not be asked")

// tellSkipped names the bad rows that --skip-invalid leaves out.
func (c *bulkCommand) tellSkipped(a *app, file peoplefile.File) {
	a.out.sayIf(len(file.Invalid) > 0, "%s would be left out:", plural(file.BadRows(), "bad row"))
	lines(file.Invalid, a.out.say, func(row peoplefile.Invalid) string { return row.String() })
}

func badRowOf(row peoplefile.Invalid) badRow {
	return badRow{row.Line, cmp.Or(row.Field, "row"), row.Reason}
}

// rehearse asks what would become of the rows, of which there may be none.
func (c *bulkCommand) rehearse(
	a *app, clerk settings.Instance, campaign string, file peoplefile.File,
) (*desk.Rehearsal, error) {
	if len(file.Rows) == 0 {
		return nil, nil
	}
	return a.desk.RehearseBulk(a.ctx, clerk, campaign, file.Rows, c.at, nil)
}

// rehearsalView is what a program is shown of a rehearsal.
func rehearsalView(r *desk.Rehearsal) view {
	v := viewOf(*r)
	v["skipped"], v["refused"] = r.Skipped(), len(r.Refused)
	v["finish_at"], v["assumption"] = known(r.Forecast.ETA), known(r.Forecast.Assumption)
	return v
}

// rehearsed tells a person what would become of the rows.
func rehearsed(r *desk.Rehearsal, out *output) {
	users := ""
	if r.Users > 0 {
		users = fmt.Sprintf(", %d who are users already", r.Users)
	}
	out.say("%d would be sent, %d skipped (%d in the campaign already, %d with a pending invitation that they "+
		"accept%s, %d forgotten on request), %d refused%s.",
		r.Send, r.Skipped(), r.Known, r.Accepted, users, r.Forgotten, len(r.Refused), counted(" (", r.RefusedByCode, ")"))
	const most = 10
	for _, row := range r.Refused[:min(most, len(r.Refused))] {
		out.say("line %d: %s", row.Line, row.Reason)
	}
	more := len(r.Refused) - most
	out.sayIf(more > 0, "… and %s more (--json shows all).", plural(more, "refused row"))
	if f := r.Forecast; !f.ETA.IsZero() {
		out.say("It would finish at %s: %s.", local(f.ETA), f.Assumption)
	} else if f.Assumption != "" {
		out.say("%s", sentence(f.Assumption))
	}
}
