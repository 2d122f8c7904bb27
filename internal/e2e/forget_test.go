package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
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

// atClerk are the address's invitations at Clerk, in any status.
func (s *system) atClerk(address string) (ids []string) {
	s.t.Helper()
	for _, inv := range s.clerk.Invitations() {
		if strings.EqualFold(inv.EmailAddress, address) {
			ids = append(ids, inv.ID)
		}
	}
	return ids
}

// TestForgetAtClerkLeavesNothingThere: not even what a call creates that was given up before.
func TestForgetAtClerkLeavesNothingThere(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	s := start(t, clerktest.Config{IgnoreExistingCoversUsers: true}, "USHER_LIMIT_OVERALL=0", "USHER_TIMEOUT=1s",
		"USHER_SETTLE=3s")
	s.worker()
	accepted := s.clerk.AddInvitation(address)
	testkit.NoError(t, s.clerk.Accept(accepted.ID))
	s.ok("revoke", s.clerk.AddInvitation("Ada@Example.com").ID, "--wait")
	s.clerk.AddInvitation(address)
	s.clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultHang, Endpoint: clerktest.Create, LateCommit: 2 * time.Second, Times: 1,
	})
	s.ok("invite", address, "--ignore-existing")
	testkit.Eventually(t, "the call hangs", func() bool { return len(s.clerk.Faults()) == 0 })
	want(t, s.ok("forget", address, "--at-clerk", "--yes"), map[string]any{"forgotten": true, "deleted_at_clerk": 4})
	if ids := s.atClerk(address); len(ids) > 0 || len(s.clerk.Ledger()) != 1 || !s.clerk.Ledger()[0].Late {
		t.Errorf("left at Clerk: %v; sent: %+v", ids, s.clerk.Ledger())
	}
	if found := s.traces(address); len(found) > 0 {
		t.Errorf("the address is still in %v", found)
	}
	if users := s.clerk.Stats().Users; users != 1 {
		t.Errorf("%d users, want 1", users)
	}
}

// TestARepeatedErasureSaysWhatClerkHas, and nothing that is wrong of what was deleted before.
func TestARepeatedErasureSaysWhatClerkHas(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	s := start(t, clerktest.Config{}, "USHER_TIMEOUT=1s", "USHER_SETTLE=1s")
	s.worker()
	s.clerk.AddInvitation(address)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"--at-clerk"}, "Clerk has no invitation of it any more: 1 invitation deleted now."},
		{[]string{"--at-clerk"}, "Clerk has no invitation of it any more: 0 invitations deleted now."},
		{nil, "What Clerk has of it, invitations or a user, stays there."},
	} {
		a := s.enqueue(append([]string{"forget", address, "--yes"}, test.args...)...)
		if a.Exit != 0 || !strings.Contains(a.Stdout, test.says) {
			t.Errorf("%q: exit %d, want %q\n%s%s", test.args, a.Exit, test.says, a.Stdout, a.Stderr)
		}
	}
}

// TestADeletionIsRepeatedAfterAKill: the worker dies between noting that an invitation is deleted and deleting it.
func TestADeletionIsRepeatedAfterAKill(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	first := s.worker()
	s.clerk.AddInvitation("ada@example.com")
	s.clerk.AddInvitation("Ada@example.com")
	hang := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Delete})
	s.ok("delete", "--email", "ada@example.com", "--yes")
	testkit.Eventually(t, "a deletion hangs", func() bool { return s.clerk.Faults()[0].Struck > 0 })
	first.stop(syscall.SIGKILL)
	s.clerk.ClearFault(hang)
	s.worker()
	want(t, s.ok("delete", "--email", "ada@example.com", "--yes", "--wait"), map[string]any{"deleted": 2})
	if ids := s.atClerk("ada@example.com"); len(ids) > 0 {
		t.Errorf("left at Clerk: %v", ids)
	}
}

// TestForgettingSaysWhatIsLeftAtClerk: one that offers no deletion keeps its invitations, and the address stays
// forgotten.
func TestForgettingSaysWhatIsLeftAtClerk(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_TIMEOUT=1s", "USHER_LIMIT_OVERALL=0")
	s.worker()
	s.clerk.AddInvitation("ada@example.com")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHTML, Status: 404, Endpoint: clerktest.Delete})
	a := s.enqueue("forget", "ada@example.com", "--at-clerk", "--yes")
	if a.Exit != 1 || !strings.Contains(a.Stderr, "cannot be deleted") {
		t.Errorf("exit %d: %s", a.Exit, a.Stderr)
	}
	if again := s.enqueue("invite", "ada@example.com"); again.Exit != 2 {
		t.Errorf("it may be invited: exit %d", again.Exit)
	}
	if found := s.traces("ada@example.com"); len(found) > 0 {
		t.Errorf("the address is in %v", found)
	}
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

// TestARevocationIsInTheStoryOfItsAddress, by address and by task, until the address is forgotten.
func TestARevocationIsInTheStoryOfItsAddress(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	s := start(t, clerktest.Config{})
	s.worker()
	s.ok("invite", address, "--id", "first", "--wait")
	s.ok("revoke", "--email", address, "--id", "by-address", "--yes", "--wait")
	second := s.ok("invite", address, "--id", "second", "--wait")
	s.ok("revoke", fmt.Sprint(second["invitation_id"]), "--id", "by-id", "--yes", "--wait")
	third := s.ok("invite", address, "--id", "third", "--wait")
	s.ok("delete", fmt.Sprint(third["invitation_id"]), "--id", "deleted", "--yes", "--wait")
	told := []string{
		"enqueued first", "done first", "enqueued by-address", "done by-address", "enqueued second", "done second",
		"enqueued by-id", "done by-id", "enqueued third", "done third", "enqueued deleted", "done deleted",
	}
	for _, what := range []string{address, "first", "by-address", "by-id", "deleted"} {
		story := s.ok("find", what)
		var got []string
		for _, e := range story["events"].([]any) {
			e := e.(map[string]any)
			got = append(got, fmt.Sprintf("%v %v", e["what"], e["task_id"]))
		}
		if !slices.Equal(got, told) || story["email_address"] != address {
			t.Errorf("%s: %v\n%v", what, got, story)
		}
	}
	if found := s.traces(address); len(found) == 0 {
		t.Error("nothing is kept that could be forgotten")
	}
	s.ok("forget", address, "--yes")
	if found := s.traces(address); len(found) > 0 {
		t.Errorf("the address is still in %v", found)
	}
	want(t, s.ok("find", "by-id"), map[string]any{"email_address": nil})
	if a := s.enqueue("find", address); strings.Contains(a.Stdout, "by-id") {
		t.Errorf("%s", a.Stdout)
	}
}
