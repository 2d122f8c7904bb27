package main

import (
	"encoding/json"
	"fmt"

	"github.com/hibiken/asynq"

	"example.com/usher/tasks"
)

// The types of the baseline's tasks.
const (
	typeInvite     = "plain:invite"
	typeBulkInvite = "plain:bulk-invite"
)

// maxRetry keeps asynq from archiving a task whose retries were only waits for Clerk's window.
const maxRetry = 1_000_000

// inviteTask is a task that invites one recipient.
func inviteTask(recipient tasks.Recipient) (*asynq.Task, error) { return task(typeInvite, recipient) }

// bulkTask is a task that invites up to ten recipients with one call.
func bulkTask(recipients []tasks.Recipient) (*asynq.Task, error) {
	return task(typeBulkInvite, recipients)
}

func task(kind string, payload any) (*asynq.Task, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("encoding the payload of %s: %w", kind, err)
	}
	return asynq.NewTask(kind, data, asynq.MaxRetry(maxRetry)), nil
}
