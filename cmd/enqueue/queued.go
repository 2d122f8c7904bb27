package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

type taskCommand struct {
	List   taskListCommand   `cmd:"" aliases:"ls" help:"List tasks that have not ended: by lane, those at work first."`
	Cancel taskCancelCommand `cmd:"" help:"Cancel tasks that have not ended."`
}

// QueuedFlags choose tasks that have not ended; all that is given must match. kong calls AfterApply when it has read
// them.
type QueuedFlags struct {
	Type      string `placeholder:"TYPE" help:"Only invite, bulk-invite, revoke, delete or sync-list tasks."`
	OlderThan string `placeholder:"D" help:"Only those that were enqueued at least so long ago, such as 30m or 2d."`

	filter desk.TaskFilter
}

// AfterApply reads the flags.
func (f *QueuedFlags) AfterApply() (err error) {
	if f.Type != "" {
		f.filter.Type, err = settings.OneOf("--type", f.Type,
			tasks.TypeInvite, tasks.TypeBulkInvite, tasks.TypeRevoke, tasks.TypeDelete, tasks.TypeSyncList)
	}
	if err == nil && f.OlderThan != "" {
		var age time.Duration
		age, err = settings.Duration("--older-than", f.OlderThan)
		f.filter.EnqueuedBefore = time.Now().Add(-age)
	}
	return err
}

type taskListCommand struct {
	State string `placeholder:"S" help:"Only active, pending, retry or scheduled ones."`
	QueuedFlags
	PageFlags
	listFlag
}

func (c *taskListCommand) Run(a *app) (err error) {
	if c.State != "" {
		var states []string
		for _, state := range desk.LiveStates() {
			states = append(states, string(state))
		}
		if c.State, err = settings.OneOf("--state", c.State, states...); err != nil {
			return fmt.Errorf("%w (what has ended is shown by status, find and dead-letter list)", err)
		}
		c.filter.State = tasks.State(c.State)
	}
	_, _, err = c.list(a.out, "No tasks.", "task_id,type,for,state,enqueued_at,runs_at,attempts",
		func(write func(view) error) error {
			return a.desk.EachTask(a.ctx, c.filter, func(t desk.QueuedTask) error {
				row := queuedView(t)
				if !a.out.json {
					row["for"], row["runs_at"] = known(t.EmailAddress+t.Campaign), row["scheduled_at"]
					if row["for"] == nil {
						row["for"] = row["invitation_id"]
					}
				}
				return write(row)
			})
		})
	return err
}

func queuedView(t desk.QueuedTask) view {
	v := taskView(t.Task)
	v["email_address"], v["campaign"] = known(t.EmailAddress), known(t.Campaign)
	return v
}

type taskCancelCommand struct {
	IDs       []string `arg:"" optional:"" name:"id" help:"Tasks by id."`
	Scheduled bool     `help:"Instead of ids: every task whose time has not come. Campaigns have a cancel of their own."`
	QueuedFlags
	DryRun bool `help:"Only show what would be cancelled."`
	Yes    bool `help:"Do not ask."`
}

// AfterApply wants ids or --scheduled.
func (c *taskCancelCommand) AfterApply() error {
	switch {
	case len(c.IDs) > 0 == c.Scheduled:
		return usage("say which tasks: give their ids or --scheduled, and only one of them")
	case len(c.IDs) > 0 && (c.Type != "" || c.OlderThan != ""):
		return usage("--type and --older-than choose among those of --scheduled; leave them out, or the ids")
	}
	return nil
}

func (c *taskCancelCommand) Run(a *app) error {
	chosen, before, campaigns, err := c.choose(a)
	if err = a.warnPartial(err); err != nil {
		return err
	}
	if len(campaigns) > 0 {
		slices.Sort(campaigns)
		a.out.note("Campaigns that are scheduled stay (enqueue campaign cancel NAME): %s.",
			first(campaigns, mostLines, func(name string) string { return name }))
	}
	if c.DryRun {
		a.out.say("%s would be cancelled. Nothing was done.", plural(len(chosen), "task"))
		a.out.object(view{"dry_run": true, "would_cancel": append([]string{}, chosen...)})
		return nil
	}
	if err := a.confirm(c.Yes || len(chosen) == 0, "Cancel "+plural(len(chosen), "task")+"?"); err != nil {
		return err
	}
	done, err := a.cancelTasks(chosen)
	if err != nil {
		return fmt.Errorf("%w; cancelled before that: %d of %s", err, len(done.cancelled), plural(len(chosen), "task"))
	}
	again, err := a.cancelTasks(before) // it may have been broken off
	if err != nil {
		return err
	}
	if len(chosen) > 0 || len(before) == 0 {
		done.tell(a)
	}
	a.out.sayIf(len(before) > 0, "%s cancelled already.", plural(len(before), "task"))
	done.cancelled = append(done.cancelled, again.cancelled...)
	answer := done.view()
	answer["dry_run"], answer["cancelled_before"] = false, append([]string{}, before...)
	a.out.object(answer)
	return nil
}

// choose gives the ids of the tasks to cancel, those that are cancelled already, and the scheduled campaigns that are
// not among them. Ids of which one cannot be cancelled are an error that names them.
func (c *taskCancelCommand) choose(a *app) (ids, before, campaigns []string, err error) {
	if c.Scheduled {
		c.filter.State = tasks.StateScheduled
		err = a.desk.EachTask(a.ctx, c.filter, func(t desk.QueuedTask) error {
			if t.Type == tasks.TypeBulkInvite {
				campaigns = append(campaigns, t.Campaign)
			} else {
				ids = append(ids, t.ID)
			}
			return nil
		})
		return ids, nil, campaigns, err
	}
	var faults []error
	for _, id := range settings.Distinct(c.IDs) {
		task, err := a.desk.Cancellable(a.ctx, id)
		switch {
		case err != nil:
			faults = append(faults, err)
		case task.State == tasks.StateCancelled:
			before = append(before, id)
		default:
			ids = append(ids, id)
		}
	}
	if len(faults) > 0 {
		return nil, nil, nil, fmt.Errorf("nothing was cancelled: %w", errors.Join(faults...))
	}
	return ids, before, nil, nil
}

// cancellation is what became of tasks that were to be cancelled, by their ids.
type cancellation struct{ cancelled, wanted, begun []string }

// cancelTasks cancels tasks one after the other. One that has begun or ended meanwhile is no error.
func (a *app) cancelTasks(ids []string) (c cancellation, err error) {
	for _, id := range ids {
		task, err := a.desk.CancelTask(a.ctx, id)
		switch {
		case errors.Is(err, desk.ErrTaskAtWork), errors.Is(err, desk.ErrTaskOver), errors.Is(err, tasks.ErrNotFound):
			c.begun = append(c.begun, id)
		case err != nil:
			return c, err
		case task.State == tasks.StateCancelled:
			c.cancelled = append(c.cancelled, id)
			a.work.parts(len(c.cancelled), "task", "cancelled")
		case task.State.Ended(): // while it was told to
			c.begun = append(c.begun, id)
		default:
			c.wanted = append(c.wanted, id)
		}
	}
	return c, nil
}

// tell tells a person.
func (c cancellation) tell(a *app) {
	a.out.say("%s cancelled.", plural(len(c.cancelled), "task"))
	a.out.sayIf(len(c.wanted) > 0, "A call may be under way for %s. As soon as its outcome is known, each of these is "+
		"cancelled, or done if the call has invited: %s.", plural(len(c.wanted), "task"), strings.Join(c.wanted, ", "))
	a.out.sayIf(len(c.begun) > 0, "%s meanwhile at work or ended: %s.", plural(len(c.begun), "task"),
		strings.Join(c.begun, ", "))
}

func (c cancellation) view() view {
	ids := func(ids []string) []string { return append([]string{}, ids...) }
	return view{"cancelled": ids(c.cancelled), "cancel_wanted": ids(c.wanted), "begun": ids(c.begun)}
}
