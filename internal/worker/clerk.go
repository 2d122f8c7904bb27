package worker

import (
	"context"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/dispatch"
)

// Clerk is what the worker asks of Clerk.
type Clerk interface {
	dispatch.Clerk
	Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error)
}
