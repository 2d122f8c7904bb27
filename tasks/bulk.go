package tasks

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
)

// MaxRecipients is how many recipients one BulkInvite takes; a campaign may grow by several.
const MaxRecipients = 200_000

// BulkRequest is a list of recipients to invite.
type BulkRequest struct {
	// Campaign names the list. Without a name it gets one that derives from its recipients and their options, under a
	// key of the namespace, so that asking for the same list again adds nothing.
	Campaign   string
	Recipients []Recipient
	// Each gives the recipients instead, if they are not to be in memory together. It is gone through several times, and
	// must give the same each time.
	Each iter.Seq[Recipient]
}

// all gives the recipients.
func (r BulkRequest) all() iter.Seq[Recipient] {
	if r.Each != nil {
		return r.Each
	}
	return slices.Values(r.Recipients)
}

// BulkInvite puts recipients into a campaign, all of them or none, and enqueues the task that works through it.
// Those the campaign has already are left as they are. Invalid input is one *InvalidError for each fault, joined.
//
// If the error is ErrUnsure, nobody knows whether the campaign has them, or will have them; if it is ErrHeld, it will.
func (c *Client) BulkInvite(ctx context.Context, request BulkRequest, opts ...Option) (Task, error) {
	options, err := Resolve(opts...)
	if err != nil {
		return Task{}, err
	}
	list, err := request.prepare()
	if err != nil {
		return Task{}, err
	}
	name, err := c.nameOf(ctx, list, c.secret.DeriveToWrite)
	if err != nil {
		return Task{}, err
	}
	queue := queues.Name(c.namespace, queues.Campaign)
	exists, own := false, ""
	if options.ID != "" || options.Owner != "" {
		own = options.id()
		digest, err := list.digest(cmp.Or(list.name, list.plain))
		if err != nil {
			return Task{}, err
		}
		asked := string(options.asked([]byte(digest)))
		r := record.Record{Type: TypeBulkInvite, Queue: queue, Campaign: name, Digest: asked}
		found, err := c.takeID(ctx, own, r, options.At)
		if err != nil {
			return Task{}, err
		}
		exists = found.State != ""
		name = cmp.Or(found.Campaign, name) // an earlier version may have taken the id, and named it otherwise
	}
	start := options.At
	if !start.After(time.Now()) {
		start = time.Time{}
	}
	upload, err := c.ledgers.AddSome(ctx, name, start, list.rows())
	if err != nil {
		err = uploadError(err)
		if len(Faults(err)) > 0 && own != "" && !exists { // what is refused takes no id
			err = errors.Join(err, c.records.Remove(ctx, own))
		}
		return Task{}, err
	}
	driver, err := EnqueueDriver(ctx, c.rdb, c.asynq, queue, upload.Campaign)
	if err == nil && own != "" {
		err = c.ledgers.NoteID(ctx, name, own)
	}
	if err == nil {
		err = c.ledgers.Moved(ctx, upload.Campaign)
	}
	if err != nil {
		return Task{}, fmt.Errorf("%w (%w)", ErrUnsure, err)
	}
	id := cmp.Or(own, driver)
	task := bulkTask(id, queue, upload.Campaign)
	task.Bulk.Added, task.Bulk.Known, task.Bulk.Forgotten = upload.Added, upload.Known, upload.Forgotten
	task.Bulk.Duplicates = list.duplicates
	if exists {
		return task, fmt.Errorf("%s: %w", id, ErrExists)
	}
	return task, nil
}

// EnqueueDriver enqueues the task that drives a campaign in its generation, unless the campaign is over, and gives the
// task's id. Repeating it adds nothing.
func EnqueueDriver(
	ctx context.Context, rdb redis.UniversalClient, client *asynq.Client, queue string, c ledger.Campaign,
) (string, error) {
	id := ledger.TaskID(c.Name, c.Generation)
	if CampaignState(c.State).Over() {
		return id, nil
	}
	data, err := json.Marshal(BulkInvitePayload{Version: firstVersion, Campaign: c.Name})
	if err != nil {
		return "", fmt.Errorf("encoding a payload: %w", err)
	}
	task := asynq.NewTaskWithHeaders(TypeBulkInvite, data, enqueuedNow())
	_, err = queues.Enqueue(ctx, rdb, client, task, queue, id, c.ScheduledAt)
	return id, err
}

func uploadError(err error) error {
	if refusal := RefusesDeleted(err); refusal != nil {
		return refusal
	}
	switch {
	case errors.Is(err, ledger.ErrCancelled):
		return CampaignCancelled.Refuses(false)
	case errors.Is(err, ledger.ErrBusy):
		return CampaignRunning.Refuses(true)
	}
	return err
}

// list is a request that was checked. Its rows are made when they are needed, and each time anew: all together they
// would take as much memory as the recipients.
type list struct {
	name       string // of the campaign, as it was given; empty: it derives from the rows
	plain      string // of a list without a name: what earlier versions called it
	recipients iter.Seq[Recipient]
	repeated   map[int]bool // those whose address an earlier one has
	duplicates int          // how many those are
}

// prepare checks the whole list, finds repeated addresses (the first one stays) and the campaign's name.
func (r BulkRequest) prepare() (list, error) {
	var errs []error
	if r.Campaign != "" {
		errs = append(errs, ValidateCampaign(r.Campaign))
	}
	n := len(r.Recipients)
	if r.Each != nil {
		for range r.Each {
			n++
		}
	}
	if n == 0 || n > MaxRecipients {
		errs = append(errs, invalid("recipients", "there are %d; a list has 1 to %d", n, MaxRecipients))
	}
	if n > MaxRecipients {
		return list{}, errors.Join(errs...)
	}
	l := list{name: r.Campaign, recipients: r.all(), repeated: map[int]bool{}}
	seen, i := make(map[string]bool, n), -1
	for recipient := range l.recipients {
		i++
		recipient = recipient.Normalize()
		if err := recipient.Validate(); err != nil {
			errs = append(errs, atIndex(err, i)...)
			continue
		}
		folded := FoldAddress(recipient.EmailAddress)
		if seen[folded] {
			l.repeated[i] = true
			l.duplicates++
		}
		seen[folded] = true
	}
	if err := errors.Join(errs...); err != nil {
		return list{}, err
	}
	if l.name == "" {
		digest, err := l.digest("")
		if err != nil {
			return list{}, err
		}
		l.plain = derived + digest
	}
	return l, nil
}

// derived begins the names that derive from rows.
const derived = "bulk-"

// nameOf gives the name of a list's campaign; nothing if derive gives no key for it. Without a key anybody who sees the
// name could try addresses until one gives the same name. A name without a key counts only if an earlier version has
// given it to a campaign.
func (c *Client) nameOf(
	ctx context.Context, l list, derive func(ctx context.Context, purpose string) (key []byte, err error),
) (string, error) {
	if l.name != "" {
		return l.name, nil
	}
	stands, err := c.ledgers.Stands(ctx, l.plain)
	switch {
	case err != nil:
		return "", err
	case stands:
		return l.plain, nil
	}
	key, err := derive(ctx, "names of campaigns")
	if err != nil || key == nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(l.plain))
	return derived + hex.EncodeToString(mac.Sum(nil)[:digestBytes]), nil
}

// rows are the rows of the campaign, as many at a time as are sent together.
func (l list) rows() iter.Seq2[[]ledger.Recipient, error] {
	return func(yield func([]ledger.Recipient, error) bool) {
		rows, i := make([]ledger.Recipient, 0, ledger.RoundTrip), -1
		for recipient := range l.recipients {
			if i++; l.repeated[i] {
				continue
			}
			recipient = recipient.Normalize()
			data, err := json.Marshal(recipient)
			if err != nil {
				yield(nil, fmt.Errorf("encoding recipient %d: %w", i, err))
				return
			}
			rows = append(rows, ledger.Recipient{
				Folded: FoldAddress(recipient.EmailAddress), Data: data, Version: VersionOf(recipient),
			})
			if len(rows) == cap(rows) {
				if !yield(rows, nil) {
					return
				}
				rows = rows[:0]
			}
		}
		if len(rows) > 0 {
			yield(rows, nil)
		}
	}
}

// Name gives the name of the campaign that BulkInvite would put a list into. It checks the whole list, as BulkInvite
// does, and writes nothing. The name is empty if it would derive from the list and the namespace has no key for that
// yet: the first BulkInvite makes one.
func (c *Client) Name(ctx context.Context, request BulkRequest) (string, error) {
	l, err := request.prepare()
	if err != nil {
		return "", err
	}
	return c.nameOf(ctx, l, c.secret.Known)
}

// MakeName is [Client.Name] that makes the key if the namespace has none.
func (c *Client) MakeName(ctx context.Context, request BulkRequest) (string, error) {
	l, err := request.prepare()
	if err != nil {
		return "", err
	}
	return c.nameOf(ctx, l, c.secret.DeriveToWrite)
}

// atIndex gives the faults of one recipient its place in the list.
func atIndex(err error, index int) (placed []error) {
	for _, fault := range Faults(err) {
		placed = append(placed, &InvalidError{Index: index, Field: fault.Field, Reason: fault.Reason})
	}
	return placed
}

// digestBytes is how much of a hash stands for a list.
const digestBytes = 10

// digest stands for the name and the rows.
func (l list) digest(name string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, name)
	for some, err := range l.rows() {
		if err != nil {
			return "", err
		}
		for _, row := range some {
			hash.Write(row.Data)
			hash.Write([]byte{'\n'})
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:digestBytes]), nil
}

func bulkTask(id, queue string, c ledger.Campaign) Task {
	states := map[ledger.State]State{
		ledger.Scheduled: StateScheduled, ledger.Finished: StateDone, ledger.Cancelled: StateCancelled,
	}
	task := Task{
		ID: id, Type: TypeBulkInvite, Queue: queue,
		State: cmp.Or(states[c.State], StatePending), ScheduledAt: c.ScheduledAt,
		Bulk: &Bulk{
			Campaign: c.Name, Recipients: c.Recipients, Sent: c.Sent, Dead: c.Dead, Skipped: c.Skipped,
			Remaining: c.Remaining(),
		},
	}
	if c.State == ledger.Running && !c.StartedAt.IsZero() {
		task.State = StateActive
	}
	return task
}
