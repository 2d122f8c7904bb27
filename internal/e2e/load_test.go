package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// mixed enqueues work of every kind: a campaign, single invitations, revocations and a synchronization.
func (s *system) mixed(recipients, singles int) {
	s.t.Helper()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", recipients)), "--campaign", "load")
	s.invites("single", singles, tasks.Recipient{})
	s.ok("sync-list")
}

// finished tells whether everything that mixed enqueued was sent, and nobody is dead.
func (s *system) finished(recipients, singles int) bool {
	return len(s.clerk.Ledger()) >= recipients+singles && s.state("bulk:load:1") == tasks.StateDone
}

// invited counts how often each address, folded, was invited.
func (s *system) invited() map[string]int {
	times := map[string]int{}
	for _, sent := range s.clerk.Ledger() {
		times[sent.Folded]++
	}
	return times
}

// onceEach checks the sandbox's ledger: everybody exactly once, and no request refused by a limit.
func (s *system) onceEach(recipients, singles int) {
	s.t.Helper()
	seen := s.invited()
	for i := range recipients {
		if n := seen[fmt.Sprintf("bulk%d@example.com", i)]; n != 1 {
			s.t.Errorf("bulk%d was invited %d times", i, n)
		}
	}
	for i := range singles {
		if n := seen[fmt.Sprintf("single%d@example.com", i)]; n != 1 {
			s.t.Errorf("single%d was invited %d times", i, n)
		}
	}
	for endpoint, stats := range s.clerk.Stats().Endpoints {
		if stats.Throttled > 0 {
			s.t.Errorf("%s: %d of %d requests were refused by a limit", endpoint, stats.Throttled, stats.Arrivals)
		}
	}
	if n := s.deadLetters(); n > 0 {
		s.t.Errorf("%d dead letters, the first one %v", n, s.list("dead-letter", "list")[0])
	}
}

func TestTwoWorkersKeepTheLimitsExactly(t *testing.T) {
	t.Parallel()
	const window = time.Second
	for _, fixed := range []bool{false, true} {
		t.Run(fmt.Sprintf("fixed window %t", fixed), func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{
				Create: clerktest.Limit{N: 10, Window: window}, Bulk: clerktest.Limit{N: 5, Window: window},
				FixedWindow: fixed,
				MinLatency:  10 * time.Millisecond, MaxLatency: 100 * time.Millisecond,
			}, "USHER_LIMIT_CREATE=10/1s", "USHER_LIMIT_BULK=5/1s", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=2")
			s.worker()
			s.worker()
			s.mixed(200, 25)
			testkit.Eventually(t, "all is sent", func() bool { return s.finished(200, 25) })
			s.onceEach(200, 25)
		})
	}
}

func TestAStoppedWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	const window = time.Second
	s := start(t, clerktest.Config{
		Create: clerktest.Limit{N: 10, Window: window}, Bulk: clerktest.Limit{N: 5, Window: window},
		MinLatency: 20 * time.Millisecond, MaxLatency: 200 * time.Millisecond,
	}, "USHER_LIMIT_CREATE=10/1s", "USHER_LIMIT_BULK=5/1s", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=2")
	first := s.worker()
	s.mixed(150, 25)
	testkit.Eventually(t, "work has begun", func() bool { return len(s.clerk.Ledger()) > 30 })
	took, exit := first.stop(syscall.SIGTERM)
	if exit != 0 || took > 8*time.Second {
		t.Errorf("exit %d after %s, want 0 within 8 s", exit, took)
	}
	status := s.ok("status")
	for _, q := range status["queues"].([]any) {
		if queue := q.(map[string]any); queue["active"] != 0.0 {
			t.Errorf("after the stop a queue is %v, want nothing active", queue)
		}
	}
	for key, value := range s.dump() {
		if strings.Contains(key, ":failed:") && value != "0" {
			t.Errorf("%s counts %s failures", key, value)
		}
	}
	s.worker()
	testkit.Eventually(t, "a new worker goes on", func() bool { return s.finished(150, 25) })
	s.onceEach(150, 25)
}

func TestACallInFlightIsWaitedForAtTheStop(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: time.Second, MaxLatency: time.Second})
	w := s.worker()
	task := s.ok("invite", "ada@example.com")
	testkit.Eventually(t, "the call is under way", func() bool { return len(s.clerk.Requests()) == 1 })
	if took, exit := w.stop(syscall.SIGTERM); exit != 0 || took > 8*time.Second {
		t.Errorf("exit %d after %s", exit, took)
	}
	want(t, s.ok("status", fmt.Sprint(task["task_id"])), map[string]any{"state": "done", "attempts": 1})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	s := start(t, clerktest.Config{}, "USHER_ADMIN_ADDR="+addr, "USHER_ADMIN_TOKEN=sesame")
	s.redis.Stop()
	w := s.worker()
	get := func(path, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	testkit.Eventually(t, "it lives", func() bool { status, _ := get("/healthz", ""); return status == 200 })
	if status, body := get("/readyz", ""); status != 503 || !strings.Contains(body, "Redis") {
		t.Errorf("without Redis /readyz answers %d %s", status, body)
	}
	if got := s.run("", "worker", nil, "healthcheck"); got.Exit != 1 || !strings.Contains(got.Stderr, "Redis") {
		t.Errorf("healthcheck without Redis: %+v", got)
	}
	testkit.NoError(t, s.redis.Restart(t.Context()))
	testkit.Eventually(t, "it is ready", func() bool { status, _ := get("/readyz", ""); return status == 200 })
	if got := s.run("", "worker", nil, "healthcheck"); got.Exit != 0 {
		t.Errorf("healthcheck: %+v", got)
	}
	s.ok("invite", "ada@example.com", "--wait")
	for token, status := range map[string]int{"": 401, "wrong": 401, "sesame": 200} {
		if got, _ := get("/metrics", token); got != status {
			t.Errorf("/metrics with token %q: %d, want %d", token, got, status)
		}
	}
	if _, metrics := get("/metrics", "sesame"); !strings.Contains(metrics,
		`usher_tasks_ended_total{outcome="done",type="invite"} 1`) || !strings.Contains(metrics, "usher_build_info") {
		t.Errorf("metrics: %s", metrics)
	}
	s.redis.Stop()
	testkit.Eventually(t, "it is not ready", func() bool { status, _ := get("/readyz", ""); return status == 503 })
	testkit.NoError(t, s.redis.Restart(t.Context()))
	s.rdb.Ping(t.Context())
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultUnauthorized})
	s.ok("invite", "bob@example.com")
	testkit.Eventually(t, "the key is refused", func() bool {
		status, body := get("/readyz", "")
		return status == 503 && strings.Contains(body, "key")
	})
	if _, exit := w.stop(syscall.SIGTERM); exit != 0 {
		t.Errorf("exit %d", exit)
	}
}
