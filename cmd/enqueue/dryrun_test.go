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
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/queues"
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
	want(t, rehearse(file, "--campaign", "load", "--on-existing-user", "skip"), map[string]any{
		"skipped": 12, "would_send": 283, "refused": 5, "refused_by_code": map[string]any{"duplicate_record": 5},
	})
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
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{
		"recipients": 3, "would_send": nil, "clerk_asked": false,
	})
	both := s.withKey("bulk-invite", file, "--dry-run", "--clerk-secret-key-file", file)
	if both.exit != 2 || !strings.Contains(both.stderr, "CLERK_SECRET_KEY") {
		t.Errorf("two keys: %+v", both)
	}
	if n := len(s.clerk.Requests()); n != 0 {
		t.Errorf("Clerk was asked %d times", n)
	}
}

// TestADryRunOfAListWithoutANameWritesNothing, not even the key from which the name derives.
func TestADryRunOfAListWithoutANameWritesNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.onReal()
	testkit.NoError(t, s.rdb.Del(t.Context(), store.Keys(tasks.DefaultNamespace).Secret()).Err())
	file := s.write("p.csv", people("bulk", 3))
	before := s.held()
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"campaign": nil})
	if a := s.enqueue("bulk-invite", file, "--dry-run"); !strings.Contains(a.stdout, "named when the list is uploaded") {
		t.Errorf("%+v", a)
	}
	want(t, s.rehearse(file), map[string]any{"campaign": nil, "known": 0, "would_send": 3})
	for key := range s.held() {
		if _, was := before[key]; !was && !strings.Contains(key, "{limits}") {
			t.Errorf("a dry run has written %s", key)
		}
	}
	name := s.ok("bulk-invite", file)["campaign"]
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"campaign": name})
	want(t, s.rehearse(file), map[string]any{"campaign": name, "known": 3, "would_send": 0})
}

// TestADryRunWithoutAKeyDoesNotWaitForARedisThatHangs.
func TestADryRunWithoutAKeyDoesNotWaitForARedisThatHangs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	server := testkit.RunRedis(t)
	s.url = server.URL()
	file := s.write("p.csv", people("bulk", 3))
	testkit.NoError(t, server.Hang())
	defer func() { testkit.NoError(t, server.GoOn()) }()
	began := time.Now()
	want(t, s.ok("bulk-invite", file, "--dry-run"), map[string]any{"campaign": nil, "recipients": 3})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
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
	if unknown.exit != 1 || !strings.Contains(unknown.stderr, "unknown: 29") ||
		!strings.Contains(unknown.stdout, "0 would be sent") || !strings.Contains(unknown.stdout, "1 refused") {
		t.Errorf("%+v", unknown)
	}
	told := s.withKey("bulk-invite", file, "--dry-run", "--json")
	if told.exit != 1 || !strings.Contains(told.stderr, `"code":"unknown"`) {
		t.Errorf("%+v", told)
	}
	told.exit = 0
	want(t, s.object(told), map[string]any{"unknown": 29, "refused": 1, "would_send": 0, "clerk_asked": true})
}

// TestADryRunOfAClerkThatAnswersNothing says that it was not asked.
func TestADryRunOfAClerkThatAnswersNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 3))
	for _, endpoint := range []clerktest.Endpoint{clerktest.List, clerktest.Users} {
		s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 500, Endpoint: endpoint, Times: 100})
	}
	told := s.withKey("bulk-invite", file, "--dry-run", "--json")
	if told.exit != 1 {
		t.Errorf("%+v", told)
	}
	told.exit = 0
	want(t, s.object(told), map[string]any{"unknown": 3, "clerk_asked": false})
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
		Queues: map[string]int{queues.Name(tasks.DefaultNamespace, queues.Campaign): 1}, LogLevel: asynq.FatalLevel,
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
	a := s.withKey("bulk-invite", file, "--dry-run", "--json")
	if a.exit != 1 || !strings.Contains(a.stdout, `"unknown":2000`) || !strings.Contains(a.stderr, "unknown: 2000") {
		t.Errorf("%+v", a)
	}
}

// TestMetadataThatClerkRefusesIsFoundBeforeItIsSent: in a file by its line, in an invite, and in what is mended.
func TestMetadataThatClerkRefusesIsFoundBeforeItIsSent(t *testing.T) {
	t.Parallel()
	s := setup(t)
	metadata := func(bytes int) string {
		const around = len(`{"x":""}`)
		return `{"x":"` + strings.Repeat("<", bytes-around) + `"}`
	}
	const most = 8192
	row := func(name string, bytes int) string {
		return name + `@example.com,"` + strings.ReplaceAll(metadata(bytes), `"`, `""`) + "\"\n"
	}
	file := s.write("p.csv", "email,public_metadata\n"+row("ada", most)+row("bob", most+1))
	for _, flags := range [][]string{nil, {"--dry-run"}, {"--json"}} {
		a := s.enqueue(append([]string{"bulk-invite", file}, flags...)...)
		said := strings.Contains(a.stderr, "line 3: public_metadata: is 8193 bytes as JSON, at most 8192 are allowed") ||
			strings.Contains(a.stderr, `{"line":3,"field":"public_metadata"`)
		if a.exit != 2 || !said || strings.Contains(a.stderr, "line 2") {
			t.Errorf("%v: %+v", flags, a)
		}
	}
	if a := s.enqueue("invite", "ada@example.com", "--metadata", metadata(most+1)); a.exit != 2 ||
		!strings.Contains(a.stderr, "8193 bytes") || len(s.keys()) > 0 {
		t.Errorf("%+v", a)
	}
	id := s.ok("invite", "ada@example.com", "--metadata", metadata(most))["task_id"].(string)
	s.dies(id, "ada@example.com", `{"v":1,"email_address":"ada@example.com"}`)
	if a := s.enqueue("dead-letter", "retry", id, "--set", "public_metadata="+metadata(most+1)); a.exit != 2 {
		t.Errorf("%+v", a)
	}
	got := s.rehearse(file, "--skip-invalid")
	want(t, got, map[string]any{"recipients": 1, "invalid": 1, "would_send": 1})
	want(t, got["invalid_rows"].([]any)[0].(map[string]any), map[string]any{"line": 3, "field": "public_metadata"})
}

// TestARehearsalNamesWhatItSkips: of many bad rows a person is shown the first ones.
func TestARehearsalNamesWhatItSkips(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", "email\nada@example.com\n"+strings.Repeat("bad\n", 12))
	a := s.enqueue("bulk-invite", file, "--dry-run", "--skip-invalid")
	for _, said := range []string{
		"12 bad rows would be left out:", "line 3: email_address: is not an e-mail address", "and 2 lines more",
	} {
		if a.exit != 0 || !strings.Contains(a.stdout, said) {
			t.Errorf("%+v has not %q", a, said)
		}
	}
	none := s.enqueue("bulk-invite", s.write("none.csv", "email\nbad\n"), "--dry-run", "--skip-invalid")
	if none.exit != 2 || !strings.Contains(none.stderr, "line 2: email_address") {
		t.Errorf("%+v", none)
	}
	if rows := s.ok("bulk-invite", file, "--dry-run", "--skip-invalid")["invalid_rows"].([]any); len(rows) != 12 {
		t.Errorf("%v", rows)
	}
}

// TestAnAddressThatWasMendedAwayIsKnown: another one is in its row, and an upload does not add it again.
func TestAnAddressThatWasMendedAwayIsKnown(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 2))
	s.ok("bulk-invite", file, "--campaign", "c")
	s.dead("c", 1, "form_param_format_invalid")
	id := s.list("dead-letter", "list")[0]["id"].(string)
	s.ok("dead-letter", "retry", id, "--set", "email_address=mended@example.com")
	want(t, s.rehearse(file, "--campaign", "c"), map[string]any{"known": 2, "would_send": 0})
	want(t, s.ok("bulk-invite", file, "--campaign", "c"), map[string]any{"known": 2, "added": 0})
}
