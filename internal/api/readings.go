package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/tokens"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// Question says what is looked for.
type Question struct {
	What string `json:"what" minLength:"1" maxLength:"400" example:"ada@example.com" doc:"An address, or the id of a task, a dead letter or an invitation."`
}

// Story is everything that is known of a person or a task.
type Story struct {
	EmailAddress *string    `json:"email_address"`
	ForgottenAt  *time.Time `json:"forgotten_at"`
	SyncedAt     *time.Time `json:"synced_at"`
	Events       []Event    `json:"events" nullable:"false" doc:"In the order of time."`
	GoesOn       []Onward   `json:"goes_on" nullable:"false" doc:"Where the story goes on: other addresses have taken the place of this one."`
	Unreadable
}

// Onward is where a story goes on.
type Onward struct {
	EmailAddress string `json:"email_address"`
	ID           string `json:"id" doc:"To ask for that story."`
}

// Event is something that happened, or will.
type Event struct {
	At           *time.Time   `json:"at"`
	What         string       `json:"what"`
	TaskID       *string      `json:"task_id"`
	Type         *string      `json:"type" doc:"Of the task, if it revokes or deletes invitations."`
	Campaign     *string      `json:"campaign"`
	InvitationID *string      `json:"invitation_id"`
	DeadLetter   *string      `json:"dead_letter"`
	EmailAddress *string      `json:"email_address" doc:"Another one, whose place was taken or that took it."`
	By           *string      `json:"by"`
	Error        maybe[Cause] `json:"error"`
	Until        *time.Time   `json:"until"`
	Recipients   int          `json:"recipients" doc:"Of a campaign, how many it happened to; 0 in all other events."`
	Invitations  int          `json:"invitations" doc:"How many the task has revoked or deleted; 0 in all other events."`
}

func (a *asker) story(s desk.Story) Story {
	out := Story{
		EmailAddress: known(a.address(s.Address)), ForgottenAt: instant(s.Forgotten), SyncedAt: instant(s.SyncedAt),
		Events: []Event{}, GoesOn: []Onward{},
	}
	for _, next := range s.GoesOn {
		out.GoesOn = append(out.GoesOn, Onward{a.address(next.Address), next.ID})
	}
	for _, e := range s.Events {
		event := Event{
			At: instant(e.At), What: e.What, TaskID: known(e.TaskID), Campaign: known(e.Campaign),
			InvitationID: known(e.InvitationID), DeadLetter: known(e.DeadLetter), EmailAddress: known(a.address(e.Address)),
			By: known(e.By), Until: instant(e.Until), Recipients: e.Recipients, Type: known(e.Type),
			Invitations: e.Invitations,
		}
		if e.Failure != nil {
			event.Error = a.cause(tasks.FailureOf(*e.Failure))
		}
		out.Events = append(out.Events, event)
	}
	return out
}

type findInput struct{ Body Question }

type findOutput struct{ Body Story }

// Listed is an invitation of the directory.
type Listed struct {
	ID             string         `json:"id"`
	EmailAddress   string         `json:"email_address"`
	Status         string         `json:"status"`
	Revoked        bool           `json:"revoked"`
	PublicMetadata map[string]any `json:"public_metadata" nullable:"true"`
	CreatedAt      *time.Time     `json:"created_at"`
	UpdatedAt      *time.Time     `json:"updated_at"`
	ExpiresAt      *time.Time     `json:"expires_at"`
	SyncedAt       *time.Time     `json:"synced_at"`
}

// Invitations is a page of the directory, the newest first.
type Invitations struct {
	Invitations []Listed   `json:"invitations" nullable:"false"`
	SyncedAt    *time.Time `json:"synced_at"`
	NextCursor  *string    `json:"next_cursor"`
	Unreadable
}

type invitationsInput struct {
	Paging
	Status string `query:"status" enum:"pending,accepted,revoked,expired"`
}

type invitationsOutput struct{ Body Invitations }

// Status is how the whole system stands.
type Status struct {
	Standstill  maybe[Standstill] `json:"standstill" doc:"Why no invitation, or (reserve) none of campaigns, is sent."`
	Workers     []Worker          `json:"workers" nullable:"false"`
	Queues      []Queue           `json:"queues" nullable:"false"`
	Limits      []Limit           `json:"limits" nullable:"false"`
	Resting     []Rest            `json:"resting" nullable:"false" doc:"Calls that Clerk serves nobody at present."`
	Campaigns   []Campaign        `json:"campaigns" nullable:"false" doc:"The newest 50."`
	DeadLetters int               `json:"dead_letters"`
	Unreadable
}

// Worker is what a worker has said of itself.
type Worker struct {
	ID      string         `json:"id"`
	Host    string         `json:"host"`
	PID     int            `json:"pid"`
	Version string         `json:"version"`
	KeyKind string         `json:"key_kind"`
	Since   *time.Time     `json:"since"`
	Active  map[string]int `json:"active"`
	SeenAt  *time.Time     `json:"seen_at"`
	State   string         `json:"state" enum:"running,lost"`
}

// Queue counts the tasks of a queue.
type Queue struct {
	Queue     string `json:"queue"`
	Pending   int    `json:"pending"`
	Active    int    `json:"active"`
	Scheduled int    `json:"scheduled"`
	Retry     int    `json:"retry"`
	Paused    bool   `json:"paused" doc:"Another program has paused it, and workers take nothing from it."`
}

// Limit is a limit and how much of it is used.
type Limit struct {
	Name          string     `json:"name"`
	Limit         int        `json:"limit"`
	WindowSeconds float64    `json:"window_seconds"`
	Used          int        `json:"used"`
	InFlight      int        `json:"in_flight"`
	Reserve       int        `json:"reserve"`
	BlockedUntil  *time.Time `json:"blocked_until"`
	NextPermitAt  *time.Time `json:"next_permit_at"`
}

// Rest is calls that rest.
type Rest struct {
	Calls       string     `json:"calls"`
	Since       *time.Time `json:"since"`
	NextProbeAt *time.Time `json:"next_probe_at"`
	Why         string     `json:"why"`
}

type statusOutput struct{ Body Status }

// campaignsShown is how many campaigns the status shows.
const campaignsShown = 50

// readings adds the operations that look at the whole system.
func (s *Server) readings() {
	reads := []tokens.Scope{tokens.Read}
	register(s, huma.Operation{
		OperationID: "find", Method: http.MethodPost, Path: "/v1/find", Tags: []string{"read"},
		Summary:     "Tell everything about one address or one id, in the order of time",
		Description: "A POST, so that no address stands in a path or a log. To look for an address needs operate.",
	}, reads, func(ctx context.Context, a *asker, in *findInput) (*findOutput, error) {
		if strings.Contains(in.Body.What, "@") && !a.May(tokens.Operate) {
			return nil, needsScope(tokens.Operate)
		}
		story, err := a.desk.Find(ctx, in.Body.What)
		out := &findOutput{a.story(story)}
		out.Body.Unreadable, err = readable(err)
		return out, err
	})
	register(s, huma.Operation{
		OperationID: "invitations", Method: http.MethodGet, Path: "/v1/invitations", Tags: []string{"read"},
		Summary: "List Clerk's invitations as last synced, the newest first",
	}, reads, listInvitations)
	register(s, huma.Operation{
		OperationID: "status", Method: http.MethodGet, Path: "/v1/status", Tags: []string{"read"},
		Summary: "Show workers, queues, limits, campaigns and dead letters",
	}, reads, status)
}

func listInvitations(ctx context.Context, a *asker, in *invitationsInput) (*invitationsOutput, error) {
	parts, err := in.after(2)
	if err != nil {
		return nil, err
	}
	since := int64(0)
	if parts != nil {
		if since, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
			return nil, errCursor()
		}
	}
	copy, err := a.desk.Directory.Copy(ctx)
	if err != nil {
		return nil, err
	}
	place := 0
	if parts != nil {
		if place, err = copy.PlaceOf(ctx, time.UnixMilli(since)); err != nil {
			return nil, err
		}
	}
	out := &invitationsOutput{Body: Invitations{Invitations: []Listed{}, SyncedAt: instant(copy.SyncedAt)}}
	var last clerkclient.Invitation
	chosen := directory.Filter{Status: in.Status}
	_, err = copy.From(ctx, place, copy.Count(), chosen, func(_ int, inv clerkclient.Invitation) error {
		at := inv.CreatedAt.UnixMilli()
		switch {
		case parts != nil && (at > since || at == since && inv.ID >= parts[1]):
			return nil
		case len(out.Body.Invitations) == in.Limit:
			return errEnough
		}
		last = inv
		out.Body.Invitations = append(out.Body.Invitations, a.listed(inv, copy.SyncedAt))
		return nil
	})
	more, left, err := ended(err)
	out.Body.Unreadable = left
	if more {
		out.Body.NextCursor = cursor(strconv.FormatInt(last.CreatedAt.UnixMilli(), 10), last.ID)
	}
	return out, err
}

func (a *asker) listed(inv clerkclient.Invitation, syncedAt time.Time) Listed {
	l := Listed{
		ID: inv.ID, EmailAddress: a.address(inv.EmailAddress), Status: inv.Status, Revoked: inv.Revoked,
		CreatedAt: instant(inv.CreatedAt), UpdatedAt: instant(inv.UpdatedAt), ExpiresAt: instant(inv.ExpiresAt),
		SyncedAt: instant(syncedAt),
	}
	if a.May(tokens.Operate) { // metadata may hold anything
		_ = json.Unmarshal(inv.PublicMetadata, &l.PublicMetadata)
	}
	return l
}

func status(ctx context.Context, a *asker, _ *struct{}) (*statusOutput, error) {
	o, err := a.desk.Overview(ctx)
	if err != nil {
		return nil, err
	}
	campaigns, err := a.desk.Campaigns(ctx, campaignsShown)
	left, err := readable(err)
	if err != nil {
		return nil, err
	}
	return &statusOutput{Status{
		Standstill: standstill(o.Standstill), Workers: each(o.Workers, worker), Queues: each(o.Queues, queue),
		Limits:  each(o.Limits, func(u ratelimit.Usage) Limit { return limit(u, o.Reserve) }),
		Resting: each(o.Resting, rest), Campaigns: each(campaigns, campaignView), DeadLetters: o.DeadLetters,
		Unreadable: left,
	}}, nil
}

// each shows all of a list.
func each[T, V any](list []T, show func(T) V) []V {
	shown := make([]V, 0, len(list))
	for _, one := range list {
		shown = append(shown, show(one))
	}
	return shown
}

func worker(w store.Worker) Worker {
	return Worker{
		ID: w.ID, Host: w.Host, PID: w.PID, Version: w.Version, KeyKind: w.KeyKind, Since: instant(w.Since),
		Active: w.Active, SeenAt: instant(w.SeenAt), State: map[bool]string{true: "lost", false: "running"}[w.Lost],
	}
}

func queue(q queues.Waiting) Queue { return Queue(q) }

func limit(u ratelimit.Usage, reserve int) Limit {
	if u.Name != policy.LimitCreate || u.N == 0 {
		reserve = 0
	}
	return Limit{
		Name: u.Name, Limit: u.N, WindowSeconds: u.Window.Seconds(), Used: u.Used, InFlight: u.InFlight, Reserve: reserve,
		BlockedUntil: instant(u.BlockedUntil), NextPermitAt: instant(u.NextFree),
	}
}

func rest(s policy.Standstill) Rest {
	return Rest{s.Calls, instant(s.Since), instant(s.NextProbe), s.Why}
}
