package worker

import (
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestAForgottenInviteEndsAlthoughNobodyTellsIt: asynq may not hear that it is to end it.
func TestAForgottenInviteEndsAlthoughNobodyTellsIt(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{create: func(*invitation.CreateParams) (clerkclient.Invitation, error) {
		return clerkclient.Invitation{ID: "inv_1"}, nil
	}}
	b := setup(t, clerk, func(p *policy.Policy) { p.Overall = settings.Rate{N: 1, Window: time.Hour} })
	first, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: "first@example.com"})
	b.wait(t, first, err)
	waits, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: "Ada@example.com"})
	testkit.NoError(t, err)
	testkit.Eventually(t, "it waits for a permit", func() bool {
		task, err := b.client.Status(t.Context(), waits.ID)
		return err == nil && task.State == tasks.StateActive
	})
	_, err = store.NewTombstones(b.rdb, "test").Set(t.Context(), store.IDOf("ada@example.com"))
	testkit.NoError(t, err)
	if ended := b.wait(t, waits, nil); ended.State != tasks.StateCancelled {
		t.Errorf("it ended as %+v", ended)
	}
}
