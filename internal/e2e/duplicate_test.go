package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

func TestAPendingInvitationIsAccepted(t *testing.T) {
	t.Parallel()
	for _, bulkLimit := range []string{"25/1h", "0"} { // with and without look-ups
		t.Run("bulk limit "+bulkLimit, func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{}, "USHER_LIMIT_BULK="+bulkLimit)
			pending := s.clerk.AddInvitation("Ada@example.com")
			s.old(s.clerk.AddInvitation("bob@example.com").ID)
			s.clerk.AddUser("user@example.com")
			s.worker()
			done := s.ok("invite", "ada@example.com", "--on-duplicate", "accept", "--wait")
			want(t, done, map[string]any{"state": "done", "invitation_id": pending.ID})
			file := s.write("people.csv",
				"email,on duplicate\nADA@example.com,\nnew@example.com,\nuser@example.com,\nbob@example.com,"+
					"dead-letter\n")
			bulk := s.ok("bulk-invite", file, "--on-duplicate", "accept", "--wait")
			want(t, bulk, map[string]any{"sent": 2, "dead": 2})
			if sent := s.clerk.Ledger(); len(sent) != 1 || sent[0].Address != "new@example.com" {
				t.Errorf("the sandbox made %+v", sent)
			}
			if n := s.clerk.Stats().Endpoints[clerktest.Revoke].Arrivals; n != 0 {
				t.Errorf("%d were revoked", n)
			}
			if a := s.enqueue("invite", "ada@example.com", "--on-duplicate", "accept",
				"--ignore-existing"); a.Exit != 2 {
				t.Errorf("both: exit %d, %s", a.Exit, a.Stderr)
			}
		})
	}
}

// TestAPendingInvitationIsResentOnce: the pending one is revoked and one is made anew, whatever is lost on the way.
func TestAPendingInvitationIsResentOnce(t *testing.T) {
	t.Parallel()
	for _, revokedCounts := range []bool{false, true} {
		t.Run(fmt.Sprintf("revoked counts %t", revokedCounts), func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{RevokedCountsAsDuplicate: revokedCounts}, "USHER_LIMIT_OVERALL=0")
			old := map[string]string{}
			for i := range 24 {
				address := fmt.Sprintf("bulk%d@example.com", i)
				if i == 0 {
					address = "single@example.com"
				}
				old[address] = s.clerk.AddInvitation(address).ID
			}
			s.old(old["bulk1@example.com"])
			for _, endpoint := range []clerktest.Endpoint{clerktest.Revoke, clerktest.Create, clerktest.Bulk} {
				s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultReset, After: true, Times: 2, Endpoint: endpoint})
				s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Times: 2, Endpoint: endpoint})
			}
			s.worker()
			done := s.ok("invite", "single@example.com", "--on-duplicate", "resend", "--wait")
			if done["invitation_id"] == old["single@example.com"] {
				t.Errorf("%v is the old one's", done)
			}
			bulk := s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 40)), "--on-duplicate", "resend", "--wait")
			want(t, bulk, map[string]any{"sent": 40, "dead": 0})
			s.resent(old, 41)
		})
	}
}

// old waits until an invitation is so old that nobody takes it for that of a call which is still to come.
func (s *system) old(id string) {
	s.t.Helper()
	testkit.Eventually(s.t, "an invitation is old", func() bool {
		inv, _ := s.clerk.Invitation(id)
		return time.Since(time.UnixMilli(inv.CreatedAt)) > policy.SkewMargin+time.Second
	})
}

// resent wants n invitations made, one for each address, and the old ones revoked.
func (s *system) resent(old map[string]string, n int) {
	s.t.Helper()
	made := s.invited()
	for address, times := range made {
		if times != 1 {
			s.t.Errorf("%s was invited %d times", address, times)
		}
	}
	if len(made) != n {
		s.t.Errorf("%d were invited, want %d", len(made), n)
	}
	for address, id := range old {
		if inv, _ := s.clerk.Invitation(id); inv.Status != "revoked" {
			s.t.Errorf("the old invitation of %s is %s", address, inv.Status)
		}
	}
}

// elapse ends the lease of a campaign and the holds of its batches now, as they end ten seconds after a worker died.
// Claims of addresses stay: what became of their calls is still asked.
func (s *system) elapse(campaign string) {
	s.t.Helper()
	ctx, keys := s.t.Context(), store.Keys("usher")
	testkit.NoError(s.t, s.rdb.HSet(ctx, keys.Ledger(campaign, "meta"), "lease_until", 1).Err())
	batches, err := s.rdb.ZRange(ctx, keys.Ledger(campaign, "open"), 0, -1).Result()
	testkit.NoError(s.t, err)
	for _, recipient := range batches {
		testkit.NoError(s.t, s.rdb.ZAddXX(ctx, keys.Ledger(campaign, "open"),
			redis.Z{Score: 1, Member: recipient}).Err())
	}
}

func TestResendingSurvivesKills(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 20 * time.Millisecond, MaxLatency: 80 * time.Millisecond,
		RevokedCountsAsDuplicate: true}, "USHER_LIMIT_OVERALL=0", "USHER_TIMEOUT=1s")
	old := map[string]string{}
	for i := range 60 {
		address := fmt.Sprintf("bulk%d@example.com", i)
		old[address] = s.clerk.AddInvitation(address).ID
	}
	s.old(old["bulk59@example.com"])
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 60)), "--campaign", "load", "--on-duplicate", "resend")
	for _, calls := range []int{10, 45} {
		worker := s.worker()
		testkit.Eventually(t, "it works", func() bool {
			return s.clerk.Stats().Endpoints[clerktest.Revoke].Arrivals >= calls
		})
		worker.stop(syscall.SIGKILL)
		s.elapse("load")
	}
	s.worker()
	testkit.Eventually(t, "it is finished", func() bool { return s.state("bulk:load:1") == tasks.StateDone })
	want(t, s.ok("campaign", "status", "load"), map[string]any{"sent": 60, "dead": 0})
	s.resent(old, 60)
}
