package desk

import (
	"context"
	"errors"
	"fmt"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// BeginRestore notes that a copy of Redis was put back: until [Desk.EndRestore] no worker changes anything at Clerk,
// and whoever was enqueued before is looked up before the next call. Repeating it changes nothing.
func (d *Desk) BeginRestore(ctx context.Context) (store.Restoration, error) {
	return store.BeginRestoration(ctx, store.Open(d.rdb, d.namespace))
}

// LastRestore gives the last restoration, which may stand still, and whether a worker has ever worked in the namespace.
func (d *Desk) LastRestore(ctx context.Context) (r store.Restoration, bound bool, err error) {
	db := store.Open(d.rdb, d.namespace)
	n, err := db.Exists(ctx, db.Key.KeyKind()).Result()
	if err != nil {
		return r, false, fmt.Errorf("reading whose the namespace is: %w", err)
	}
	r, err = store.ReadRestoration(ctx, db)
	return r, n > 0, err
}

// Synced tells how many invitations the directory has, if it is a copy of Clerk's list that was begun after Redis was
// restored.
func (d *Desk) Synced(ctx context.Context, r store.Restoration) (invitations int, synced bool, err error) {
	c, err := d.Directory.Copy(ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return 0, false, nil
	}
	if err != nil || c.SyncedAt.Before(r.At) {
		return 0, false, err
	}
	return c.Count(), true, nil
}

// SyncOnce has a worker copy Clerk's list, unless the directory is a copy that was begun after Redis was restored. It
// gives how many invitations that has, and tells waiting which task it waits for: that of a restore that was broken
// off, if it has not ended.
func (d *Desk) SyncOnce(
	ctx context.Context, r store.Restoration, waiting func(task string),
) (invitations int, err error) {
	n, synced, err := d.Synced(ctx, r)
	if synced || err != nil {
		return n, err
	}
	task, err := d.syncUnderWay(ctx, r)
	if err == nil && task.ID == "" {
		task, err = d.SyncList(ctx)
	}
	if err != nil {
		return 0, err
	}
	waiting(task.ID)
	if task, err = d.Wait(ctx, task.ID); err != nil {
		return 0, err
	}
	n, synced, err = d.Synced(ctx, r)
	if err == nil && !synced {
		err = fmt.Errorf("%w: %s", ErrNotSynced, whyNot(task))
	}
	return n, err
}

// syncUnderWay gives a task that will copy Clerk's list, or does since Redis was restored; a zero one if there is none.
func (d *Desk) syncUnderWay(ctx context.Context, r store.Restoration) (task tasks.Task, err error) {
	err = d.EachTask(ctx, TaskFilter{Type: tasks.TypeSyncList}, func(t QueuedTask) error {
		began := t.State == tasks.StateActive && t.EnqueuedAt.Before(r.At)
		if !began && t.State != tasks.StateScheduled {
			task = t.Task
		}
		return nil
	})
	_, err = store.SplitPartial(err)
	return task, err
}

// ErrNotSynced means that Clerk's list could not be copied whole.
var ErrNotSynced = errors.New("the list of Clerk could not be copied whole")

// whyNot says why a task has not done what it should.
func whyNot(task tasks.Task) string {
	if task.Error != nil {
		return fmt.Sprintf("task %s: %s", task.ID, task.Error.Message)
	}
	return fmt.Sprintf("task %s is %s", task.ID, task.State)
}

// Unfinished is what goes on when a restoration ends. A person looks whether something of it was cancelled or paused
// since the copy was made.
type Unfinished struct {
	Campaigns   []ledger.Campaign // that have not ended; those that are paused stay so
	Tasks       int               // that have not ended, but for those of campaigns
	DeadLetters int
}

// Unfinished gives what goes on when a restoration ends.
func (d *Desk) Unfinished(ctx context.Context) (u Unfinished, err error) {
	err = d.ledgers.List(ctx, func(some []ledger.Campaign) error {
		for _, c := range some {
			if c.State != ledger.Finished && c.State != ledger.Cancelled {
				u.Campaigns = append(u.Campaigns, c)
			}
		}
		return nil
	})
	partial, err := store.SplitPartial(err)
	if err != nil {
		return u, err
	}
	err = d.EachTask(ctx, TaskFilter{}, func(task QueuedTask) error {
		if task.Type != tasks.TypeBulkInvite && task.Type != tasks.TypeSyncList {
			u.Tasks++
		}
		return nil
	})
	more, err := store.SplitPartial(err)
	if err != nil {
		return u, err
	}
	u.DeadLetters, err = d.DeadLetters.Count(ctx)
	return u, errors.Join(partial, more, err)
}

// EndRestore lets work go on.
func (d *Desk) EndRestore(ctx context.Context, r store.Restoration) error {
	return store.EndRestoration(ctx, store.Open(d.rdb, d.namespace), r)
}
