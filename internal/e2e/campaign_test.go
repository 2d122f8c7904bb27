package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// still waits until no call is in flight and nothing is unsettled: what the campaign says it has sent is what Clerk
// has made.
func (s *system) still(name string) (sent int) {
	s.t.Helper()
	testkit.Eventually(s.t, "the campaign stands still", func() bool {
		for _, limit := range s.limits() {
			if limit.InFlight != 0 {
				return false
			}
		}
		sent = s.campaign(name).Sent
		return sent == s.bulkSent()
	})
	return sent
}

// bulkSent is how many of a campaign's recipients Clerk has invited.
func (s *system) bulkSent() (n int) {
	for _, sent := range s.clerk.Ledger() {
		if strings.HasPrefix(sent.Folded, "bulk") {
			n++
		}
	}
	return n
}

func TestACampaignIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 50 * time.Millisecond, MaxLatency: 200 * time.Millisecond},
		"USHER_LIMIT_CREATE=5/1s", "USHER_LIMIT_BULK=2/1s", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=1")
	s.worker()
	s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 300)), "--campaign", "load")
	testkit.Eventually(t, "it has begun", func() bool { return len(s.clerk.Ledger()) > 20 })
	want(t, s.ok("campaign", "pause", "load"), map[string]any{"state": "paused"})
	paused := s.still("load")
	want(t, s.ok("campaign", "pause", "load"), map[string]any{"state": "paused"})
	s.ok("invite", "meanwhile@example.com", "--wait")
	testkit.Eventually(t, "a window has passed", func() bool { return s.limits()["bulk"].Used == 0 })
	if sent := int(s.ok("campaign", "status", "load")["sent"].(float64)); sent != paused {
		t.Errorf("%d were sent while it was paused", sent-paused)
	}
	want(t, s.ok("campaign", "resume", "load"), map[string]any{"state": "running"})
	testkit.Eventually(t, "it goes on", func() bool { return len(s.clerk.Ledger()) > paused+30 })
	if a := s.enqueue("campaign", "cancel", "load", "--json"); a.Exit != 2 {
		t.Errorf("cancelling without --yes: exit %d", a.Exit)
	}
	cancelled := s.ok("campaign", "cancel", "load", "--yes")
	want(t, cancelled, map[string]any{"state": "cancelled"})
	testkit.Eventually(t, "its task has ended", func() bool { return s.state("bulk:load:1") == tasks.StateCancelled })
	s.still("load")
	status := s.ok("campaign", "status", "load")
	if sum := status["sent"].(float64) + status["dead"].(float64) + status["remaining"].(float64); sum != 300 ||
		status["remaining"] == 0.0 {
		t.Errorf("%v", status)
	}
	for _, args := range [][]string{{"campaign", "resume", "load"}, {"campaign", "pause", "nobody"}} {
		if a := s.enqueue(args...); a.Exit != 1 {
			t.Errorf("%v: exit %d, %s", args, a.Exit, a.Stderr)
		}
	}
	if list := s.list("campaign", "list"); len(list) != 1 || fmt.Sprint(list[0]["campaign"]) != "load" {
		t.Errorf("%v", list)
	}
}
