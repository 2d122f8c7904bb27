// Package queues is asynq as Usher uses it: a queue for each kind of work, and tasks whose attempts, backoff and
// endings are the workers' own.
package queues

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Lane is a kind of work that has its own queue and its own workers, so that it can wait without stopping another
// kind.
type Lane string

// The lanes.
const (
	Interactive  Lane = "interactive"  // invite: somebody is waiting for it
	Campaign     Lane = "campaign"     // bulk-invite: drives a list for hours
	Housekeeping Lane = "housekeeping" // revoke, delete and sync-list: never held up by the create limits
)

// Lanes lists every lane.
func Lanes() []Lane { return []Lane{Interactive, Campaign, Housekeeping} }

// Name is the asynq queue of a lane.
func Name(namespace string, lane Lane) string { return namespace + ":" + string(lane) }

// Key is a key of an asynq queue: its list pending or active, its zset lease, scheduled or retry and so on.
func Key(queue, part string) string { return "asynq:{" + queue + "}:" + part }

// Waiting is how many tasks of a lane are in each state.
type Waiting struct {
	Queue                             string
	Pending, Active, Scheduled, Retry int
	// Paused is that another program, such as asynqmon, has paused the queue: workers take no task from it.
	Paused bool
}

// countScript counts the tasks of a queue.
//
// KEYS[1] -> asynq:{QUEUE}:pending
// KEYS[2] -> asynq:{QUEUE}:active
// KEYS[3] -> asynq:{QUEUE}:scheduled
// KEYS[4] -> asynq:{QUEUE}:retry
// KEYS[5] -> asynq:{QUEUE}:paused
// --
// Returns how many are in each, and 1 if the queue is paused, or else 0.
var countScript = redis.NewScript(`
return {
  redis.call('LLEN', KEYS[1]), redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4]),
  redis.call('EXISTS', KEYS[5]),
}
`)

// Count counts the tasks of a lane. asynq's own count also asks for the memory that they take, which a Redis may
// forbid.
func Count(ctx context.Context, rdb redis.UniversalClient, namespace string, lane Lane) (w Waiting, err error) {
	w.Queue = Name(namespace, lane)
	var keys []string
	for _, part := range []string{"pending", "active", "scheduled", "retry", "paused"} {
		keys = append(keys, Key(w.Queue, part))
	}
	counts, err := countScript.Run(ctx, rdb, keys).Int64Slice()
	if err == nil && len(counts) != len(keys) {
		err = store.ErrGarbage
	}
	if err != nil {
		return w, fmt.Errorf("counting the tasks of queue %s: %w", w.Queue, err)
	}
	for i, count := range []*int{&w.Pending, &w.Active, &w.Scheduled, &w.Retry} {
		*count = int(counts[i])
	}
	w.Paused = counts[4] > 0
	return w, nil
}

const (
	// maxRetry is never reached: asynq archives a task on its last retry even when that retry was only a wait.
	maxRetry = 1_000_000
	// timeout is never reached: asynq counts the time a task waits for a permit, and takes 0 to mean 30 minutes.
	timeout = math.MaxInt32 * time.Second
)

// TaskOptions are the asynq options of every task. Attempts, backoff and endings are the worker's own, so asynq's
// are set out of reach here, in one place. A zero at means now. asynq cuts instants to whole seconds, so that a task
// would run up to a second too early: at is rounded up.
func TaskOptions(queue, id string, at time.Time) []asynq.Option {
	opts := []asynq.Option{asynq.Queue(queue), asynq.TaskID(id), asynq.MaxRetry(maxRetry), asynq.Timeout(timeout)}
	if !at.IsZero() {
		opts = append(opts, asynq.ProcessAt(WholeSecond(at)))
	}
	return opts
}

// WholeSecond is an instant, or the first whole second after it: asynq keeps no fractions, and nothing runs too early.
func WholeSecond(at time.Time) time.Time {
	if whole := at.Truncate(time.Second); whole.Before(at) {
		return whole.Add(time.Second)
	}
	return at
}

// strandedScript drops a task that is marked scheduled and stands in no list: Redis refused a step of its enqueuing.
//
// KEYS[1] -> asynq:{QUEUE}:t:ID
// KEYS[2] -> asynq:{QUEUE}:scheduled
// --
// ARGV[1] -> ID
// --
// Returns 1 if it did, or else 0.
var strandedScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'state') ~= 'scheduled' or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
return redis.call('DEL', KEYS[1])
`)

// Enqueue enqueues a task under its id and tells whether it was not there yet. That it was may also be the echo of an
// enqueue whose reply was lost. One for later whose enqueuing broke off is no task: it takes its place.
func Enqueue(
	ctx context.Context, rdb redis.UniversalClient, client *asynq.Client, task *asynq.Task, queue, id string,
	at time.Time,
) (fresh bool, err error) {
	_, err = client.EnqueueContext(ctx, task, TaskOptions(queue, id, at)...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		if at.IsZero() {
			return false, nil
		}
		keys := []string{Key(queue, "t:"+id), Key(queue, "scheduled")}
		var stranded bool
		if stranded, err = strandedScript.Run(ctx, rdb, keys, id).Bool(); err == nil && !stranded {
			return false, nil
		}
		if err == nil {
			_, err = client.EnqueueContext(ctx, task, TaskOptions(queue, id, at)...)
		}
	}
	switch {
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("enqueuing task %s: %w", id, err)
	}
	return true, nil
}

// Unknown tells whether an error of asynq means that it does not know a task.
func Unknown(err error) bool {
	// A queue exists from its first task on.
	return errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound)
}

// FindTask gives what asynq knows of a task, in whichever lane it is; nil if it knows nothing.
func FindTask(inspector *asynq.Inspector, namespace, id string) (*asynq.TaskInfo, error) {
	for _, lane := range Lanes() {
		info, err := inspector.GetTaskInfo(Name(namespace, lane), id)
		switch {
		case err == nil:
			return info, nil
		case !Unknown(err):
			return nil, fmt.Errorf("looking up task %s: %w", id, err)
		}
	}
	return nil, nil
}
