package e2e

import (
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
)

// TestAnEmptyValueIsNotTakenForNone: a script whose variable is not set would else do something other than it says.
func TestAnEmptyValueIsNotTakenForNone(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	file := s.write("p.csv", csv("bulk", 1))
	for _, args := range [][]string{
		{"bulk-invite", file, "--campaign", ""}, {"bulk-invite", file, "--at", ""}, {"bulk-invite", file, "--in="}, {"invite", "ada@example.com", "--id", " "},
		{"invite", ""}, {"revoke", "--email", "ada@example.com", "--campaign", ""}, {"status", ""}, {"campaign", "status", ""}, {"invitations", "--status", ""},
	} {
		if a := s.enqueue(args...); a.Exit != 2 || !strings.Contains(a.Stderr, "is empty") {
			t.Errorf("%q: exit %d, %s%s", args, a.Exit, a.Stdout, a.Stderr)
		}
	}
	if keys := s.dump(); len(keys) > 0 {
		t.Errorf("something was enqueued: %v", keys)
	}
}

func TestFlagsThatWouldDoNothingAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	file := s.write("p.csv", csv("bulk", 1))
	for _, flags := range []string{"--dry-run --wait", "--fail-on-dead", "--invalid-to bad.csv"} {
		if a := s.enqueue(append([]string{"bulk-invite", file}, strings.Fields(flags)...)...); a.Exit != 2 {
			t.Errorf("%s: exit %d, %s%s", flags, a.Exit, a.Stdout, a.Stderr)
		}
	}
}
