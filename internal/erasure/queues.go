package erasure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// taskPage is how many tasks of a queue are looked at together.
const taskPage = 500

// tasks deletes the tasks about an address from the queues, and says what of them cannot be deleted yet.
func (e *Eraser) tasks(ctx context.Context, folded string) (deleted int, left string, err error) {
	known, err := e.inspector.Queues()
	if err != nil {
		return 0, "", fmt.Errorf("listing queues: %w", err)
	}
	for _, lane := range policy.Lanes() {
		queue := policy.Queue(e.namespace, lane)
		if !slices.Contains(known, queue) {
			continue // it exists from its first task on
		}
		n, busy, err := e.queue(ctx, queue, folded)
		deleted += n
		if err != nil {
			return deleted, left, err
		}
		if busy != "" {
			left = busy
		}
	}
	if left == "" {
		left, err = e.beating(folded)
	}
	return deleted, left, err
}

// queue deletes the tasks about an address from one queue.
func (e *Eraser) queue(ctx context.Context, queue, folded string) (deleted int, left string, err error) {
	for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		e.inspector.ListScheduledTasks, e.inspector.ListRetryTasks, e.inspector.ListPendingTasks, e.inspector.ListArchivedTasks, e.inspector.ListCompletedTasks,
	} {
		found, err := about(queue, folded, list)
		if err != nil {
			return deleted, left, err
		}
		for _, task := range found {
			if isRevocation(task) && task.State == asynq.TaskStatePending {
				left = "task " + task.ID + " is about to revoke the address's invitations"
				continue
			}
			gone, err := e.delete(ctx, queue, task)
			if err != nil {
				return deleted, left, err
			}
			if gone {
				deleted++
			}
		}
	}
	active, err := about(queue, folded, e.inspector.ListActiveTasks)
	for _, task := range active {
		left = "task " + task.ID + " is at work"
		if !isRevocation(task) {
			err = errors.Join(err, e.inspector.CancelProcessing(task.ID)) // asynq puts it where it can be deleted
		}
	}
	return deleted, left, err
}

// isRevocation: a revocation of an address's invitations is let end.
func isRevocation(task *asynq.TaskInfo) bool { return task.Type == tasks.TypeRevoke }

// about gives the tasks of a queue in one state that are about an address.
func about(queue, folded string, list func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error)) ([]*asynq.TaskInfo, error) {
	var found []*asynq.TaskInfo
	for page := 1; ; page++ {
		tasks, err := list(queue, asynq.Page(page), asynq.PageSize(taskPage))
		if err != nil {
			return nil, fmt.Errorf("listing tasks of queue %s: %w", queue, err)
		}
		for _, task := range tasks {
			if carries(task.Payload, folded) {
				found = append(found, task)
			}
		}
		if len(tasks) < taskPage {
			return found, nil
		}
	}
}

// delete deletes a task, and says in its record that it was cancelled. It tells false for one that cannot be deleted now, and need not be: it is
// gone, or has begun to run since it was listed, so that the next pass finds it there.
func (e *Eraser) delete(ctx context.Context, queue string, task *asynq.TaskInfo) (bool, error) {
	if err := e.inspector.DeleteTask(queue, task.ID); err != nil {
		now, lookErr := e.inspector.GetTaskInfo(queue, task.ID)
		switch {
		case gone(err), gone(lookErr), lookErr == nil && now.State != task.State:
			return false, nil
		}
		return false, fmt.Errorf("deleting task %s from queue %s: %w", task.ID, queue, err)
	}
	r, _, err := e.records.Get(ctx, task.ID)
	if err != nil {
		r = record.Record{} // garbage, or a newer version's: it is replaced
	}
	if r.State.Ended() {
		return true, nil
	}
	r.Type, r.Queue, r.State, r.EndedAt, r.History = task.Type, queue, record.Cancelled, time.Now().UTC(), nil
	return true, e.records.Put(ctx, task.ID, r)
}

// gone tells whether asynq knows a task no more.
func gone(err error) bool {
	return errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound)
}

// beating says whether a worker's last heartbeat tells of a task about an address.
func (e *Eraser) beating(folded string) (left string, err error) {
	servers, err := e.inspector.Servers()
	if err != nil {
		return "", fmt.Errorf("listing workers: %w", err)
	}
	for _, server := range servers {
		for _, at := range server.ActiveWorkers {
			if carries(at.TaskPayload, folded) {
				return "the heartbeat of the worker on " + server.Host + " tells of task " + at.TaskID, nil
			}
		}
	}
	return "", nil
}

// carries tells whether a payload is about an address: it says so, or cannot be read and has it somewhere.
func carries(payload []byte, folded string) bool {
	var said struct {
		EmailAddress *string `json:"email_address"`
	}
	if err := json.Unmarshal(payload, &said); err == nil && said.EmailAddress != nil {
		return tasks.FoldAddress(*said.EmailAddress) == folded
	}
	return has(strings.ToLower(string(payload)), folded)
}

// has tells whether a text has an address that is not a part of a longer one.
func has(text, folded string) bool {
	const local = "abcdefghijklmnopqrstuvwxyz0123456789.!#$%&*+/=?^_`|~-"
	for start := 0; ; {
		at := strings.Index(text[start:], folded)
		if at < 0 {
			return false
		}
		at += start
		end := at + len(folded)
		longer := at > 0 && strings.IndexByte(local, text[at-1]) >= 0 ||
			end < len(text) && strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789-", text[end]) >= 0 ||
			end+1 < len(text) && text[end] == '.' && strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789", text[end+1]) >= 0
		if !longer {
			return true
		}
		start = at + 1
	}
}
