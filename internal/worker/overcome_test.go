package worker

import (
	"cmp"
	"context"
	"sync"
	"testing"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// watched is a Clerk that tells when it is asked for what is pending.
type watched struct {
	*clerkclient.Client
	asked func()
}

func (w watched) List(
	ctx context.Context, query clerkclient.ListQuery,
) (clerkclient.Page, clerkclient.Answer, error) {
	if query.Status == "pending" {
		w.asked()
	}
	return w.Client.List(ctx, query)
}

// TestACampaignThatIsPausedWhileClerkIsAskedRevokesNothing: a question may take a minute, and a permit longer.
func TestACampaignThatIsPausedWhileClerkIsAskedRevokesNothing(t *testing.T) {
	t.Parallel()
	sandbox, url := clerktest.NewServer(t, clerktest.Config{})
	clerk, err := clerkclient.New(clerkclient.Config{Key: "sk_test_x", BaseURL: url})
	testkit.NoError(t, err)
	t.Cleanup(clerk.Close)
	old := sandbox.AddInvitation("ada@example.com")
	var b bundle
	ready := make(chan struct{})
	pause := sync.OnceFunc(func() {
		_, err := b.client.Pause(t.Context(), "spring")
		testkit.NoError(t, err)
	})
	keys, id := store.Keys("test"), store.IDOf("ada@example.com")
	b = setup(t, watched{clerk, func() {
		<-ready
		if b.rdb.HLen(t.Context(), keys.Intents(string(id[:]))).Val() > 0 { // after the look-up
			pause()
		}
	}}, func(*policy.Policy) {})
	close(ready)
	bulk, err := b.client.BulkInvite(t.Context(), tasks.BulkRequest{Campaign: "spring", Recipients: []tasks.Recipient{
		{EmailAddress: "ada@example.com", OnDuplicate: tasks.ResendDuplicate},
	}})
	testkit.NoError(t, err)
	testkit.Eventually(t, "the recipient waits until the campaign goes on", func() bool {
		later := b.rdb.ZCard(t.Context(), keys.Ledger("spring", "later")).Val()
		c, err := b.client.Campaign(t.Context(), "spring")
		return err == nil && c.State == tasks.CampaignPaused && later == 1
	})
	if inv, _ := sandbox.Invitation(old.ID); inv.Status != "pending" {
		t.Errorf("while the campaign was paused the invitation became %s", inv.Status)
	}
	_, err = b.client.Resume(t.Context(), "spring")
	b.wait(t, bulk, err)
	if inv, _ := sandbox.Invitation(old.ID); inv.Status != "revoked" {
		t.Errorf("the old invitation is %s", inv.Status)
	}
	if made := sandbox.Ledger(); len(made) != 1 {
		t.Errorf("made: %+v", made)
	}
}

// revoking is a Clerk that does something behind its first revocation, and may lose the answer.
type revoking struct {
	*clerkclient.Client
	first func() error
}

func (r revoking) Revoke(ctx context.Context, id string) (clerkclient.Invitation, clerkclient.Answer, error) {
	inv, answer, err := r.Client.Revoke(ctx, id)
	return inv, answer, cmp.Or(r.first(), err)
}

// TestWhatWasRevokedIsNobodysInvitation: a later question finds it, and may not take it for the recipient's, although
// the revocations were broken off.
func TestWhatWasRevokedIsNobodysInvitation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pending int
		first   func(b bundle) error
	}{
		"paused": {2, func(b bundle) error {
			_, err := b.client.Pause(context.Background(), "spring")
			return err
		}},
		"lost": {1, func(bundle) error {
			return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 502, Sent: true}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox, url := clerktest.NewServer(t, clerktest.Config{})
			clerk, err := clerkclient.New(clerkclient.Config{Key: "sk_test_x", BaseURL: url})
			testkit.NoError(t, err)
			t.Cleanup(clerk.Close)
			for range test.pending {
				sandbox.AddInvitation("ada@example.com")
			}
			var b bundle
			var once sync.Once
			ready := make(chan struct{})
			b = setup(t, revoking{clerk, func() (err error) {
				<-ready
				once.Do(func() { err = test.first(b) })
				return err
			}}, func(*policy.Policy) {})
			close(ready)
			_, err = b.client.BulkInvite(t.Context(), tasks.BulkRequest{Campaign: "spring", Recipients: []tasks.Recipient{
				{EmailAddress: "ada@example.com", OnDuplicate: tasks.ResendDuplicate},
			}})
			testkit.NoError(t, err)
			keys, id := store.Keys("test"), store.IDOf("ada@example.com")
			testkit.Eventually(t, "the recipient waits or was sent", func() bool {
				c, err := b.client.Campaign(t.Context(), "spring")
				later := b.rdb.ZCard(t.Context(), keys.Ledger("spring", "later")).Val()
				return err == nil && (c.Sent == 1 || c.State == tasks.CampaignPaused && later == 1)
			})
			revoked := 0
			for _, inv := range sandbox.Invitations() {
				if inv.Status != "revoked" {
					continue
				}
				revoked++
				if !b.rdb.HExists(t.Context(), keys.Intents(string(id[:])), "="+inv.ID).Val() {
					t.Errorf("%s may be taken for the recipient's", inv.ID)
				}
			}
			if revoked != 1 {
				t.Errorf("%d were revoked", revoked)
			}
		})
	}
}
