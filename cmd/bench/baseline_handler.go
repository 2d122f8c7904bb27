package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient"
	"example.com/usher/tasks"
)

// handler makes one call for a task.
type handler struct {
	clerk *clerkclient.Client
	queue *asynq.Client
}

func (h handler) invite(ctx context.Context, task *asynq.Task) error {
	var recipient tasks.Recipient
	if err := json.Unmarshal(task.Payload(), &recipient); err != nil {
		return fmt.Errorf("decoding a recipient: %w: %w", err, asynq.SkipRetry)
	}
	_, _, err := h.clerk.Create(ctx, params(recipient))
	return verdict(err)
}

// bulkInvite invites ten at once. Clerk makes all or none, so the recipients of a call that it refused are invited
// one by one.
func (h handler) bulkInvite(ctx context.Context, task *asynq.Task) error {
	var recipients []tasks.Recipient
	if err := json.Unmarshal(task.Payload(), &recipients); err != nil {
		return fmt.Errorf("decoding recipients: %w: %w", err, asynq.SkipRetry)
	}
	all := make([]*invitation.CreateParams, len(recipients))
	for i, recipient := range recipients {
		all[i] = params(recipient)
	}
	_, _, err := h.clerk.CreateBulk(ctx, all)
	if clerkclient.OutcomeOf(err) == clerkclient.Rejected {
		return h.oneByOne(ctx, recipients)
	}
	return verdict(err)
}

func (h handler) oneByOne(ctx context.Context, recipients []tasks.Recipient) error {
	for _, recipient := range recipients {
		task, err := inviteTask(recipient)
		if err != nil {
			return err
		}
		if _, err := h.queue.EnqueueContext(ctx, task); err != nil {
			return fmt.Errorf("enqueuing a recipient of a refused bulk: %w", err)
		}
	}
	return nil
}

// params has only the address: the recipients of the benchmark have nothing else.
func params(recipient tasks.Recipient) *invitation.CreateParams {
	return &invitation.CreateParams{EmailAddress: recipient.EmailAddress}
}

// verdict says to asynq what an answer means.
func verdict(err error) error {
	refused, ok := errors.AsType[*clerkclient.Error](err)
	switch {
	case ok && refused.Outcome == clerkclient.Throttled:
		return &rateLimitError{retryIn: refused.RetryAfter}
	case ok && refused.Outcome == clerkclient.Rejected:
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	return err
}
