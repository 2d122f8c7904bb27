// Package retry puts dead letters back to work, or deletes them with what is known of their calls.
package retry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Retrier retries and deletes the dead letters of one namespace.
type Retrier struct {
	db      store.DB
	letters *deadletter.Store
	asynq   *asynq.Client
	ledgers *ledger.Ledgers
	records *record.Store
	intents *intent.Tasks
	queue   string // of campaigns
	invites string // the queue of invites

	histories *history.Store
}

// New gives the retrier of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Retrier {
	return &Retrier{
		db: store.Open(rdb, namespace), letters: deadletter.NewStore(rdb, namespace),
		asynq:   asynq.NewClientFromRedisClient(rdb),
		ledgers: ledger.New(rdb, namespace), records: record.NewStore(rdb, namespace),
		intents: intent.NewTasks(rdb, namespace), queue: queues.Name(namespace, queues.Campaign),
		invites:   queues.Name(namespace, queues.Interactive),
		histories: history.NewStore(rdb, namespace),
	}
}

// Retry is [Retrier.RetryEach] for one dead letter. The error is deadletter.ErrNotFound if it is gone, or somebody else
// has retried it meanwhile.
func (r *Retrier) Retry(ctx context.Context, id string) (carrier string, err error) {
	entry, err := r.letters.Get(ctx, id)
	if err != nil {
		return "", err
	}
	done := r.RetryEach(ctx, []Wish{{Letter: entry}})[0]
	return done.Carrier, done.Err
}

// ErrNoRequest means that a dead letter has no request for an invitation that could be changed.
var ErrNoRequest = errors.New("it is no invitation, or cannot be read, so it has no fields to change")

// Request gives the recipient of a dead letter, as it is asked for. What is wrong with it is no error here. The error
// is ErrNoRequest if there is none.
func Request(e deadletter.Entry) (recipient tasks.Recipient, err error) {
	switch {
	case e.Recipient != nil:
		recipient, err = tasks.DecodeRecipient(e.Payload)
	case e.Type == tasks.TypeInvite:
		var payload tasks.InvitePayload
		payload, err = tasks.DecodeInvite(e.Payload)
		recipient = payload.Recipient
	default:
		return recipient, ErrNoRequest
	}
	if err != nil && len(tasks.Faults(err)) == 0 {
		return tasks.Recipient{}, ErrNoRequest
	}
	return recipient, nil
}

// Payload is the payload of a letter's task with another request; nothing without one.
func Payload(e deadletter.Entry, as *tasks.Recipient) ([]byte, error) {
	if as == nil {
		return nil, nil
	}
	if _, err := Request(e); err != nil {
		return nil, err
	}
	if e.Recipient != nil {
		return json.Marshal(*as)
	}
	payload, _ := tasks.DecodeInvite(e.Payload) // Request has read it
	return json.Marshal(tasks.NewInvitePayload(*as, payload.EnqueuedAt))
}

// request is what a retry sends: the letter's, or the mended one.
type request struct {
	payload []byte
	address string // of a mended one
	version int    // of a mended one
	moved   bool   // it goes to another address than the letter's
}

// sentAs tells what the retry of a letter sends, which has begun.
func sentAs(e deadletter.Entry) (request, error) {
	if len(e.Mended) == 0 {
		return request{payload: e.Payload}, nil
	}
	mended := e
	mended.Payload = e.Mended
	recipient, err := Request(mended)
	if err != nil {
		return request{}, store.ErrGarbage
	}
	own, _ := e.Address()
	moved := store.IDOf(recipient.EmailAddress) != own
	return request{
		payload: e.Mended, address: recipient.EmailAddress, version: tasks.VersionOf(recipient), moved: moved,
	}, nil
}

// actOn says what a retry of a letter is that has begun.
func actOn(e deadletter.Entry) string {
	if len(e.Mended) > 0 {
		return "mended"
	}
	return "retried"
}

// noteOf is what is remembered of an address: that a letter died, and what a person did with it then.
func noteOf(address store.AddressID, e deadletter.Entry, act history.Event) history.Note {
	name := fmt.Sprintf("%s:%d:", e.Inside(), e.FailedAt.UnixNano())
	died := history.Event{
		Name: name + "died", At: e.FailedAt, What: "died", TaskID: e.TaskID, Campaign: e.Campaign, Failure: &e.Failure,
	}
	if !act.Became {
		died.Address = act.Address
	}
	act.Name = name + "again"
	var events []history.Event
	payload, _ := tasks.DecodeInvite(e.Payload)
	if e.Recipient == nil && payload.EnqueuedAt > 0 && !IsRetry(e.ID) {
		events = append(events, history.Event{
			Name: name + "enqueued", At: time.UnixMilli(payload.EnqueuedAt).UTC(), What: "enqueued", TaskID: e.TaskID,
		})
	}
	return history.Note{Address: address, Events: append(events, died, act)}
}

// Delete removes a dead letter for good and tells whether it was there. The id of its task is free again. Its id may
// be one of an earlier version.
func (r *Retrier) Delete(ctx context.Context, id string) (bool, error) {
	entry, err := r.letters.Get(ctx, id)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return false, nil
	case errors.Is(err, store.ErrGarbage): // is deleted too
		deleted, err := r.letters.Delete(ctx, id, deadletter.Deleted)
		if err != nil || !deleted {
			return deleted, err
		}
		return true, r.free(ctx, []deadletter.Entry{{ID: id}}, time.Now().UTC())
	case err != nil:
		return false, err
	}
	deleted, err := r.DeleteEach(ctx, []deadletter.Entry{entry})
	return len(deleted) > 0, err
}

// batchTime is how long some letters are dealt with when the context has ended: none is left half deleted or retried.
const batchTime = 5 * time.Second

// DeleteEach is Delete for letters as they were read, in a few round trips, and gives those that were there. One that
// has died again since is another letter, and stays. Where it fails it has deleted the first ones.
func (r *Retrier) DeleteEach(
	ctx context.Context, letters []deadletter.Entry,
) (deleted []deadletter.Entry, err error) {
	if err := ctx.Err(); err != nil || len(letters) == 0 {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTime)
	defer cancel()
	at := time.Now().UTC()
	letters, err = r.noteDeleted(ctx, letters, at) // it needs memory, so it comes first: Redis may be full
	letters, err2 := r.forget(ctx, letters)
	were, errs := r.letters.DeleteEach(ctx, letters, deadletter.Deleted)
	for i, was := range were {
		if was {
			deleted = append(deleted, letters[i])
		}
	}
	_, err3 := store.FirstError(errs)
	return deleted, cmp.Or(err, err2, err3, r.free(ctx, deleted, at))
}

// noteDeleted remembers of letters that they are deleted, and gives the first ones of which it has.
func (r *Retrier) noteDeleted(
	ctx context.Context, letters []deadletter.Entry, at time.Time,
) ([]deadletter.Entry, error) {
	var all []history.Note
	var of []int // the letter of each
	gone := history.Event{At: at, What: string(deadletter.Deleted)}
	for i, e := range letters {
		if own, about := e.Address(); about {
			gone.TaskID, gone.Campaign = e.TaskID, e.Campaign
			all, of = append(all, noteOf(own, e, gone)), append(of, i)
		}
	}
	noted, err := store.FirstError(r.histories.Note(ctx, all...))
	if err != nil {
		letters = letters[:of[noted]]
	}
	return letters, err
}

// forget forgets the intents of letters, and gives the first ones whose it has.
func (r *Retrier) forget(ctx context.Context, letters []deadletter.Entry) ([]deadletter.Entry, error) {
	var all []intent.Owned
	var of []int // the letter of each
	for i, e := range letters {
		if owned, ok := ownerOf(e); ok {
			all, of = append(all, owned), append(of, i)
		}
	}
	forgotten, err := store.FirstError(r.intents.Forget(ctx, all...))
	if err != nil {
		letters = letters[:of[forgotten]]
	}
	return letters, err
}

// free makes the ids of tasks whose letters were deleted free again.
func (r *Retrier) free(ctx context.Context, letters []deadletter.Entry, at time.Time) error {
	var ids []string
	for _, e := range letters {
		if e.Recipient == nil {
			ids = append(ids, BaseOf(e.ID))
		}
	}
	act := record.Act{At: at, What: string(deadletter.Deleted)}
	errs := r.records.ChangeEach(ctx, ids, func(_ int, base *record.Record) bool {
		free := base.State == record.Dead && !base.Free
		if base.Free = base.Free || free; free {
			base.Note(act)
		}
		return free
	})
	_, err := store.FirstError(slices.DeleteFunc(errs, func(err error) bool { // garbage says nothing of its task
		return errors.Is(err, store.ErrGarbage) || errors.Is(err, store.ErrNewer)
	}))
	return err
}

// ownerOf tells who owns the intent of a letter's recipient. A letter that is not about a recipient has
// none: a revoke task may be about an address, but makes no invitation.
func ownerOf(e deadletter.Entry) (owned intent.Owned, ok bool) {
	address, ok := e.Address()
	switch {
	case ok && e.Recipient != nil:
		return intent.Owned{Owner: intent.CampaignOwner(e.Campaign), Address: address}, true
	case ok && e.Type == tasks.TypeInvite:
		return intent.Owned{Owner: intent.TaskOwner(e.ID), Address: address}, true
	}
	return intent.Owned{}, false
}

// doubtSince is when the first call was made that may have made the invitation without our knowing, in ms. It is 0 if
// there is no such call, as far as the letter tells: a refusal is the proof that nothing was made.
func doubtSince(e deadletter.Entry) int64 {
	switch {
	case e.Failure.Reason != fate.ReasonExhausted:
		return 0
	case len(e.History) > 0:
		return e.History[0].At.UnixMilli()
	}
	return e.FailedAt.UnixMilli()
}

// BaseOf is the id of the task that another is a retry of, or its own. A colon keeps retries apart from ids that
// producers choose.
func BaseOf(id string) string {
	base, _, _ := strings.Cut(id, retryMark)
	return base
}

// IsRetry tells whether a task retries a dead letter. Its payload says when the first one was enqueued.
func IsRetry(id string) bool { return strings.Contains(id, retryMark) }

const (
	retryMark = ":retry"
	alone     = "alone:" // begins the ids of invites for recipients of campaigns
)
