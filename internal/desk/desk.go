// Package desk is what people do with Usher: see how it stands, rehearse, watch, retry, forget and export. It gives
// values; a command, an HTTP server or a page shows them.
package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/kept"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
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
	Schedules   *schedule.Control
	ErasureLog  string  // the file to which erasures are added; empty: to none
	Orders      *Orders // of campaigns that are paged through; nil: none is kept

	actor      string
	rdb        redis.UniversalClient
	namespace  string
	ledgers    *ledger.Ledgers
	tombstones *store.Tombstones
	intents    *intent.Tasks
	records    *record.Store
	histories  *history.Store
	keptLists  *kept.Lists
	inspector  *asynq.Inspector
}

// New gives the desk of a namespace. actor is who acts there; empty if that is not known.
func New(rdb redis.UniversalClient, namespace, actor string) (*Desk, error) {
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace(namespace), tasks.Actor(actor))
	if err != nil {
		return nil, err
	}
	return &Desk{
		Client: client, actor: actor, rdb: rdb, namespace: namespace, inspector: asynq.NewInspectorFromRedisClient(rdb),
		DeadLetters: deadletter.NewStore(rdb, namespace), Retrier: retry.New(rdb, namespace),
		Schedules: schedule.NewControl(rdb, namespace),
		Directory: directory.New(rdb, namespace), ledgers: ledger.New(rdb, namespace),
		tombstones: store.NewTombstones(rdb, namespace), intents: intent.NewTasks(rdb, namespace),
		records: record.NewStore(rdb, namespace), histories: history.NewStore(rdb, namespace),
		keptLists: kept.New(rdb, namespace),
	}, nil
}

// Overview is how the whole system stands.
type Overview struct {
	Standstill  *tasks.Standstill // of all invitations, or of campaigns; nil if nothing stands in their way
	Workers     []store.Worker    // those that live, and those that were lost of late
	Reserve     int               // single calls in a window that only invites may use
	Queues      []queues.Waiting  // of each lane
	Limits      []ratelimit.Usage // those that count calls
	Resting     []policy.Standstill
	DeadLetters int
}

// Overview tells how the whole system stands, but for its campaigns.
func (d *Desk) Overview(ctx context.Context) (o Overview, err error) {
	outlook, announced, err := forecast.ReadLimits(ctx, d.rdb, d.namespace)
	if err != nil {
		return o, err
	}
	o.Standstill, o.Reserve, o.Resting = outlook.Standstill(), announced.Reserve, outlook.Rests
	for _, w := range outlook.Workers {
		if !w.Stopped {
			o.Workers = append(o.Workers, w)
		}
	}
	slices.SortFunc(o.Workers, func(a, b store.Worker) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	for _, u := range outlook.Usages {
		if !policy.OnlyRests(u.Name) {
			o.Limits = append(o.Limits, u)
		}
	}
	for _, lane := range queues.Lanes() {
		waiting := outlook.Interactive
		if lane != queues.Interactive {
			if waiting, err = queues.Count(ctx, d.rdb, d.namespace, lane); err != nil {
				return o, err
			}
		}
		o.Queues = append(o.Queues, waiting)
	}
	o.DeadLetters, err = d.DeadLetters.Count(ctx)
	return o, err
}

// Idle is the standstill of everything while no worker runs; nil if one does. If none has ever run, the name of the
// namespace may be misspelled.
func (d *Desk) Idle(ctx context.Context) (*tasks.Standstill, error) {
	workers, _, err := store.NewWorkers(d.rdb, d.namespace).List(ctx)
	if err != nil || slices.ContainsFunc(workers, store.Worker.Lives) {
		return nil, err
	}
	outlook, _, err := forecast.ReadLimits(ctx, d.rdb, d.namespace)
	return outlook.Idle, err
}

// EachSchedule calls do for each schedule in the workers' files, by name, until it returns an error, and gives that.
func (d *Desk) EachSchedule(ctx context.Context, do func(schedule.Standing) error) error {
	return schedule.Each(ctx, d.rdb, d.namespace, do)
}

// Letters chooses dead letters: those that match all that is given. Zero Letters are all of them.
type Letters struct {
	IDs                    []string
	Code, Campaign, Reason string
	NoCode                 bool      // those without a code
	Until                  time.Time // those that failed no later, to the millisecond; zero: whenever they failed
	// Unreadable gives those too that cannot be read, if all that is chosen are ids: an Entry with nothing but its id.
	Unreadable bool
	// InOrder gives those of one campaign in the order of its list, and then what else is about it.
	InOrder bool
}

// FoundLetters is what was found of dead letters that are chosen.
type FoundLetters struct {
	Matched int
	// Codes counts the codes of all that match but for the code.
	Codes map[string]int
}

// mostCodes bounds how many codes are counted.
const mostCodes = 1000

// count counts letters with a code.
func (f *FoundLetters) count(code string, n int) {
	if _, known := f.Codes[code]; known || len(f.Codes) < mostCodes {
		f.Codes[code] += n
	}
}

// matching gives a function that calls do for a letter if it is chosen, and counts it.
func (l Letters) matching(found *FoundLetters, do func(deadletter.Entry) error) func(deadletter.Entry) error {
	found.Codes = map[string]int{}
	chosen := l.Filter()
	butForCode := chosen
	butForCode.Code, butForCode.NoCode = "", false
	return func(e deadletter.Entry) error {
		if !butForCode.Matches(e) {
			return nil
		}
		found.count(e.Failure.Code, 1)
		if !chosen.Matches(e) {
			return nil
		}
		found.Matched++
		return do(e)
	}
}

// EachLetter calls do for the dead letters that are chosen, the oldest first or in the order of their ids, until it
// returns an error. Ids that are not there (deadletter.ErrNotFound) and letters that cannot be read (store.ErrGarbage)
// are a *store.Partial, after all others were done. do may retry or delete.
func (d *Desk) EachLetter(
	ctx context.Context, chosen Letters, do func(deadletter.Entry) error,
) (found FoundLetters, err error) {
	return d.letters(ctx, chosen, d.DeadLetters.Each, do)
}

// lettersAtOnce is how many dead letters are retried or deleted together.
const lettersAtOnce = 100

// someLetters is EachLetter for a do that takes up to lettersAtOnce of them together, as they were read a moment ago.
func (d *Desk) someLetters(
	ctx context.Context, chosen Letters, do func([]deadletter.Entry) error,
) (found FoundLetters, err error) {
	var some []deadletter.Entry
	flush := func() error {
		if len(some) == 0 {
			return nil
		}
		err := do(some)
		some = some[:0]
		return err
	}
	each := func(ctx context.Context, f deadletter.Filter, do func(deadletter.Entry) error) error {
		return d.DeadLetters.EachOfSome(ctx, f, lettersAtOnce, do)
	}
	found, err = d.letters(ctx, chosen, each, func(e deadletter.Entry) error {
		if some = append(some, e); len(some) < lettersAtOnce {
			return nil
		}
		return flush()
	})
	if _, brokenOff := store.SplitPartial(err); brokenOff != nil {
		return found, err
	}
	return found, errors.Join(flush(), err)
}

// DeleteLetters deletes the dead letters that are chosen, in the order of EachLetter, some at a time, and tells of
// those that were there. The error is as EachLetter's, or what it broke off at; others were deleted then that come
// before.
func (d *Desk) DeleteLetters(
	ctx context.Context, chosen Letters, told func([]deadletter.Entry),
) (found FoundLetters, err error) {
	return d.someLetters(ctx, chosen, func(some []deadletter.Entry) error {
		var readable []deadletter.Entry
		for _, e := range some {
			if !e.FailedAt.IsZero() {
				readable = append(readable, e)
				continue
			}
			deleted, err := d.Retrier.Delete(ctx, e.ID)
			if deleted {
				told([]deadletter.Entry{e})
			}
			if err != nil {
				return err
			}
		}
		deleted, err := d.Retrier.DeleteEach(ctx, readable)
		told(deleted)
		return err
	})
}

// ReadLetters is EachLetter for a do that changes nothing: it holds a page of letters at a time.
func (d *Desk) ReadLetters(
	ctx context.Context, chosen Letters, do func(deadletter.Entry) error,
) (found FoundLetters, err error) {
	read := d.DeadLetters.Read
	if chosen.InOrder && chosen.Campaign != "" {
		read = func(ctx context.Context, _ deadletter.Filter, do func(deadletter.Entry) error) error {
			return d.readInOrder(ctx, chosen.Campaign, do)
		}
	}
	return d.letters(ctx, chosen, read, do)
}

// readInOrder is Read for the letters of one campaign: its recipients' in the order of its list, then all others.
func (d *Desk) readInOrder(ctx context.Context, campaign string, do func(deadletter.Entry) error) error {
	given := map[store.AddressID]bool{}
	var chunk []store.AddressID
	flush := func() error {
		found, _, err := d.DeadLetters.OfRecipients(ctx, campaign, chunk) // unreadable ones are named at the end
		if err != nil {
			return err
		}
		for _, id := range chunk {
			e, there := found[id]
			if !there || given[id] {
				continue
			}
			given[id] = true
			if err := do(e); err != nil {
				return err
			}
		}
		chunk = chunk[:0]
		return nil
	}
	err := d.ledgers.InOrder(ctx, campaign, func(e ledger.Entry) error {
		if e.State != ledger.RowDead {
			return nil
		}
		if chunk = append(chunk, e.ID); len(chunk) < lookedUp {
			return nil
		}
		return flush()
	})
	if err == nil || errors.Is(err, ledger.ErrNotFound) {
		err = flush()
	}
	if err != nil {
		return err
	}
	return d.DeadLetters.Read(ctx, deadletter.Filter{Campaign: campaign}, func(e deadletter.Entry) error {
		if e.Campaign == campaign && e.Recipient != nil && given[*e.Recipient] {
			return nil
		}
		return do(e)
	})
}

// CountLetters is how many dead letters are chosen. It reads hardly any of them, and leaves out what cannot be read. It
// stops counting when that has taken so long; 0: never.
func (d *Desk) CountLetters(
	ctx context.Context, chosen Letters, within time.Duration,
) (deadletter.Counted, error) {
	if len(chosen.IDs) == 0 {
		return d.DeadLetters.CountChosen(ctx, chosen.Filter(), within)
	}
	found, err := d.ReadLetters(ctx, chosen, func(deadletter.Entry) error { return nil })
	return deadletter.Counted{N: found.Matched, Looked: len(chosen.IDs), All: true}, err
}

// Filter is the choice as the store of dead letters knows it, but for ids.
func (l Letters) Filter() deadletter.Filter {
	return deadletter.Filter{Code: l.Code, Campaign: l.Campaign, Reason: l.Reason, NoCode: l.NoCode, Until: l.Until}
}

func (d *Desk) letters(
	ctx context.Context, chosen Letters,
	each func(context.Context, deadletter.Filter, func(deadletter.Entry) error) error, do func(deadletter.Entry) error,
) (found FoundLetters, err error) {
	matching := chosen.matching(&found, do)
	if len(chosen.IDs) == 0 {
		filter := chosen.Filter()
		filter.Other = found.count
		err = each(ctx, filter, matching)
		return found, err
	}
	var partial store.Partial
	for _, id := range chosen.IDs {
		e, err := d.Letter(ctx, id)
		garbage := errors.Is(err, store.ErrGarbage)
		switch {
		case garbage && chosen.Unreadable && chosen.Filter().All():
			err = matching(deadletter.Entry{ID: id})
		case garbage, errors.Is(err, deadletter.ErrNotFound):
			partial.Add(err)
			continue
		case err == nil:
			err = matching(e)
		}
		if err != nil {
			return found, partial.With(err)
		}
	}
	return found, partial.With(nil)
}

// Letter gives a dead letter. The error is a deadletter.ErrNotFound, which says what became of it, as far as that is
// remembered.
func (d *Desk) Letter(ctx context.Context, id string) (deadletter.Entry, error) {
	e, err := d.DeadLetters.Get(ctx, id)
	if !errors.Is(err, deadletter.ErrNotFound) {
		return e, err
	}
	end, known, lookErr := d.DeadLetters.LastGone(ctx, id)
	switch {
	case lookErr != nil:
		return e, lookErr
	case !known:
		return e, err
	case end == deadletter.Deleted:
		return e, fmt.Errorf("%w any more: it was deleted", err)
	}
	next := ""
	if r, _, err := d.records.Get(ctx, retry.BaseOf(id)); err == nil && r.Retry != "" && r.Retry != id {
		next = " (enqueue status " + r.Retry + ")"
	} else if campaign, ok := deadletter.CampaignOf(id); ok {
		next = " in campaign " + campaign
	}
	return e, fmt.Errorf("%w any more: it was retried already%s", err, next)
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
