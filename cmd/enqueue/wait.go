package main

import (
	"context"
	"errors"
	"fmt"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/tasks"
)

type waitFlags struct {
	Wait        bool   `help:"Stay until the task has ended."`
	WaitTimeout string `placeholder:"D" help:"With --wait: longest stay, such as 5m."`
}

// check refuses bad flags before anything is enqueued.
func (f *waitFlags) check() error {
	if f.WaitTimeout == "" {
		return nil
	}
	if !f.Wait {
		return &usageError{errors.New("--wait-timeout needs --wait")}
	}
	_, err := settings.Duration("--wait-timeout", f.WaitTimeout)
	return err
}

// context ends when the wait has lasted long enough. The flags were checked.
func (f *waitFlags) context(ctx context.Context) (context.Context, context.CancelFunc) {
	d, err := settings.Duration("--wait-timeout", f.WaitTimeout)
	if err != nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, d, errTimeout)
}

// wait stays until a task has ended and tells how.
func (a *app) wait(task tasks.Task, flags waitFlags) error {
	ctx, cancel := flags.context(a.ctx)
	defer cancel()
	ended, err := a.client.Wait(ctx, task.ID)
	if err != nil {
		return errors.Join(err, a.out.object(taskView(task))) // it goes on, and this is how to find it
	}
	if err := a.out.object(taskView(ended)); err != nil {
		return err
	}
	switch {
	case ended.State != tasks.StateDone:
		return fmt.Errorf("task %s: %w: %s", ended.ID, errDead, cause(ended.Error))
	case ended.Type == tasks.TypeInvite:
		a.out.say("Done: invitation %s.", ended.InvitationID)
	case ended.Type == tasks.TypeRevoke && ended.InvitationID == "":
		a.out.say("Done: %s revoked.", plural(ended.Revoked, "invitation"))
	default:
		a.out.say("Done.")
	}
	return nil
}

// cause is a failure in a few words.
func cause(f *tasks.Failure) string {
	switch {
	case f == nil:
		return "no cause is known"
	case f.Reason == "": // of an attempt that failed, and is not the end
		return fmt.Sprintf("the last attempt failed: %s", f.Message)
	case f.HTTPStatus != 0:
		return fmt.Sprintf("%s: %d %s: %s", f.Reason, f.HTTPStatus, f.Code, f.Message)
	}
	return fmt.Sprintf("%s: %s: %s", f.Reason, f.Code, f.Message)
}

// waitBulk stays until a campaign is finished, shows how far it is, and tells of its dead letters.
func (a *app) waitBulk(task tasks.Task, flags bulkWaitFlags) (tasks.Task, error) {
	ctx, cancel := flags.context(a.ctx)
	defer cancel()
	if _, err := a.watch(ctx, task.Bulk.Campaign, a.display(false)); err != nil {
		return task, err
	}
	ended, err := a.client.Wait(ctx, task.ID)
	if err != nil {
		return task, err
	}
	return ended, nil
}

// deadOf gives the dead letters of a campaign.
func (a *app) deadOf(campaign string) ([]deadletter.Entry, error) {
	var dead []deadletter.Entry
	err := a.deadLetters.Each(a.ctx, func(e deadletter.Entry) error {
		if e.Campaign == campaign {
			dead = append(dead, e)
		}
		return nil
	})
	return dead, err
}

// summary tells a person what became of a campaign's recipients.
func (a *app) summary(task tasks.Task) error {
	b := task.Bulk
	a.out.say("Campaign %s is %s: %s, %d sent, %d dead.", b.Campaign, task.State, plural(b.Recipients, "recipient"), b.Sent, b.Dead)
	if b.Dead == 0 || a.out.json {
		return nil
	}
	dead, err := a.deadOf(b.Campaign)
	if err != nil {
		return err
	}
	a.out.say("\nDead letters (enqueue dead-letter list):")
	return a.deadTable(dead)
}

func deadOrCancelled(task tasks.Task, failOnDead bool) error {
	if task.State != tasks.StateDone || failOnDead && task.Bulk.Dead > 0 {
		return fmt.Errorf("campaign %s: %w: %s", task.Bulk.Campaign, errDead, plural(task.Bulk.Dead, "dead letter"))
	}
	return nil
}
