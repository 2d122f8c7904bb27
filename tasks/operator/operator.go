// Package operator is for programs of people who look after Usher: an admin page, a script that mends what failed. It
// can read everybody's addresses, erase and cancel. A producer needs package tasks only.
package operator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

// Operator does what people do with a namespace, in the name of one of them. It is safe for concurrent use.
type Operator struct{ desk *desk.Desk }

// New gives an operator on the Redis and the namespace of a client. who is the person or program that acts, such as
// ada@desk; it is kept with what it has cancelled and paused, and stands in the workers' logs. The client must stay
// open.
func New(client *tasks.Client, who string) (*Operator, error) {
	if who = strings.TrimSpace(who); who == "" {
		return nil, errors.New("operator: say who acts")
	}
	rdb, namespace := client.Connection()
	d, err := desk.New(rdb, namespace, who)
	if err != nil {
		return nil, err
	}
	return &Operator{d}, nil
}

var (
	// ErrDeadLetterNotFound means that there is no dead letter with an id: it never was, was retried or was deleted.
	ErrDeadLetterNotFound = deadletter.ErrNotFound
	// ErrFaults means that a dead letter cannot be sent as it is asked. Its text says why.
	ErrFaults = errors.New("the dead letter cannot be sent like this")
	// ErrNeverSynced means that the directory is empty, because no sync-list task has ended yet.
	ErrNeverSynced = directory.ErrNoCopy
	// ErrTaskOver means that a task cannot be cancelled because it has ended, ErrTaskAtWork because it is a
	// revocation, deletion or synchronization that has begun, and ErrTaskCampaign because it is a campaign's: cancel
	// that.
	ErrTaskOver     = desk.ErrTaskOver
	ErrTaskAtWork   = desk.ErrTaskAtWork
	ErrTaskCampaign = desk.ErrTaskCampaign
)

// DeadLetter is a recipient or task that is not tried again without a person.
type DeadLetter struct {
	ID           string
	TaskID       string
	Type         string
	Campaign     string // empty if it is of none
	EmailAddress string // empty if it is about none
	InvitationID string // of a revocation or deletion
	// Recipient is what was asked for; nil if the letter is no invitation, or cannot be read.
	Recipient *tasks.Recipient
	Failure   tasks.Failure
	Attempts  int
	FailedAt  time.Time
}

// DeadLetters chooses dead letters: those that match all that is given. Zero DeadLetters are all of them.
type DeadLetters struct {
	IDs      []string
	Code     string // such as duplicate_record
	Campaign string
	Reason   string // rejected, exhausted or invalid
}

// DeadLetters gives the dead letters that are chosen, the oldest first. After them comes an error that names those that
// cannot be read; an id that is not there is an ErrDeadLetterNotFound.
func (o *Operator) DeadLetters(ctx context.Context, chosen DeadLetters) iter.Seq2[DeadLetter, error] {
	letters := desk.Letters{IDs: chosen.IDs, Code: chosen.Code, Campaign: chosen.Campaign, Reason: chosen.Reason}
	return sequence(func(yield func(DeadLetter) error) error {
		_, err := o.desk.ReadLetters(ctx, letters, func(e deadletter.Entry) error { return yield(letterOf(e)) })
		return err
	})
}

func letterOf(e deadletter.Entry) DeadLetter {
	letter := DeadLetter{
		ID: e.ID, TaskID: e.TaskID, Type: e.Type, Campaign: e.Campaign, EmailAddress: e.EmailAddress,
		InvitationID: e.InvitationID, Attempts: e.Attempts, FailedAt: e.FailedAt,
		Failure: *tasks.FailureOf(e.Failure),
	}
	if r, err := retry.Request(e); err == nil {
		letter.Recipient = &r
	}
	return letter
}

// Retry sends a dead letter again as it is, through the same limits, and gives the id of the task that carries it: a
// new one or, for a recipient of a campaign, the campaign's. Repeating a Retry that was broken off finishes it. The
// error may be ErrDeadLetterNotFound.
func (o *Operator) Retry(ctx context.Context, id string) (taskID string, err error) {
	return o.desk.Retrier.Retry(ctx, id)
}

// Mend is [Operator.Retry] of a dead letter with another request: the address corrected, say. In a campaign a new
// address takes the place of the old one. The error may be ErrDeadLetterNotFound, or ErrFaults with what is wrong: the
// address is malformed, was forgotten on request, or is in the campaign already.
func (o *Operator) Mend(ctx context.Context, id string, as tasks.Recipient) (taskID string, err error) {
	letter, err := o.desk.DeadLetters.Get(ctx, id)
	if err != nil {
		return "", err
	}
	as = as.Normalize()
	if err := as.Validate(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrFaults, err)
	}
	plan, err := o.desk.PlanMend(ctx, desk.Mend{Letter: letter, As: &as})
	if err != nil {
		return "", err
	}
	if len(plan.Faults) > 0 {
		f := plan.Faults[0]
		return "", fmt.Errorf("%w: %s %s", ErrFaults, f.Field, f.Reason)
	}
	retried, err := o.desk.CarryOut(ctx, plan, func(desk.Retried) {})
	if err != nil {
		return "", err
	}
	if len(retried) == 0 { // somebody else was faster
		return "", fmt.Errorf("dead letter %s: %w", id, ErrDeadLetterNotFound)
	}
	return retried[0].TaskID, nil
}

// DeleteDeadLetter deletes a dead letter for good, and tells whether it was there. The id of its task is free again.
func (o *Operator) DeleteDeadLetter(ctx context.Context, id string) (bool, error) {
	return o.desk.Retrier.Delete(ctx, id)
}

// Task is a task that has not ended, and what it is about.
type Task = desk.QueuedTask

// TaskFilter chooses tasks that have not ended: those that match all that is given. A zero one chooses all.
type TaskFilter = desk.TaskFilter

// Tasks gives the tasks that have not ended and are chosen: lane by lane, those at work first, then those that run
// next. A task that changes its place meanwhile may be missing.
func (o *Operator) Tasks(ctx context.Context, chosen TaskFilter) iter.Seq2[Task, error] {
	return sequence(func(yield func(Task) error) error { return o.desk.EachTask(ctx, chosen, yield) })
}

// Cancel cancels a task that has not ended, and tells how it stands then. An invite with a call that may be under way,
// or whose outcome nobody knows, only notes it (CancelWanted): it ends as done if the call has invited, and else as
// cancelled. Cancelling a task again changes nothing. The error may be tasks.ErrNotFound, ErrTaskOver, ErrTaskAtWork or
// ErrTaskCampaign.
func (o *Operator) Cancel(ctx context.Context, taskID string) (tasks.Task, error) {
	return o.desk.CancelTask(ctx, taskID)
}

// Removed counts what Forget has removed.
type Removed = desk.Removed

// Forget removes an address from everything that is kept of it, and keeps it from being written down again until
// [Operator.Lift]. It stays until nothing holds the address any more, which takes seconds, or a minute if a task about
// it is at work. Invitations and users at Clerk stay. If not all could be removed in time, repeat it.
func (o *Operator) Forget(ctx context.Context, address string) (Removed, error) {
	if err := (tasks.Recipient{EmailAddress: address}).Normalize().Validate(); err != nil {
		return Removed{}, err
	}
	return o.desk.Forget(ctx, tasks.CleanAddress(address), func(string) {})
}

// Lift lets a forgotten address be written down again, and tells whether it was forgotten. What was removed does not
// come back.
func (o *Operator) Lift(ctx context.Context, address string) (bool, error) {
	return o.desk.Lift(ctx, tasks.CleanAddress(address))
}

// Story is everything that is known of a person or a task, and Event one thing that happened, or will.
type (
	Story = desk.Story
	Event = desk.Event
)

// Find tells everything about an address, or about a task, a dead letter or an invitation by its id, or about a
// campaign by its name, in the order of time. The error is a tasks.ErrNotFound if nothing is known of an id, and a
// *tasks.InvalidError if what may be an address is none. What cannot be read is named in an error beside the story of
// all else.
func (o *Operator) Find(ctx context.Context, what string) (Story, error) {
	return o.desk.Find(ctx, what)
}

// Invitation is an invitation at Clerk, as last synced; without its URL, which is never kept.
type Invitation = clerkclient.Invitation

// InvitationFilter chooses invitations by status (pending, accepted, revoked, expired), and by a part of the address
// or id. A zero one chooses all.
type InvitationFilter = directory.Filter

// Directory gives the invitations of the directory that are chosen, the newest first, and the instant at which they
// were copied from Clerk. The error is ErrNeverSynced if there is no copy yet.
func (o *Operator) Directory(
	ctx context.Context, chosen InvitationFilter,
) (invitations iter.Seq2[Invitation, error], syncedAt time.Time, err error) {
	found, err := o.desk.Directory.Copy(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	each := func(yield func(Invitation) error) error { return found.Each(ctx, chosen, yield) }
	return sequence(each), found.SyncedAt, nil
}

// Recipient is a recipient of a campaign, and what became of it.
type Recipient = desk.Recipient

// Recipients gives every recipient of a campaign, in the order of its list. It holds a few hundred at a time. The error
// is a tasks.ErrNotFound if there is no such campaign.
func (o *Operator) Recipients(ctx context.Context, campaign string) (iter.Seq2[Recipient, error], error) {
	if _, err := o.desk.Campaign(ctx, campaign); err != nil {
		return nil, err
	}
	each, err := o.desk.Recipients(ctx, campaign)
	if err != nil {
		return nil, err
	}
	return sequence(each), nil
}

// Pause stops a campaign from making calls, but for those under way; see [tasks.Client.Pause].
func (o *Operator) Pause(ctx context.Context, campaign string) (tasks.Campaign, error) {
	return o.desk.Pause(ctx, campaign)
}

// Resume lets a paused campaign go on; see [tasks.Client.Resume].
func (o *Operator) Resume(ctx context.Context, campaign string) (tasks.Campaign, error) {
	return o.desk.Resume(ctx, campaign)
}

// CancelCampaign stops a campaign for good; see [tasks.Client.Cancel].
func (o *Operator) CancelCampaign(ctx context.Context, campaign string) (tasks.Campaign, error) {
	return o.desk.Client.Cancel(ctx, campaign)
}

// errStop ends a reading that nobody wants more of.
var errStop = errors.New("enough")

// sequence makes an iterator of a function that calls another for each value. An error is the last pair.
func sequence[T any](each func(yield func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := each(func(value T) error {
			if !yield(value, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			var none T
			yield(none, err)
		}
	}
}
