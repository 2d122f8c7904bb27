package desk

import (
	"context"
	"encoding/json"
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
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

// Event is something that happened, or will, to a person or a task.
type Event struct {
	At time.Time `json:"at"` // zero if it is not known
	// What is enqueued, scheduled, attempt (one that failed), done, dead, cancelled, campaign (the address is in it),
	// waiting, open, sent, died, retried, mended, doubt, dead-letter, invitation (made at Clerk by another than Usher,
	// as far as is known), pending, accepted, expired, revoked, or forgotten.
	What         string        `json:"what"`
	TaskID       string        `json:"task_id"`
	Campaign     string        `json:"campaign"`
	InvitationID string        `json:"invitation_id"`
	DeadLetter   string        `json:"dead_letter"`
	Address      string        `json:"email_address"` // another one: whose place was taken, or that took it
	By           string        `json:"by"`            // who has cancelled a task, if that is known
	Failure      *fate.Failure `json:"error"`
	Until        time.Time     `json:"until"` // of doubt: when asking makes sense
}

// Story is everything that is known of a person or a task.
type Story struct {
	Address   string    `json:"email_address"` // empty for a task about nobody
	Forgotten time.Time `json:"forgotten_at"`
	SyncedAt  time.Time `json:"synced_at"` // of the directory
	Events    []Event   `json:"events"`    // in the order of time
}

// Find tells everything about an address, or about a task, a dead letter or an invitation by its id. The error is a
// tasks.ErrNotFound if nothing is known of an id. It asks by key wherever it can: only tasks that wait, and the
// directory, are read through.
func (d *Desk) Find(ctx context.Context, what string) (Story, error) {
	f := finder{Desk: d, tasks: map[string]bool{}}
	if strings.Contains(what, "@") {
		f.story.Address = tasks.CleanAddress(what)
		return f.person(ctx)
	}
	return f.byID(ctx, what)
}

// finder gathers a story.
type finder struct {
	*Desk
	story Story
	tasks map[string]bool // that were told
}

func (f *finder) add(e Event) {
	f.story.Events = append(f.story.Events, e)
}

// told gives the story in the order of time. What is not known to be at a time is last.
func (f *finder) told() Story {
	created := map[string]time.Time{} // invitations, on Clerk's clock
	for _, e := range f.story.Events {
		if e.What == "invitation" {
			created[e.InvitationID] = e.At
		}
	}
	end := func(e Event) bool { return e.What == "sent" || e.What == "done" }
	when := func(e Event) time.Time {
		switch at, known := created[e.InvitationID]; {
		case e.At.IsZero():
			return time.Unix(math.MaxInt32, 0)
		case end(e) && known:
			return at // the time of a row has no more than seconds
		case e.What == "sent", e.Campaign != "" && slices.Contains([]string{"dead", "skipped"}, e.What):
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
	return f.story
}

func (f *finder) person(ctx context.Context) (Story, error) {
	id := store.IDOf(f.story.Address)
	since, err := f.tombstones.Since(ctx, id)
	if err != nil {
		return f.story, err
	}
	if f.story.Forgotten = since; !since.IsZero() {
		f.add(Event{At: since, What: "forgotten"})
	}
	for _, part := range []func(context.Context, store.AddressID) error{
		f.remembered, f.campaigns, f.queues, f.doubts, f.directory,
	} {
		if err := part(ctx, id); err != nil {
			return f.story, err
		}
	}
	return f.told(), nil
}

// remembered tells of ended tasks and of dead letters that were retried.
func (f *finder) remembered(ctx context.Context, id store.AddressID) error {
	ids, events, err := f.histories.Of(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range events {
		f.add(Event{
			At: e.At, What: e.What, TaskID: e.TaskID, Campaign: e.Campaign, Address: e.Address, Failure: e.Failure,
		})
	}
	for _, id := range ids {
		if err := f.task(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// task tells of a task that has ended or has a dead letter.
func (f *finder) task(ctx context.Context, id string) error {
	if f.tasks[id] {
		return nil
	}
	f.tasks[id] = true
	r, known, err := f.records.Get(ctx, id)
	if err != nil && !errors.Is(err, store.ErrGarbage) {
		return err
	}
	letter, err := f.DeadLetters.Get(ctx, id)
	switch {
	case err == nil:
		f.letter(letter)
	case !errors.Is(err, deadletter.ErrNotFound):
		return err
	}
	if !known {
		return nil
	}
	for _, h := range r.History {
		failure := h.Failure
		f.add(Event{At: h.At, What: "attempt", TaskID: id, Failure: &failure})
	}
	told := r.State == record.Dead && slices.ContainsFunc(f.story.Events, func(e Event) bool {
		return (e.What == "died" || e.What == "dead-letter") && e.TaskID == id && e.At.Equal(r.EndedAt)
	})
	if r.State.Ended() && !told {
		e := Event{At: r.EndedAt, What: string(r.State), TaskID: id, InvitationID: r.InvitationID, By: r.By, Failure: r.Error}
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
	if l.Type == tasks.TypeInvite {
		if payload, _ := tasks.DecodeInvite(l.Payload); payload.EnqueuedAt > 0 {
			f.add(Event{At: time.UnixMilli(payload.EnqueuedAt).UTC(), What: "enqueued", TaskID: l.TaskID})
		}
	}
	f.add(Event{
		At: l.FailedAt, What: "dead-letter", TaskID: l.TaskID, Campaign: l.Campaign, DeadLetter: l.ID, Failure: &l.Failure,
		InvitationID: l.InvitationID,
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
		letter, err := f.DeadLetters.Get(ctx, deadletter.RecipientID(c.Name, e.ID))
		switch {
		case err == nil:
			f.letter(letter)
			return nil
		case !errors.Is(err, deadletter.ErrNotFound):
			return err
		}
	}
	if r.Cause != "" {
		outcome.Failure = &fate.Failure{Code: r.Cause}
	}
	f.add(outcome)
	return nil
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
	if err := f.task(ctx, info.ID); err != nil {
		return err
	}
	var said struct {
		EnqueuedAt int64 `json:"enqueued_at"`
	}
	if json.Unmarshal(info.Payload, &said) == nil && said.EnqueuedAt > 0 {
		f.add(Event{At: time.UnixMilli(said.EnqueuedAt).UTC(), What: "enqueued", TaskID: info.ID})
	}
	switch info.State {
	case asynq.TaskStateScheduled, asynq.TaskStateRetry:
		f.add(Event{At: info.NextProcessAt.UTC(), What: "scheduled", TaskID: info.ID})
	case asynq.TaskStateActive:
		f.add(Event{What: "open", TaskID: info.ID})
	default:
		f.add(Event{What: "waiting", TaskID: info.ID})
	}
	return nil
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
	folded := tasks.FoldAddress(f.story.Address)
	return copy.Each(ctx, directory.Filter{Query: folded}, func(inv clerkclient.Invitation) error {
		if tasks.FoldAddress(inv.EmailAddress) == folded {
			f.invitation(inv)
		}
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

// byID tells of a task, a dead letter or an invitation. What is about an address is that address's story.
func (f *finder) byID(ctx context.Context, id string) (Story, error) {
	letter, err := f.DeadLetters.Get(ctx, id)
	switch {
	case err == nil:
		if r, err := retry.Request(letter); err == nil {
			f.story.Address = r.EmailAddress
			return f.person(ctx)
		}
	case !errors.Is(err, deadletter.ErrNotFound):
		return f.story, err
	}
	if strings.HasPrefix(id, "inv_") {
		found, syncedAt, err := f.Directory.Get(ctx, []string{id})
		if inv, there := found[id]; there {
			f.story.Address = inv.EmailAddress
			return f.person(ctx)
		}
		if err != nil {
			return f.story, err
		}
		f.story.SyncedAt = syncedAt
	}
	task, err := f.Status(ctx, id)
	if err != nil {
		return f.story, err
	}
	if task.Bulk != nil {
		c, err := f.ledgers.Get(ctx, task.Bulk.Campaign)
		if err == nil {
			f.head(c)
		}
		return f.told(), err
	}
	if info, err := f.inspector.GetTaskInfo(task.Queue, id); err == nil {
		if err := f.waiting(ctx, info); err != nil {
			return f.story, err
		}
	}
	for next := id; next != ""; {
		if err := f.task(ctx, next); err != nil {
			return f.story, err
		}
		r, _, err := f.records.Get(ctx, next)
		if err != nil {
			return f.story, err
		}
		if next = r.Retry; next != "" {
			f.add(Event{What: "retried", TaskID: next})
		}
	}
	return f.told(), nil
}

// head tells of a campaign as a whole.
func (f *finder) head(c ledger.Campaign) {
	for _, e := range []Event{
		{At: c.CreatedAt, What: "enqueued"}, {At: c.ScheduledAt, What: "scheduled"}, {At: c.StartedAt, What: "open"},
		{At: c.FinishedAt, What: map[bool]string{true: "cancelled", false: "done"}[c.State == ledger.Cancelled]},
	} {
		if e.Campaign = c.Name; !e.At.IsZero() {
			f.add(e)
		}
	}
}
