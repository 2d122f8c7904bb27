package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

func TestInviteWaitPrintsTheInvitation(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	got := s.ok("invite", "  ada@example.com ", "--wait", "--metadata", `{"plan":"pro","n":12345678901234567890}`,
		"--redirect-url", "https://app.example.com/in", "--expires-in-days", "7", "--no-notify", "--template-slug", "waitlist_invitation")
	ledger := s.clerk.Ledger()
	if len(ledger) != 1 {
		t.Fatalf("the sandbox made %d invitations", len(ledger))
	}
	want(t, got, map[string]any{"type": "invite", "state": "done", "attempts": 1, "invitation_id": ledger[0].InvitationID, "error": nil})
	sent := ledger[0]
	if sent.Address != "ada@example.com" || sent.Notify || sent.ExpiresInDays != 7 || sent.TemplateSlug != "waitlist_invitation" ||
		sent.RedirectURL != "https://app.example.com/in" || string(sent.PublicMetadata) != `{"n":12345678901234567890,"plan":"pro"}` {
		t.Errorf("the sandbox was sent %+v", sent)
	}
	want(t, s.ok("status", fmt.Sprint(got["task_id"])), map[string]any{"state": "done", "invitation_id": sent.InvitationID})
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
	want(t, got, map[string]any{"campaign": "spring", "added": 25, "known": 0, "invalid": 0, "duplicates": 0, "state": "done", "sent": 25, "dead": 0})
	stats := s.clerk.Stats()
	if made, calls := len(s.clerk.Ledger()), stats.Endpoints[clerktest.Bulk].Arrivals; made != 25 || calls != 3 {
		t.Errorf("%d invitations in %d bulk calls, want 25 in 3", made, calls)
	}
	again := s.ok("bulk-invite", file, "--campaign", "spring", "--wait")
	want(t, again, map[string]any{"added": 0, "known": 25, "sent": 25})
	more := s.run("email\nlate@example.com\nperson3@example.com\n", "enqueue", nil, "bulk-invite", "-", "--campaign", "spring", "--wait")
	if more.Exit != 0 || len(s.clerk.Ledger()) != 26 {
		t.Errorf("growing the campaign: exit %d, %d invitations\n%s%s", more.Exit, len(s.clerk.Ledger()), more.Stdout, more.Stderr)
	}
}

func TestServerErrorsAreRetried(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Code: "service_unavailable", Endpoint: clerktest.Create, Times: 2})
	s.worker()
	want(t, s.ok("invite", "ada@example.com", "--wait"), map[string]any{"state": "done", "attempts": 3})

	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHTML, Status: 502, Endpoint: clerktest.Bulk, Times: 2})
	file := s.write("people.csv", "email\nbob@example.com\neve@example.com\n")
	want(t, s.ok("bulk-invite", file, "--wait"), map[string]any{"state": "done", "sent": 2, "dead": 0})
	if made := len(s.clerk.Ledger()); made != 3 {
		t.Errorf("%d invitations, want 3", made)
	}
}

func TestTooManyFailuresAreADeadLetterWithItsHistory(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_MAX_ATTEMPTS=3")
	fault := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 500, Code: "internal_clerk_error", Endpoint: clerktest.Create})
	s.worker()
	failed := s.enqueue("invite", "ada@example.com", "--wait", "--json")
	if failed.Exit != 3 {
		t.Fatalf("exit %d, want 3\n%s%s", failed.Exit, failed.Stdout, failed.Stderr)
	}
	dead := s.list("dead-letter", "list")
	if len(dead) != 1 {
		t.Fatalf("%d dead letters", len(dead))
	}
	want(t, dead[0], map[string]any{"reason": "exhausted", "http_status": 500, "code": "internal_clerk_error", "attempts": 3, "email_address": "ada@example.com"})
	shown := s.ok("dead-letter", "show", fmt.Sprint(dead[0]["id"]))
	if history, _ := shown["history"].([]any); len(history) != 3 {
		t.Errorf("the history has %d attempts, want 3: %v", len(history), shown)
	}
	s.clerk.ClearFault(fault)
	retried := s.ok("dead-letter", "retry", fmt.Sprint(dead[0]["id"]))
	testkit.Eventually(t, "the retried invitation is sent", func() bool { return len(s.clerk.Ledger()) == 1 })
	testkit.Eventually(t, "its task is done", func() bool { return s.state(retried["task_id"]) == tasks.StateDone })
	if left := s.list("dead-letter", "list"); len(left) != 0 {
		t.Errorf("dead letters are left: %v", left)
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
	want(t, dead[0], map[string]any{"email_address": "pending@example.com", "reason": "rejected", "http_status": 400, "code": "duplicate_record", "attempts": 1, "type": "invite"})
	want(t, dead[1], map[string]any{"email_address": "user@example.com", "reason": "rejected", "http_status": 422, "code": "form_identifier_exists", "attempts": 1})
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
	if got := s.enqueue("dead-letter", "delete"); got.Exit != 2 {
		t.Errorf("delete without a selector: exit %d, want 2", got.Exit)
	}
	if got := s.enqueue("dead-letter", "delete", "--all"); got.Exit != 2 || len(s.list("dead-letter", "list")) != 1 {
		t.Errorf("delete --all without --yes: exit %d, want 2, and the dead letter kept", got.Exit)
	}
	s.ok("dead-letter", "delete", "--all", "--yes")
	if left := s.list("dead-letter", "list"); len(left) != 0 {
		t.Errorf("dead letters left: %v", left)
	}
}

func TestOneBadAddressOfABulkCostsItsNeighboursNothing(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named %t", named), func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{UserErrorNamesAddresses: named})
			s.clerk.AddUser("Taken@example.com")
			s.worker()
			var csv strings.Builder
			csv.WriteString("email\ntaken@example.com\n")
			for i := range 9 {
				fmt.Fprintf(&csv, "person%d@example.com\n", i)
			}
			file := s.write("people.csv", csv.String())
			want(t, s.ok("bulk-invite", file, "--campaign", "c", "--wait"), map[string]any{"sent": 9, "dead": 1, "state": "done"})
			dead := s.list("dead-letter", "list", "--campaign", "c")
			if len(dead) != 1 {
				t.Fatalf("%d dead letters, want 1: %v", len(dead), dead)
			}
			want(t, dead[0], map[string]any{"email_address": "taken@example.com", "http_status": 422, "code": "form_identifier_exists", "campaign": "c", "type": "bulk-invite"})
			seen := map[string]int{}
			for _, sent := range s.clerk.Ledger() {
				seen[sent.Folded]++
			}
			for i := range 9 {
				if n := seen[fmt.Sprintf("person%d@example.com", i)]; n != 1 {
					t.Errorf("person%d was invited %d times", i, n)
				}
			}
			if got := s.enqueue("bulk-invite", file, "--campaign", "c", "--wait", "--fail-on-dead"); got.Exit != 3 {
				t.Errorf("--fail-on-dead: exit %d, want 3", got.Exit)
			}
		})
	}
}

func TestARetriedRecipientGoesBackToItsCampaign(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	refusal := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 422, Code: "form_param_format_invalid", Address: "odd@example.com"})
	s.worker()
	file := s.write("people.csv", "email\nodd@example.com\nfine@example.com\n")
	want(t, s.ok("bulk-invite", file, "--campaign", "c", "--wait"), map[string]any{"sent": 1, "dead": 1})
	s.ok("dead-letter", "retry", "--campaign", "c")
	testkit.Eventually(t, "it is refused again", func() bool { return s.deadLetters() == 1 })
	s.clerk.ClearFault(refusal)
	retried := s.ok("dead-letter", "retry", "--all")
	testkit.Eventually(t, "the campaign is done", func() bool {
		campaign := s.campaign("c")
		return s.state(retried["task_id"]) == tasks.StateDone && campaign.Sent == 2 && campaign.Dead == 0
	})
	if left := s.list("dead-letter", "list"); len(left) != 0 {
		t.Errorf("dead letters left: %v", left)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	invited := s.ok("invite", "ada@example.com", "--wait")
	want(t, s.ok("revoke", fmt.Sprint(invited["invitation_id"]), "--wait"), map[string]any{"state": "done", "type": "revoke"})
	unknown := s.enqueue("revoke", "inv_000000000000000000000000000", "--wait")
	if unknown.Exit != 3 {
		t.Fatalf("revoking an unknown invitation: exit %d, want 3", unknown.Exit)
	}
	dead := s.list("dead-letter", "list")
	if len(dead) != 1 {
		t.Fatalf("%d dead letters", len(dead))
	}
	want(t, dead[0], map[string]any{"type": "revoke", "http_status": 404, "code": "resource_not_found", "reason": "rejected", "attempts": 1})
}

func TestSyncListFillsTheDirectory(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	for i := range 1203 { // three pages
		s.clerk.AddInvitation(fmt.Sprintf("person%d@example.com", i))
	}
	revoked := s.clerk.AddInvitation("revoked@example.com")
	s.worker()
	s.ok("revoke", revoked.ID, "--wait")
	if before := s.enqueue("invitations"); before.Exit != 0 || !strings.Contains(before.Stdout, "never synced") {
		t.Errorf("before the first sync: exit %d: %s", before.Exit, before.Stdout)
	}
	want(t, s.ok("sync-list", "--wait"), map[string]any{"state": "done"})
	all := s.list("invitations")
	if len(all) != 1204 {
		t.Fatalf("%d invitations, want 1204", len(all))
	}
	for _, inv := range all {
		if _, leaked := inv["url"]; leaked || inv["synced_at"] == nil {
			t.Fatalf("url leaked or no synced_at in %v", inv)
		}
	}
	if got := s.list("invitations", "--status", "revoked"); len(got) != 1 || got[0]["id"] != revoked.ID {
		t.Errorf("revoked: %v", got)
	}
	if got := s.list("invitations", "--query", "PERSON77@"); len(got) != 1 {
		t.Errorf("query: %v", got)
	}
	if csv := s.enqueue("invitations", "--csv"); strings.Count(csv.Stdout, "\n") != 1205 || strings.Contains(csv.Stdout, "ticket") {
		t.Errorf("CSV has %d lines, want 1205", strings.Count(csv.Stdout, "\n"))
	}
	for key, value := range s.dump() {
		if strings.Contains(value, "ticket") {
			t.Fatalf("Redis key %s holds a ticket", key)
		}
	}
}

func TestGarbageInAQueueIsADeadLetterWithItsBytes(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	invited := s.ok("invite", "ada@example.com", "--wait")
	client := asynq.NewClientFromRedisClient(s.rdb)
	garbage := map[string][]byte{"invite": []byte("\x00\xffnot json"), "bulk-invite": []byte(`{"v":1,"campaign":"../x"}`), "no-such-type": []byte(`{"v":1}`)}
	for kind, payload := range garbage {
		if _, err := client.Enqueue(asynq.NewTask(kind, payload), asynq.Queue(fmt.Sprint(invited["queue"])), asynq.MaxRetry(0)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "three dead letters", func() bool { return s.deadLetters() == 3 })
	for _, dead := range s.list("dead-letter", "list") {
		want(t, dead, map[string]any{"reason": "invalid"})
		shown := s.ok("dead-letter", "show", fmt.Sprint(dead["id"]))
		if payload := garbage[fmt.Sprint(dead["type"])]; shown["payload"] != base64(payload) {
			t.Errorf("payload of %v is %v, want %s", dead["type"], shown["payload"], base64(payload))
		}
	}
	want(t, s.ok("invite", "bob@example.com", "--wait"), map[string]any{"state": "done"})
}

func TestATaskOfANewerVersionStaysQueued(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	queue := fmt.Sprint(s.ok("invite", "ada@example.com", "--wait")["queue"])
	client := asynq.NewClientFromRedisClient(s.rdb)
	payload := []byte(`{"v":99,"email_address":"new@example.com","wish":"unknown"}`)
	info, err := client.Enqueue(asynq.NewTask("invite", payload), asynq.Queue(queue))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it waits for a newer worker", func() bool { return s.state(info.ID) == tasks.StateRetry })
	found, err := asynq.NewInspectorFromRedisClient(s.rdb).GetTaskInfo(queue, info.ID)
	if err != nil || found.Retried != 0 || len(s.list("dead-letter", "list")) != 0 {
		t.Errorf("it was counted or is dead: %+v, %v", found, err)
	}
}

// TestARerunOfAnEndedTaskMakesNoCall plays what asynq does when it could not write a task's completion.
func TestARerunOfAnEndedTaskMakesNoCall(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	done := s.ok("invite", "ada@example.com", "--ignore-existing", "--wait")
	id, queue := fmt.Sprint(done["task_id"]), fmt.Sprint(done["queue"])
	payload := []byte(`{"v":1,"email_address":"ada@example.com","ignore_existing":true}`)
	client, inspector := asynq.NewClientFromRedisClient(s.rdb), asynq.NewInspectorFromRedisClient(s.rdb)
	testkit.Eventually(t, "the id is free in asynq", func() bool {
		_, err := client.Enqueue(asynq.NewTask("invite", payload), asynq.Queue(queue), asynq.TaskID(id))
		return err == nil
	})
	testkit.Eventually(t, "the second run ends", func() bool {
		_, err := inspector.GetTaskInfo(queue, id)
		return err != nil
	})
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations, want 1", n)
	}
}

// TestARefusedKeySpendsNoAttempt: nothing is wrong with the tasks, and one call at a time finds out whether the key works again.
func TestARefusedKeySpendsNoAttempt(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_MAX_ATTEMPTS=1")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultUnauthorized, Times: 2})
	s.worker()
	task := s.ok("invite", "ada@example.com")
	want(t, s.ok("bulk-invite", s.write("p.csv", "email\nbob@example.com\n"), "--wait"), map[string]any{"sent": 1, "dead": 0})
	testkit.Eventually(t, "the invitation is sent", func() bool { return s.state(task["task_id"]) == tasks.StateDone })
	stats := s.clerk.Stats().Endpoints
	if n := stats[clerktest.Create].Arrivals + stats[clerktest.Bulk].Arrivals; n > 5 {
		t.Errorf("%d calls for two refusals and two invitations", n)
	}
}

// TestRedisAwayMakesNobodySend: without a permit there is no call, and work goes on when Redis is back.
func TestRedisAwayMakesNobodySend(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	s.ok("invite", "ada@example.com", "--wait")
	s.ok("invite", "bob@example.com", "--in", "2s")
	s.redis.Kill()
	creates := func() int { return s.clerk.Stats().Endpoints[clerktest.Create].Arrivals }
	before := creates()
	testkit.NoError(t, s.redis.Restart(t.Context()))
	testkit.Eventually(t, "the scheduled one is sent", func() bool { return len(s.clerk.Ledger()) == 2 })
	if after := creates(); after != before+1 {
		t.Errorf("%d calls, want %d", after, before+1)
	}
}

func TestScheduledTasksWait(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	later := s.ok("invite", "ada@example.com", "--in", "2d")
	want(t, later, map[string]any{"state": "scheduled"})
	bulk := s.ok("bulk-invite", s.write("p.csv", "email\nbob@example.com\n"), "--campaign", "later", "--at", "2099-12-01 09:00")
	want(t, bulk, map[string]any{"state": "scheduled", "scheduled_at": "2099-12-01T09:00:00Z"})
	soon := s.ok("invite", "eve@example.com", "--in", "1s", "--wait")
	want(t, soon, map[string]any{"state": "done"})
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations, want 1", n)
	}
	if got := s.enqueue("invite", "zoe@example.com", "--in", "1h", "--wait", "--wait-timeout", "100ms"); got.Exit != 4 {
		t.Errorf("--wait-timeout: exit %d, want 4: %s", got.Exit, fmt.Sprint(got))
	}
	if got := s.enqueue("status", "no-such-task"); got.Exit != 1 {
		t.Errorf("status of an unknown task: exit %d, want 1", got.Exit)
	}
}
