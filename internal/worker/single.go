package worker

import (
	"context"
	"errors"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/dispatch"
)

// Clerk is what the worker asks of Clerk.
type Clerk interface {
	dispatch.Clerk
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
}

// endingOf turns what untilAnswered returned into an ending.
func endingOf(err error, invitationID string) (ending, error) {
	if e, ok := errors.AsType[*ended](err); ok {
		return e.ending, nil
	}
	return ending{invitationID: invitationID}, err
}
