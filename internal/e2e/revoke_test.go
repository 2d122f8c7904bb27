package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// sentTo gives the ids of what was sent, by folded address.
func (s *system) sentTo() map[string]string {
	ids := map[string]string{}
	for _, sent := range s.clerk.Ledger() {
		ids[sent.Folded] = sent.InvitationID
	}
	return ids
}

// revoked gives the ids of the invitations whose revocation the sandbox has answered with a 200 since a request.
func (s *system) revoked(after int) []string {
	var ids []string
	for _, r := range s.clerk.Requests() {
		if r.Endpoint == clerktest.Revoke && r.Status == 200 && r.Number > after {
			ids = append(ids, strings.Split(strings.TrimPrefix(r.Path, "/v1"), "/")[2])
		}
	}
	return slices.Sorted(slices.Values(ids))
}

func (s *system) lastRequest() int {
	requests := s.clerk.Requests()
	return requests[len(requests)-1].Number
}

func TestRevokingACampaignRevokesExactlyItsPendingOnes(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]clerktest.Config{
		"as documented": {}, "lists lag": {ListLag: time.Hour},
		"expired ones can be revoked": {ExpiredRevocable: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, config, "USHER_LIMIT_OVERALL=0", "USHER_SETTLE=1m") // for what lists do not show
			s.worker()
			var foreign []clerktest.Invitation
			for i := range 20 {
				foreign = append(foreign, s.clerk.AddInvitation(fmt.Sprintf("foreign%d@example.com", i)))
			}
			want(t, s.ok("bulk-invite", s.write("p.csv", csv("bulk", 40)), "--campaign", "load", "--wait"),
				map[string]any{"sent": 40})
			ids := s.sentTo()
			for i := range 10 {
				testkit.NoError(t, s.clerk.Accept(ids[fmt.Sprintf("bulk%d@example.com", i)]))
			}
			for i := 10; i < 15; i++ {
				testkit.NoError(t, s.clerk.Expire(ids[fmt.Sprintf("bulk%d@example.com", i)]))
			}
			var revocations []tasks.Task
			for i := 15; i < 20; i++ {
				task, err := s.client.Revoke(t.Context(), ids[fmt.Sprintf("bulk%d@example.com", i)])
				testkit.NoError(t, err)
				revocations = append(revocations, task)
			}
			for _, task := range revocations {
				if done, err := s.client.Wait(t.Context(), task.ID); err != nil || done.State != tasks.StateDone ||
					done.Revoked != 1 {
					t.Errorf("%+v, %v", done, err)
				}
			}
			// Another pending invitation of somebody in the campaign is not the campaign's.
			foreign = append(foreign, s.clerk.AddInvitation("bulk39@example.com"))
			var mine []string
			for i := 20; i < 40; i++ {
				mine = append(mine, ids[fmt.Sprintf("bulk%d@example.com", i)])
			}
			before := s.lastRequest()
			dry := s.ok("revoke", "--campaign", "load", "--dry-run")
			want(t, dry, map[string]any{"dry_run": true, "source": "clerk"})
			if n := dry["would_revoke"].(float64); n != 20 && config.ListLag == 0 {
				t.Errorf("would revoke %v, want 20", n)
			}
			if got := s.revoked(before); len(got) != 0 {
				t.Errorf("a dry run revoked %v", got)
			}
			if a := s.enqueue("revoke", "--campaign", "load"); a.Exit != 2 || !strings.Contains(a.Stderr, "--yes") {
				t.Errorf("without --yes: exit %d, %s", a.Exit, a.Stderr)
			}
			want(t, s.ok("revoke", "--campaign", "load", "--yes", "--wait"),
				map[string]any{"state": "done", "revoked": 20, "error": nil})
			if got := s.revoked(before); !slices.Equal(got, slices.Sorted(slices.Values(mine))) {
				t.Errorf("%d were revoked, want exactly the 20 pending ones of the campaign: %v", len(got), got)
			}
			for _, inv := range foreign {
				testkit.NoError(t, s.clerk.Accept(inv.ID)) // only a pending one can be
			}
			want(t, s.ok("revoke", "--campaign", "load", "--yes", "--wait"),
				map[string]any{"state": "done", "revoked": 0})
			if dead := s.list("dead-letter", "list"); len(dead) != 0 {
				t.Errorf("dead letters: %v", dead)
			}
		})
	}
}

// TestARevocationGoesOnAfterAKill: the same task revokes the rest, and nobody else.
func TestARevocationGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	first := s.worker()
	foreign := s.clerk.AddInvitation("foreign@example.com")
	s.ok("bulk-invite", s.write("p.csv", csv("bulk", 100)), "--campaign", "load", "--wait")
	mine := slices.Sorted(maps.Values(s.sentTo()))
	s.clerk.Configure(func(c *clerktest.Config) {
		c.MinLatency, c.MaxLatency = 200*time.Millisecond, 200*time.Millisecond
	})
	task := s.ok("revoke", "--campaign", "load", "--yes")
	testkit.Eventually(t, "it is in its middle", func() bool { return len(s.revoked(0)) > 20 })
	first.stop(syscall.SIGKILL)
	if n := len(s.revoked(0)); n == 100 {
		t.Fatal("it was killed too late")
	}
	s.forgetLease(fmt.Sprint(task["queue"]), fmt.Sprint(task["task_id"]))
	s.worker()
	testkit.Eventually(t, "the task has ended", func() bool { return s.state(task["task_id"]) == tasks.StateDone })
	if got := s.revoked(0); !slices.Equal(slices.Compact(got), mine) {
		t.Errorf("%d were revoked, want the campaign's 100", len(got))
	}
	testkit.NoError(t, s.clerk.Accept(foreign.ID))
}

// forgetLease lets asynq find out at the next worker's start that a task's worker is dead; else that takes it a minute
// or two.
func (s *system) forgetLease(queue, task string) {
	s.t.Helper()
	key := "asynq:{" + queue + "}:lease"
	if n, err := s.rdb.ZAddXX(s.t.Context(), key, redis.Z{Score: 1, Member: task}).Result(); err != nil {
		s.t.Fatalf("%d, %v", n, err)
	}
	info, err := asynq.NewInspectorFromRedisClient(s.rdb).GetTaskInfo(queue, task)
	if err != nil || info.State != asynq.TaskStateActive {
		s.t.Fatalf("%+v, %v: the task is not active", info, err)
	}
}

// TestRevokingAnInvitation that is there, that is revoked already, and that is unknown.
func TestRevokingAnInvitation(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.worker()
	id := fmt.Sprint(s.ok("invite", "ada@example.com", "--wait")["invitation_id"])
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultReset, After: true, Times: 1, Endpoint: clerktest.Revoke})
	want(t, s.ok("revoke", id, "--wait"), map[string]any{"state": "done", "type": "revoke"})
	want(t, s.ok("revoke", id, "--wait"), map[string]any{"state": "done", "attempts": 1})
	if a := s.enqueue("revoke", "inv_000000000000000000000000000", "--wait"); a.Exit != 3 {
		t.Fatalf("revoking an unknown invitation: exit %d, want 3", a.Exit)
	}
	dead := s.list("dead-letter", "list")
	if len(dead) != 1 {
		t.Fatalf("%d dead letters", len(dead))
	}
	want(t, dead[0], map[string]any{
		"type": "revoke", "http_status": 404, "code": "resource_not_found", "reason": "rejected", "attempts": 1,
	})
	s.revokesOnlyWhatACampaignMade()
}

// revokesOnlyWhatACampaignMade: what a campaign has accepted somebody else has made.
func (s *system) revokesOnlyWhatACampaignMade() {
	s.t.Helper()
	foreign := s.clerk.AddInvitation("bulk3@example.com")
	file := s.write("p.csv", csv("bulk", 12))
	want(s.t, s.ok("bulk-invite", file, "--campaign", "load", "--on-duplicate", "accept", "--wait"),
		map[string]any{"sent": 12})
	for _, row := range s.list("campaign", "export", "load") {
		if row["email_address"] == "bulk3@example.com" {
			want(s.t, row, map[string]any{"outcome": "sent", "invitation_id": foreign.ID, "attempts": 0})
		}
	}
	want(s.t, s.ok("revoke", "--campaign", "load", "--yes", "--wait"), map[string]any{"state": "done", "revoked": 11})
	testkit.NoError(s.t, s.clerk.Accept(foreign.ID))
}

func TestRevokingAnAddress(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	first, second := s.clerk.AddInvitation("Ada@Example.com"), s.clerk.AddInvitation("ada@example.com")
	other := s.clerk.AddInvitation("xada@example.com") // a query for the address finds this one too
	accepted := s.clerk.AddInvitation("ada@example.com")
	testkit.NoError(t, s.clerk.Accept(accepted.ID))
	dry := s.ok("revoke", "--email", "ADA@example.com", "--dry-run")
	want(t, dry, map[string]any{"would_revoke": 2})
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultReset, After: true, Times: 1, Endpoint: clerktest.Revoke})
	want(t, s.ok("revoke", "--email", " ADA@example.com", "--yes", "--wait"),
		map[string]any{"state": "done", "revoked": 2})
	for _, id := range []string{first.ID, second.ID} {
		if err := s.clerk.Expire(id); err == nil || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("%s: %v, want it revoked", id, err)
		}
	}
	testkit.NoError(t, s.clerk.Accept(other.ID))
	want(t, s.ok("revoke", "--email", "nobody@example.com", "--yes", "--wait"),
		map[string]any{"state": "done", "revoked": 0})

	// One that was just invited need not be in Clerk's list yet.
	s.clerk.Configure(func(c *clerktest.Config) { c.ListLag = time.Hour })
	before, id := s.lastRequest(), s.ok("invite", "New@example.com", "--wait")["invitation_id"]
	want(t, s.ok("revoke", "--email", "new@example.com", "--yes", "--wait"),
		map[string]any{"state": "done", "revoked": 1})
	if got := s.revoked(before); !slices.Equal(got, []string{fmt.Sprint(id)}) {
		t.Errorf("revoked: %v, want %v", got, id)
	}
}

// TestARefusedRevocationDoesNotStopTheOthers: it makes the task a dead letter, and a retry does the rest.
func TestARefusedRevocationDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_MAX_ATTEMPTS=3", "USHER_LIMIT_OVERALL=0")
	s.worker()
	s.ok("bulk-invite", s.write("p.csv", csv("bulk", 30)), "--campaign", "load", "--wait")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 404, Code: "resource_not_found", Times: 1,
		Endpoint: clerktest.Revoke})
	if a := s.enqueue("revoke", "--campaign", "load", "--yes", "--wait"); a.Exit != 3 ||
		!strings.Contains(a.Stderr, "1 of 30") {
		t.Errorf("exit %d, want 3: %s", a.Exit, a.Stderr)
	}
	dead := s.list("dead-letter", "list")
	if len(dead) != 1 || len(s.revoked(0)) != 29 {
		t.Fatalf("%d dead letters, %d revoked, want 1 and 29", len(dead), len(s.revoked(0)))
	}
	want(t, dead[0], map[string]any{"type": "revoke", "campaign": "load", "reason": "rejected", "http_status": 404,
		"code": "resource_not_found", "attempts": 1})
	retried := s.ok("dead-letter", "retry", "--all")
	testkit.Eventually(t, "the rest is revoked", func() bool { return s.state(retried["task_id"]) == tasks.StateDone })
	if n := len(s.revoked(0)); n != 30 {
		t.Errorf("%d are revoked, want 30", n)
	}

	// By an address whose revocation fails too often. The letter is no invite's: retrying it opens no question about
	// the address.
	s.ok("invite", "ada@example.com", "--wait")
	failing := s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Endpoint: clerktest.Revoke})
	if a := s.enqueue("revoke", "--email", "ada@example.com", "--yes", "--wait"); a.Exit != 3 {
		t.Errorf("exit %d, want 3: %s", a.Exit, a.Stderr)
	}
	s.clerk.ClearFault(failing)
	dead = s.list("dead-letter", "list")
	want(t, dead[0], map[string]any{"type": "revoke", "email_address": "ada@example.com", "reason": "exhausted",
		"http_status": 503, "attempts": 3})
	retried = s.ok("dead-letter", "retry", "--all")
	testkit.Eventually(t, "it is revoked", func() bool { return s.state(retried["task_id"]) == tasks.StateDone })
	for key, value := range s.dump() {
		if strings.Contains(key, "{once}:i:") && strings.Contains(value, "reopened") {
			t.Errorf("an intent is open: %q", value)
		}
	}
	want(t, s.ok("invite", "ada@example.com", "--wait"), map[string]any{"state": "done", "attempts": 1})
}

// TestRevokingARunningCampaignSaysThatItGoesOn: what it sends afterwards stays.
func TestRevokingARunningCampaignSaysThatItGoesOn(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=2/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=1")
	s.worker()
	s.ok("bulk-invite", s.write("p.csv", csv("bulk", 30)), "--campaign", "load")
	testkit.Eventually(t, "its first window is spent", func() bool { return len(s.clerk.Ledger()) == 11 })
	testkit.Eventually(t, "it is recorded", func() bool { return s.campaign("load").Sent == 11 })
	a := s.enqueue("revoke", "--campaign", "load", "--yes", "--wait")
	if a.Exit != 0 || !strings.Contains(a.Stderr, "cancel or pause it first") ||
		!strings.Contains(a.Stdout, "11 invitations revoked") {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("campaign", "status", "load"), map[string]any{"state": "running", "sent": 11})
}
