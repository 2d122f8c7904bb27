package main

import (
	"errors"

	"example.com/usher/tasks"
)

type inviteCommand struct {
	Address string `arg:"" help:"The address to invite."`
	recipientFlags
	timingFlags
	waitFlags
}

// Run is called by kong.
func (c *inviteCommand) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	recipient, err := c.recipient(c.Address)
	if err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	task, err := a.client.Invite(a.ctx, recipient, opts...)
	return a.enqueued(task, err, "invitation of "+recipient.Normalize().EmailAddress, c.waitFlags)
}

type syncCommand struct {
	timingFlags
	waitFlags
}

// Run is called by kong.
func (c *syncCommand) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	task, err := a.client.SyncList(a.ctx, opts...)
	return a.enqueued(task, err, "synchronization of the directory", c.waitFlags)
}

// enqueued tells that a task was enqueued, and waits for its end if that was asked.
func (a *app) enqueued(task tasks.Task, err error, what string, wait waitFlags) error {
	exists := errors.Is(err, tasks.ErrExists)
	if err != nil && !exists {
		return err
	}
	switch {
	case exists:
		when := ""
		if task.State == tasks.StateScheduled {
			when = " for " + local(task.ScheduledAt)
		}
		a.out.say("The %s exists already: task %s, %s%s.", what, task.ID, task.State, when)
	case task.State == tasks.StateScheduled:
		a.out.say("Scheduled the %s for %s: task %s.", what, local(task.ScheduledAt), task.ID)
	default:
		a.out.say("Enqueued the %s: task %s.", what, task.ID)
	}
	a.noteUnbound()
	if wait.Wait {
		return a.wait(task, wait)
	}
	view := taskView(task)
	view["exists"] = exists
	return a.out.object(view)
}

// taskView is what --json answers of a task.
func taskView(t tasks.Task) map[string]any {
	view := map[string]any{
		"task_id": t.ID, "type": t.Type, "queue": orNull(t.Queue), "state": t.State, "scheduled_at": timeOrNull(t.ScheduledAt),
		"attempts": t.Attempts, "invitation_id": orNull(t.InvitationID), "error": orNull(t.Error),
	}
	if t.Type == tasks.TypeRevoke {
		view["revoked"] = t.Revoked
	}
	return view
}
