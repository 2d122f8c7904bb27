package tasks

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/queues"
)

// Standstill is why a campaign or a task makes no call at present: a reason of a fixed set (window, reserve, endpoint,
// key, doubt, paused, no_worker, redis, restored, backoff, look_up, upload, queue, no_queue), since and until when as
// far as is known, and the same in words.
type Standstill = forecast.Standstill

// Waiting is why a task that has not ended makes no call at present, and when it should.
type Waiting struct {
	Standstill *Standstill // nil: nothing stands in its way
	// Ahead is how many invites go before this one.
	Ahead int
	// ETA is when an invite should be sent, or the last recipient of a campaign have its outcome; zero if nobody can
	// tell.
	ETA time.Time
}

// Waiting tells why a task makes no call at present. Of one that has ended, and of a scheduled one while a worker
// runs, there is nothing to tell.
func (c *Client) Waiting(ctx context.Context, task Task) (Waiting, error) {
	if task.State.Ended() {
		return Waiting{}, nil
	}
	if task.Bulk != nil {
		campaign, err := c.Campaign(ctx, task.Bulk.Campaign)
		return Waiting{Standstill: campaign.Standstill, ETA: campaign.ETA}, err
	}
	if task.unqueued {
		return Waiting{Standstill: &Standstill{Reason: forecast.NoQueue, Message: saysUnqueued}}, nil
	}
	outlook, announced, err := forecast.ReadLimits(ctx, c.rdb, c.namespace)
	if err != nil {
		return Waiting{}, err
	}
	switch trouble := outlook.Trouble; { // whatever the task does
	case outlook.Idle != nil && task.Type == TypeSyncList: // that does not wait for work to go on
		return Waiting{Standstill: outlook.Idle}, nil
	case outlook.Idle != nil, trouble != nil && trouble.Reason == forecast.RefusedKey:
		return Waiting{Standstill: trouble}, nil
	}
	if task.State == StateScheduled {
		return Waiting{}, nil
	}
	if task.State == StatePending {
		queue := outlook.Interactive
		if task.Type != TypeInvite {
			if queue, err = queues.Count(ctx, c.rdb, c.namespace, queues.Housekeeping); err != nil {
				return Waiting{}, err
			}
		}
		if queue.Paused {
			return Waiting{Standstill: forecast.PausedIn(queue)}, nil
		}
	}
	if outlook.Rested() && (task.Type == TypeRevoke || task.Type == TypeDelete) {
		return Waiting{Standstill: outlook.Trouble}, nil
	}
	if task.Type == TypeInvite {
		return c.inviteWaiting(ctx, task, outlook, announced)
	}
	calls := map[string][]policy.Call{
		TypeRevoke: {policy.Revoke, policy.Read}, TypeDelete: {policy.Delete, policy.Read}, TypeSyncList: {policy.Read},
	}
	w := Waiting{Standstill: outlook.Resting(calls[task.Type]...)}
	switch {
	case w.Standstill != nil:
	case task.State == StateRetry:
		w.Standstill = backoff(task)
	default:
		w.Standstill = outlook.Overdrawn()
	}
	return w, nil
}

const saysUnqueued = "no queue has it, because its enqueuing broke off or another program, such as asynqmon, has " +
	"deleted it: enqueue it again under its id, or cancel it"

// backoff is the standstill of a task whose last attempt has failed.
func backoff(task Task) *Standstill {
	s := &Standstill{Reason: forecast.Backoff, Until: task.ScheduledAt, Message: "its last attempt failed"}
	if task.Error != nil && task.Error.Message != "" {
		s.Message += ": " + task.Error.Message
	}
	return s
}

func (c *Client) inviteWaiting(
	ctx context.Context, task Task, outlook forecast.Outlook, announced policy.Policy,
) (w Waiting, err error) {
	if w.Ahead, err = c.ahead(ctx, task); err != nil {
		return w, err
	}
	if outlook.Trouble != nil {
		w.Standstill = outlook.Trouble
		return w, nil
	}
	w.Standstill, err = c.doubt(ctx, task, announced.SettlingTime)
	switch {
	case err != nil || w.Standstill != nil:
	case task.State == StateRetry:
		w.Standstill = backoff(task)
	default:
		predicted := outlook.Invite(w.Ahead)
		w.Standstill, w.ETA = predicted.Standstill, predicted.ETA
	}
	return w, err
}

// ahead counts the invites that go before one: they were taken from the queue, or stand in it, before it.
func (c *Client) ahead(ctx context.Context, task Task) (int, error) {
	active := queues.Key(task.Queue, "active")
	list, before := queues.Key(task.Queue, "pending"), int64(0)
	var err error
	switch task.State {
	case StateActive:
		list = active
	case StatePending:
		if before, err = c.rdb.LLen(ctx, active).Result(); err != nil {
			return 0, fmt.Errorf("counting the invites ahead: %w", err)
		}
	default:
		return 0, nil
	}
	pipe := c.rdb.Pipeline()
	length := pipe.LLen(ctx, list)
	found := pipe.Do(ctx, "LPOS", list, task.ID, "RANK", -1, "COUNT", 1) // tasks are taken from the tail
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("counting the invites ahead: %w", err)
	}
	if place, err := found.Int64Slice(); err == nil && len(place) == 1 {
		before += max(0, length.Val()-1-place[0])
	}
	return int(before), nil
}

// doubt is the standstill of an invite whose address is not free, because nobody knows the outcome of a call: of its
// own, or of another task or campaign.
func (c *Client) doubt(ctx context.Context, task Task, settle time.Duration) (*Standstill, error) {
	info, err := c.inspector.GetTaskInfo(task.Queue, task.ID)
	if err != nil {
		return nil, nil // it has moved on meanwhile
	}
	payload, err := DecodeInvite(info.Payload)
	if err != nil {
		return nil, nil // it becomes a dead letter
	}
	open, err := intent.NewTasks(c.rdb, c.namespace).Open(ctx, store.IDOf(payload.EmailAddress))
	for owner, s := range open {
		if time.Until(s.Until) > 0 {
			continue // a call is under way
		}
		stands := &Standstill{
			Reason: forecast.Doubt, Since: s.Since.UTC(), Until: s.Until.Add(settle).UTC(),
			Message: "nobody knows whether its last call has invited, and Clerk is asked",
		}
		if owner != intent.TaskOwner(task.ID) {
			by := "another task has called"
			if name, is := strings.CutPrefix(owner, intent.CampaignOwner("")); is {
				by = "campaign " + name + " has called"
			}
			stands.Message = by + " for its address, and nobody knows yet whether that has invited"
		}
		return stands, err
	}
	return nil, err
}
