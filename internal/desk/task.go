package desk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// QueuedTask is a task that has not ended, and what it is about.
type QueuedTask struct {
	tasks.Task
	EmailAddress string `json:"email_address"`
	Campaign     string `json:"campaign"`
}

// TaskFilter chooses tasks that have not ended: those that match all that is given. A zero one chooses all.
type TaskFilter struct {
	State          tasks.State // scheduled, pending, active or retry
	Type           string
	EnqueuedBefore time.Time // only tasks of which it is known when they were enqueued
}

// matches tells whether a task in a chosen state is chosen.
func (f TaskFilter) matches(t QueuedTask) bool {
	return (f.Type == "" || t.Type == f.Type) &&
		(f.EnqueuedBefore.IsZero() || !t.EnqueuedAt.IsZero() && t.EnqueuedAt.Before(f.EnqueuedBefore))
}

// LiveStates are the states of tasks that have not ended, in the order in which EachTask gives them.
func LiveStates() []tasks.State {
	return []tasks.State{tasks.StateActive, tasks.StatePending, tasks.StateRetry, tasks.StateScheduled}
}

// EachTask calls do for the tasks that have not ended and are chosen, until it returns an error: lane by lane, those
// at work first, then those that run next. A task that changes its place meanwhile may be missing.
func (d *Desk) EachTask(ctx context.Context, chosen TaskFilter, do func(QueuedTask) error) error {
	states := []asynq.TaskState{
		asynq.TaskStateActive, asynq.TaskStatePending, asynq.TaskStateRetry, asynq.TaskStateScheduled,
	}
	states = slices.DeleteFunc(states, func(state asynq.TaskState) bool { // asynq's names of them are ours
		return chosen.State != "" && state.String() != string(chosen.State)
	})
	before := map[string]bool{} // the tasks of the page before
	return d.eachQueued(ctx, states, func(page []*asynq.TaskInfo) error {
		ids := make([]string, len(page))
		for i, info := range page {
			ids[i] = info.ID
		}
		records, err := d.records.Several(ctx, ids)
		if err != nil {
			return err
		}
		seen := before
		before = map[string]bool{}
		for i, info := range page {
			task := queuedTask(info, records[i])
			before[task.ID] = true
			if seen[task.ID] || records[i].State.Ended() || !chosen.matches(task) {
				continue // it has moved on to the next page, or only its place in the queue is left
			}
			if err := do(task); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

func queuedTask(info *asynq.TaskInfo, r record.Record) QueuedTask {
	var about struct {
		EmailAddress string `json:"email_address"`
		Campaign     string `json:"campaign"`
		InvitationID string `json:"invitation_id"`
	}
	_ = json.Unmarshal(info.Payload, &about) // one that cannot be read is listed too
	task := QueuedTask{tasks.LiveTask(info, r), about.EmailAddress, about.Campaign}
	if task.InvitationID == "" {
		task.InvitationID = about.InvitationID
	}
	return task
}

// taskPage is how many tasks of a queue are looked at together.
const taskPage = 500

// everyState are all states in which asynq has tasks. Those at work come last: a task that goes on meanwhile is seen.
func everyState() []asynq.TaskState {
	return []asynq.TaskState{
		asynq.TaskStateScheduled, asynq.TaskStateRetry, asynq.TaskStatePending, asynq.TaskStateArchived,
		asynq.TaskStateCompleted, asynq.TaskStateActive,
	}
}

// eachQueued calls do for pages of the tasks that asynq has in some states, from all queues, until it returns an
// error. A task that cannot be read hides no other; the error, a *store.Partial, names it.
func (d *Desk) eachQueued(ctx context.Context, states []asynq.TaskState, do func(page []*asynq.TaskInfo) error) error {
	in := d.inspector
	lists := map[asynq.TaskState]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		asynq.TaskStateScheduled: in.ListScheduledTasks, asynq.TaskStateRetry: in.ListRetryTasks,
		asynq.TaskStatePending: in.ListPendingTasks, asynq.TaskStateArchived: in.ListArchivedTasks,
		asynq.TaskStateCompleted: in.ListCompletedTasks, asynq.TaskStateActive: in.ListActiveTasks,
	}
	var partial store.Partial
	for _, lane := range queues.Lanes() {
		queue := queues.Name(d.namespace, lane)
		for _, state := range states {
			for page, full := 1, true; full; page++ {
				ids, err := d.idsOn(ctx, queue, state, page) // asynq leaves out what it cannot read
				if err != nil {
					return partial.With(err)
				}
				found, err := lists[state](queue, asynq.Page(page), asynq.PageSize(taskPage))
				if err != nil && !queues.Unknown(err) {
					return partial.With(fmt.Errorf("listing tasks of queue %s: %w", queue, err))
				}
				full = len(ids) == taskPage
				partial.Add(d.unreadable(queue, ids, found)...)
				if err := do(found); err != nil {
					return partial.With(err)
				}
			}
		}
	}
	return partial.With(nil)
}

// idsOn gives the ids of the tasks on a page of a queue, in no order.
func (d *Desk) idsOn(ctx context.Context, queue string, state asynq.TaskState, page int) (ids []string, err error) {
	key, first := queues.Key(queue, state.String()), int64(taskPage*(page-1))
	if state == asynq.TaskStateActive || state == asynq.TaskStatePending {
		ids, err = d.rdb.LRange(ctx, key, -first-taskPage, -first-1).Result()
	} else {
		ids, err = d.rdb.ZRange(ctx, key, first, first+taskPage-1).Result()
	}
	if err != nil {
		err = fmt.Errorf("listing tasks of queue %s: %w", queue, err)
	}
	return ids, err
}

// unreadable gives an error for each task of a page that asynq has not found because it cannot read it.
func (d *Desk) unreadable(queue string, ids []string, found []*asynq.TaskInfo) (faults []error) {
	there := make(map[string]bool, len(found))
	for _, task := range found {
		there[task.ID] = true
	}
	for _, id := range ids {
		if there[id] {
			continue
		}
		if _, err := d.inspector.GetTaskInfo(queue, id); err != nil && !queues.Unknown(err) {
			faults = append(faults, fmt.Errorf("task %.128q of queue %s: %w", id, queue, store.ErrGarbage))
		}
	}
	return faults
}

// Why a task cannot be cancelled.
var (
	ErrTaskOver     = errors.New("it has ended already")
	ErrTaskAtWork   = errors.New("it is at work, and ends by itself")
	ErrTaskCampaign = errors.New("it works through a campaign, which has a cancel of its own")
)

// CancelTask cancels a task that has not ended, and tells how it stands then. One that was cancelled before is left as
// it is. An invite with a call that may be under way, or whose outcome nobody knows, ends when that outcome is known:
// as done if the call has invited, and else as cancelled. The error is a tasks.ErrNotFound, ErrTaskOver, ErrTaskAtWork,
// of a task that is no invite, or ErrTaskCampaign.
func (d *Desk) CancelTask(ctx context.Context, id string) (tasks.Task, error) {
	if _, err := d.Cancellable(ctx, id); err != nil {
		return tasks.Task{}, err
	}
	info, err := queues.FindTask(d.inspector, d.namespace, id)
	if err != nil {
		return tasks.Task{}, err
	}
	if info == nil { // its enqueue was broken off, or it was cancelled and taken from its queue
		_, err = d.records.Change(ctx, id, func(r *record.Record) bool {
			open := !r.State.Ended()
			*r = r.Cancelled(d.actor)
			return open
		})
	} else {
		err = d.cancelQueued(ctx, info)
	}
	if err != nil {
		return tasks.Task{}, err
	}
	return d.Status(ctx, id)
}

// Cancellable tells how a task stands, and gives the error with which CancelTask would refuse it.
func (d *Desk) Cancellable(ctx context.Context, id string) (tasks.Task, error) {
	task, err := d.Status(ctx, id)
	switch {
	case err != nil:
	case task.Bulk != nil:
		err = fmt.Errorf("task %s: %w (enqueue campaign cancel %s)", id, ErrTaskCampaign, task.Bulk.Campaign)
	case task.State.Ended() && task.State != tasks.StateCancelled:
		err = fmt.Errorf("task %s is %s: %w", id, task.State, ErrTaskOver)
	case task.State == tasks.StateActive && task.Type != tasks.TypeInvite:
		err = fmt.Errorf("task %s: %w", id, ErrTaskAtWork)
	}
	return task, err
}

// Awaited gives the invites of an address that have not ended, and the campaigns that have it among those that they
// are still to send. Tasks that cannot be read are a *store.Partial, beside the others.
func (d *Desk) Awaited(ctx context.Context, address string) (invites []QueuedTask, campaigns []string, err error) {
	folded, id := tasks.FoldAddress(address), store.IDOf(address)
	partial, err := store.SplitPartial(d.EachTask(ctx, TaskFilter{Type: tasks.TypeInvite}, func(t QueuedTask) error {
		if tasks.FoldAddress(t.EmailAddress) == folded {
			invites = append(invites, t)
		}
		return nil
	}))
	if err != nil {
		return nil, nil, err
	}
	err = d.ledgers.Containing(ctx, id, func(c ledger.Campaign, e ledger.Entry) error {
		if e.State != ledger.RowSent && e.State != ledger.RowDead && c.State != ledger.Cancelled {
			campaigns = append(campaigns, c.Name)
		}
		return nil
	})
	return invites, campaigns, errors.Join(err, partial)
}

func (d *Desk) cancelQueued(ctx context.Context, info *asynq.TaskInfo) error {
	payload, err := tasks.DecodeInvite(info.Payload)
	if info.Type == tasks.TypeInvite && err == nil {
		wish := intent.Wish{Task: info.ID, Address: store.IDOf(payload.EmailAddress)}
		if ended, err := d.cancelInvite(ctx, wish, info); err != nil || !ended {
			return err
		}
		// From here on it makes no call, wherever it is. One that is at work ends when its turn comes.
		_, err := d.unqueue(info)
		return err
	}
	deleted, err := d.withdraw(ctx, info)
	if err == nil && !deleted {
		err = fmt.Errorf("task %s: %w", info.ID, ErrTaskAtWork)
	}
	return err
}

// cancelInvite cancels an invite in its record, and tells whether it has ended with that.
func (d *Desk) cancelInvite(ctx context.Context, wish intent.Wish, info *asynq.TaskInfo) (ended bool, err error) {
	for {
		r, stored, err := d.records.Stored(ctx, wish.Task)
		if err != nil || r.State.Ended() {
			return err == nil, err
		}
		inQueue(&r, info)
		r.By = cmp.Or(r.By, d.actor)
		ended, err := d.intents.Cancel(ctx, wish, r, stored)
		if !errors.Is(err, intent.ErrChanged) {
			return ended, err
		}
	}
}

// inQueue notes in the record of a task that is to end what is known only as long as the task is in its queue.
func inQueue(r *record.Record, info *asynq.TaskInfo) {
	task := queuedTask(info, *r)
	r.Type, r.Queue, r.EnqueuedAt, r.EmailAddress = task.Type, task.Queue, task.EnqueuedAt, task.EmailAddress
	if task.State == tasks.StateScheduled {
		r.ScheduledAt = task.ScheduledAt
	}
}

// withdraw deletes a task from its queue, says in its record that it was cancelled, and tells whether it did. It
// leaves one that is gone, or that has begun to run since it was listed.
func (d *Desk) withdraw(ctx context.Context, task *asynq.TaskInfo) (deleted bool, err error) {
	if deleted, err := d.unqueue(task); !deleted {
		return false, err
	}
	r, _, err := d.records.Get(ctx, task.ID)
	switch {
	case errors.Is(err, store.ErrGarbage), errors.Is(err, store.ErrNewer):
		r = record.Record{} // it is replaced
	case err != nil, r.State.Ended():
		return true, err
	}
	inQueue(&r, task)
	return true, d.records.End(ctx, task.ID, r.Cancelled(d.actor))
}

// unqueue deletes a task from its queue and tells whether it did. It leaves one that is gone, that is at work, or that
// has moved on since it was read.
func (d *Desk) unqueue(task *asynq.TaskInfo) (deleted bool, err error) {
	err = d.inspector.DeleteTask(task.Queue, task.ID)
	if err == nil {
		return true, nil
	}
	now, lookErr := d.inspector.GetTaskInfo(task.Queue, task.ID)
	switch {
	case queues.Unknown(err), queues.Unknown(lookErr):
		return false, nil
	case lookErr == nil && (now.State != task.State || now.State == asynq.TaskStateActive):
		return false, nil
	}
	return false, fmt.Errorf("deleting task %s from queue %s: %w", task.ID, task.Queue, err)
}
