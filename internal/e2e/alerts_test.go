//go:build long

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// watched is a system with an address for a worker's figures, and a Prometheus that has our alerts.
type watched struct {
	*system
	admin      string // of the worker
	prometheus string
}

// sooner shortens the times of the rules, so that a test sees them fire. What they ask stays as it is.
var sooner = map[*regexp.Regexp]string{
	regexp.MustCompile(`for: \d+m`):   "for: 1s",
	regexp.MustCompile(`\[\d+m\]`):    "[15s]",
	regexp.MustCompile(`> \d{3,}`):    "> 1",
	regexp.MustCompile(`offset \d+m`): "offset 15s",
}

// watch starts a Prometheus. USHER_PROMETHEUS names it.
func watch(t *testing.T, env ...string) *watched {
	t.Helper()
	program := os.Getenv("USHER_PROMETHEUS")
	if program == "" {
		t.Fatal("USHER_PROMETHEUS names no prometheus, see make long")
	}
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	w := &watched{system: start(t, clerktest.Config{}, append(env, "USHER_ADMIN_ADDR="+addr)...), admin: addr}
	addr, err = testkit.FreeAddr()
	testkit.NoError(t, err)
	w.prometheus = "http://" + addr
	rules, err := os.ReadFile("../../deploy/prometheus/usher.rules.yml")
	testkit.NoError(t, err)
	for long, short := range sooner {
		if !long.Match(rules) {
			t.Fatalf("no rule has %s", long)
		}
		rules = long.ReplaceAll(rules, []byte(short))
	}
	config := w.write("prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 3s, scrape_timeout: 3s, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs: [{job_name: usher, static_configs: [{targets: [%q]}]}]
`, w.write("usher.rules.yml", string(rules)), w.admin))
	w.begin(testkit.Command{
		Name: "prometheus", Path: program, Dir: w.dir, Env: os.Environ(),
		Args: []string{"--config.file=" + config, "--storage.tsdb.path=" + t.TempDir(), "--web.listen-address=" + addr,
			"--log.level=error"},
	})
	return w
}

// firing gives the alerts that fire.
func (w *watched) firing() map[string]bool {
	firing := map[string]bool{}
	answer, err := http.Get(w.prometheus + "/api/v1/alerts")
	if err != nil {
		return firing // it starts
	}
	defer answer.Body.Close()
	var said struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	_ = json.NewDecoder(answer.Body).Decode(&said)
	for _, alert := range said.Data.Alerts {
		if alert.State == "firing" {
			firing[alert.Labels["alertname"]] = true
		}
	}
	return firing
}

// fires waits for an alert.
func (w *watched) fires(alert string) {
	w.t.Helper()
	testkit.Eventually(w.t, alert+" fires", func() bool { return w.firing()[alert] })
}

// ends waits until an alert fires no more.
func (w *watched) ends(alert string) {
	w.t.Helper()
	testkit.Eventually(w.t, alert+" ends", func() bool { return !w.firing()[alert] })
}

// TestAlertsFire: each alert, by a fault that it is about, and it ends with the fault.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	t.Run("worker and Redis", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		w.fires("UsherNoWorker")
		w.worker()
		w.ends("UsherNoWorker")
		testkit.NoError(t, w.redis.Hang())
		w.fires("UsherRedisAway")
		w.fires("UsherNotReady")
		testkit.NoError(t, w.redis.GoOn())
		w.ends("UsherRedisAway")
		w.ends("UsherNotReady")
	})
	for alert, fault := range map[string]clerktest.FaultKind{
		"UsherKeyRefused": clerktest.FaultUnauthorized, "UsherCallsRest": clerktest.FaultMaintenance,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := watch(t)
			w.clerk.Inject(clerktest.Fault{Kind: fault})
			w.worker()
			w.ok("invite", "ada@example.com")
			w.fires(alert)
			w.clerk.ClearFaults()
			w.ends(alert)
		})
	}
	t.Run("limits", func(t *testing.T) {
		t.Parallel()
		w := watch(t, "USHER_LIMIT_CREATE=1/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=0")
		w.worker()
		w.ok("bulk-invite", w.write("spring.csv", csv("p", 40)), "--campaign", "spring")
		testkit.Eventually(t, "the limits are used up", func() bool { return w.campaign("spring").Sent == 11 })
		w.fires("UsherNothingSent")
		w.ok("campaign", "cancel", "spring", "--yes")
		w.ends("UsherNothingSent")
		eve := w.ok("invite", "eve@example.com")["task_id"]
		w.fires("UsherOldestInvite")
		w.ok("task", "cancel", fmt.Sprint(eve), "--yes")
		w.ends("UsherOldestInvite")
	})
	t.Run("dead letters", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		w.fires("UsherNoWorker")
		w.worker()
		w.ends("UsherNoWorker") // its figures were seen without a dead letter
		w.clerk.AddUser("ada@example.com")
		w.enqueue("invite", "ada@example.com")
		w.fires("UsherDeadLettersGrow")
		w.ends("UsherDeadLettersGrow")
	})
	t.Run("doubt", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		w.worker()
		w.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultReset, After: true, Endpoint: clerktest.Writes})
		w.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Endpoint: clerktest.List})
		w.ok("bulk-invite", w.write("spring.csv", csv("p", 10)), "--campaign", "spring")
		w.fires("UsherDoubtStays")
		w.clerk.ClearFaults()
		w.ends("UsherDoubtStays")
	})
	t.Run("schedule", func(t *testing.T) {
		t.Parallel()
		w := watch(t)
		gone := w.worker("USHER_ADMIN_ADDR=off", "USHER_SCHEDULE_FILE="+w.write("schedules.yaml", `schedules:
  - {name: tidy, cron: "@every 2s", timezone: UTC, task: sync-list}
`))
		w.worker()
		testkit.Eventually(t, "the schedule is known", func() bool { return len(w.list("schedule", "list")) == 1 })
		if took, exit := gone.stop(syscall.SIGTERM); exit != 0 || took > 10*time.Second {
			t.Fatalf("exit %d after %s", exit, took)
		}
		w.fires("UsherScheduleLate")
	})
}
