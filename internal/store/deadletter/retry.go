package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/queues"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
)

// Driver gives the task that drives a campaign.
type Driver func(campaign string) (*asynq.Task, error)

// Retrier puts dead letters back to work.
type Retrier struct {
	store   *Store
	asynq   *asynq.Client
	ledgers *ledger.Ledgers
	records *record.Store
	queue   string // of campaigns
	driver  Driver
}

// NewRetrier retries the dead letters of one namespace.
func NewRetrier(rdb redis.UniversalClient, namespace string, driver Driver) *Retrier {
	return &Retrier{
		store: NewStore(rdb, namespace), asynq: asynq.NewClientFromRedisClient(rdb), ledgers: ledger.New(rdb, namespace),
		records: record.NewStore(rdb, namespace), queue: queues.Name(namespace, queues.Campaign), driver: driver,
	}
}

// Retry puts one dead letter back to work and gives the id of the task that carries it: a task of its own, or, for a
// recipient of a campaign, the campaign's. It fixes the next id, enqueues, and deletes the entry, in this order, so that
// repeating one that was broken off finishes it.
func (r *Retrier) Retry(ctx context.Context, id string) (next string, err error) {
	entry, err := r.store.Get(ctx, id)
	if err != nil {
		return "", err
	}
	next, err = retryingScript.Run(ctx, r.store.rdb, []string{r.store.keys.Letter(id)}, nextID(entry)).Text()
	if errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("retrying dead letter %s: %w", id, err)
	}
	carrier := next
	if entry.Recipient != nil {
		carrier, err = r.revive(ctx, entry)
	} else {
		err = r.enqueue(ctx, entry, next)
	}
	if err != nil {
		return "", fmt.Errorf("retrying dead letter %s: %w", id, err)
	}
	_, err = r.store.delete(ctx, id, next)
	return carrier, err
}

// nextID numbers the retries of a task. A colon keeps it apart from ids that producers choose.
func nextID(e Entry) string {
	base, number, _ := strings.Cut(e.ID, ":retry")
	n, _ := strconv.Atoi(number)
	return base + ":retry" + strconv.Itoa(n+1)
}

func (r *Retrier) enqueue(ctx context.Context, entry Entry, next string) error {
	known, exists, err := r.records.Get(ctx, next)
	if err != nil {
		return err
	}
	if exists && known.State.Ended() {
		return nil // enqueued by a retry that was broken off, and run since
	}
	if owner, address, ok := entry.owner(); ok {
		if err := intent.Reopen(ctx, r.store.rdb, r.store.namespace, owner, address, entry.doubtSince()); err != nil {
			return err
		}
	}
	task := asynq.NewTask(entry.Type, entry.Payload)
	_, err = r.asynq.EnqueueContext(ctx, task, queues.Options(entry.Queue, next, time.Time{})...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil
	}
	return err
}

// revive lets the recipient wait in its campaign again. One that was refused travels alone, so that it cannot spoil a
// bulk for others; one that only failed too often rides with them.
func (r *Retrier) revive(ctx context.Context, entry Entry) (string, error) {
	travel := ledger.Singly
	if entry.Failure.Reason == fate.Exhausted {
		travel = ledger.InBulk
	}
	campaign, err := r.ledgers.Revive(ctx, entry.Campaign, *entry.Recipient, travel, entry.doubtSince())
	if err != nil {
		return "", err
	}
	carrier := ledger.TaskID(campaign.Name, campaign.Generation)
	if campaign.State == ledger.Finished {
		return carrier, nil // it was revived before, and has its outcome
	}
	task, err := r.driver(entry.Campaign)
	if err != nil {
		return "", err
	}
	_, err = r.asynq.EnqueueContext(ctx, task, queues.Options(r.queue, carrier, time.Time{})...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		err = nil
	}
	return carrier, err
}
