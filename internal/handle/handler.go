// Package handle runs tasks: each ends as done, cancelled or a dead letter, or goes on in a later run. Package fate
// decides what becomes of recipients; here its steps are taken, and what it decided is written.
package handle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Clerk is what tasks ask of Clerk.
type Clerk interface {
	ask.Clerk
	dispatch.Clerk
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
	Delete(ctx context.Context, id string) (clerkclient.Answer, error)
}

// Observer is told what became of tasks, of dead letters that were written, and of look-ups.
type Observer interface {
	ask.Observer
	TaskEnded(kind, outcome string, attempts int)
	RecipientEnded(kind string, end fate.Step, code string, attempts int)
	SavedByLookUp(recipients int)
	DeadLetterWritten(cause fate.Failure)
}

// Life says how long a worker lets its tasks go on.
type Life struct {
	Accepting context.Context // ends when the worker begins to stop: nothing waits any longer
	Writing   context.Context // ends later: nothing is written any longer
	Abandoned <-chan struct{} // closed when asynq has put back what is unfinished
}

// Handler runs the tasks of one namespace. It is an asynq.Handler.
type Handler struct {
	namespace   string
	rdb         redis.UniversalClient
	clerk       Clerk
	caller      *call.Caller
	policy      policy.Policy
	life        Life
	observer    Observer
	rules       fate.Rules
	log         zerolog.Logger
	questions   *ask.Questions
	dispatcher  *dispatch.Dispatcher
	records     *record.Store
	intents     *intent.Tasks
	ledgers     *ledger.Ledgers
	deadLetters *deadletter.Store
	directory   *directory.Directory
	tombstones  *store.Tombstones
	invites     invites
	active      active
}

// active counts the tasks that are at work, or wait in this process, by type.
type active struct {
	mu sync.Mutex
	n  map[string]int
}

func (a *active) add(kind string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n[kind] += n
}

// Active gives how many tasks are at work, or wait in this process, by type.
func (h *Handler) Active() map[string]int {
	h.active.mu.Lock()
	defer h.active.mu.Unlock()
	some := maps.Clone(h.active.n)
	maps.DeleteFunc(some, func(_ string, n int) bool { return n == 0 })
	return some
}

// New gives a handler that calls Clerk with a caller.
func New(
	rdb redis.UniversalClient, namespace string, memory *store.Memory, clerk Clerk, caller *call.Caller, life Life,
	o Observer,
) *Handler {
	h := &Handler{
		namespace: namespace, rdb: rdb, clerk: clerk, caller: caller, policy: caller.Policy, life: life, observer: o,
		rules: fate.Rules{
			MaxAttempts: caller.Policy.MaxAttempts, SettlingTime: caller.Policy.SettlingTime, Unproven: policy.Unproven,
			WaitsAlways: !caller.Policy.FastRetry, Timeout: caller.Policy.Timeout,
		},
		log: caller.Log, questions: ask.New(clerk, ask.Once(caller), o, caller.Log),
		records: record.NewStore(rdb, namespace), intents: intent.NewTasks(rdb, namespace),
		ledgers: ledger.New(rdb, namespace), deadLetters: deadletter.NewStore(rdb, namespace),
		directory: directory.New(rdb, namespace), tombstones: store.NewTombstones(rdb, namespace),
		invites: invites{runs: map[*stoppable]bool{}}, active: active{n: map[string]int{}},
	}
	h.intents.Memory, h.ledgers.Memory = memory, memory
	h.dispatcher = dispatch.New(caller, clerk, h.questions, h.intents, h.ledgers)
	return h
}

// run is one run of one task.
type run struct {
	id, kind, queue string
	payload         []byte
	enqueued        time.Time // zero if it is not known
	log             zerolog.Logger
	record          record.Record
	read            bool // the record was read
	again           bool // asynq has run the task before
	started         time.Time
	waited          time.Duration    // for permits and between attempts
	about           deadletter.Entry // what the task is about, for its dead letter and the log
	detail          map[string]int   // figures for the log
	story           func()           // tells the end of a campaign

	noted       time.Duration // the part of waited that is in the record
	began       time.Time     // when the task's first run began
	waitedInAll time.Duration // in all runs of the task
}

// noteTimes notes in the record when the task's first run began, and how long it has waited.
func (r *run) noteTimes() {
	if r.record.StartedAt.IsZero() {
		r.record.StartedAt = r.started.UTC()
	}
	r.record.Waited += r.waited - r.noted
	r.noted = r.waited
}

// died is the error that ends a task as a dead letter.
type died struct{ cause fate.Failure }

func (d *died) Error() string { return "the task becomes a dead letter: " + d.cause.Code }

// errEnded ends a run whose task's end is written.
var errEnded = errors.New("the task has ended already")

// postponed is the error that sends a task through asynq's retry set. Attempts are ours; asynq counts those that
// have failed only so that the next run knows of them.
type postponed struct {
	delay  time.Duration
	failed bool
}

// IsFailure is for asynq: it tells whether an attempt has failed, or the task only waits.
func IsFailure(err error) bool {
	p, ok := errors.AsType[*postponed](err)
	return ok && p.failed
}

func (p *postponed) Error() string { return fmt.Sprintf("waits %s for its next attempt", p.delay) }

// RetryDelay is for asynq: it gives the wait before a task's next run.
func RetryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	if p, ok := errors.AsType[*postponed](err); ok {
		return p.delay
	}
	return policy.RedisRest
}

// ProcessTask is what asynq calls. Every task ends here as done, cancelled or a dead letter, or waits for a later run.
// The end that fate decides for an invite is written in invite.go with its intent; then the error is errEnded. A task
// that the worker's stop interrupts goes back to its queue.
func (h *Handler) ProcessTask(ctx context.Context, task *asynq.Task) error {
	queue, _ := asynq.GetQueueName(ctx)
	retries, _ := asynq.GetRetryCount(ctx)
	id, kind := task.ResultWriter().TaskID(), task.Type()
	r := &run{
		id: id, kind: kind, queue: queue, payload: task.Payload(), started: time.Now(), again: retries > 0,
		enqueued: tasks.EnqueuedAt(kind, task.Payload(), task.Headers()),
		log:      h.log.With().Str("id", id).Str("type", kind).Logger(),
	}
	h.active.add(kind, 1)
	defer h.active.add(kind, -1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.life.Accepting, cancel)()
	err := h.process(ctx, r)
	var cause *fate.Failure
	if dead, ok := errors.AsType[*died](err); ok {
		cause, err = &dead.cause, nil
	}
	if err == nil {
		err = h.end(r, cause)
	}
	switch _, waits := errors.AsType[*postponed](err); {
	case errors.Is(err, errEnded):
		return nil
	case err == nil, waits:
		return err
	case errors.Is(err, tasks.ErrNewer), errors.Is(err, store.ErrNewer):
		r.log.Warn().Err(err).Msg("task left for a newer worker")
		return &postponed{delay: policy.NewerRest}
	case errors.Is(err, intent.ErrTaken):
		return &postponed{delay: policy.RedisRest} // another run of the task goes on with it
	case h.life.Accepting.Err() != nil && r.kind == tasks.TypeBulkInvite:
		return &postponed{} // no order to keep: another worker shall go on at once
	case h.life.Accepting.Err() != nil:
		<-h.life.Abandoned // until asynq has put the task back at the head of its queue
		return err
	case ctx.Err() != nil:
		return err // asynq has given up this run
	}
	r.log.Error().Err(err).Msg("task could not be worked on; it is tried again")
	return &postponed{delay: policy.NewerRest}
}

// process reads the task's record first: asynq may run a task again whose completion it could not write. The first run
// of an invite leaves that to the script that claims its address, and saves a command.
func (h *Handler) process(ctx context.Context, r *run) error {
	fresh := record.Record{Type: r.kind, Queue: r.queue, State: record.Open}
	r.record = fresh
	if r.kind != tasks.TypeInvite || r.again {
		if err := h.readRecord(ctx, r); err != nil {
			return err
		}
	}
	err := call.Guarded(r.log, func() error { return h.runTask(ctx, r) })
	if errors.Is(err, call.ErrPanicked) {
		r.record, r.read = fresh, false // the run may have begun to end the task, and not written that
		return h.failedRun(ctx, r, call.Panicked())
	}
	return err
}

// readRecord reads the task's record, if it was not read yet. The error is errEnded if the task has ended.
func (h *Handler) readRecord(ctx context.Context, r *run) error {
	if r.read {
		return nil
	}
	err := h.persist(ctx, func(ctx context.Context) error {
		found, known, err := h.records.Get(ctx, r.id)
		if known {
			r.adopt(found)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.read = true
	if r.record.State.Ended() {
		r.log.Info().Str("outcome", "already "+string(r.record.State)).Msg("task ended before")
		return errEnded
	}
	return nil
}

// adopt makes the record that is in Redis the run's.
func (r *run) adopt(found record.Record) {
	r.record, r.read = found, true
	r.record.Type, r.record.Queue = r.kind, r.queue
}

func (h *Handler) runTask(ctx context.Context, r *run) error {
	switch r.kind {
	case tasks.TypeInvite:
		return runDecoded(ctx, r, tasks.DecodeInvite, h.inviteUntilStopped)
	case tasks.TypeRevoke:
		return runDecoded(ctx, r, tasks.DecodeRevoke, h.revoke)
	case tasks.TypeDelete:
		return runDecoded(ctx, r, tasks.DecodeDelete, h.delete)
	case tasks.TypeBulkInvite:
		return runDecoded(ctx, r, tasks.DecodeBulkInvite, h.drive)
	case tasks.TypeSyncList:
		return runDecoded(ctx, r, tasks.DecodeSyncList, h.syncList)
	}
	return unreadable(fmt.Errorf("task type %.40q is unknown", r.kind))
}

// runDecoded runs a task whose payload can be read.
func runDecoded[P any](
	ctx context.Context, r *run, decode func([]byte) (P, error), do func(context.Context, *run, P) error,
) error {
	payload, err := decode(r.payload)
	if err != nil {
		return unreadable(err)
	}
	return do(ctx, r, payload)
}

// unreadable is the error of a task that cannot be read. That of a newer version stays queued.
func unreadable(err error) error {
	if errors.Is(err, tasks.ErrNewer) {
		return err
	}
	return &died{fate.Failure{Reason: fate.ReasonInvalid, Code: "invalid_payload", Message: err.Error()}}
}

// untilAnswered makes one call of a task until Clerk has answered it for good. Its error is nil when Clerk did what
// was asked, or else a *died, a *postponed or the context's.
func (h *Handler) untilAnswered(
	ctx context.Context, r *run, kind policy.Call, send func(ctx context.Context) error,
) error {
	for {
		t, err := h.caller.Do(ctx, kind, send)
		r.waited += t.Permit
		if err == nil {
			r.record.Attempts++
			return nil
		}
		refusal, answered := errors.AsType[*clerkclient.Error](err)
		if !answered {
			return err
		}
		if call.HeldBack(refusal.Outcome) {
			continue // nothing is wrong with the task
		}
		failure := call.FailureOf(refusal)
		if refusal.Outcome == clerkclient.Rejected {
			failure.Reason = fate.ReasonRejected
			r.record.Attempts++
			return &died{failure}
		}
		if err := h.failed(ctx, r, failure); err != nil {
			return err
		}
	}
}

// failed counts a failed attempt. It waits a short backoff out and returns nil; a long one makes it a *postponed, and
// the last attempt a *died.
func (h *Handler) failed(ctx context.Context, r *run, failure fate.Failure) error {
	if err := h.readRecord(ctx, r); err != nil {
		return err
	}
	life, last := r.record.Life().Fail(time.Now(), failure, h.rules)
	r.record.SetLife(life)
	if last != nil {
		return &died{*last}
	}
	if err := h.putRecord(r); err != nil {
		return err
	}
	backoff := h.policy.Backoff(life.Attempts)
	r.logFailed(life, backoff)
	return h.pause(ctx, r, backoff)
}

// failedRun is failed for a run that cannot go on: the task begins anew in a later run.
func (h *Handler) failedRun(ctx context.Context, r *run, failure fate.Failure) error {
	if err := h.failed(ctx, r, failure); err != nil {
		return err
	}
	return &postponed{delay: policy.RedisRest} // the backoff was waited out
}

// putRecord writes the task's record.
func (h *Handler) putRecord(r *run) error {
	r.noteTimes()
	return h.persist(h.life.Writing, func(ctx context.Context) error { return h.records.Put(ctx, r.id, r.record) })
}

// pause waits a short while; a long one is for a later run.
func (h *Handler) pause(ctx context.Context, r *run, d time.Duration) error {
	if d > policy.LongBackoff {
		return &postponed{delay: d, failed: true}
	}
	r.waited += d
	return policy.Sleep(ctx, d)
}

// end writes what became of a task that invites nobody by itself: the dead letter first, then the record, in two steps,
// so that a crash between them loses nothing and a repetition adds nothing. With a cause it ends as a dead letter.
func (h *Handler) end(r *run, cause *fate.Failure) error {
	if err := h.readRecord(h.life.Writing, r); err != nil {
		return err
	}
	letter := r.conclude(cause)
	err := h.persist(h.life.Writing, func(ctx context.Context) error {
		if letter != nil {
			if err := h.deadLetters.Put(ctx, *letter); err != nil {
				return err
			}
		}
		return h.records.End(ctx, r.id, r.record)
	})
	if err == nil {
		h.logEnd(r)
	}
	return err
}

// conclude completes the record of a task that ends: as done unless it is cancelled or, with a cause, as the dead
// letter that it gives.
func (r *run) conclude(cause *fate.Failure) (letter *deadletter.Entry) {
	r.noteTimes()
	r.began, r.waitedInAll = r.record.StartedAt, r.record.Waited
	r.record.StartedAt, r.record.Waited = time.Time{}, 0
	r.record.EndedAt, r.record.Error, r.record.EnqueuedAt = time.Now().UTC(), cause, r.enqueued
	r.record.EmailAddress = r.about.EmailAddress
	switch {
	case cause != nil:
		r.record.State = record.Dead
		letter = &r.about
		letter.ID, letter.TaskID, letter.Type, letter.Queue, letter.Payload = r.id, r.id, r.kind, r.queue, r.payload
		letter.Failure, letter.Attempts, letter.FailedAt = *cause, r.record.Attempts, r.record.EndedAt
		letter.History = fate.Remember(r.record.History, letter.FailedAt, *cause)
	case r.record.State != record.Cancelled:
		r.record.State = record.Done
	}
	r.record.History, r.record.Between = nil, fate.State{}
	return letter
}

// persist repeats what it does in Redis until Redis takes it or the context ends. What has happened at Clerk is
// written in the context life.Writing, which outlives the run: that a run was given up does not undo it.
func (h *Handler) persist(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		isErr := func(final error) bool { return errors.Is(err, final) }
		if err == nil || ctx.Err() != nil || slices.ContainsFunc(finalErrors, isErr) {
			return err
		}
		h.log.Warn().Err(err).Msg("Redis cannot answer; trying again")
		if policy.Sleep(ctx, policy.RedisRest) != nil {
			return err
		}
	}
}

// persisted is persist for what gives a value.
func persisted[T any](ctx context.Context, h *Handler, do func(context.Context) (T, error)) (value T, err error) {
	err = h.persist(ctx, func(ctx context.Context) (err error) {
		value, err = do(ctx)
		return err
	})
	return value, err
}

// finalErrors do not go away when Redis is asked again. Any other error means that Redis cannot answer.
var finalErrors = []error{store.ErrNewer, store.ErrGarbage, intent.ErrTaken, ledger.ErrNotFound, directory.ErrGone}
