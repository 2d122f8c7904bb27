// Package plain makes the tasks of the worker that Usher is measured against: one a recipient, or one for ten.
package plain

import (
	"encoding/json"
	"fmt"

	"github.com/hibiken/asynq"

	"example.com/usher/tasks"
)

// The types of its tasks.
const (
	TypeInvite     = "plain:invite"
	TypeBulkInvite = "plain:bulk-invite"
)

// maxRetry keeps asynq from archiving a task whose retries were only waits for Clerk's window.
const maxRetry = 1_000_000

// Invite is a task that invites one recipient.
func Invite(recipient tasks.Recipient) (*asynq.Task, error) { return task(TypeInvite, recipient) }

// BulkInvite is a task that invites up to ten recipients with one call.
func BulkInvite(recipients []tasks.Recipient) (*asynq.Task, error) {
	return task(TypeBulkInvite, recipients)
}

func task(kind string, payload any) (*asynq.Task, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("encoding the payload of %s: %w", kind, err)
	}
	return asynq.NewTask(kind, data, asynq.MaxRetry(maxRetry)), nil
}
