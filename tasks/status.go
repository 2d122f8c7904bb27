package tasks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
)

// Status tells what is known of a task, or ErrNotFound.
func (c *Client) Status(ctx context.Context, id string) (Task, error) {
	if campaign, ok := campaignOf(id); ok {
		return c.bulkStatus(ctx, id, campaign)
	}
	r, _, err := c.records.Get(ctx, id)
	switch {
	case err != nil:
		return Task{}, err
	case r.Campaign != "":
		return c.bulkStatus(ctx, id, r.Campaign)
	case r.State.Ended():
		return taskOf(id, r), nil
	}
	info, err := queues.FindTask(c.inspector, c.namespace, id)
	switch {
	case err != nil:
		return Task{}, err
	case info != nil:
		return LiveTask(info, r), nil
	}
	// asynq does not know it: it may have ended meanwhile, or its enqueue was broken off after the id was claimed.
	r, known, err := c.records.Get(ctx, id)
	switch {
	case err != nil:
		return Task{}, err
	case !known:
		return Task{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	task := taskOf(id, r)
	task.unqueued = !r.State.Ended()
	return task, nil
}

// Wait returns when the task has ended: done, dead or cancelled. It bears with a Redis that is away for a while.
func (c *Client) Wait(ctx context.Context, id string) (Task, error) {
	const patience, first, last = 30 * time.Second, 50 * time.Millisecond, time.Second
	var failingSince time.Time
	for pause := first; ; pause = min(pause*3/2, last) {
		task, err := c.Status(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
			return task, err
		case ctx.Err() != nil: // what was being read when it ended says nothing
			return task, context.Cause(ctx)
		case err == nil && task.State.Ended():
			return task, nil
		case err == nil:
			failingSince = time.Time{}
		case failingSince.IsZero():
			failingSince = time.Now()
		case time.Since(failingSince) > patience:
			return task, err
		}
		if policy.Sleep(ctx, pause) != nil {
			return task, context.Cause(ctx)
		}
	}
}

func (c *Client) bulkStatus(ctx context.Context, id, name string) (Task, error) {
	campaign, err := c.ledgers.Get(ctx, name)
	if errors.Is(err, ledger.ErrNotFound) {
		return Task{}, fmt.Errorf("%s: %w (%w)", id, ErrNotFound, err)
	}
	if err != nil {
		return Task{}, err
	}
	queue := queues.Name(c.namespace, queues.Campaign)
	task := bulkTask(id, queue, campaign)
	if task.State == StatePending || task.State == StateActive { // a paused one may be at work, too, and wait
		driver, err := c.inspector.GetTaskInfo(queue, ledger.TaskID(name, campaign.Generation))
		if err == nil && driver.State == asynq.TaskStateActive {
			task.State = StateActive
		}
	}
	return task, nil
}

// campaignOf reads the campaign from the id of a driver's task.
func campaignOf(id string) (string, bool) {
	rest, ok := strings.CutPrefix(id, "bulk:")
	name, _, hasGeneration := strings.Cut(rest, ":")
	return name, ok && hasGeneration
}

func taskOf(id string, r record.Record) Task {
	task := Task{
		ID: id, Type: r.Type, Queue: r.Queue, State: StatePending, RetriedAs: r.Retry,
		Attempts: r.Attempts, InvitationID: r.InvitationID, Revoked: r.Revoked, Deleted: r.Deleted,
		EnqueuedAt: r.EnqueuedAt,
	}
	if r.State == record.Cancelled { // else the wish came too late
		task.CancelledBy, task.ScheduledAt = r.By, r.ScheduledAt
	}
	if r.State.Ended() {
		task.State = State(r.State)
	}
	if r.Error != nil {
		task.Error = FailureOf(*r.Error)
	}
	if r.Skipped != nil {
		task.Skipped = FailureOf(*r.Skipped)
	}
	return task
}

// LiveTask joins what asynq knows of a task that has not ended with what its record says of its attempts.
func LiveTask(info *asynq.TaskInfo, r record.Record) Task {
	task := Task{
		ID: info.ID, Type: info.Type, Queue: info.Queue, Attempts: r.Attempts, Revoked: r.Revoked, Deleted: r.Deleted,
		EnqueuedAt: EnqueuedAt(info.Type, info.Payload, info.Headers), CancelWanted: r.Cancel, CancelledBy: r.By,
	}
	if n := len(r.History); n > 0 {
		task.Error = FailureOf(r.History[n-1].Failure)
	}
	states := map[asynq.TaskState]State{
		asynq.TaskStateScheduled: StateScheduled, asynq.TaskStateActive: StateActive, asynq.TaskStateRetry: StateRetry,
	}
	task.State = cmp.Or(states[info.State], StatePending)
	if info.State == asynq.TaskStateArchived { // only another program can have done that
		task.State, task.Error = StateDead, &Failure{Reason: ReasonArchived, Message: saysArchived}
	}
	if task.State == StateScheduled || task.State == StateRetry {
		task.ScheduledAt = info.NextProcessAt.UTC()
	}
	return task
}

// ReasonArchived is the Reason of a Failure of a task that another program, such as asynqmon, has put into asynq's
// archive. It has no dead letter.
const ReasonArchived = "archived"

const saysArchived = "another program, such as asynqmon, has put it into asynq's archive: run it again there"

// EnqueuedAt reads when a task was enqueued: an invite's payload says it, and the headers of other tasks. It is zero
// if another program has enqueued it.
func EnqueuedAt(kind string, payload []byte, headers map[string]string) time.Time {
	var said struct {
		EnqueuedAt int64 `json:"enqueued_at"`
	}
	if kind == TypeInvite {
		_ = json.Unmarshal(payload, &said) // garbage says nothing
	} else {
		said.EnqueuedAt, _ = strconv.ParseInt(headers[enqueuedAtHeader], 10, 64)
	}
	if said.EnqueuedAt <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(said.EnqueuedAt).UTC()
}

// FailureOf tells a producer of a failure.
func FailureOf(f fate.Failure) *Failure {
	return &Failure{
		Reason: string(f.Reason), HTTPStatus: f.HTTPStatus, Code: f.Code, Message: f.Message, TraceID: f.TraceID,
	}
}
