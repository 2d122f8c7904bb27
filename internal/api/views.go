package api

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// known gives a value that may be unknown, which is null then.
func known[T comparable](value T) *T {
	var none T
	if value == none {
		return nil
	}
	return &value
}

// instant gives a time that may be unknown, in UTC.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// maybe is an object that may be unknown, which is null then.
type maybe[T any] struct{ value *T }

// MarshalJSON is for encoding/json.
func (m maybe[T]) MarshalJSON() ([]byte, error) {
	if m.value == nil {
		return []byte("null"), nil
	}
	return json.Marshal(m.value)
}

// UnmarshalJSON is for encoding/json.
func (m *maybe[T]) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &m.value) }

// Schema is for huma.
func (m maybe[T]) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{r.Schema(reflect.TypeFor[T](), true, ""), {Type: "null"}}}
}

// Cause is why a task is dead or skipped, or why its latest attempt failed.
type Cause struct {
	Reason     *string `json:"reason" doc:"Of a dead one: rejected, exhausted or invalid."`
	HTTPStatus *int    `json:"http_status"`
	Code       *string `json:"code"`
	Message    *string `json:"message"`
	TraceID    *string `json:"trace_id"`
}

func (a *asker) cause(f *tasks.Failure) maybe[Cause] {
	if f == nil {
		return maybe[Cause]{}
	}
	return maybe[Cause]{&Cause{known(f.Reason), known(f.HTTPStatus), known(f.Code), known(a.text(f.Message)),
		known(f.TraceID)}}
}

// skip is how many recipients of a bulk-invite were skipped, or why the one of an invite was.
type skip struct {
	count *int
	why   maybe[Cause]
}

// MarshalJSON is for encoding/json.
func (s skip) MarshalJSON() ([]byte, error) {
	if s.count != nil {
		return json.Marshal(*s.count)
	}
	return s.why.MarshalJSON()
}

// Schema is for huma.
func (s skip) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: append(s.why.Schema(r).AnyOf, &huma.Schema{Type: "integer"})}
}

// Standstill is why something makes no call at present.
type Standstill struct {
	Reason  string     `json:"reason"`
	Since   *time.Time `json:"since"`
	Until   *time.Time `json:"until"`
	Message string     `json:"message"`
}

func standstill(s *tasks.Standstill) maybe[Standstill] {
	if s == nil {
		return maybe[Standstill]{}
	}
	return maybe[Standstill]{&Standstill{string(s.Reason), instant(s.Since), instant(s.Until), s.Message}}
}

// Task is what is known of a task.
type Task struct {
	TaskID       string       `json:"task_id"`
	Type         string       `json:"type" enum:"invite,bulk-invite,revoke,delete,sync-list,dry-run"`
	Queue        *string      `json:"queue"`
	State        string       `json:"state" enum:"scheduled,pending,active,retry,done,dead,cancelled"`
	Token        *string      `json:"token" doc:"Name of the token that has created it."`
	EnqueuedAt   *time.Time   `json:"enqueued_at"`
	ScheduledAt  *time.Time   `json:"scheduled_at"`
	Attempts     int          `json:"attempts"`
	InvitationID *string      `json:"invitation_id"`
	Error        maybe[Cause] `json:"error"`
	Mend         string       `json:"mend,omitempty" doc:"Of a dead one: POST here, with set, to send it again."`

	CancelWanted bool   `json:"cancel_wanted,omitempty"`
	CancelledBy  string `json:"cancelled_by,omitempty"`
	Skipped      *skip  `json:"skipped,omitempty" doc:"Why an invite is done without an invitation; of a bulk-invite how many are."`
	Revoked      *int   `json:"revoked,omitempty"`
	Deleted      *int   `json:"deleted,omitempty"`

	Campaign   string `json:"campaign,omitempty" doc:"Of a bulk-invite, as are the counts."`
	Recipients *int   `json:"recipients,omitempty"`
	Sent       *int   `json:"sent,omitempty"`
	Dead       *int   `json:"dead,omitempty"`
	Remaining  *int   `json:"remaining,omitempty"`

	Standstill *maybe[Standstill] `json:"standstill,omitempty" doc:"Why it makes no call at present."`
	Ahead      *int               `json:"ahead,omitempty" doc:"How many invites go before this one."`
	ETA        *time.Time         `json:"eta,omitempty"`

	DryRun *Rehearsal `json:"dry_run,omitempty" doc:"Of a dry-run, when it is done."`
}

// task shows a task to the asker.
func (a *asker) task(t tasks.Task) Task {
	v := Task{
		TaskID: t.ID, Type: t.Type, Queue: known(t.Queue), State: string(t.State), Token: known(record.OwnerOf(t.ID)),
		EnqueuedAt: instant(t.EnqueuedAt), ScheduledAt: instant(t.ScheduledAt), Attempts: t.Attempts,
		InvitationID: known(t.InvitationID), Error: a.cause(t.Error), CancelWanted: t.CancelWanted,
		CancelledBy: t.CancelledBy,
	}
	if t.State == tasks.StateDead {
		v.Mend = "/v1/dead-letters/" + t.ID + "/retry"
	}
	switch {
	case t.Bulk != nil:
		b := t.Bulk
		v.Campaign, v.Recipients, v.Sent, v.Dead = b.Campaign, &b.Recipients, &b.Sent, &b.Dead
		v.Skipped, v.Remaining = &skip{count: &b.Skipped}, &b.Remaining
	case t.Type == tasks.TypeInvite:
		v.Skipped = &skip{why: a.cause(t.Skipped)}
	case t.Type == tasks.TypeRevoke:
		v.Revoked = &t.Revoked
	case t.Type == tasks.TypeDelete:
		v.Deleted = &t.Deleted
	}
	return v
}

// Campaign is how a campaign stands.
type Campaign struct {
	Campaign    string            `json:"campaign"`
	State       string            `json:"state" enum:"uploading,scheduled,running,paused,cancelled,finished"`
	Recipients  int               `json:"recipients"`
	Sent        int               `json:"sent"`
	Dead        int               `json:"dead"`
	Skipped     int               `json:"skipped"`
	Remaining   int               `json:"remaining"`
	Unsure      int               `json:"unsure" doc:"Remaining ones that Clerk is asked about; of a running campaign."`
	Forgotten   int               `json:"forgotten"`
	DeadByCode  map[string]int    `json:"dead_by_code"`
	ETA         *time.Time        `json:"eta"`
	Assumption  *string           `json:"eta_assumption"`
	Standstill  maybe[Standstill] `json:"standstill"`
	ScheduledAt *time.Time        `json:"scheduled_at"`
	StartedAt   *time.Time        `json:"started_at"`
	FinishedAt  *time.Time        `json:"finished_at"`
}

func campaignView(c tasks.Campaign) Campaign {
	dead := c.DeadByCode
	if dead == nil {
		dead = map[string]int{}
	}
	return Campaign{
		Campaign: c.Name, State: string(c.State), Recipients: c.Recipients, Sent: c.Sent, Dead: c.Dead,
		Skipped: c.Skipped, Remaining: c.Remaining, Unsure: c.Unsure, Forgotten: c.Forgotten, DeadByCode: dead,
		ETA:        instant(c.ETA),
		Assumption: known(c.Assumption), Standstill: standstill(c.Standstill), ScheduledAt: instant(c.ScheduledAt),
		StartedAt: instant(c.StartedAt), FinishedAt: instant(c.FinishedAt),
	}
}

// taskPath is where a task is found.
func taskPath(id string) string { return "/v1/tasks/" + id }
