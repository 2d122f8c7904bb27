package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// rehearse makes a dry run with the sandbox's key.
func (s *stage) rehearse(args ...string) map[string]any {
	s.t.Helper()
	return s.object(s.withKey(append([]string{"bulk-invite", "--dry-run", "--json"}, args...)...))
}

// announced tells of limits, as a worker with these figures does at its start: calls in an hour, 0 without a limit.
func (s *stage) announced(create, bulk, overall int) {
	s.t.Helper()
	hourly := func(n int) settings.Rate {
		return settings.Rate{N: n, Window: min(time.Hour, time.Duration(n)*time.Hour)}
	}
	p := policy.Policy{Create: hourly(create), Bulk: hourly(bulk), Overall: hourly(overall), Timeout: 30 * time.Second}
	limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, p.Limits("k")...)
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, limiter.Announce(s.t.Context()))
	testkit.NoError(s.t, p.Announce(s.t.Context(), s.rdb, tasks.DefaultNamespace))
}

func TestADryRunTellsWhatWouldBeSentAndSendsNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 12 {
		s.clerk.AddUser(fmt.Sprintf("Bulk%d@example.com", i))
	}
	for i := 12; i < 17; i++ {
		s.clerk.AddInvitation(fmt.Sprintf("BULK%d@example.com", i))
	}
	for i := range 700 { // more than a page
		s.clerk.AddInvitation(fmt.Sprintf("other%d@example.com", i))
	}
	file := s.write("p.csv", people("bulk", 300)+"bulk0@example.com\n")
	rehearse := s.rehearse
	got := rehearse(file, "--campaign", "load")
	want(t, got, map[string]any{
		"dry_run": true, "campaign": "load", "recipients": 300, "invalid": 0, "duplicates": 1, "known": 0,
		"skipped": 0, "would_send": 283, "refused": 17, "unknown": 0, "scheduled_at": nil,
		"refused_by_code": map[string]any{"form_identifier_exists": 12, "duplicate_record": 5},
	})
	if rows := got["refused_rows"].([]any); len(rows) != 17 || rows[0].(map[string]any)["line"] != 2.0 {
		t.Errorf("refused rows: %v", rows)
	}
	for _, key := range s.keys() { // the limits' logs, and nothing else
		if !strings.Contains(key, "{limits}") {
			t.Errorf("a dry run has written %s", key)
		}
	}
	stats := s.clerk.Stats().Endpoints
	if n := stats[clerktest.Create].Arrivals + stats[clerktest.Bulk].Arrivals; n != 0 {
		t.Errorf("a dry run made %d calls that create", n)
	}
	s.ok("bulk-invite", file, "--campaign", "load")
	want(t, rehearse(s.write("more.csv", people("bulk", 301)), "--campaign", "load"), map[string]any{
		"known": 300, "skipped": 300, "would_send": 1, "refused": 0,
	})
	want(t, rehearse(file, "--campaign", "load", "--ignore-existing"), map[string]any{"would_send": 0, "skipped": 300})
	want(t, rehearse(file, "--on-duplicate", "accept"), map[string]any{"would_send": 283, "refused": 12, "skipped": 5})
	want(t, rehearse(file, "--on-duplicate", "resend"), map[string]any{"would_send": 288, "refused": 12, "skipped": 0})
	// Whoever ignores existing invitations is never refused from a look-up.
	want(t, rehearse(file, "--ignore-existing"), map[string]any{"known": 0, "would_send": 300, "refused": 0})
}

func TestADryRunWithoutAKeyAsksNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 3))
	s.mini.Close() // a file can be checked without it
	if a := s.enqueue("bulk-invite", file, "--dry-run"); a.exit != 0 || !strings.Contains(a.stdout, "no key is set") {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"recipients": 3, "would_send": nil})
	both := s.withKey("bulk-invite", file, "--dry-run", "--clerk-secret-key-file", file)
	if both.exit != 2 || !strings.Contains(both.stderr, "CLERK_SECRET_KEY") {
		t.Errorf("two keys: %+v", both)
	}
	if n := len(s.clerk.Requests()); n != 0 {
		t.Errorf("Clerk was asked %d times", n)
	}
}

// TestADryRunKeepsTheSharedLimits: its calls count among those of the workers, by the limits that those announce.
func TestADryRunKeepsTheSharedLimits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.announced(100, 25, 24)
	used := func() (used float64) {
		for _, l := range s.ok("status")["limits"].([]any) {
			if limit := l.(map[string]any); limit["name"] == "overall" {
				used = limit["used"].(float64)
			}
		}
		return used
	}
	before := used()
	file := s.write("p.csv", people("bulk", 500)) // five calls for users and one for pending ones
	want(t, s.rehearse(file), map[string]any{"would_send": 500, "unknown": 0})
	if after := used(); after != before+6 {
		t.Errorf("%v calls count, want %v", after, before+6)
	}
}

func TestADryRunWaitsOutAThrottlingAndTellsWhomItDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 30))
	s.clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultThrottle, Endpoint: clerktest.Users, Times: 1, RetryIn: time.Second,
	})
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Endpoint: clerktest.List, Times: 2})
	want(t, s.rehearse(file), map[string]any{"would_send": 30, "unknown": 0})

	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 500, Endpoint: clerktest.List})
	s.clerk.AddUser("bulk4@example.com")
	unknown := s.withKey("bulk-invite", file, "--dry-run")
	if unknown.exit != 0 || !strings.Contains(unknown.stdout, "Whether Clerk would refuse the other 29 is not known") {
		t.Errorf("%+v", unknown)
	}
}

// TestADryRunIsInterruptedAtOnce: whatever it waits for.
func TestADryRunIsInterruptedAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang})
	file := s.write("p.csv", people("bulk", 300))
	ctx, interrupt := context.WithCancel(t.Context())
	args := []string{"bulk-invite", file, "--dry-run", "--clerk-secret-key", testKey, "--clerk-api-url", s.clerkURL}
	_, exit := s.watched(ctx, onStderr, args...)
	testkit.Eventually(t, "it asks", func() bool { return len(s.clerk.Requests()) >= 4 })
	began := time.Now()
	interrupt()
	exits(t, exit, 130)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

// TestADryRunForetellsTheFinish: one of 300 sends nothing, and says when the last of them would be sent.
func TestADryRunForetellsTheFinish(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.announced(10, 10, 0)
	worker := asynq.NewServerFromRedisClient(s.rdb, asynq.Config{ // shows that one runs, and does nothing
		Queues: map[string]int{policy.Queue(tasks.DefaultNamespace, policy.Campaign): 1}, LogLevel: asynq.FatalLevel,
	})
	testkit.NoError(t, worker.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })))
	t.Cleanup(worker.Shutdown)
	inspector := asynq.NewInspectorFromRedisClient(s.rdb)
	testkit.Eventually(t, "the worker shows", func() bool {
		servers, err := inspector.Servers()
		return err == nil && len(servers) > 0
	})
	file := s.write("p.csv", people("bulk", 300))
	foretold := func(args ...string) time.Time {
		got := s.rehearse(append(args, file)...)
		at, err := time.Parse(time.RFC3339, fmt.Sprint(got["finish_at"]))
		if err != nil {
			t.Fatalf("%v, %v", err, got)
		}
		return at
	}
	finish := foretold()
	if in := time.Until(finish); in < 110*time.Minute || in > 130*time.Minute { // 110 an hour
		t.Errorf("it would finish in %s", in)
	}
	if later := foretold("--in", "5h"); later.Sub(finish) < 4*time.Hour {
		t.Errorf("started in 5 hours it would finish at %s, and now at %s", later, finish)
	}
	if a := s.withKey("bulk-invite", file, "--dry-run"); !strings.Contains(a.stdout, "It would finish at") {
		t.Errorf("%+v", a)
	}
}

// TestARefusedKeyEndsWhatIsAsked: also calls that wait behind the one that was refused.
func TestARefusedKeyEndsWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.clerk.RevokeKey()
	file := s.write("p.csv", people("bulk", 2000))
	for _, args := range [][]string{{"bulk-invite", file}, {"revoke", "--email", "ada@example.com"}} {
		began := time.Now()
		a := s.withKey(append(args, "--dry-run")...)
		if a.exit != 1 || !strings.Contains(a.stderr, "is refused by Clerk") {
			t.Errorf("%v: %+v", args, a)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%v took %s to end", args, took)
		}
	}
}
