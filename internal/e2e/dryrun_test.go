package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// creates counts the calls that create.
func (s *system) creates() int {
	stats := s.clerk.Stats().Endpoints
	return stats[clerktest.Create].Arrivals + stats[clerktest.Bulk].Arrivals
}

func TestADryRunTellsWhatWouldBeSentAndSendsNothing(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	for i := range 12 {
		s.clerk.AddUser(fmt.Sprintf("Bulk%d@example.com", i))
	}
	for i := 12; i < 17; i++ {
		s.clerk.AddInvitation(fmt.Sprintf("BULK%d@example.com", i))
	}
	for i := range 700 { // more than a page
		s.clerk.AddInvitation(fmt.Sprintf("other%d@example.com", i))
	}
	file := s.write("p.csv", csv("bulk", 300)+"bulk0@example.com\n")
	got := s.ok("bulk-invite", file, "--campaign", "load", "--dry-run")
	want(t, got, map[string]any{
		"dry_run": true, "campaign": "load", "recipients": 300, "invalid": 0, "duplicates": 1, "known": 0, "skipped": 0, "would_send": 283, "refused": 17,
		"refused_by_code": map[string]any{"form_identifier_exists": 12, "duplicate_record": 5}, "unknown": 0, "scheduled_at": nil,
	})
	if rows := got["refused_rows"].([]any); len(rows) != 17 || rows[0].(map[string]any)["line"] != 2.0 {
		t.Errorf("refused rows: %v", rows)
	}
	text := s.enqueue("bulk-invite", file, "--campaign", "load", "--dry-run", "--at", "2099-12-01 09:00")
	for _, says := range []string{"283 would be sent", "line 2: belongs to a user already", "line 11: belongs", "and 7 refused rows more", "It would start at", "Nothing was enqueued"} {
		if !strings.Contains(text.Stdout, says) {
			t.Errorf("it does not say %q: %s", says, text.Stdout)
		}
	}
	for key := range s.dump() { // the limits' logs, and nothing else
		if !strings.Contains(key, "{limits}") {
			t.Errorf("a dry run has written %s", key)
		}
	}
	if n := s.creates(); n != 0 {
		t.Errorf("a dry run made %d calls that create", n)
	}
	s.worker()
	done := s.ok("bulk-invite", file, "--campaign", "load", "--wait")
	want(t, done, map[string]any{"sent": 283, "dead": 17})
	want(t, s.ok("bulk-invite", s.write("more.csv", csv("bulk", 301)), "--campaign", "load", "--dry-run"), map[string]any{"known": 300, "skipped": 300, "would_send": 1, "refused": 0})
	if a := s.enqueue("bulk-invite", file, "--campaign", "load", "--dry-run", "--ignore-existing"); !strings.Contains(a.Stdout, "0 would be sent, 300 skipped") {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("bulk-invite", file, "--dry-run", "--on-duplicate", "accept"), map[string]any{"would_send": 0, "refused": 12, "skipped": 288})
	want(t, s.ok("bulk-invite", file, "--dry-run", "--on-duplicate", "resend"), map[string]any{"would_send": 288, "refused": 12, "skipped": 0})
	// Whoever ignores existing invitations is never refused from a look-up.
	want(t, s.ok("bulk-invite", file, "--dry-run", "--ignore-existing"), map[string]any{"known": 0, "would_send": 300, "refused": 0})
}

func TestADryRunWithoutAKeyAsksNobody(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	file := s.write("p.csv", csv("bulk", 3))
	s.redis.Stop() // a file can be checked without it
	keyless := s.run("", "enqueue", []string{"CLERK_SECRET_KEY="}, "bulk-invite", file, "--dry-run")
	if keyless.Exit != 0 || !strings.Contains(keyless.Stdout, "3 recipients") || !strings.Contains(keyless.Stdout, "no key is set") {
		t.Errorf("%+v", keyless)
	}
	keyless = s.run("", "enqueue", []string{"CLERK_SECRET_KEY="}, "bulk-invite", file, "--dry-run", "--json")
	if !strings.Contains(keyless.Stdout, `"would_send":null`) || !strings.Contains(keyless.Stdout, `"recipients":3`) {
		t.Errorf("%+v", keyless)
	}
	testkit.NoError(t, s.redis.Restart(t.Context()))
	both := s.run("", "enqueue", []string{"CLERK_SECRET_KEY_FILE=" + file}, "bulk-invite", file, "--dry-run")
	if both.Exit != 2 || !strings.Contains(both.Stderr, "CLERK_SECRET_KEY") {
		t.Errorf("two keys: %+v", both)
	}
	if n := len(s.clerk.Requests()); n != 0 {
		t.Errorf("Clerk was asked %d times", n)
	}
	if help := s.enqueue("invite", "--help"); strings.Contains(help.Stdout, "clerk") {
		t.Errorf("invite knows of Clerk's key: %s", help.Stdout)
	}
}

func TestADryRunRefusesTheOtherKindOfKeyAndACancelledCampaign(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=2/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=1")
	s.worker()
	file := s.write("p.csv", csv("bulk", 30))
	s.ok("bulk-invite", file, "--campaign", "load")
	testkit.Eventually(t, "the worker runs", func() bool { return len(s.clerk.Ledger()) > 0 })
	live := s.run("", "enqueue", []string{"CLERK_SECRET_KEY=sk_live_another"}, "bulk-invite", file, "--dry-run")
	if live.Exit != 2 || !strings.Contains(live.Stderr, "USHER_NAMESPACE") || strings.Contains(live.Stderr, "sk_live_another") {
		t.Errorf("%+v", live)
	}
	if a := s.enqueue("bulk-invite", file, "--campaign", "load", "--dry-run", "--in", "1h"); a.Exit != 2 || !strings.Contains(a.Stderr, "has begun") {
		t.Errorf("%+v", a)
	}
	s.ok("campaign", "cancel", "load", "--yes")
	if a := s.enqueue("bulk-invite", file, "--campaign", "load", "--dry-run"); a.Exit != 2 || !strings.Contains(a.Stderr, "cancelled") || a.Stdout != "" {
		t.Errorf("%+v", a)
	}
}

// TestADryRunKeepsTheSharedLimits: its calls count among those of the workers, by the limits that those announce.
func TestADryRunKeepsTheSharedLimits(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=24/1h") // half of it for questions
	s.worker()
	s.ok("invite", "ada@example.com", "--wait")
	before := s.limits()["overall"].Used
	file := s.write("p.csv", csv("bulk", 500)) // five calls for users and one for pending ones
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"would_send": 500, "unknown": 0})
	if after := s.limits()["overall"].Used; after != before+6 {
		t.Errorf("%d calls count, want %d", after, before+6)
	}
}

func TestADryRunWaitsOutAThrottlingAndTellsARefusedKey(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	file := s.write("p.csv", csv("bulk", 30))
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultThrottle, Endpoint: clerktest.Users, Times: 1, RetryIn: time.Second})
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Endpoint: clerktest.List, Times: 2})
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"would_send": 30, "unknown": 0})

	failing := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 500, Endpoint: clerktest.List})
	s.clerk.AddUser("bulk4@example.com")
	unknown := s.enqueue("bulk-invite", file, "--dry-run")
	if unknown.Exit != 0 || !strings.Contains(unknown.Stdout, "Whether Clerk would refuse the other 29 is not known") {
		t.Errorf("%+v", unknown)
	}
	s.clerk.ClearFault(failing)

	s.clerk.RevokeKey()
	for _, args := range [][]string{{"bulk-invite", file, "--dry-run"}, {"revoke", "--email", "ada@example.com", "--dry-run"}} {
		if a := s.enqueue(args...); a.Exit != 1 || !strings.Contains(a.Stderr, "is refused by Clerk") {
			t.Errorf("%v: %+v", args, a)
		}
	}
}

// TestADryRunIsInterruptedAtOnce: whatever it waits for.
func TestADryRunIsInterruptedAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang})
	dryRun := s.begin(s.command("enqueue", nil, "bulk-invite", s.write("p.csv", csv("bulk", 300)), "--dry-run"))
	testkit.Eventually(t, "it asks", func() bool { return len(s.clerk.Requests()) >= 4 })
	if took, exit := dryRun.stop(syscall.SIGINT); exit != 130 || took > 3*time.Second {
		t.Errorf("exit %d after %s, want 130 at once", exit, took)
	}
}

// TestADryRunForetellsTheFinish: one of 300 sends nothing, and says when the last of them would be sent.
func TestADryRunForetellsTheFinish(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=10/1h", "USHER_LIMIT_BULK=10/1h", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=5")
	s.worker()
	s.ok("invite", "ada@example.com", "--wait")
	file := s.write("p.csv", csv("bulk", 300))
	before := s.creates()
	got := s.ok("bulk-invite", file, "--dry-run")
	finish, err := time.Parse(time.RFC3339, fmt.Sprint(got["finish_at"]))
	if in := time.Until(finish); err != nil || in < 110*time.Minute || in > 130*time.Minute { // 105 an hour
		t.Errorf("it would finish in %s, %v: %v", in, err, got["assumption"])
	}
	later := s.ok("bulk-invite", file, "--dry-run", "--in", "5h")
	if then, err := time.Parse(time.RFC3339, fmt.Sprint(later["finish_at"])); err != nil || then.Sub(finish) < 4*time.Hour {
		t.Errorf("started in 5 hours it would finish at %s, %v", then, err)
	}
	if n := s.creates(); n != before {
		t.Errorf("a dry run made %d calls that create", n-before)
	}
}
