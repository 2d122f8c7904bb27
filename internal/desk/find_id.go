package desk

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

// byID tells of a task, a dead letter, an invitation or a campaign. What is about an address is that address's story,
// and if it is a task, also its own. That of a task whose invite was mended is about the address that it goes to.
func (f *finder) byID(ctx context.Context, id string) error {
	base, known, err := f.records.Get(ctx, retry.BaseOf(id))
	if err = f.unread(err); err != nil {
		return err
	}
	last := id
	for _, act := range base.Acts {
		last = cmp.Or(act.Next, last)
	}
	address, err := f.addressOf(ctx, last)
	if err != nil {
		return err
	}
	if address != "" {
		if err := f.person(ctx, address); err != nil {
			return err
		}
		if info, err := queues.FindTask(f.inspector, f.namespace, id); info == nil && !known || err != nil {
			return err
		}
		return f.chain(ctx, id)
	}
	task, err := f.Status(ctx, id)
	if errors.Is(err, tasks.ErrNotFound) {
		if c, err := f.ledgers.Get(ctx, id); err == nil {
			return f.head(ctx, c)
		}
	}
	if err = f.unread(err); err != nil {
		return err
	}
	if task.Bulk != nil {
		c, err := f.ledgers.Get(ctx, task.Bulk.Campaign)
		if err == nil {
			err = f.head(ctx, c)
		}
		return err
	}
	return f.chain(ctx, id)
}

// addressOf gives the address that a task, a dead letter, one that was retried or deleted, or an invitation is about;
// empty if it is about none, if nothing that is known of it tells, or if it is no such id.
func (f *finder) addressOf(ctx context.Context, id string) (string, error) {
	info, err := queues.FindTask(f.inspector, f.namespace, id)
	if err != nil {
		return "", err
	}
	r, _, err := f.records.Get(ctx, id)
	if err = f.unread(err); err != nil {
		return "", err
	}
	if info != nil && !r.State.Ended() {
		task := queuedTask(info, r)
		r.EmailAddress, r.InvitationID = task.EmailAddress, task.InvitationID
	}
	if r.EmailAddress != "" {
		return r.EmailAddress, nil
	}
	if address, err := f.addressOfLetter(ctx, id); address != "" || err != nil {
		return address, err
	}
	if strings.HasPrefix(id, "inv_") {
		r.InvitationID = id
	}
	if r.InvitationID == "" {
		return "", nil
	}
	found, syncedAt, err := f.Directory.Get(ctx, []string{r.InvitationID})
	f.story.SyncedAt = syncedAt
	return found[r.InvitationID].EmailAddress, f.unread(err)
}

// addressOfLetter is addressOf for the id of a dead letter.
func (f *finder) addressOfLetter(ctx context.Context, id string) (string, error) {
	letter, err := f.DeadLetters.Get(ctx, id)
	switch {
	case err == nil:
		if r, err := retry.Request(letter); err == nil {
			return r.EmailAddress, nil
		}
	case !errors.Is(err, deadletter.ErrNotFound):
		if err = f.unread(err); err != nil {
			return "", err
		}
	}
	campaign, recipients, err := f.DeadLetters.Recipients(ctx, id)
	if err != nil {
		return "", err
	}
	for _, recipient := range recipients {
		if address, err := f.addressIn(ctx, campaign, recipient); address != "" || err != nil {
			return address, err
		}
	}
	return "", nil
}

// addressIn gives the address of a recipient of a campaign or, if another one has taken its place, that one.
func (f *finder) addressIn(ctx context.Context, campaign string, id store.AddressID) (string, error) {
	rows, err := f.ledgers.Find(ctx, campaign, []store.AddressID{id})
	if err = f.unread(err); err != nil {
		return "", err
	}
	if row, there := rows[id]; there {
		return recipientOf(row, "").EmailAddress, nil
	}
	_, events, err := f.histories.Of(ctx, id)
	for _, e := range events {
		if e.Campaign == campaign && e.Became {
			return e.Address, err
		}
	}
	return "", err
}

// chain tells of a task, and of the tasks that have retried its dead letters, what was not told yet.
func (f *finder) chain(ctx context.Context, id string) error {
	base := retry.BaseOf(id)
	r, _, err := f.records.Get(ctx, base)
	if err = f.unread(err); err != nil {
		return err
	}
	ids := []string{base}
	for _, act := range r.Acts {
		ids = append(ids, act.Next)
		e := Event{At: act.At, What: act.What, TaskID: cmp.Or(act.Next, base)}
		if f.did(act, e.TaskID) {
			continue
		}
		if act.Moved {
			if e.Address, err = f.addressOf(ctx, act.Next); err != nil {
				return err
			}
		}
		f.add(e)
	}
	for _, id := range append(ids, r.Retry, id) { // earlier versions noted the last one only
		if _, told := f.tasks[id]; told || id == "" {
			continue
		}
		info, err := queues.FindTask(f.inspector, f.namespace, id)
		if err != nil {
			return err
		}
		if err := f.task(ctx, id); err != nil {
			return err
		}
		if info == nil {
			err = f.unqueued(ctx, id)
		} else {
			err = f.waiting(ctx, info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unqueued tells of a task that has not ended and that no queue has.
func (f *finder) unqueued(ctx context.Context, id string) error {
	if f.tasks[id] { // it has ended
		return nil
	}
	task, err := f.Status(ctx, id)
	if errors.Is(err, tasks.ErrNotFound) {
		return nil
	}
	if err != nil {
		return f.unread(err)
	}
	w, err := f.Waiting(ctx, task)
	if err == nil && w.Standstill != nil && w.Standstill.Reason == forecast.NoQueue {
		f.add(Event{What: "waiting", TaskID: id, Failure: &fate.Failure{
			Reason: fate.Reason(w.Standstill.Reason), Message: w.Standstill.Message,
		}})
	}
	return err
}

// MovedTo tells whether an invite was mended to go to another address than its first task, and to which, if anything
// that is known of the task tells it.
func (d *Desk) MovedTo(ctx context.Context, id string) (moved bool, address string, err error) {
	r, _, err := d.records.Get(ctx, retry.BaseOf(id))
	if moved = slices.ContainsFunc(r.Acts, func(act record.Act) bool { return act.Moved }); moved && err == nil {
		address, err = newFinder(d).addressOf(ctx, id)
	}
	return moved, address, err
}

// did tells whether an act was told already: the history of the address has it too.
func (f *finder) did(act record.Act, task string) bool {
	return slices.ContainsFunc(f.story.Events, func(e Event) bool {
		return e.What == act.What && (e.TaskID == task || e.At.Equal(act.At))
	})
}

// head tells of a campaign as a whole, and how many of its recipients came to what. When each of them did only the
// campaign's export tells: there may be 200,000.
func (f *finder) head(ctx context.Context, c ledger.Campaign) error {
	mended, err := f.ledgers.CountMended(ctx, c.Name)
	if err != nil {
		return err
	}
	scheduled, end := Event{At: c.ScheduledAt, What: "scheduled"}, Event{At: c.FinishedAt, What: "done"}
	if c.State == ledger.Cancelled {
		end.What = "cancelled"
		if c.ScheduledAt.After(c.FinishedAt) { // so it does not start
			scheduled, end.Until = Event{}, c.ScheduledAt
		}
	}
	for _, e := range []Event{
		{At: c.CreatedAt, What: "enqueued"}, scheduled, {At: c.StartedAt, What: "started"}, end,
		{What: "sent", Recipients: c.Sent}, {What: "dead", Recipients: c.Dead},
		{What: "skipped", Recipients: c.Skipped}, {What: "mended", Recipients: mended},
	} {
		if e.Campaign = c.Name; !e.At.IsZero() || e.Recipients > 0 {
			f.add(e)
		}
	}
	return nil
}
