package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestALostAnswerIsAskedAboutAndNotSentAgain: with ignore_existing a second call would make a second invitation.
func TestALostAnswerIsAskedAboutAndNotSentAgain(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{ListLag: 100 * time.Millisecond}, "USHER_TIMEOUT=2s")
	for _, kind := range []clerktest.Fault{
		{Kind: clerktest.FaultStatus, Status: 500, After: true}, {Kind: clerktest.FaultReset, After: true},
		{Kind: clerktest.FaultNotJSON, After: true},
	} {
		kind.Times = 2
		for _, endpoint := range []clerktest.Endpoint{clerktest.Create, clerktest.Bulk} {
			kind.Endpoint = endpoint
			s.clerk.Inject(kind)
		}
	}
	s.worker()
	for _, id := range s.invites("single", 8, tasks.Recipient{IgnoreExisting: true}) {
		done, err := s.client.Wait(t.Context(), id)
		if err != nil || !strings.HasPrefix(done.InvitationID, "inv_") {
			t.Errorf("%+v, %v", done, err)
		}
	}
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 60)), "--campaign", "load", "--ignore-existing", "--wait")
	s.onceEach(60, 8)
}

// TestANamelessRefusalCostsOnlyTheRefused: Clerk says that a bulk is refused and not for whom.
func TestANamelessRefusalCostsOnlyTheRefused(t *testing.T) {
	t.Parallel()
	for _, partial := range []bool{false, true} {
		t.Run(fmt.Sprintf("partly made %t", partial), func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{DuplicatesNamed: clerktest.NameNone, BulkPartial: partial})
			for _, i := range []int{3, 17, 31, 45} {
				s.clerk.RejectAddress(fmt.Sprintf("bulk%d@example.com", i), 422, "form_param_format_invalid")
			}
			s.worker()
			done := s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 60)), "--campaign", "load", "--wait")
			want(t, done, map[string]any{"sent": 56, "dead": 4})
			seen := map[string]int{}
			for _, sent := range s.clerk.Ledger() {
				if seen[sent.Folded]++; seen[sent.Folded] > 1 {
					t.Errorf("%s was invited twice", sent.Folded)
				}
			}
			letters := s.list("dead-letter", "list")
			for _, letter := range letters {
				want(t, letter, map[string]any{"reason": "rejected", "http_status": 422, "attempts": 1})
			}
			if len(letters) != 4 || len(seen) != 56 {
				t.Errorf("%d dead letters, %d invited", len(letters), len(seen))
			}
		})
	}
}

// TestAKilledWorkersCampaignGoesOn: well before asynq would run its task again.
func TestAKilledWorkersCampaignGoesOn(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 200 * time.Millisecond, MaxLatency: 200 * time.Millisecond},
		"USHER_LIMIT_BULK=2/1s", "USHER_LIMIT_CREATE=2/1s", "USHER_RESERVE=1", "USHER_TIMEOUT=1s",
		"USHER_LIMIT_OVERALL=0")
	first := s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 70)), "--campaign", "load", "--ignore-existing")
	testkit.Eventually(t, "calls are under way", func() bool { return len(s.clerk.Ledger()) > 20 })
	first.stop(syscall.SIGKILL)
	killed := time.Now()
	s.worker()
	before := len(s.clerk.Ledger())
	testkit.Eventually(t, "the campaign goes on", func() bool { return len(s.clerk.Ledger()) > before+10 })
	if took := time.Since(killed); took > 30*time.Second {
		t.Errorf("it went on after %s; asynq alone takes a minute", took)
	}
	testkit.Eventually(t, "everybody is sent", func() bool { return s.state("bulk:load:1") == tasks.StateDone })
	s.onceEach(70, 0)
}

// TestAfterARestartOfRedisWhoeverIsUnfinishedIsAskedAbout: it may have lost the record of calls that were made.
func TestAfterARestartOfRedisWhoeverIsUnfinishedIsAskedAbout(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	first := s.worker()
	s.ok("invite", "ada@example.com", "--wait")
	first.stop(syscall.SIGTERM)
	s.ok("invite", "bob@example.com", "--ignore-existing", "--id", "bob")
	s.clerk.AddInvitation("bob@example.com") // by a call of which Redis lost the record
	s.redis.Kill()
	testkit.NoError(t, s.redis.Restart(t.Context()))
	s.worker()
	testkit.Eventually(t, "the task has ended", func() bool { return s.state("bob") == tasks.StateDone })
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations were sent, want only the first", n)
	}
}

// TestANewKeyIsTakenFromItsFile: the worker starts anew with it, by itself.
func TestANewKeyIsTakenFromItsFile(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	file := s.write("key", testKey)
	w := s.worker("CLERK_SECRET_KEY=", "CLERK_SECRET_KEY_FILE="+file)
	s.ok("invite", "ada@example.com", "--wait")
	s.clerk.SetKey("sk_test_another")
	s.ok("invite", "bob@example.com")
	testkit.Eventually(t, "the key is refused", func() bool {
		return strings.Contains(w.Log(), "refuses the secret key")
	})
	overwrite(t, file, "sk_test_another")
	testkit.Eventually(t, "it is sent with the new key", func() bool { return len(s.clerk.Ledger()) == 2 })
	if dead := s.list("dead-letter", "list"); len(dead) != 0 {
		t.Errorf("dead letters: %v", dead)
	}
}
