package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/directory"
	"example.com/usher/tasks"
)

// Clerk is what the worker asks of Clerk.
type Clerk interface {
	Create(ctx context.Context, params *invitation.CreateParams) (clerkclient.Invitation, clerkclient.Answer, error)
	CreateBulk(ctx context.Context, params []*invitation.CreateParams) ([]clerkclient.Invitation, clerkclient.Answer, error)
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
	List(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error)
}

// createParams says of a recipient what Clerk asks for; what is zero is left out, so that Clerk's default counts.
func createParams(r tasks.Recipient) (*invitation.CreateParams, error) {
	params := &invitation.CreateParams{EmailAddress: r.EmailAddress}
	if r.PublicMetadata != nil {
		data, err := json.Marshal(r.PublicMetadata)
		if err != nil {
			return nil, fmt.Errorf("encoding public_metadata: %w", err)
		}
		params.PublicMetadata = (*json.RawMessage)(&data)
	}
	if r.RedirectURL != "" {
		params.RedirectURL = &r.RedirectURL
	}
	if r.NoNotify {
		params.Notify = clerk.Bool(false)
	}
	if r.IgnoreExisting {
		params.IgnoreExisting = clerk.Bool(true)
	}
	if r.ExpiresInDays != 0 {
		params.ExpiresInDays = clerk.Int64(int64(r.ExpiresInDays))
	}
	if r.TemplateSlug != "" {
		params.TemplateSlug = &r.TemplateSlug
	}
	return params, nil
}

func (w *Worker) invite(ctx context.Context, r *run, recipient tasks.Recipient) (ending, error) {
	r.about.EmailAddress = recipient.EmailAddress
	params, err := createParams(recipient)
	if err != nil {
		return w.unreadable(r, err)
	}
	var made clerkclient.Invitation
	err = w.untilAnswered(ctx, r, createCall, func(ctx context.Context) (err error) {
		made, _, err = w.clerk.Create(ctx, params)
		return err
	})
	return endingOf(err, made.ID)
}

func (w *Worker) revoke(ctx context.Context, r *run, id string) (ending, error) {
	r.about.InvitationID = id
	err := w.untilAnswered(ctx, r, revokeCall, func(ctx context.Context) error {
		_, _, err := w.clerk.Revoke(ctx, id)
		return err
	})
	return endingOf(err, id)
}

// endingOf turns what untilAnswered returned into an ending.
func endingOf(err error, invitationID string) (ending, error) {
	if e, ok := errors.AsType[*ended](err); ok {
		return e.ending, nil
	}
	return ending{invitationID: invitationID}, err
}

// syncList copies Clerk's list into the directory: what is not revoked, then what is, each oldest first, so that rows
// added meanwhile come last.
func (w *Worker) syncList(ctx context.Context, r *run) (ending, error) {
	draft := w.directory.Begin()
	for _, status := range []string{"", "revoked"} {
		for offset := 0; ; {
			var page clerkclient.Page
			err := w.untilAnswered(ctx, r, readCall, func(ctx context.Context) (err error) {
				query := clerkclient.ListQuery{Limit: listPage, Offset: offset, Status: status, OrderBy: "+created_at"}
				page, _, err = w.clerk.List(ctx, query)
				return err
			})
			if err != nil {
				return endingOf(err, "")
			}
			r.record.Attempts = 0 // a list is many calls; what counts is how often the same one failed
			err = w.persist(ctx, func(ctx context.Context) error { return draft.Add(ctx, directoryRows(page.Invitations)) })
			if err != nil {
				return ending{}, err
			}
			offset += len(page.Invitations)
			if len(page.Invitations) < listPage {
				break
			}
		}
	}
	count := 0
	err := w.persist(ctx, func(ctx context.Context) (err error) {
		count, err = draft.Publish(ctx)
		return err
	})
	r.record.Attempts = 1
	return ending{detail: map[string]int{"invitations": count}}, err
}

func directoryRows(invitations []clerkclient.Invitation) []directory.Invitation {
	rows := make([]directory.Invitation, len(invitations))
	for i, inv := range invitations {
		rows[i] = directory.Invitation{
			ID: inv.ID, EmailAddress: inv.EmailAddress, Status: inv.Status, Revoked: inv.Revoked, PublicMetadata: inv.PublicMetadata,
			CreatedAt: inv.CreatedAt, UpdatedAt: inv.UpdatedAt,
		}
		if !inv.ExpiresAt.IsZero() {
			rows[i].ExpiresAt = &inv.ExpiresAt
		}
	}
	return rows
}
