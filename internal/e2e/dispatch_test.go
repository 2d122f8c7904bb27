package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// invites enqueues invite tasks for people of a name, many at once, and gives their ids. All are like one recipient
// but for the address.
func (s *system) invites(name string, n int, like tasks.Recipient) []string {
	s.t.Helper()
	const atOnce = 8
	ids := make([]string, n)
	var enqueuing sync.WaitGroup
	for first := range atOnce {
		enqueuing.Go(func() {
			recipient := like
			for i := first; i < n; i += atOnce {
				recipient.EmailAddress = fmt.Sprintf("%s%d@example.com", name, i)
				task, err := s.client.Invite(s.t.Context(), recipient)
				if err != nil {
					s.t.Error(err)
				}
				ids[i] = task.ID
			}
		})
	}
	enqueuing.Wait()
	return ids
}

func csv(name string, n int) string {
	var b strings.Builder
	b.WriteString("email\n")
	for i := range n {
		fmt.Fprintf(&b, "%s%d@example.com\n", name, i)
	}
	return b.String()
}

// TestInvitesSpendBothBudgets: with windows of an hour, whoever is not sent in the first one is not sent in this test.
// A worker that is kept from running for a while sends a bulk that is not full, so there are some to spare; that none
// is wasted on an idle machine is shown in the room that decides it.
func TestInvitesSpendBothBudgets(t *testing.T) {
	t.Parallel()
	const singles, bulks, spareBulks = 100, 25, 9
	const invites = singles + 10*(bulks-spareBulks)
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{
				Create:     clerktest.Limit{N: singles, Window: time.Hour},
				Bulk:       clerktest.Limit{N: bulks, Window: time.Hour},
				MinLatency: 60 * time.Millisecond, MaxLatency: 60 * time.Millisecond,
			}, "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=0")
			s.invites("single", invites, tasks.Recipient{})
			for range workers {
				s.worker()
			}
			testkit.Eventually(t, "all are sent", func() bool { return len(s.clerk.Ledger()) >= invites })
			s.onceEach(0, invites)
		})
	}
}

func TestNoBulkIsWastedOnUsers(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=100/1s", "USHER_LIMIT_BULK=25/1s", "USHER_LIMIT_OVERALL=0",
		"USHER_RESERVE=0")
	for i := range 30 {
		s.clerk.AddUser(fmt.Sprintf("Bulk%d@Example.com", 10*i))
	}
	file := s.write("bulk.csv", csv("bulk", 300))
	// What a dry run says is what happens.
	want(t, s.ok("bulk-invite", file, "--campaign", "load", "--dry-run"),
		map[string]any{"would_send": 270, "refused": 30})
	s.worker()
	s.worker()
	s.ok("bulk-invite", file, "--campaign", "load", "--wait")
	if stats := s.clerk.Stats().Endpoints[clerktest.Bulk]; stats.Failed != 0 {
		t.Errorf("%d bulk calls were refused", stats.Failed)
	}
	if sent, invited := len(s.clerk.Ledger()), len(s.sentTo()); sent != 270 || invited != 270 {
		t.Errorf("%d were sent to %d, want 270 to as many", sent, invited)
	}
	letters := s.list("dead-letter", "list", "--campaign", "load")
	if len(letters) != 30 {
		t.Fatalf("%d dead letters, want 30", len(letters))
	}
	letter := s.ok("dead-letter", "show", fmt.Sprint(letters[0]["id"]))
	want(t, letter, map[string]any{
		"reason": "rejected", "http_status": 422, "code": "form_identifier_exists", "attempts": 0,
		"campaign": "load", "type": "bulk-invite",
	})
	want(t, letter["history"].([]any)[0].(map[string]any), map[string]any{"found_before_sending": true})
}

func TestInvitesHaveTheReserveToThemselves(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{
		Create: clerktest.Limit{N: 20, Window: time.Hour}, Bulk: clerktest.Limit{N: 3, Window: time.Hour},
	}, "USHER_LIMIT_CREATE=20/1h", "USHER_LIMIT_BULK=3/1h", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=5")
	s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 200)), "--campaign", "load")
	testkit.Eventually(t, "the campaign has used up its share", func() bool {
		return len(s.clerk.Ledger()) == 3*10+15
	})
	s.worker() // the campaign is driven by the other one
	s.invites("single", 5, tasks.Recipient{})
	testkit.Eventually(t, "invites have the rest", func() bool { return len(s.clerk.Ledger()) == 3*10+20 })
	for _, limit := range s.ok("status")["limits"].([]any) {
		if l := limit.(map[string]any); l["name"] == "create" {
			want(t, l, map[string]any{"limit": 20, "used": 20})
			if l["next_permit_at"] == nil {
				t.Errorf("no next permit is foretold: %v", l)
			}
		}
	}
}

// TestAfterAThrottlingOneGoesFirst: another program has used the endpoint up. No attempt is spent.
func TestAfterAThrottlingOneGoesFirst(t *testing.T) {
	t.Parallel()
	const rest = 2 * time.Second
	s := start(t, clerktest.Config{MinLatency: 50 * time.Millisecond, MaxLatency: 50 * time.Millisecond},
		"USHER_LIMIT_BULK=0")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultThrottle, Endpoint: clerktest.Create, Times: 1, RetryIn: rest})
	for range 3 {
		s.worker()
	}
	s.ok("invite", "first@example.com")
	testkit.Eventually(t, "the first call is refused, and all workers can know it", func() bool {
		return slices.ContainsFunc(s.ok("status")["limits"].([]any), func(limit any) bool {
			l := limit.(map[string]any)
			return l["name"] == "create" && l["blocked_until"] != nil
		})
	})
	s.invites("single", 30, tasks.Recipient{PublicMetadata: map[string]any{"plan": "pro"}}) // so each travels alone
	testkit.Eventually(t, "all are sent", func() bool { return len(s.clerk.Ledger()) >= 31 })
	requests := s.clerk.Requests()
	if len(requests) != 32 {
		t.Fatalf("%d requests, want 32: an attempt was spent", len(requests))
	}
	refused := requests[0].Arrived
	if rested := requests[1].Arrived.Sub(refused); rested < rest {
		t.Errorf("a call started %s after the refusal, which asked for %s", rested, rest)
	}
	if alone := requests[2].Arrived.Sub(requests[1].Arrived); alone < 50*time.Millisecond {
		t.Errorf("another call followed the first one after %s, before its answer", alone)
	}
	if n := s.deadLetters(); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// TestNoCallIsSpentOnOneThatCarriesTen: with the limits for creating switched off, that of all calls is spent on
// bulks.
func TestNoCallIsSpentOnOneThatCarriesTen(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 5 * time.Millisecond, MaxLatency: 20 * time.Millisecond},
		"USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0", "USHER_LIMIT_OVERALL=10/500ms")
	s.worker()
	s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 600)), "--campaign", "load", "--wait")
	stats := s.clerk.Stats().Endpoints
	if singles, bulks := stats[clerktest.Create].Succeeded, stats[clerktest.Bulk].Succeeded; singles > bulks/4 {
		t.Errorf("%d single calls beside %d bulks", singles, bulks)
	}
}
