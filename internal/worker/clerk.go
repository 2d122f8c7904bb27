package worker

import (
	"context"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/dispatch"
)

// Clerk is what the worker asks of Clerk.
type Clerk interface {
	ask.Clerk
	dispatch.Clerk
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
}
