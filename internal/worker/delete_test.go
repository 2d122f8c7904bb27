package worker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// beside is a worker that runs beside a sandbox.
func beside(t *testing.T, config clerktest.Config, change func(*policy.Policy)) (bundle, *clerktest.Sandbox) {
	t.Helper()
	sandbox, url := clerktest.NewServer(t, config)
	clerk, err := clerkclient.New(clerkclient.Config{Key: "sk_test_x", BaseURL: url})
	testkit.NoError(t, err)
	t.Cleanup(clerk.Close)
	return setup(t, clerk, change), sandbox
}

// addresses are those of the invitations that are left, in any status.
func addresses(s *clerktest.Sandbox, made ...clerktest.Invitation) (left []string) {
	for _, inv := range made {
		if _, ok := s.Invitation(inv.ID); ok {
			left = append(left, inv.EmailAddress)
		}
	}
	return left
}

func TestEveryInvitationOfAnAddressIsDeleted(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(*policy.Policy) {})
	var made []clerktest.Invitation
	for _, address := range []string{"Ada@example.com", "ada@example.com", "ada@example.com", "xada@example.com"} {
		made = append(made, clerk.AddInvitation(address))
	}
	testkit.NoError(t, clerk.Accept(made[0].ID))
	testkit.NoError(t, clerk.Expire(made[1].ID))
	task, err := b.client.DeleteEmail(t.Context(), "ADA@example.com")
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.Deleted != 3 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
	if left := addresses(clerk, made...); !slices.Equal(left, []string{"xada@example.com"}) {
		t.Errorf("left: %v", left)
	}
	task, err = b.client.DeleteEmail(t.Context(), "ada@example.com")
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.Deleted != 0 {
		t.Errorf("there was none: %+v, %+v", ended, ended.Error)
	}
}

func TestADeletionMayBeRepeated(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]clerktest.Config{"404": {}, "as the first": {DeletedAgain: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, clerk := beside(t, config, func(*policy.Policy) {})
			inv := clerk.AddInvitation("ada@example.com")
			for range 2 {
				task, err := b.client.Delete(t.Context(), inv.ID)
				if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.InvitationID != inv.ID {
					t.Errorf("%+v, %+v", ended, ended.Error)
				}
			}
			if left := addresses(clerk, inv); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestADeletionByIDIsNoted: a task whose own call created the invitation must not send another one.
func TestADeletionByIDIsNoted(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(*policy.Policy) {})
	inv := clerk.AddInvitation("ada@example.com")
	task, err := b.client.Delete(t.Context(), inv.ID)
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || ended.Deleted != 1 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
	id := store.IDOf("ada@example.com")
	noted := b.rdb.HGet(t.Context(), store.Keys("test").Intents(string(id[:])), "="+inv.ID).Val()
	if !strings.Contains(noted, "|") {
		t.Errorf("noted is %q", noted)
	}
}

func TestAClerkThatOffersNoDeletionIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	html := clerktest.Fault{Kind: clerktest.FaultHTML, Status: 404, Endpoint: clerktest.Delete}
	for name, fault := range map[string]*clerktest.Fault{"Clerk's 404": nil, "a page": &html} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, clerk := beside(t, clerktest.Config{NoDelete: fault == nil}, func(p *policy.Policy) {
				p.SettlingTime = -policy.SettleMargin + 100*time.Millisecond // nothing lags here
			})
			if fault != nil {
				clerk.Inject(*fault)
			}
			inv := clerk.AddInvitation("ada@example.com")
			task, err := b.client.DeleteEmail(t.Context(), "ada@example.com")
			ended := b.wait(t, task, err)
			if ended.State != tasks.StateDead || ended.Error.Code != "delete_not_offered" || ended.Deleted != 0 {
				t.Errorf("%+v, %+v", ended, ended.Error)
			}
			if left := addresses(clerk, inv); left == nil {
				t.Error("it is gone all the same")
			}
		})
	}
}

// TestADeletionForAForgottenAddressWaits: a call that was made before may create an invitation yet.
func TestADeletionForAForgottenAddressWaits(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(p *policy.Policy) {
		p.Timeout, p.SettlingTime = time.Second, time.Second
	})
	id := store.IDOf("ada@example.com")
	_, err := store.NewTombstones(b.rdb, "test").Set(t.Context(), id)
	testkit.NoError(t, err)
	began := time.Now()
	task, err := b.client.DeleteEmail(t.Context(), "ada@example.com")
	testkit.NoError(t, err)
	late := clerk.AddInvitation("ada@example.com")
	if ended := b.wait(t, task, nil); ended.State != tasks.StateDone || ended.Deleted != 1 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it ended after %s", took)
	}
	if left := addresses(clerk, late); left != nil {
		t.Errorf("left: %v", left)
	}
}

// TestWhatIsGoneNeedsNoRevocation: somebody has deleted it since it was listed.
func TestWhatIsGoneNeedsNoRevocation(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(*policy.Policy) {})
	clerk.AddInvitation("ada@example.com")
	clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 404, Endpoint: clerktest.Revoke, After: true, Times: 1,
	})
	task, err := b.client.RevokeEmail(t.Context(), "ada@example.com")
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
	// And one that stands in the way of an invitation.
	clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 404, Endpoint: clerktest.Revoke, After: true, Times: 1,
	})
	clerk.AddInvitation("bob@example.com")
	task, err = b.client.Invite(t.Context(), tasks.Recipient{
		EmailAddress: "bob@example.com", OnDuplicate: tasks.ResendDuplicate,
	})
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || len(clerk.Ledger()) != 1 {
		t.Errorf("%+v, %+v", ended, ended.Error)
	}
}
