// Package erasure removes an address that is to be forgotten on request from everything that Redis holds of it.
package erasure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Removed counts what was removed.
type Removed struct {
	Campaigns   int `json:"campaigns"`    // of which the address was a recipient
	Uploads     int `json:"uploads"`      // to campaigns, under way or broken off
	Intents     int `json:"intents"`      // addresses with an intent: 0 or 1
	Tasks       int `json:"tasks"`        // in queues, with their results
	DeadLetters int `json:"dead_letters"` // of tasks and recipients
	Invitations int `json:"invitations"`  // in the directory and copies of it that are being made
}

func (r *Removed) add(more Removed) {
	r.Campaigns += more.Campaigns
	r.Uploads += more.Uploads
	r.Intents += more.Intents
	r.Tasks += more.Tasks
	r.DeadLetters += more.DeadLetters
	r.Invitations += more.Invitations
}

// ErrLeft means that something in Redis holds the address still.
var ErrLeft = errors.New("not all could be removed in time")

// again is when a look for what is left is repeated.
const again = 250 * time.Millisecond

// Eraser erases addresses in one namespace.
type Eraser struct {
	namespace   string
	tombstones  *store.Tombstones
	ledgers     *ledger.Ledgers
	intents     *intent.Tasks
	deadLetters *deadletter.Store
	directory   *directory.Directory
	records     *record.Store
	inspector   *asynq.Inspector
}

// New gives the eraser of a namespace.
func New(rdb redis.UniversalClient, namespace string) *Eraser {
	return &Eraser{
		namespace: namespace, tombstones: store.NewTombstones(rdb, namespace), ledgers: ledger.New(rdb, namespace), intents: intent.NewTasks(rdb, namespace),
		deadLetters: deadletter.NewStore(rdb, namespace), directory: directory.New(rdb, namespace), records: record.NewStore(rdb, namespace),
		inspector: asynq.NewInspectorFromRedisClient(rdb),
	}
}

// Forget sets a tombstone for an address, which all that is written from then on obeys, removes the address wherever it is found, and stays until nothing holds
// it any more: a task that is at work is told to end, and the record of what workers do is written anew every few seconds. If the context ends before, the error is ErrLeft and says
// what is left; waiting is told that before.
func (e *Eraser) Forget(ctx context.Context, address string, waiting func(left string)) (Removed, error) {
	var all Removed
	folded, id := tasks.FoldAddress(address), store.IDOf(address)
	if _, err := e.tombstones.Set(ctx, id); err != nil {
		return all, err
	}
	for told := ""; ; {
		removed, left, err := e.pass(ctx, folded, id)
		all.add(removed)
		if err != nil {
			return all, fmt.Errorf("forgetting an address: %w", err)
		}
		if left == "" && removed.Tasks == 0 { // one that was removed may have been on its way from one state to another
			return all, nil
		}
		if left != told && left != "" {
			told = left
			waiting(left)
		}
		if policy.Sleep(ctx, again) != nil {
			return all, fmt.Errorf("%w: %s; the tombstone stays, so repeat it", ErrLeft, left)
		}
	}
}

// Lift takes the tombstone of an address away and tells whether there was one. What was removed does not come back.
func (e *Eraser) Lift(ctx context.Context, address string) (bool, error) {
	return e.tombstones.Lift(ctx, store.IDOf(address))
}

// pass removes what it finds, and says what it cannot remove yet.
func (e *Eraser) pass(ctx context.Context, folded string, id store.AddressID) (r Removed, left string, err error) {
	// Tasks first: what one of them writes meanwhile is found after it.
	if r.Tasks, left, err = e.tasks(ctx, folded); err != nil {
		return r, left, err
	}
	if r.Uploads, err = e.ledgers.EraseStaged(ctx, id); err != nil {
		return r, left, err
	}
	if r.Campaigns, err = e.ledgers.Erase(ctx, id); err != nil {
		return r, left, err
	}
	if r.DeadLetters, err = e.letters(ctx, folded, id); err != nil {
		return r, left, err
	}
	if r.Invitations, err = e.directory.Erase(ctx, folded); err != nil {
		return r, left, err
	}
	gone, err := e.intents.Erase(ctx, id)
	if gone {
		r.Intents = 1
	}
	return r, left, err
}

// letters deletes the dead letters about an address.
func (e *Eraser) letters(ctx context.Context, folded string, id store.AddressID) (deleted int, err error) {
	err = e.deadLetters.Each(ctx, func(letter deadletter.Entry) error {
		if address, ok := letter.Address(); !(ok && address == id) && !carries(letter.Payload, folded) {
			return nil
		}
		found, err := e.deadLetters.Delete(ctx, letter.ID, "") // intents are erased too
		if found {
			deleted++
		}
		return err
	})
	return deleted, err
}
