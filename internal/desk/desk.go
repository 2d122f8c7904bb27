// Package desk is what people do with Usher: see how it stands, rehearse, watch, retry, forget and export. It gives
// values; a command, an HTTP server or a page shows them.
package desk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/store/retry"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// Desk is where people deal with one namespace. What producers do, it does as their client.
type Desk struct {
	*tasks.Client
	DeadLetters *deadletter.Store
	Retrier     *retry.Retrier
	Directory   *directory.Directory // the copy of Clerk's list

	rdb        redis.UniversalClient
	namespace  string
	ledgers    *ledger.Ledgers
	tombstones *store.Tombstones
	intents    *intent.Tasks
	records    *record.Store
	histories  *history.Store
	inspector  *asynq.Inspector
}

// New gives the desk of a namespace, whose client has further options.
func New(rdb redis.UniversalClient, namespace string, opts ...tasks.ClientOption) (*Desk, error) {
	client, err := tasks.NewClient(append(opts, tasks.Redis(rdb), tasks.Namespace(namespace))...)
	if err != nil {
		return nil, err
	}
	return &Desk{
		Client: client, rdb: rdb, namespace: namespace, inspector: asynq.NewInspectorFromRedisClient(rdb),
		DeadLetters: deadletter.NewStore(rdb, namespace), Retrier: retry.New(rdb, namespace),
		Directory: directory.New(rdb, namespace), ledgers: ledger.New(rdb, namespace),
		tombstones: store.NewTombstones(rdb, namespace), intents: intent.NewTasks(rdb, namespace),
		records: record.NewStore(rdb, namespace), histories: history.NewStore(rdb, namespace),
	}, nil
}

// Overview is how the whole system stands.
type Overview struct {
	Queues      []policy.Waiting  // of each lane
	Limits      []ratelimit.Usage // those that count calls
	Resting     []policy.Standstill
	Campaigns   []tasks.Campaign // the newest first
	DeadLetters int
}

// Overview tells how the whole system stands, with at most so many campaigns.
func (d *Desk) Overview(ctx context.Context, campaigns int) (o Overview, err error) {
	for _, lane := range policy.Lanes() {
		waiting, err := policy.CountQueue(ctx, d.rdb, d.namespace, lane)
		if err != nil {
			return o, err
		}
		o.Queues = append(o.Queues, waiting)
	}
	usages, err := ratelimit.ReadUsage(ctx, d.rdb, d.namespace)
	if err != nil {
		return o, err
	}
	o.Resting = policy.Standstills(usages)
	o.Limits = slices.DeleteFunc(usages, func(u ratelimit.Usage) bool { return policy.OnlyRests(u.Name) })
	if o.Campaigns, err = d.Campaigns(ctx, campaigns); err != nil {
		return o, err
	}
	o.DeadLetters, err = d.DeadLetters.Count(ctx)
	return o, err
}

// Standstills are the calls that rest because Clerk serves nobody who makes them.
func (d *Desk) Standstills(ctx context.Context) ([]policy.Standstill, error) {
	usages, err := ratelimit.ReadUsage(ctx, d.rdb, d.namespace)
	return policy.Standstills(usages), err
}

// Started tells whether a worker has ever started in the namespace. If none has, its name may be misspelled.
func (d *Desk) Started(ctx context.Context) (bool, error) {
	n, err := d.rdb.Exists(ctx, store.Keys(d.namespace).KeyKind()).Result()
	return n > 0, err
}

// Schedules tells how the schedules in the workers' files stand, by name.
func (d *Desk) Schedules(ctx context.Context) ([]schedule.Standing, error) {
	return schedule.List(ctx, d.rdb, d.namespace)
}

// Letters chooses dead letters: those that match all that is given. Zero Letters are all of them.
type Letters struct {
	IDs            []string
	Code, Campaign string
}

// EachLetter calls do for the dead letters that are chosen, the oldest first or in the order of their ids, until it
// returns an error. An id that is not there is a deadletter.ErrNotFound, after all others were done. do may retry or
// delete.
func (d *Desk) EachLetter(ctx context.Context, chosen Letters, do func(deadletter.Entry) error) error {
	matching := func(e deadletter.Entry) error {
		ofCode := chosen.Code == "" || chosen.Code == e.Failure.Code
		if !ofCode || chosen.Campaign != "" && chosen.Campaign != e.Campaign {
			return nil
		}
		return do(e)
	}
	if len(chosen.IDs) == 0 {
		return d.DeadLetters.Each(ctx, matching)
	}
	var missing []error
	for _, id := range chosen.IDs {
		e, err := d.DeadLetters.Get(ctx, id)
		if errors.Is(err, deadletter.ErrNotFound) {
			missing = append(missing, err)
			continue
		}
		if err == nil {
			err = matching(e)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(missing...)
}

// ErrNoRest means that calls of this kind do not rest.
var ErrNoRest = errors.New("no such calls rest")

// ResumeCalls lets one call of each kind go first now that rests while Clerk serves nobody, or of one kind. It gives
// the kinds. The error is ErrNoRest if the one does not rest.
func (d *Desk) ResumeCalls(ctx context.Context, kind string) (resumed []string, err error) {
	for _, limit := range policy.Rests() {
		name := policy.CallsOf(limit)
		if kind != "" && kind != name {
			continue
		}
		rested, err := ratelimit.Resume(ctx, d.rdb, d.namespace, limit)
		if err != nil {
			return resumed, err
		}
		if rested {
			resumed = append(resumed, name)
		}
	}
	if kind != "" && len(resumed) == 0 {
		return nil, fmt.Errorf("%s: %w", kind, ErrNoRest)
	}
	return resumed, nil
}
