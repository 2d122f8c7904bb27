package desk

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

// Event is something that happened, or will, to a person or a task.
type Event struct {
	At time.Time `json:"at"` // zero if it is not known
	// What is enqueued, scheduled, started (a campaign), attempt (one that failed), done, dead, cancelled, campaign
	// (the address is in it), waiting, open, sent, skipped, retried, mended, deleted (a dead letter), doubt, dead-letter,
	// invitation (made at Clerk by another than Usher, as far as is known), pending, accepted, expired, revoked, or
	// forgotten.
	What         string        `json:"what"`
	TaskID       string        `json:"task_id"`
	Type         string        `json:"type"` // of the task, if it revokes or deletes invitations
	Campaign     string        `json:"campaign"`
	InvitationID string        `json:"invitation_id"`
	DeadLetter   string        `json:"dead_letter"`
	Address      string        `json:"email_address"` // another one: whose place was taken, or that took it
	By           string        `json:"by"`            // who has cancelled a task, if that is known
	Failure      *fate.Failure `json:"error"`
	Until        time.Time     `json:"until"`       // of doubt: when asking makes sense; of a cancelled task: its time
	Recipients   int           `json:"recipients"`  // of a campaign that it happened to; 0 in all other events
	Invitations  int           `json:"invitations"` // that a task has revoked or deleted; 0 in all other events
}

// Onward is where the story of an address goes on that another one has replaced.
type Onward struct {
	Address string `json:"email_address"`
	ID      string `json:"id"` // by which Find tells the same, of a task or a dead letter
}

// Story is everything that is known of a person or a task.
type Story struct {
	Address   string    `json:"email_address"` // empty for a task about nobody
	Forgotten time.Time `json:"forgotten_at"`
	SyncedAt  time.Time `json:"synced_at"` // of the directory
	Events    []Event   `json:"events"`    // in the order of time
	GoesOn    []Onward  `json:"goes_on"`   // with the addresses that have taken its place
}

// Find tells everything about an address, or about a task, a dead letter or an invitation by its id, or about a
// campaign by its name. The error is a tasks.ErrNotFound if nothing is known of an id, and a *tasks.InvalidError if
// what may be an address is none. What cannot be read hides nothing else: it is a *store.Partial, beside the story.
// Find asks by key wherever it can: only tasks that wait are read through.
func (d *Desk) Find(ctx context.Context, what string) (Story, error) {
	f := newFinder(d)
	var noAddress error
	if strings.Contains(what, "@") {
		address := tasks.CleanAddress(what)
		if noAddress = (tasks.Recipient{EmailAddress: address}).Validate(); noAddress == nil {
			return f.about(ctx, address)
		}
	}
	err := f.byID(ctx, what)
	if noAddress != nil && errors.Is(err, tasks.ErrNotFound) {
		return f.story, noAddress
	}
	if err == nil {
		f.tell()
	}
	return f.story, f.partial.With(err)
}

// about tells everything about an address.
func (f *finder) about(ctx context.Context, address string) (Story, error) {
	err := f.person(ctx, address)
	if err == nil {
		f.tell()
	}
	return f.story, f.partial.With(err)
}

// finder gathers a story.
type finder struct {
	*Desk
	story   Story
	tasks   map[string]bool // that were told, and whether they have ended
	partial store.Partial   // what could not be read
	named   map[string]bool // what is in partial
}

func newFinder(d *Desk) *finder {
	return &finder{Desk: d, tasks: map[string]bool{}, named: map[string]bool{}}
}

// note notes errors about what cannot be read, each once.
func (f *finder) note(errs ...error) {
	for _, err := range errs {
		if !f.named[err.Error()] {
			f.named[err.Error()] = true
			f.partial.Add(err)
		}
	}
}

// unread notes an error about one thing that cannot be read, and gives any other error.
func (f *finder) unread(err error) error {
	if partial, other := store.SplitPartial(err); partial != nil {
		f.note(partial)
		return other
	}
	if errors.Is(err, store.ErrGarbage) || errors.Is(err, store.ErrNewer) || errors.Is(err, directory.ErrGarbage) {
		f.note(err)
		return nil
	}
	return err
}

// enqueued tells when a task of a type was enqueued, once. The payload of a retry says when the first one was.
func (f *finder) enqueued(id, kind string, at time.Time) {
	told := slices.ContainsFunc(f.story.Events, func(e Event) bool { return e.What == "enqueued" && e.TaskID == id })
	if !at.IsZero() && !told && !retry.IsRetry(id) {
		f.add(Event{At: at, What: "enqueued", TaskID: id, Type: housekeeping(kind)})
	}
}

// housekeeping is the type of a task that revokes or deletes invitations; empty for any other.
func housekeeping(kind string) string {
	if kind == tasks.TypeRevoke || kind == tasks.TypeDelete {
		return kind
	}
	return ""
}

func (f *finder) add(e Event) {
	f.story.Events = append(f.story.Events, e)
}

// tell puts the story in the order of time. What is not known to be at a time is last.
func (f *finder) tell() {
	created := map[string]time.Time{} // invitations, on Clerk's clock
	for _, e := range f.story.Events {
		if e.What == "invitation" {
			created[e.InvitationID] = e.At
		}
	}
	end := func(e Event) bool { return e.What == "sent" || e.What == "done" && e.Type == "" }
	when := func(e Event) time.Time {
		switch at, known := created[e.InvitationID]; {
		case e.At.IsZero():
			return time.Unix(math.MaxInt32, 0)
		case end(e) && known:
			return at // the time of a row has no more than seconds
		case e.Campaign != "" && e.At.Nanosecond() == 0 && slices.Contains([]string{"sent", "dead", "skipped"}, e.What):
			return e.At.Add(time.Second - 1)
		}
		return e.At
	}
	sent := map[string]bool{}
	for _, e := range f.story.Events {
		sent[e.InvitationID] = sent[e.InvitationID] || end(e)
	}
	f.story.Events = slices.DeleteFunc(f.story.Events, func(e Event) bool {
		return e.What == "invitation" && sent[e.InvitationID]
	})
	slices.SortStableFunc(f.story.Events, func(a, b Event) int { return when(a).Compare(when(b)) })
}

// person gathers everything about an address.
func (f *finder) person(ctx context.Context, address string) error {
	f.story.Address = address
	id := store.IDOf(address)
	since, err := f.tombstones.Since(ctx, id)
	if err != nil {
		return err
	}
	if f.story.Forgotten = since; !since.IsZero() {
		f.add(Event{At: since, What: "forgotten"})
	}
	for _, part := range []func(context.Context, store.AddressID) error{
		f.remembered, f.campaigns, f.queues, f.doubts, f.directory,
	} {
		if err := f.unread(part(ctx, id)); err != nil {
			return err
		}
	}
	return nil
}

// remembered tells of ended tasks and of dead letters that were retried.
func (f *finder) remembered(ctx context.Context, id store.AddressID) error {
	ids, events, err := f.histories.Of(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.What == "died" {
			e.What = string(record.Dead)
		}
		f.add(Event{
			At: e.At, What: e.What, TaskID: e.TaskID, Campaign: e.Campaign, Address: e.Address, Failure: e.Failure,
		})
		if !e.Became {
			continue
		}
		if err := f.replaced(ctx, id, e); err != nil {
			return err
		}
	}
	records, err := f.records.Several(ctx, ids)
	if err != nil {
		return err
	}
	for i, task := range ids {
		if other := records[i].EmailAddress; other != "" && store.IDOf(other) != id {
			continue // the id became free, and another's task has it
		}
		if err := f.task(ctx, task); err != nil {
			return err
		}
	}
	return nil
}

// replaced tells where the story of an address goes on that another one has replaced, and of the campaign in which that
// has taken its place.
func (f *finder) replaced(ctx context.Context, id store.AddressID, e history.Event) (err error) {
	next := Onward{Address: e.Address, ID: e.TaskID}
	if e.Campaign == "" {
		f.story.GoesOn = append(f.story.GoesOn, next)
		return nil
	}
	if next.ID == "" {
		next.ID, err = f.DeadLetters.IDOf(ctx, e.Campaign, id)
	}
	if err != nil {
		return err
	}
	f.story.GoesOn = append(f.story.GoesOn, next)
	c, err := f.ledgers.Get(ctx, e.Campaign)
	if err == nil {
		f.add(Event{At: c.CreatedAt, What: "campaign", Campaign: c.Name})
	} else if err = f.unread(err); errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	return err
}

// task tells of a task that has ended or has a dead letter.
func (f *finder) task(ctx context.Context, id string) error {
	if _, told := f.tasks[id]; told {
		return nil
	}
	f.tasks[id] = false
	r, known, err := f.records.Get(ctx, id)
	if err = f.unread(err); err != nil {
		return err
	}
	letter, err := f.DeadLetters.Get(ctx, id)
	switch {
	case err == nil:
		f.letter(letter)
	case !errors.Is(err, deadletter.ErrNotFound):
		if err = f.unread(err); err != nil {
			return err
		}
	}
	if !known {
		return nil
	}
	f.tasks[id] = r.State.Ended()
	f.enqueued(id, r.Type, r.EnqueuedAt)
	for _, h := range r.History {
		failure := h.Failure
		f.add(Event{At: h.At, What: "attempt", TaskID: id, Failure: &failure})
	}
	told := r.State == record.Dead && slices.ContainsFunc(f.story.Events, func(e Event) bool {
		return (e.What == "dead" || e.What == "dead-letter") && e.TaskID == id && e.At.Equal(r.EndedAt)
	})
	if r.State.Ended() && !told {
		e := Event{
			At: r.EndedAt, What: string(r.State), TaskID: id, Type: housekeeping(r.Type), InvitationID: r.InvitationID,
			Failure: r.Error, Invitations: r.Revoked + r.Deleted,
		}
		if r.State == record.Cancelled { // else the wish came too late
			e.By, e.Until = r.By, r.ScheduledAt
		}
		if r.Skipped != nil {
			e.What, e.Failure = string(ledger.RowSkipped), r.Skipped
		}
		f.add(e)
	}
	return nil
}

// letter tells of a dead letter that is there.
func (f *finder) letter(l deadletter.Entry) {
	for _, h := range l.History {
		if !h.At.Equal(l.FailedAt) {
			failure := h.Failure
			f.add(Event{At: h.At, What: "attempt", TaskID: l.TaskID, Campaign: l.Campaign, Failure: &failure})
		}
	}
	if l.Recipient == nil {
		f.enqueued(l.TaskID, l.Type, tasks.EnqueuedAt(l.Type, l.Payload, nil))
	}
	f.add(Event{
		At: l.FailedAt, What: "dead-letter", TaskID: l.TaskID, Type: housekeeping(l.Type), Campaign: l.Campaign,
		DeadLetter: l.ID, Failure: &l.Failure, InvitationID: l.InvitationID,
	})
}

// campaigns tells in which campaigns the address is, and what became of it there.
func (f *finder) campaigns(ctx context.Context, id store.AddressID) error {
	return f.ledgers.Containing(ctx, id, func(c ledger.Campaign, e ledger.Entry) error {
		return f.row(ctx, c, e)
	})
}

func (f *finder) row(ctx context.Context, c ledger.Campaign, e ledger.Entry) error {
	from, err := f.ledgers.Mended(ctx, c.Name, []store.AddressID{e.ID})
	if err != nil {
		return err
	}
	f.add(Event{At: c.CreatedAt, What: "campaign", Campaign: c.Name, Address: from[e.ID]})
	r := recipientOf(e, c.State)
	outcome := Event{At: r.SettledAt, What: r.Outcome, Campaign: c.Name, InvitationID: r.InvitationID}
	for _, h := range e.History {
		failure := h.Failure
		f.add(Event{At: h.At, What: "attempt", Campaign: c.Name, Failure: &failure})
	}
	if e.State == ledger.RowDead {
		letter, err := f.DeadLetters.OfRecipient(ctx, c.Name, e.ID)
		switch {
		case err == nil:
			f.letter(letter)
			return nil
		case !errors.Is(err, deadletter.ErrNotFound):
			if err = f.unread(err); err != nil {
				return err
			}
		case f.died(c.Name, r.SettledAt): // and its dead letter was deleted
			return nil
		}
	}
	if r.Cause != "" {
		outcome.Failure = &fate.Failure{Code: r.Cause}
	}
	f.add(outcome)
	return nil
}

// died tells whether the end of a recipient of a campaign was told already. Rows know seconds.
func (f *finder) died(campaign string, at time.Time) bool {
	return slices.ContainsFunc(f.story.Events, func(e Event) bool {
		return e.What == "dead" && e.Campaign == campaign && e.Address == "" && e.At.Sub(at).Abs() < 2*time.Second
	})
}

// queues tells of tasks about the address that have not ended.
func (f *finder) queues(ctx context.Context, _ store.AddressID) error {
	found, err := (&forgetting{Desk: f.Desk, folded: tasks.FoldAddress(f.story.Address)}).about(ctx)
	for _, info := range found {
		if err := f.waiting(ctx, info); err != nil {
			return err
		}
	}
	return err
}

func (f *finder) waiting(ctx context.Context, info *asynq.TaskInfo) error {
	if err := f.task(ctx, info.ID); err != nil || f.tasks[info.ID] { // only its place in the queue is left
		return err
	}
	f.enqueued(info.ID, info.Type, tasks.EnqueuedAt(info.Type, info.Payload, info.Headers))
	e := Event{What: "waiting", TaskID: info.ID, Type: housekeeping(info.Type)}
	switch info.State {
	case asynq.TaskStateScheduled, asynq.TaskStateRetry:
		e.At, e.What = info.NextProcessAt.UTC(), "scheduled"
	case asynq.TaskStateActive:
		calls, err := f.calls(ctx, info)
		if err != nil {
			return err
		}
		e.What = map[bool]string{true: "open", false: "waiting"}[calls]
	case asynq.TaskStateArchived:
		archived := tasks.LiveTask(info, record.Record{})
		e.What, e.Failure = "dead", &fate.Failure{Reason: fate.Reason(archived.Error.Reason), Message: archived.Error.Message}
	}
	f.add(e)
	return nil
}

// calls tells whether a task at work may have a call under way. An invite without one waits for its turn.
func (f *finder) calls(ctx context.Context, info *asynq.TaskInfo) (bool, error) {
	payload, err := tasks.DecodeInvite(info.Payload)
	if info.Type != tasks.TypeInvite || err != nil {
		return true, nil
	}
	standings, err := f.intents.Open(ctx, store.IDOf(payload.EmailAddress))
	_, open := standings[intent.TaskOwner(info.ID)]
	return open, f.unread(err)
}

// doubts tells of calls that are or may be under way, and of those whose end nobody knows.
func (f *finder) doubts(ctx context.Context, id store.AddressID) error {
	standings, err := f.intents.Open(ctx, id)
	for owner, s := range standings {
		e := Event{At: s.Since, What: "doubt", Until: s.Until}
		if task, isTask := strings.CutPrefix(owner, intent.TaskOwner("")); isTask {
			e.TaskID = task
		} else {
			e.Campaign, _ = strings.CutPrefix(owner, intent.CampaignOwner(""))
		}
		f.add(e)
	}
	return err
}

// directory tells of the invitations that Clerk has of the address, as last synced.
func (f *finder) directory(ctx context.Context, _ store.AddressID) error {
	copy, err := f.Directory.Copy(ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return nil
	}
	if err != nil {
		return err
	}
	f.story.SyncedAt = copy.SyncedAt
	return copy.About(ctx, f.story.Address, func(inv clerkclient.Invitation) error {
		f.invitation(inv)
		return nil
	})
}

func (f *finder) invitation(inv clerkclient.Invitation) {
	f.add(Event{At: inv.CreatedAt, What: "invitation", InvitationID: inv.ID})
	if inv.Status != "pending" {
		at := inv.UpdatedAt
		if inv.Status == "expired" {
			at = inv.ExpiresAt
		}
		f.add(Event{At: at, What: inv.Status, InvitationID: inv.ID})
	}
}
