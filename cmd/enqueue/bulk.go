package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

type bulkCommand struct {
	File          string `arg:"" help:"The file, or - for standard input."`
	Campaign      string `placeholder:"NAME" help:"Name of the list. Default: one that derives from its rows and options, so that repeating it adds nothing."`
	DryRun        bool   `help:"Check the file and enqueue nothing. With a key, ask Clerk which recipients it would refuse."`
	SkipInvalid   bool   `help:"Go on without bad rows, and write them to FILE.invalid.csv."`
	InvalidTo     string `placeholder:"PATH" help:"With --skip-invalid: where to write bad rows instead. Never overwrites."`
	EmailColumn   string `placeholder:"C" help:"Name of the column that holds the addresses."`
	IgnoreColumns bool   `help:"Ignore columns that are no option of an invitation."`
	recipientFlags
	settings.Clerk
	timingFlags
	bulkWaitFlags
}

type bulkWaitFlags struct {
	waitFlags
	FailOnDead bool `help:"With --wait: exit 3 if a recipient is dead."`
}

// Run is called by kong.
func (c *bulkCommand) Run(a *app) error {
	if err := c.checkFlags(); err != nil {
		return err
	}
	defaults, err := c.defaults()
	if err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	file, err := c.read(a, defaults)
	if err != nil {
		return err
	}
	if err := c.judgeInvalid(a, file); err != nil {
		return err
	}
	request := tasks.BulkRequest{Campaign: c.Campaign, Recipients: file.Recipients()}
	if c.DryRun {
		return c.dryRun(a, file, request)
	}
	task, err := a.client.BulkInvite(a.ctx, request, opts...)
	exists := errors.Is(err, tasks.ErrExists)
	if err != nil && !exists {
		return err
	}
	return c.tell(a, file, task, exists)
}

// checkFlags refuses flags that would do nothing.
func (c *bulkCommand) checkFlags() error {
	switch {
	case c.DryRun && c.Wait:
		return &usageError{errors.New("--dry-run enqueues nothing, so there is nothing to --wait for")}
	case c.FailOnDead && !c.Wait:
		return &usageError{errors.New("--fail-on-dead needs --wait")}
	case c.InvalidTo != "" && !c.SkipInvalid:
		return &usageError{errors.New("--invalid-to needs --skip-invalid")}
	}
	return c.check()
}

// defaults are the options of rows that say nothing else. They are checked with an address that is beyond doubt, so that
// a bad option is told once and not for every row.
func (c *bulkCommand) defaults() (tasks.Recipient, error) {
	defaults, err := c.recipient("someone@example.com")
	if err == nil {
		err = defaults.Validate()
	}
	defaults.EmailAddress = ""
	return defaults, err
}

func (c *bulkCommand) read(a *app, defaults tasks.Recipient) (peoplefile.File, error) {
	opts := peoplefile.Options{Name: c.name(), Defaults: defaults, EmailColumn: c.EmailColumn, IgnoreColumns: c.IgnoreColumns}
	var file peoplefile.File
	var err error
	if c.File == "-" {
		file, err = peoplefile.Read(a.stdin, opts)
	} else {
		file, err = peoplefile.ReadFile(c.File, opts)
	}
	if err != nil {
		return file, &usageError{err}
	}
	return file, nil
}

// judgeInvalid stops at bad rows, or sets them aside if that was asked.
func (c *bulkCommand) judgeInvalid(a *app, file peoplefile.File) error {
	if len(file.Invalid) > 0 && !c.SkipInvalid {
		faulty := &rowsError{file: c.name()}
		for _, bad := range file.Invalid {
			faulty.rows = append(faulty.rows, badRow{Line: bad.Line, Field: cmp.Or(bad.Field, "row"), Reason: bad.Reason})
		}
		return faulty
	}
	path := c.InvalidTo
	switch {
	case path == "" && c.File == "-" && c.SkipInvalid && !c.DryRun:
		return &usageError{errors.New("--skip-invalid with standard input needs --invalid-to PATH")}
	case len(file.Rows) == 0:
		return &usageError{fmt.Errorf("%s has no valid row, so there is nothing to enqueue", c.name())}
	case len(file.Invalid) == 0 || c.DryRun:
		return nil
	case path == "":
		path = c.File + ".invalid.csv"
	}
	aside, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &usageError{fmt.Errorf("%s exists already and is not overwritten; move it away or choose another with --invalid-to", path)}
	}
	if err != nil {
		return &usageError{err}
	}
	err = errors.Join(peoplefile.WriteInvalid(aside, file), aside.Close())
	if err != nil {
		return fmt.Errorf("writing bad rows to %s: %w", path, err)
	}
	a.out.note("%s left out, see %s.", plural(file.BadRows(), "bad row"), path)
	return nil
}

// otherTime says that a campaign was scheduled before: its time stays.
func (c *bulkCommand) otherTime(task tasks.Task) string {
	if asked := c.at; asked.IsZero() || asked.Sub(task.ScheduledAt).Abs() < time.Second {
		return ""
	}
	return ", as it was scheduled before, and not at " + local(c.at)
}

func (c *bulkCommand) name() string {
	if c.File == "-" {
		return "standard input"
	}
	return c.File
}

func (c *bulkCommand) tell(a *app, file peoplefile.File, task tasks.Task, exists bool) error {
	b := task.Bulk
	a.out.say("Campaign %s: %d added, %d known already, %s left out, %s: task %s, %s.", b.Campaign, b.Added, b.Known,
		plural(file.BadRows(), "bad row"), plural(len(file.Duplicates), "duplicate"), task.ID, task.State)
	if b.Forgotten > 0 {
		a.out.say("%s left out that were forgotten on request.", plural(b.Forgotten, "recipient"))
	}
	if task.State == tasks.StateScheduled {
		a.out.say("It starts at %s%s.", local(task.ScheduledAt), c.otherTime(task))
	}
	a.noteUnbound()
	view := func(task tasks.Task) map[string]any {
		view := taskView(task)
		delete(view, "invitation_id")
		view["campaign"], view["exists"] = b.Campaign, exists
		view["added"], view["known"], view["invalid"], view["duplicates"] = b.Added, b.Known, file.BadRows(), len(file.Duplicates)
		view["forgotten"] = b.Forgotten
		view["recipients"], view["sent"], view["dead"], view["remaining"] = task.Bulk.Recipients, task.Bulk.Sent, task.Bulk.Dead, task.Bulk.Remaining
		return view
	}
	if !c.Wait {
		return a.out.object(view(task))
	}
	ended, err := a.waitBulk(task, c.bulkWaitFlags)
	if err != nil {
		return errors.Join(err, a.out.object(view(ended))) // it goes on, and this is how to find it
	}
	if err := a.out.object(view(ended)); err != nil {
		return err
	}
	if err := a.summary(ended); err != nil {
		return err
	}
	return deadOrCancelled(ended, c.FailOnDead)
}
