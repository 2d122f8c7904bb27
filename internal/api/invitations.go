package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// Keyed is what requests take that change something.
type Keyed struct {
	Key string `header:"Idempotency-Key" minLength:"1" maxLength:"255" pattern:"^[!-~]+$" doc:"Repeating the request with the same key does nothing twice."`
}

// Timed is what requests take that create a task.
type Timed struct {
	At string `query:"at" format:"date-time" doc:"When to run it."`
	In string `query:"in" maxLength:"40" example:"1h30m" doc:"Run it after a while. It and at exclude each other."`
}

// when reads when a task is to run; zero is at once. past is the fault of an instant that is past, which does no harm
// if the task was enqueued before.
func (t Timed) when() (at time.Time, past, err error) {
	now := time.Now()
	switch {
	case t.At != "" && t.In != "":
		return at, nil, &tasks.InvalidError{Index: -1, Field: "at", Reason: "excludes in"}
	case t.In != "":
		wait, err := settings.Duration("in", t.In)
		return now.Add(wait), nil, err
	case t.At == "":
		return at, nil, nil
	}
	at, err = time.Parse(time.RFC3339, t.At)
	if err != nil {
		return at, nil, settings.Fault("at", t.At, "a time such as 2026-12-01T09:00:00Z")
	}
	_, past = settings.Instant(t.At, now, time.UTC)
	return at, past, nil
}

// created answers a request that has created a task, or that repeats one that did.
type created struct {
	Location string `header:"Location" doc:"Where the task is found."`
	Replayed string `header:"Idempotency-Replayed" doc:"true if an earlier request with the key has created it."`
	Body     Created
}

// Created is a task that was created.
type Created struct {
	Task
	Exists bool `json:"exists" doc:"Whether an earlier request with the same Idempotency-Key has created it."`
}

// enqueue enqueues a task once for a key, and answers how it stands.
func (s *Server) enqueue(
	ctx context.Context, a *asker, t Timed, body any, do func(opts ...tasks.Option) (tasks.Task, error),
) (*created, error) {
	at, past, err := t.when()
	if err != nil {
		return nil, err
	}
	o, err := s.once(ctx, a, body)
	if err != nil {
		return nil, err
	}
	release, err := s.aloneHere(a, o)
	if err != nil {
		return nil, err
	}
	defer release()
	if past != nil && !s.knows(ctx, a, o) {
		return nil, past
	}
	task, err := do(a.options(o), tasks.At(at))
	exists := errors.Is(err, tasks.ErrExists)
	if err != nil && !exists {
		return nil, err
	}
	return a.created(task, exists), nil
}

// knows tells whether a key was used before.
func (s *Server) knows(ctx context.Context, a *asker, o once) bool {
	if o.id == "" {
		return false
	}
	_, known, err := record.NewStore(s.Redis, s.Namespace).Get(ctx, record.OwnedID(a.name, o.id))
	return err == nil && known
}

func (a *asker) created(task tasks.Task, exists bool) *created {
	out := &created{Location: taskPath(task.ID), Body: Created{Task: a.task(task), Exists: exists}}
	if exists {
		out.Replayed = "true"
	}
	return out
}

// Invitation is an invitation as it is asked for: the fields of Clerk's own request, and two of ours.
type Invitation struct {
	EmailAddress   string         `json:"email_address" maxLength:"254" doc:"Whom to invite."`
	PublicMetadata map[string]any `json:"public_metadata,omitempty" doc:"At most 8 KiB of JSON."`
	RedirectURL    string         `json:"redirect_url,omitempty" maxLength:"4096" doc:"Where the link in the e-mail leads."`
	Notify         *bool          `json:"notify,omitempty" doc:"Whether to send the e-mail. Default: true."`
	IgnoreExisting bool           `json:"ignore_existing,omitempty" doc:"Invite although an invitation exists already."`
	ExpiresInDays  *int           `json:"expires_in_days,omitempty" minimum:"1" maximum:"365" doc:"Default: 30."`
	TemplateSlug   string         `json:"template_slug,omitempty" enum:"invitation,waitlist_invitation"`
	OnDuplicate    string         `json:"on_duplicate,omitempty" enum:"dead-letter,accept,resend" doc:"If one is pending."`
	OnExistingUser string         `json:"on_existing_user,omitempty" enum:"dead-letter,skip" doc:"If it is a user's."`
}

func (i Invitation) recipient() tasks.Recipient {
	r := tasks.Recipient{
		EmailAddress: i.EmailAddress, PublicMetadata: i.PublicMetadata, RedirectURL: i.RedirectURL,
		NoNotify: i.Notify != nil && !*i.Notify, IgnoreExisting: i.IgnoreExisting, TemplateSlug: i.TemplateSlug,
		OnDuplicate: tasks.OnDuplicate(i.OnDuplicate), OnExistingUser: tasks.OnExistingUser(i.OnExistingUser),
	}
	if i.ExpiresInDays != nil {
		r.ExpiresInDays = *i.ExpiresInDays
	}
	return r
}

// Revocation says what to revoke: exactly one of these.
type Revocation struct {
	InvitationID string `json:"invitation_id,omitempty" maxLength:"64" example:"inv_2bF7"`
	EmailAddress string `json:"email_address,omitempty" maxLength:"254" doc:"Every pending invitation of it."`
	Campaign     string `json:"campaign,omitempty" maxLength:"64" doc:"Every pending invitation that it has sent."`
}

// Deletion says what to delete at Clerk: exactly one of these.
type Deletion struct {
	InvitationID string `json:"invitation_id,omitempty" maxLength:"64" example:"inv_2bF7"`
	EmailAddress string `json:"email_address,omitempty" maxLength:"254" doc:"Every invitation of it, in any status."`
}

// Forget says what to forget.
type Forget struct {
	EmailAddress string `json:"email_address" maxLength:"254"`
	AtClerk      bool   `json:"at_clerk,omitempty" doc:"Have a worker delete its invitations at Clerk first, for good."`
	Lift         bool   `json:"lift,omitempty" doc:"Let the address be written down again instead."`
}

// Forgotten is what was forgotten.
type Forgotten struct {
	Forgotten      bool          `json:"forgotten"`
	Lifted         *bool         `json:"lifted,omitempty" doc:"With lift: whether it was forgotten."`
	Removed        *desk.Removed `json:"removed,omitempty"`
	DeletedAtClerk *int          `json:"deleted_at_clerk,omitempty"`
}

// forgetTime is how long a request to forget may take. What is left is done by repeating it.
const forgetTime = 50 * time.Second

// invitations adds the operations about invitations.
func (s *Server) invitations() {
	type inviteInput struct {
		Keyed
		Timed
		Body Invitation
	}
	register(s, huma.Operation{
		OperationID: "invite", Method: http.MethodPost, Path: "/v1/invitations", Tags: []string{"create"},
		Summary: "Invite one address", DefaultStatus: http.StatusAccepted,
	}, []tokens.Scope{tokens.Enqueue}, func(ctx context.Context, a *asker, in *inviteInput) (*created, error) {
		return s.enqueue(ctx, a, in.Timed, in.Body, func(opts ...tasks.Option) (tasks.Task, error) {
			return a.desk.Invite(ctx, in.Body.recipient(), opts...)
		})
	})
	type revokeInput struct {
		Keyed
		Timed
		Body Revocation
	}
	register(s, huma.Operation{
		OperationID: "revoke", Method: http.MethodPost, Path: "/v1/revocations", Tags: []string{"create"},
		Summary: "Revoke pending invitations", DefaultStatus: http.StatusAccepted,
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *revokeInput) (*created, error) {
		b := in.Body
		if err := (tasks.RevokePayload{InvitationID: b.InvitationID, EmailAddress: tasks.CleanAddress(b.EmailAddress),
			Campaign: b.Campaign}).Validate(); err != nil {
			return nil, err
		}
		return s.enqueue(ctx, a, in.Timed, b, func(opts ...tasks.Option) (tasks.Task, error) {
			switch {
			case b.EmailAddress != "":
				return a.desk.RevokeEmail(ctx, b.EmailAddress, opts...)
			case b.Campaign != "":
				return a.desk.RevokeCampaign(ctx, b.Campaign, opts...)
			}
			return a.desk.Revoke(ctx, b.InvitationID, opts...)
		})
	})
	type deleteInput struct {
		Keyed
		Timed
		Body Deletion
	}
	register(s, huma.Operation{
		OperationID: "delete", Method: http.MethodPost, Path: "/v1/deletions", Tags: []string{"create"},
		Summary: "Delete invitations at Clerk for good", DefaultStatus: http.StatusAccepted,
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *deleteInput) (*created, error) {
		b := in.Body
		if err := (tasks.DeletePayload{InvitationID: b.InvitationID,
			EmailAddress: tasks.CleanAddress(b.EmailAddress)}).Validate(); err != nil {
			return nil, err
		}
		return s.enqueue(ctx, a, in.Timed, b, func(opts ...tasks.Option) (tasks.Task, error) {
			if b.EmailAddress != "" {
				return a.desk.DeleteEmail(ctx, b.EmailAddress, opts...)
			}
			return a.desk.Delete(ctx, b.InvitationID, opts...)
		})
	})
	type syncInput struct {
		Keyed
		Timed
	}
	register(s, huma.Operation{
		OperationID: "sync", Method: http.MethodPost, Path: "/v1/syncs", Tags: []string{"create"},
		Summary: "Copy Clerk's list of invitations into the directory", DefaultStatus: http.StatusAccepted,
	}, []tokens.Scope{tokens.Enqueue}, func(ctx context.Context, a *asker, in *syncInput) (*created, error) {
		return s.enqueue(ctx, a, in.Timed, nil, func(opts ...tasks.Option) (tasks.Task, error) {
			return a.desk.SyncList(ctx, opts...)
		})
	})
	type forgetInput struct {
		Keyed
		Body Forget
	}
	register(s, huma.Operation{
		OperationID: "forget", Method: http.MethodPost, Path: "/v1/forgets", Tags: []string{"operate"},
		Summary: "Remove an address from everything that is kept of it",
	}, []tokens.Scope{tokens.Operate}, func(ctx context.Context, a *asker, in *forgetInput) (*forgetOutput, error) {
		return s.forget(ctx, a, in.Body)
	})
}

type forgetOutput struct {
	Replayed string `header:"Idempotency-Replayed"`
	Body     Forgotten
}

// forget forgets an address, or lifts that. What it has removed is told once: nothing is kept of it.
func (s *Server) forget(ctx context.Context, a *asker, in Forget) (*forgetOutput, error) {
	in.EmailAddress = tasks.CleanAddress(in.EmailAddress)
	if err := (tasks.Recipient{EmailAddress: in.EmailAddress}).Validate(); err != nil {
		return nil, err
	}
	if in.Lift && in.AtClerk {
		return nil, &tasks.InvalidError{Index: -1, Field: "lift", Reason: "excludes at_clerk"}
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	out, replayed, err := act(ctx, s, a, in, func() (*forgetOutput, string, error) {
		done, err := a.forget(ctx, in)
		return &forgetOutput{Body: done}, "", err
	}, func(string) (*forgetOutput, error) {
		return &forgetOutput{Body: Forgotten{Forgotten: !in.Lift}}, nil
	})
	if replayed && err == nil {
		out.Replayed = "true"
	}
	return out, err
}

func (a *asker) forget(ctx context.Context, in Forget) (done Forgotten, err error) {
	if in.Lift {
		lifted, err := a.desk.Lift(ctx, in.EmailAddress)
		return Forgotten{Lifted: &lifted}, err
	}
	var removed desk.Removed
	if in.AtClerk {
		var deleted int
		removed, deleted, err = a.desk.ForgetAtClerk(ctx, in.EmailAddress,
			func(string) func() { return func() {} }, func(string) {})
		done.DeletedAtClerk = &deleted
	} else {
		removed, err = a.desk.Forget(ctx, in.EmailAddress, func(string) {})
	}
	done.Forgotten, done.Removed = true, &removed
	return done, err
}
