package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestAListWithFaultsIsMended: five of fifty have faults that only Clerk finds. They are corrected in the file that is
// exported, and everybody is sent once, also when the file is given again. The story of one of them is told in order.
func TestAListWithFaultsIsMended(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.clerk.AddUser("bulk3@example.com")
	s.clerk.AddUser("bulk17@example.com")
	s.clerk.RejectAddress("bulk21@example.com", 422, "form_param_format_invalid")
	s.clerk.RejectAddress("bulk30@example.com", 422, "form_param_format_invalid")
	s.clerk.BlockAddress("bulk44@example.com")
	s.worker()
	s.worker()
	list := s.write("list.csv", csv("bulk", 50))
	want(t, s.ok("bulk-invite", list, "--campaign", "fifty", "--wait"), map[string]any{"sent": 45, "dead": 5})

	letters := filepath.Join(s.dir, "dead.csv")
	if a := s.enqueue("dead-letter", "export", "-o", letters); a.Exit != 0 {
		t.Fatal(a.Stderr)
	}
	text, err := os.ReadFile(letters)
	testkit.NoError(t, err)
	mended := regexp.MustCompile(`,bulk(\d+@)`).ReplaceAllString(string(text), ",right$1")
	corrected := s.write("corrected.csv", mended)
	want(t, s.ok("dead-letter", "retry", "--from", corrected, "--wait"), map[string]any{"retried": 5, "sent": 5})
	want(t, s.ok("dead-letter", "retry", "--from", corrected), map[string]any{"retried": 0, "gone": 5})
	want(t, s.ok("campaign", "status", "fifty"), map[string]any{"recipients": 50, "sent": 50, "dead": 0})
	want(t, s.ok("bulk-invite", list, "--campaign", "fifty"), map[string]any{"added": 0, "known": 50})

	times := map[string]int{}
	for _, sent := range s.clerk.Ledger() {
		if times[sent.Address]++; sent.Address == "right21@example.com" {
			testkit.NoError(t, s.clerk.Accept(sent.InvitationID))
		}
	}
	for address, n := range times {
		if n != 1 {
			t.Errorf("%s was sent %d times", address, n)
		}
	}
	if len(times) != 50 {
		t.Errorf("%d addresses were sent", len(times))
	}
	s.ok("sync-list", "--wait")
	var kinds []string
	events, _ := s.ok("find", "right21@example.com")["events"].([]any)
	for _, e := range events {
		kinds = append(kinds, e.(map[string]any)["what"].(string))
	}
	if !slices.Equal(kinds, []string{"campaign", "dead", "mended", "sent", "accepted"}) {
		t.Errorf("the story is %v", kinds)
	}
}

// TestTheDeadOfAListAreSentWhenItIsGivenAgain with options that mend them, and those of a deleted campaign as invites
// of their own. Nobody is sent twice.
func TestTheDeadOfAListAreSentWhenItIsGivenAgain(t *testing.T) {
	t.Parallel()
	const n = 12
	s := start(t, clerktest.Config{})
	for _, i := range []int{3, 7, 9} { // somebody else's invitations stand in the way
		s.clerk.AddInvitation(fmt.Sprintf("bulk%d@example.com", i))
	}
	s.worker()
	list := s.write("list.csv", csv("bulk", n))
	again := []string{"bulk-invite", s.write("some.csv", csv("bulk", 8)), "--campaign", "spring", "--ignore-existing"}
	want(t, s.ok("bulk-invite", list, "--campaign", "spring", "--wait"), map[string]any{"sent": n - 3, "dead": 3})
	want(t, s.ok(again...), map[string]any{"added": 0, "known": 8, "known_dead": 2, "retried": 0})
	s.onceEachOf(t, n-3)
	want(t, s.ok(append(again, "--retry-dead", "--wait")...), map[string]any{"retried": 2, "sent": n - 1, "dead": 1})
	s.onceEachOf(t, n-1)
	want(t, s.ok(append(again, "--retry-dead")...), map[string]any{"known_dead": 0, "retried": 0})

	for _, inv := range s.clerk.Invitations() {
		if inv.EmailAddress == "bulk9@example.com" {
			testkit.NoError(t, s.clerk.Expire(inv.ID)) // now it stands in nobody's way
		}
	}
	s.ok("campaign", "delete", "spring", "--yes", "--retry-dead-letters")
	testkit.Eventually(t, "the last one is sent", func() bool { return len(s.clerk.Ledger()) >= n })
	s.ok("sync-list", "--wait")
	s.onceEachOf(t, n)
	if dead := s.deadLetters(); dead != 0 {
		t.Errorf("%d dead letters are left", dead)
	}
}
