package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// traces gives the keys that hold an address, in any case.
func (s *system) traces(address string) (keys []string) {
	s.t.Helper()
	for key, value := range s.dump() {
		if strings.Contains(strings.ToLower(key+"\n"+value), address) {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestForgetLeavesNoTrace: an address that is everywhere, and in calls at that moment, is nowhere any more, also after
// a sync.
func TestForgetLeavesNoTrace(t *testing.T) {
	t.Parallel()
	const address = "ada.lovelace@example.com"
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.worker()
	// A dead letter, a directory, a campaign that has sent, one that is scheduled, tasks that are scheduled.
	s.ok("invite", address, "--wait")
	if a := s.enqueue("invite", "Ada.Lovelace@Example.com", "--wait"); a.Exit != 3 {
		t.Fatalf("the duplicate: exit %d, %s", a.Exit, a.Stderr)
	}
	s.ok("sync-list", "--wait")
	people := s.write("people.csv", "email\n"+address+"\ngrace@example.com\n")
	want(t, s.ok("bulk-invite", people, "--campaign", "past", "--ignore-existing", "--wait"),
		map[string]any{"sent": 2})
	s.ok("bulk-invite", people, "--campaign", "future", "--in", "1h")
	later := s.ok("invite", address, "--in", "1h")
	if found := s.traces(address); len(found) < 5 {
		t.Fatalf("the address is in %v only", found)
	}
	// And a call of an invite and one of a campaign that hang.
	hang := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, After: true, For: 3 * time.Second,
		Address: address})
	flying := s.ok("invite", address, "--ignore-existing")
	s.ok("bulk-invite", people, "--campaign", "flying", "--ignore-existing")
	// Both have the same address, so one of them waits for the other's call. The campaign has taken its recipients
	// when its bulk has come: otherwise its script may find the tombstone first and remove the address itself, and
	// forget counts what it removes.
	testkit.Eventually(t, "a call hangs, and the campaign has begun", func() bool {
		i := slices.IndexFunc(s.clerk.Faults(), func(fault clerktest.Fault) bool { return fault.ID == hang })
		return s.clerk.Faults()[i].Struck > 0 && s.clerk.Stats().Endpoints[clerktest.Bulk].Arrivals >= 2
	})
	if a := s.enqueue("forget", address); a.Exit != 2 {
		t.Errorf("without --yes: exit %d", a.Exit)
	}
	removed := s.ok("forget", " "+address, "--yes")["removed"].(map[string]any)
	want(t, removed, map[string]any{"campaigns": 3, "dead_letters": 1, "invitations": 1})
	want(t, s.ok("status", fmt.Sprint(later["task_id"])), map[string]any{"state": "cancelled"})
	testkit.Eventually(t, "the calls have ended", func() bool {
		return s.state(flying["task_id"]) != tasks.StateActive && s.campaign("flying").State == tasks.CampaignFinished
	})
	s.ok("sync-list", "--wait")
	if found := s.traces(address); len(found) > 0 {
		t.Errorf("the address is still in %v", found)
	}
	if dead := s.list("dead-letter", "list"); len(dead) > 0 {
		t.Errorf("dead letters are left: %v", dead)
	}
	// It is not written down again, until that is lifted.
	if a := s.enqueue("invite", address); a.Exit != 2 || !strings.Contains(a.Stderr, "forgotten") {
		t.Errorf("inviting it: exit %d, %s", a.Exit, a.Stderr)
	}
	want(t, s.ok("bulk-invite", people, "--campaign", "rehearsed", "--dry-run"),
		map[string]any{"forgotten": 1, "skipped": 1, "refused": 1, "would_send": 0, "finish_at": nil})
	want(t, s.ok("bulk-invite", people, "--campaign", "past"), map[string]any{"added": 0, "known": 1, "forgotten": 1})
	want(t, s.ok("campaign", "status", "past"),
		map[string]any{"recipients": 1, "sent": 1, "dead": 0, "remaining": 0, "forgotten": 1})
	want(t, s.ok("forget", address, "--lift"), map[string]any{"lifted": true})
	s.ok("invite", address, "--in", "1h")
}
