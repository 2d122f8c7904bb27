package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
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

// ErrLeft means that something in Redis holds the address still.
var ErrLeft = errors.New("not all could be removed in time")

const (
	// forgetPatience is how long Forget stays. asynq takes two minutes to give up the tasks of a worker that has died.
	forgetPatience = 3 * time.Minute
	// forgetAgain is when a look for what is left is repeated.
	forgetAgain = 250 * time.Millisecond
)

// Forget sets a tombstone for an address, which all that is written from then on obeys, and removes the address
// wherever it is found. It stays until nothing holds the address any more: a task that is at work is told to end, and
// the record of what workers do is written anew every few seconds. waiting is told what is left. If that takes minutes
// the error is ErrLeft.
func (d *Desk) Forget(ctx context.Context, address string, waiting func(left string)) (Removed, error) {
	f := forgetting{Desk: d, folded: tasks.FoldAddress(address), id: store.IDOf(address)}
	if err := d.keepOut(ctx, f.id); err != nil {
		return f.removed, err
	}
	err := f.untilGone(ctx, waiting)
	return f.removed, err
}

// keepOut sets a tombstone, and adds the erasure to the log.
func (d *Desk) keepOut(ctx context.Context, id store.AddressID) error {
	if _, err := d.tombstones.Set(ctx, id); err != nil {
		return err
	}
	return d.note(ctx, id, false)
}

// untilGone removes an address that has a tombstone until nothing holds it any more.
func (f *forgetting) untilGone(ctx context.Context, waiting func(left string)) error {
	patient, cancel := context.WithTimeout(ctx, forgetPatience)
	defer cancel()
	for told := ""; ; {
		before := f.removed.Tasks
		left, err := f.pass(patient)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case patient.Err() != nil:
			return fmt.Errorf("%w: %s; the tombstone stays, so repeat it", ErrLeft, told)
		case err != nil:
			return fmt.Errorf("forgetting an address: %w", err)
		case left == "" && f.removed.Tasks == before: // else one may have been on its way from one state to another
			return nil
		case left != "" && left != told:
			told = left
			waiting(left)
		}
		_ = policy.Sleep(patient, forgetAgain)
	}
}

// ErrAtClerk means that invitations of the address are left at Clerk. The tombstone stays, and so does what is here.
var ErrAtClerk = errors.New("not all could be deleted at Clerk")

// ForgetAtClerk is [Desk.Forget] that first has a worker delete the invitations of the address at Clerk. It gives how
// many. That takes a minute or more: a call that was made before the tombstone was set may create one yet. It calls
// deletes with the task that does it, and what that gives when the task has ended.
func (d *Desk) ForgetAtClerk(
	ctx context.Context, address string, deletes func(task string) (ended func()), waiting func(left string),
) (r Removed, deleted int, err error) {
	if err := d.keepOut(ctx, store.IDOf(address)); err != nil {
		return r, 0, err
	}
	task, err := d.DeleteEmail(ctx, address)
	if err != nil {
		return r, 0, err
	}
	ended := deletes(task.ID)
	task, err = d.Wait(ctx, task.ID)
	if ended(); err != nil {
		return r, 0, err
	}
	if task.State != tasks.StateDone {
		why := "task " + task.ID + " was stopped"
		if task.Error != nil {
			why = strings.TrimSuffix(task.Error.Message, ".")
		}
		return r, task.Deleted, fmt.Errorf("%w: %s; the tombstone stays, so repeat it", ErrAtClerk, why)
	}
	r, err = d.Forget(ctx, address, waiting)
	return r, task.Deleted, err
}

// Lift takes the tombstone of an address away and tells whether there was one. What was removed does not come back.
func (d *Desk) Lift(ctx context.Context, address string) (bool, error) {
	lifted, err := d.tombstones.Lift(ctx, store.IDOf(address))
	if err == nil {
		err = d.note(ctx, store.IDOf(address), true)
	}
	return lifted, err
}

// forgetting is the work of forgetting one address.
type forgetting struct {
	*Desk
	folded  string // empty if only its id is known: then no text holds it
	id      store.AddressID
	removed Removed
}

// pass removes what it finds, and says what it cannot remove yet.
func (f *forgetting) pass(ctx context.Context) (left string, err error) {
	// Tasks first: what one of them writes meanwhile is found after it.
	if left, err = f.tasks(ctx); err != nil {
		return left, err
	}
	for _, step := range []struct {
		removed *int
		erase   func() (int, error)
	}{
		{&f.removed.Uploads, func() (int, error) { return f.ledgers.EraseStaged(ctx, f.id) }},
		{&f.removed.Campaigns, func() (int, error) { return f.ledgers.Erase(ctx, f.id) }},
		{&f.removed.DeadLetters, func() (int, error) { return f.deadLetters(ctx) }},
		{&f.removed.Invitations, func() (int, error) { return f.listed(ctx) }},
	} {
		n, err := step.erase()
		if *step.removed += n; err != nil {
			return left, err
		}
	}
	if err := f.ended(ctx); err != nil {
		return left, err
	}
	if err := f.keptLists.DropAll(ctx); err != nil { // nobody can look which of them has the address
		return left, err
	}
	gone, err := f.intents.Erase(ctx, f.id)
	if gone {
		f.removed.Intents = 1
	}
	return left, err
}

// listed erases the address from the directory.
func (f *forgetting) listed(ctx context.Context) (int, error) {
	if f.folded == "" {
		return 0, nil
	}
	return f.Directory.Erase(ctx, f.folded)
}

// tasks deletes the tasks about the address from the queues, and says what of them cannot be deleted yet. A revocation
// or deletion of the address's invitations is let end.
func (f *forgetting) tasks(ctx context.Context) (left string, err error) {
	found, unknown := f.about(ctx)
	for _, task := range found {
		switch revocation := task.Type == tasks.TypeRevoke || task.Type == tasks.TypeDelete; {
		case task.State == asynq.TaskStateActive:
			left = "task " + task.ID + " is at work" // an invite's worker sees the tombstone within a second
		case revocation && task.State == asynq.TaskStatePending:
			left = "task " + task.ID + " is about to revoke or delete the address's invitations"
		default:
			err = f.erase(ctx, task)
		}
		if err != nil {
			break
		}
	}
	if left != "" || err != nil {
		return left, err
	}
	if unknown != nil {
		return "", unknown
	}
	servers, err := f.inspector.Servers()
	if err != nil {
		return "", fmt.Errorf("listing workers: %w", err)
	}
	for _, server := range servers {
		for _, at := range server.ActiveWorkers {
			if f.in(at.TaskPayload) {
				return "the heartbeat of the worker on " + server.Host + " tells of task " + at.TaskID, nil
			}
		}
	}
	return "", nil
}

// erase takes a task from its queue and counts it.
func (f *forgetting) erase(ctx context.Context, task *asynq.TaskInfo) error {
	withdrawn, err := f.withdraw(ctx, task)
	if withdrawn {
		f.removed.Tasks++
	}
	return err
}

// about gives the tasks about the address, from all queues. Those at work come after the others of their queue. Of
// tasks that cannot be read nobody knows; the error names them.
func (f *forgetting) about(ctx context.Context) (found []*asynq.TaskInfo, err error) {
	err = f.eachQueued(ctx, everyState(), func(page []*asynq.TaskInfo) error {
		other := func(task *asynq.TaskInfo) bool { return !f.in(task.Payload) }
		found = append(found, slices.DeleteFunc(page, other)...)
		return nil
	})
	return found, err
}

// ended takes the address out of the records of its ended tasks, and then forgets which they are.
func (f *forgetting) ended(ctx context.Context) error {
	ids, _, err := f.histories.Of(ctx, f.id)
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := f.records.Forget(ctx, id, f.id)
		if err != nil && !errors.Is(err, store.ErrGarbage) {
			return err
		}
	}
	return f.histories.Erase(ctx, f.id)
}

// deadLetters deletes the dead letters about the address.
func (f *forgetting) deadLetters(ctx context.Context) (deleted int, err error) {
	err = f.DeadLetters.EachOfSome(ctx, deadletter.Filter{}, lettersAtOnce, func(letter deadletter.Entry) error {
		if id, ok := letter.Address(); !(ok && id == f.id) && !f.in(letter.Payload) {
			return nil
		}
		found, err := f.DeadLetters.Delete(ctx, letter.ID, deadletter.Forgotten) // intents are erased too
		if found {
			deleted++
		}
		return err
	})
	return deleted, err
}

// in tells whether a payload is about the address: it says so, or cannot be read and has it somewhere.
func (f *forgetting) in(payload []byte) bool {
	if f.folded == "" {
		return false
	}
	if address, named := addressNamed(payload); named {
		return tasks.FoldAddress(address) == f.folded
	}
	text := strings.ToLower(string(payload))
	return strings.Contains(text, f.folded) && whole(f.folded).MatchString(text)
}

// addressNamed gives the address that a payload names, if it can be read and names one.
func addressNamed(payload []byte) (address string, named bool) {
	var said struct {
		EmailAddress *string `json:"email_address"`
	}
	if err := json.Unmarshal(payload, &said); err != nil || said.EmailAddress == nil {
		return "", false
	}
	return *said.EmailAddress, true
}

// whole matches an address, folded, that is not a part of a longer one.
func whole(folded string) *regexp.Regexp {
	const before, after = "(^|[^a-z0-9.!#$%&*+/=?^_`|~-])", `($|[^a-z0-9.-]|\.($|[^a-z0-9]))`
	return regexp.MustCompile(before + regexp.QuoteMeta(folded) + after)
}
