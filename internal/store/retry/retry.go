// Package retry puts dead letters back to work, or deletes them with what is known of their calls.
package retry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Retrier retries and deletes the dead letters of one namespace.
type Retrier struct {
	letters *deadletter.Store
	asynq   *asynq.Client
	ledgers *ledger.Ledgers
	records *record.Store
	intents *intent.Tasks
	queue   string // of campaigns
	invites string // the queue of invites
}

// New gives the retrier of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Retrier {
	return &Retrier{
		letters: deadletter.NewStore(rdb, namespace), asynq: asynq.NewClientFromRedisClient(rdb),
		ledgers: ledger.New(rdb, namespace), records: record.NewStore(rdb, namespace),
		intents: intent.NewTasks(rdb, namespace), queue: policy.Queue(namespace, policy.Campaign),
		invites: policy.Queue(namespace, policy.Interactive),
	}
}

// Retry puts one dead letter back to work and gives the id of the task that carries it: a task of its own, or, for a
// recipient of a campaign, the campaign's. It fixes the next id, enqueues, and deletes the entry, in this order, so
// that repeating one that was broken off finishes it.
func (r *Retrier) Retry(ctx context.Context, id string) (carrier string, err error) {
	return r.retry(ctx, id, nextID)
}

// RetryAlone is Retry for a recipient of a campaign that is to be deleted: an invite of its own takes its intent over.
func (r *Retrier) RetryAlone(ctx context.Context, id string) (carrier string, err error) {
	return r.retry(ctx, id, func(e deadletter.Entry) string { return alone + nextID(e) })
}

func (r *Retrier) retry(
	ctx context.Context, id string, nextID func(deadletter.Entry) string,
) (carrier string, err error) {
	entry, err := r.letters.Get(ctx, id)
	if err != nil {
		return "", err
	}
	next, err := r.letters.BeginRetry(ctx, id, nextID(entry))
	if err != nil {
		return "", err
	}
	switch carrier = next; { // the next id says how the retry was begun
	case entry.Recipient == nil:
		err = r.repeat(ctx, entry, next)
	case strings.HasPrefix(next, alone):
		err = r.invite(ctx, entry, next)
	default:
		carrier, err = r.revive(ctx, entry)
	}
	if err != nil {
		return "", fmt.Errorf("retrying dead letter %s: %w", id, err)
	}
	_, err = r.letters.Delete(ctx, id, next)
	return carrier, err
}

// Delete removes a dead letter for good and tells whether it was there.
func (r *Retrier) Delete(ctx context.Context, id string) (bool, error) {
	entry, err := r.letters.Get(ctx, id)
	if errors.Is(err, deadletter.ErrNotFound) {
		return false, nil
	}
	if owner, address, ok := ownerOf(entry); err == nil && ok {
		if err := r.intents.Forget(ctx, owner, address); err != nil {
			return false, err
		}
	}
	return r.letters.Delete(ctx, id, "")
}

// ownerOf tells who owns the intent of a letter's recipient, at an address. A letter that is not about a recipient has
// none: a revoke task may be about an address, but makes no invitation.
func ownerOf(e deadletter.Entry) (owner string, address store.AddressID, ok bool) {
	address, ok = e.Address()
	switch {
	case ok && e.Recipient != nil:
		return intent.CampaignOwner(e.Campaign), address, true
	case ok && e.Type == tasks.TypeInvite:
		return intent.TaskOwner(e.ID), address, true
	}
	return "", address, false
}

// doubtSince is when the first call was made that may have made the invitation without our knowing, in ms. It is 0 if
// there is no such call, as far as the letter tells: a refusal is the proof that nothing was made.
func doubtSince(e deadletter.Entry) int64 {
	switch {
	case e.Failure.Reason != fate.Exhausted:
		return 0
	case len(e.History) > 0:
		return e.History[0].At.UnixMilli()
	}
	return e.FailedAt.UnixMilli()
}

// alone begins the ids of invites for recipients of campaigns.
const alone = "alone:"

// nextID numbers the retries of a task. A colon keeps it apart from ids that producers choose.
func nextID(e deadletter.Entry) string {
	base, number, _ := strings.Cut(e.ID, ":retry")
	n, _ := strconv.Atoi(number)
	return base + ":retry" + strconv.Itoa(n+1)
}

// repeat enqueues the letter's task under a new id.
func (r *Retrier) repeat(ctx context.Context, entry deadletter.Entry, next string) error {
	if ended, err := r.ended(ctx, next); ended || err != nil {
		return err
	}
	if owner, address, ok := ownerOf(entry); ok {
		if err := r.intents.Reopen(ctx, owner, address, doubtSince(entry)); err != nil {
			return err
		}
	}
	_, err := policy.Enqueue(ctx, r.asynq, asynq.NewTask(entry.Type, entry.Payload), entry.Queue, next, time.Time{})
	return err
}

// ended tells whether a task was enqueued by a retry that was broken off, and has run since.
func (r *Retrier) ended(ctx context.Context, id string) (bool, error) {
	known, exists, err := r.records.Get(ctx, id)
	return exists && known.State.Ended(), err
}

// invite enqueues an invite for the letter's recipient, under a new id.
func (r *Retrier) invite(ctx context.Context, entry deadletter.Entry, next string) error {
	if ended, err := r.ended(ctx, next); ended || err != nil {
		return err
	}
	payload := tasks.InvitePayload{Version: tasks.Version, EnqueuedAt: time.Now().UnixMilli()}
	if err := json.Unmarshal(entry.Payload, &payload.Recipient); err != nil {
		return fmt.Errorf("its recipient cannot be read: %w", store.ErrGarbage)
	}
	data, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encoding a payload: %w", err)
	}
	owner := intent.CampaignOwner(entry.Campaign)
	if err := r.intents.Adopt(ctx, owner, next, *entry.Recipient, doubtSince(entry)); err != nil {
		return err
	}
	_, err = policy.Enqueue(ctx, r.asynq, asynq.NewTask(tasks.TypeInvite, data), r.invites, next, time.Time{})
	return err
}

// revive lets the recipient wait in its campaign again. One that was refused travels alone, so that it cannot spoil a
// bulk for others; one that only failed too often rides with them.
func (r *Retrier) revive(ctx context.Context, entry deadletter.Entry) (string, error) {
	travel := ledger.Singly
	if entry.Failure.Reason == fate.Exhausted {
		travel = ledger.InBulk
	}
	campaign, err := r.ledgers.Revive(ctx, entry.Campaign, *entry.Recipient, travel, doubtSince(entry))
	if err != nil {
		return "", err
	}
	return tasks.EnqueueDriver(ctx, r.asynq, r.queue, campaign) // finished: it was revived before, and has its outcome
}
