package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestInviteSendsWhatIsAsked: all options arrive. Two tasks for one address make two invitations if that is asked:
// what the first one made does not settle the second one's lost call.
func TestInviteSendsWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	got := s.ok("invite", "  ada@example.com ", "--wait", "--metadata", `{"plan":"pro","n":12345678901234567890}`,
		"--redirect-url", "https://app.example.com/in", "--expires-in-days", "7", "--no-notify", "--template-slug",
		"waitlist_invitation")
	ledger := s.clerk.Ledger()
	if len(ledger) != 1 {
		t.Fatalf("the sandbox made %d invitations", len(ledger))
	}
	sent := ledger[0]
	want(t, got, map[string]any{
		"type": "invite", "state": "done", "attempts": 1, "invitation_id": sent.InvitationID, "error": nil,
	})
	if sent.Address != "ada@example.com" || sent.Notify || sent.ExpiresInDays != 7 ||
		sent.TemplateSlug != "waitlist_invitation" ||
		sent.RedirectURL != "https://app.example.com/in" ||
		string(sent.PublicMetadata) != `{"n":12345678901234567890,"plan":"pro"}` {
		t.Errorf("the sandbox was sent %+v", sent)
	}
	want(t, s.ok("status", fmt.Sprint(got["task_id"])),
		map[string]any{"state": "done", "invitation_id": sent.InvitationID})

	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultReset, Times: 1, Endpoint: clerktest.Create})
	twin := s.ok("invite", "ada@example.com", "--ignore-existing", "--wait")
	if n := len(s.clerk.Ledger()); n != 2 || twin["invitation_id"] == sent.InvitationID {
		t.Errorf("%d invitations; %v and %v", n, sent, twin)
	}
}

func TestBulkInviteSendsEveryRowOnceInBulks(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	var csv strings.Builder
	csv.WriteString("E-Mail Address;public_metadata.plan\n")
	for i := range 25 {
		fmt.Fprintf(&csv, "person%d@example.com;pro\n", i)
	}
	file := s.write("people.csv", csv.String())
	got := s.ok("bulk-invite", file, "--campaign", "spring", "--wait")
	want(t, got, map[string]any{"campaign": "spring", "added": 25, "known": 0, "invalid": 0, "duplicates": 0,
		"state": "done", "sent": 25, "dead": 0})
	stats := s.clerk.Stats()
	if made, calls := len(s.clerk.Ledger()), stats.Endpoints[clerktest.Bulk].Arrivals; made != 25 || calls != 3 {
		t.Errorf("%d invitations in %d bulk calls, want 25 in 3", made, calls)
	}
	again := s.ok("bulk-invite", file, "--campaign", "spring", "--wait")
	want(t, again, map[string]any{"added": 0, "known": 25, "sent": 25})
	more := s.run("email\nlate@example.com\nperson3@example.com\n", "enqueue", nil, "bulk-invite", "-", "--campaign",
		"spring", "--wait")
	if more.Exit != 0 || len(s.clerk.Ledger()) != 26 {
		t.Errorf("growing the campaign: exit %d, %d invitations\n%s%s", more.Exit, len(s.clerk.Ledger()),
			more.Stdout, more.Stderr)
	}
}

// TestServerErrorsAreRetried, up to a dead letter with its history. Retrying that sends a recipient to where it was.
func TestServerErrorsAreRetried(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_MAX_ATTEMPTS=3")
	unavailable := clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 503, Code: "service_unavailable", Endpoint: clerktest.Create, Times: 2,
	}
	s.clerk.Inject(unavailable)
	s.worker()
	want(t, s.ok("invite", "ada@example.com", "--wait"), map[string]any{"state": "done", "attempts": 3})

	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHTML, Status: 502, Endpoint: clerktest.Bulk, Times: 2})
	file := s.write("people.csv", "email\nbob@example.com\neve@example.com\n")
	want(t, s.ok("bulk-invite", file, "--wait"), map[string]any{"state": "done", "sent": 2, "dead": 0})
	if made := len(s.clerk.Ledger()); made != 3 {
		t.Errorf("%d invitations, want 3", made)
	}

	// Failures count when somebody else is served.
	unavailable.Times, unavailable.Address = 0, "zoe@example.com"
	fault := s.clerk.Inject(unavailable)
	s.ok("invite", "zoe@example.com", "--id", "zoe")
	testkit.Eventually(t, "it has failed three times", func() bool {
		failed := 0
		for _, r := range s.clerk.Requests() {
			if r.Status == 503 && r.Endpoint == clerktest.Create {
				failed++
			}
		}
		return failed >= 5 // two of them of the first one
	})
	if n := s.deadLetters(); n != 0 {
		t.Errorf("%d dead letters, and nobody else was served", n)
	}
	s.ok("invite", "max@example.com", "--wait")
	testkit.Eventually(t, "its failures count", func() bool { return s.state("zoe") == tasks.StateDead })
	s.clerk.ClearFault(fault)
	dead := s.list("dead-letter", "list")
	if len(dead) != 1 {
		t.Fatalf("%d dead letters", len(dead))
	}
	want(t, dead[0], map[string]any{
		"reason": "exhausted", "http_status": 503, "code": "service_unavailable", "email_address": "zoe@example.com",
	})
	shown := s.ok("dead-letter", "show", fmt.Sprint(dead[0]["id"]))
	history, _ := shown["history"].([]any)
	if attempts, _ := dead[0]["attempts"].(float64); len(history) < 3 || len(history) != int(attempts) {
		t.Errorf("the history has %d attempts: %v", len(history), shown)
	}
	s.retries(fmt.Sprint(dead[0]["id"]), 5)
	s.retriesInACampaign()
}

// TestAnAnsweredFailureIsRepeatedBeforeTheSettlingTime: Clerk refuses a second invitation, so nothing is sent twice,
// even if the first call works after all.
func TestAnAnsweredFailureIsRepeatedBeforeTheSettlingTime(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_SETTLE=30s")
	s.clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 503, Code: "service_unavailable", Endpoint: clerktest.Create, Times: 2,
		LateCommit: 100 * time.Millisecond,
	})
	s.worker()
	began := time.Now()
	s.ok("invite", "ada@example.com", "--id", "ada")
	testkit.Eventually(t, "somebody was invited", func() bool { return len(s.clerk.Ledger()) > 0 })
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	testkit.Eventually(t, "the task is done", func() bool { return s.state("ada") == tasks.StateDone })
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations", n)
	}
}

// retries retries a dead letter and wants so many invitations when its task is done.
func (s *system) retries(letter string, invitations int) {
	s.t.Helper()
	retried := s.ok("dead-letter", "retry", letter)
	testkit.Eventually(s.t, "the retried task is done", func() bool {
		return s.state(retried["task_id"]) == tasks.StateDone
	})
	if n := len(s.clerk.Ledger()); n != invitations {
		s.t.Errorf("%d invitations, want %d", n, invitations)
	}
	if n := s.deadLetters(); n != 0 {
		s.t.Errorf("%d dead letters are left", n)
	}
}

// retriesInACampaign retries a recipient that dies again, and once more.
func (s *system) retriesInACampaign() {
	s.t.Helper()
	refusal := s.clerk.Inject(clerktest.Fault{
		Kind: clerktest.FaultStatus, Status: 422, Code: "form_param_format_invalid", Address: "odd@example.com",
	})
	file := s.write("people.csv", "email\nodd@example.com\nfine@example.com\n")
	want(s.t, s.ok("bulk-invite", file, "--campaign", "c", "--wait"), map[string]any{"sent": 1, "dead": 1})
	s.ok("dead-letter", "retry", "--campaign", "c")
	testkit.Eventually(s.t, "it is refused again", func() bool { return s.deadLetters() == 1 })
	s.clerk.ClearFault(refusal)
	s.retries("--all", 7)
	if campaign := s.campaign("c"); campaign.Sent != 2 || campaign.Dead != 0 {
		s.t.Errorf("%+v", campaign)
	}
}

func TestRefusalsAreDeadLettersAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	pending := s.clerk.AddInvitation("pending@example.com")
	s.clerk.AddUser("user@example.com")
	s.worker()
	for _, address := range []string{"pending@example.com", "user@example.com"} {
		if got := s.enqueue("invite", address, "--wait"); got.Exit != 3 {
			t.Errorf("%s: exit %d, want 3: %s%s", address, got.Exit, got.Stdout, got.Stderr)
		}
	}
	dead := s.list("dead-letter", "list")
	if len(dead) != 2 {
		t.Fatalf("%d dead letters, want 2: %v", len(dead), dead)
	}
	want(t, dead[0], map[string]any{"email_address": "pending@example.com", "reason": "rejected", "http_status": 400,
		"code": "duplicate_record", "attempts": 1, "type": "invite"})
	want(t, dead[1], map[string]any{"email_address": "user@example.com", "reason": "rejected", "http_status": 422,
		"code": "form_identifier_exists", "attempts": 1})
	for _, d := range dead {
		if d["trace_id"] == nil || d["message"] == nil {
			t.Errorf("no trace id or message in %v", d)
		}
	}

	want(t, s.ok("revoke", pending.ID, "--wait"), map[string]any{"state": "done"})
	want(t, s.ok("dead-letter", "retry", "--code", "duplicate_record"), map[string]any{"id": dead[0]["id"]})
	testkit.Eventually(t, "the retried one is sent", func() bool { return len(s.clerk.Ledger()) == 1 })
	if left := s.list("dead-letter", "list"); len(left) != 1 || left[0]["code"] != "form_identifier_exists" {
		t.Errorf("dead letters left: %v", left)
	}
}

// TestWhatAsynqHoldsIsCheckedFirst: a worker looks at a task before it acts on it.
func TestWhatAsynqHoldsIsCheckedFirst(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	done := s.ok("invite", "ada@example.com", "--ignore-existing", "--wait")
	s.rerunsWithoutACall(done)
	s.buriesGarbage(fmt.Sprint(done["queue"]))
	s.keepsANewerVersion(fmt.Sprint(done["queue"]))
	want(t, s.ok("invite", "bob@example.com", "--wait"), map[string]any{"state": "done"})
}

// rerunsWithoutACall plays what asynq does when it could not write a task's completion.
func (s *system) rerunsWithoutACall(done map[string]any) {
	s.t.Helper()
	id, queue := fmt.Sprint(done["task_id"]), fmt.Sprint(done["queue"])
	payload := []byte(`{"v":1,"email_address":"ada@example.com","ignore_existing":true}`)
	client, inspector := asynq.NewClientFromRedisClient(s.rdb), asynq.NewInspectorFromRedisClient(s.rdb)
	testkit.Eventually(s.t, "the id is free in asynq", func() bool {
		_, err := client.Enqueue(asynq.NewTask("invite", payload), asynq.Queue(queue), asynq.TaskID(id))
		return err == nil
	})
	testkit.Eventually(s.t, "the second run ends", func() bool {
		_, err := inspector.GetTaskInfo(queue, id)
		return err != nil
	})
	if n := len(s.clerk.Ledger()); n != 1 {
		s.t.Errorf("%d invitations, want 1", n)
	}
}

// buriesGarbage: what is no task becomes a dead letter with its bytes.
func (s *system) buriesGarbage(queue string) {
	s.t.Helper()
	client := asynq.NewClientFromRedisClient(s.rdb)
	garbage := map[string][]byte{
		"invite": []byte("\x00\xffnot json"), "bulk-invite": []byte(`{"v":1,"campaign":"../x"}`),
		"no-such-type": []byte(`{"v":1}`),
	}
	for kind, payload := range garbage {
		_, err := client.Enqueue(asynq.NewTask(kind, payload), asynq.Queue(queue), asynq.MaxRetry(0))
		testkit.NoError(s.t, err)
	}
	testkit.Eventually(s.t, "three dead letters", func() bool { return s.deadLetters() == 3 })
	for _, dead := range s.list("dead-letter", "list") {
		want(s.t, dead, map[string]any{"reason": "invalid"})
		shown := s.ok("dead-letter", "show", fmt.Sprint(dead["id"]))
		payload := garbage[fmt.Sprint(dead["type"])]
		if got, err := json.Marshal(shown["payload"]); json.Valid(payload) && (err != nil || len(got) != len(payload)) ||
			!json.Valid(payload) && shown["payload_base64"] != base64(payload) {
			s.t.Errorf("payload of %v is %v, want %s", dead["type"], shown, payload)
		}
	}
}

// keepsANewerVersion: a task that a newer producer wrote waits for a newer worker, without an attempt.
func (s *system) keepsANewerVersion(queue string) {
	s.t.Helper()
	before := s.deadLetters()
	payload := []byte(`{"v":99,"email_address":"new@example.com","wish":"unknown"}`)
	info, err := asynq.NewClientFromRedisClient(s.rdb).Enqueue(asynq.NewTask("invite", payload), asynq.Queue(queue))
	testkit.NoError(s.t, err)
	testkit.Eventually(s.t, "it waits for a newer worker", func() bool { return s.state(info.ID) == tasks.StateRetry })
	found, err := asynq.NewInspectorFromRedisClient(s.rdb).GetTaskInfo(queue, info.ID)
	if err != nil || found.Retried != 0 || s.deadLetters() != before {
		s.t.Errorf("it was counted or is dead: %+v, %v", found, err)
	}
}

// TestARefusedKeySpendsNoAttempt: nothing is wrong with the tasks, and one call at a time finds out whether the key
// works again.
func TestARefusedKeySpendsNoAttempt(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_MAX_ATTEMPTS=1")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultUnauthorized, Times: 2})
	s.worker()
	task := s.ok("invite", "ada@example.com")
	want(t, s.ok("bulk-invite", s.write("p.csv", "email\nbob@example.com\n"), "--wait"),
		map[string]any{"sent": 1, "dead": 0})
	testkit.Eventually(t, "the invitation is sent", func() bool { return s.state(task["task_id"]) == tasks.StateDone })
	stats := s.clerk.Stats().Endpoints
	if n := stats[clerktest.Create].Arrivals + stats[clerktest.Bulk].Arrivals; n > 5 {
		t.Errorf("%d calls for two refusals and two invitations", n)
	}
}

// TestScheduledTasksWait, also for a Redis that is away: without a permit there is no call.
func TestScheduledTasksWait(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	later := s.ok("invite", "ada@example.com", "--in", "2d")
	want(t, later, map[string]any{"state": "scheduled"})
	bulk := s.ok("bulk-invite", s.write("p.csv", "email\nbob@example.com\n"), "--campaign", "later", "--at",
		"2099-12-01 09:00")
	want(t, bulk, map[string]any{"state": "scheduled", "scheduled_at": "2099-12-01T09:00:00Z"})
	soon := s.ok("invite", "eve@example.com", "--in", "2s")
	s.redis.Kill()
	testkit.NoError(t, s.redis.Restart(t.Context()))
	testkit.Eventually(t, "the first one is sent", func() bool {
		task, err := s.client.Status(t.Context(), fmt.Sprint(soon["task_id"]))
		return err == nil && task.State == tasks.StateDone
	})
	if made, calls := len(s.clerk.Ledger()), s.clerk.Stats().Endpoints[clerktest.Create].Arrivals; made != 1 ||
		calls != 1 {
		t.Errorf("%d invitations by %d calls, want 1", made, calls)
	}
}

// TestTheBaseOfClerksAPIIsChecked: the host alone will do. Another service stops a worker at its first start, and a
// page in Clerk's place stops none that Clerk has answered before.
func TestTheBaseOfClerksAPIIsChecked(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	a := s.run("", "worker", []string{"CLERK_API_URL=" + other.URL})
	lines := strings.Split(strings.TrimSpace(a.Stderr), "\n")
	if a.Exit != 2 || !strings.Contains(lines[len(lines)-1], "CLERK_API_URL") {
		t.Errorf("exit %d: %s", a.Exit, a.Stderr)
	}
	host := "CLERK_API_URL=" + strings.TrimSuffix(s.clerkURL, "/v1")
	first := s.worker(host)
	want(t, s.ok("invite", "ada@example.com", "--wait"), map[string]any{"state": "done"})
	first.stop(syscall.SIGTERM)
	page := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHTML, Status: 404})
	second := s.worker(host)
	testkit.Eventually(t, "the worker runs", func() bool { return strings.Contains(second.Log(), "worker runs") })
	s.clerk.ClearFault(page)
	want(t, s.ok("invite", "bob@example.com", "--wait"), map[string]any{"state": "done"})
}

// TestWorkersSayThatTheyLive, and that they stop.
func TestWorkersSayThatTheyLive(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=0")
	workers := func() []any {
		list, _ := s.ok("status")["workers"].([]any)
		return list
	}
	first := s.worker()
	s.worker()
	testkit.Eventually(t, "two workers live", func() bool { return len(workers()) == 2 })
	for _, w := range workers() {
		w := w.(map[string]any)
		if w["key_kind"] != "test" || w["version"] == "" || w["host"] == "" ||
			time.Since(instant(t, w, "since")) > time.Minute {
			t.Errorf("%v", w)
		}
	}
	for i := range 12 { // more than there are permits for
		s.ok("invite", fmt.Sprintf("p%d@example.com", i))
	}
	testkit.Eventually(t, "a worker says that an invite waits", func() bool {
		return strings.Contains(fmt.Sprint(workers()), "active:map[invite:")
	})
	first.stop(syscall.SIGTERM)
	testkit.Eventually(t, "one worker lives", func() bool { return len(workers()) == 1 })
}
