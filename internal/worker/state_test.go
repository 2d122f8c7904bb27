package worker

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// figures gives the gauges of a registry, by name and labels.
func figures(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	testkit.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			found[name] = m.GetGauge().GetValue()
		}
	}
	return found
}

func TestTheStateOfAllWorkIsAMetric(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	rdb := testkit.Client(t, server.Addr)
	client, err := tasks.NewClient(tasks.Redis(rdb))
	testkit.NoError(t, err)
	for _, address := range []string{"a@example.com", "b@example.com"} {
		_, err = client.Invite(t.Context(), tasks.Recipient{EmailAddress: address})
		testkit.NoError(t, err)
	}
	_, err = client.Invite(t.Context(), tasks.Recipient{EmailAddress: "c@example.com"}, tasks.In(time.Hour))
	testkit.NoError(t, err)
	_, err = client.BulkInvite(t.Context(), tasks.BulkRequest{
		Campaign: "spring", Recipients: []tasks.Recipient{{EmailAddress: "d@example.com"}, {EmailAddress: "e@example.com"}},
	})
	testkit.NoError(t, err)
	testkit.NoError(t, deadletter.NewStore(rdb, tasks.DefaultNamespace).Put(t.Context(), deadletter.Entry{ID: "dead"}))
	testkit.NoError(t, store.NewWorkers(rdb, tasks.DefaultNamespace).Announce(t.Context(), store.Worker{ID: "w"}))

	registry := prometheus.NewRegistry()
	state := NewState(rdb, tasks.DefaultNamespace)
	registry.MustRegister(state)
	got := figures(t, registry)
	for name, want := range map[string]float64{
		"usher_queued_tasks interactive pending": 2, "usher_queued_tasks interactive scheduled": 1,
		"usher_queued_tasks campaign pending": 1, "usher_queued_tasks housekeeping active": 0,
		"usher_campaign_remaining_recipients spring": 2, "usher_campaign_unsure_recipients spring": 0,
		"usher_campaign_oldest_doubt_seconds spring": 0, "usher_newest_dead_letters  ": 1,
		"usher_dead_letters": 1, "usher_workers": 1, "usher_redis_up": 1,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, there, want)
		}
	}
	if age := got["usher_oldest_task_seconds interactive"]; age <= 0 || age > 60 {
		t.Errorf("the oldest invite is %v s old", age)
	}
	server.Kill()
	state.at = time.Time{}
	if got := figures(t, registry); len(got) != 1 || got["usher_redis_up"] != 0 {
		t.Errorf("without Redis: %v", got)
	}
}

// TestDeadLettersAreCountedByTheirCause: of many causes the most frequent ones, and what a letter says may be anything.
func TestDeadLettersAreCountedByTheirCause(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	letters := deadletter.NewStore(rdb, "usher")
	n := 0
	put := func(reason fate.Reason, code string) {
		n++
		testkit.NoError(t, letters.Put(t.Context(), deadletter.Entry{
			ID: fmt.Sprint("id", n), Failure: fate.Failure{Reason: reason, Code: code},
			FailedAt: time.Now().Add(time.Duration(n) * time.Millisecond),
		}))
	}
	state, registry := NewState(rdb, "usher"), prometheus.NewRegistry()
	registry.MustRegister(state)
	read := func() map[string]float64 {
		state.at = time.Time{}
		found := map[string]float64{}
		for name, value := range figures(t, registry) {
			if cause, is := strings.CutPrefix(name, "usher_newest_dead_letters "); is {
				found[cause] = value
			}
		}
		return found
	}
	if got := read(); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
	put(fate.ReasonRejected, "duplicate_record")
	put(fate.ReasonRejected, "duplicate_record")
	put(fate.ReasonExhausted, "")
	// Labels come in the order of their names: code, reason.
	if got := read(); len(got) != 2 || got["duplicate_record rejected"] != 2 || got[" exhausted"] != 1 {
		t.Errorf("%v", got)
	}
	put("other", "other")
	for i := range 30 {
		put(fate.ReasonRejected, strings.Repeat("x", 99)+fmt.Sprint(i)+"\xff") // of which three begin alike
		put(fate.ReasonRejected, fmt.Sprint("code", i))
	}
	if got := read(); got["duplicate_record rejected"] != 2 || len(got) != 2 {
		t.Errorf("read again at once: %v", got)
	}
	state.byCause.read = time.Time{}
	got := read()
	sum := 0.0
	for cause, value := range got {
		if sum += value; len(cause) > 100+len(" rejected") {
			t.Errorf("a label of %d bytes", len(cause))
		}
	}
	if sum != float64(n) || len(got) > mostCauses+1 || got["duplicate_record rejected"] != 2 {
		t.Errorf("%d letters: %v", n, got)
	}
	testkit.NoError(t, rdb.Del(t.Context(), store.Keys("usher").Letter("id1")).Err()) // its place in the index stays
	state.byCause.read = time.Time{}
	if got := read(); got["duplicate_record rejected"] != 2 {
		t.Errorf("read again, although nothing came or went: %v", got)
	}
	testkit.NoError(t, rdb.FlushAll(t.Context()).Err())
	if got := read(); len(got) != 0 {
		t.Errorf("when all are gone: %v", got)
	}
}

// TestMetricsHaveGoodNames: neither promtool check metrics, where there is one, nor its library finds anything.
func TestMetricsHaveGoodNames(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewState(rdb, "test"), NewBudgets(rdb, "test"), NewHealth())
	m := NewMetrics(registry, "test")
	m.TaskEnded(tasks.TypeRevoke, "done", 1) // what has no value yet is not looked at
	m.RecipientEnded(tasks.TypeInvite, fate.Sent, "", 1)
	m.DeadLetterWritten(fate.Failure{Reason: fate.ReasonRejected})
	m.Called(policy.Create, clerkclient.Created, call.Timing{})
	m.mended(mended{})
	problems, err := testutil.GatherAndLint(registry)
	testkit.NoError(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if promtool := os.Getenv("PROMTOOL"); promtool != "" { // .ci/run names it: its rules may be newer
		scrape := httptest.NewRecorder()
		request := httptest.NewRequest("GET", "/metrics", nil)
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scrape, request)
		check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		check.Stdin = scrape.Body
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool: %v: %s", err, out)
		}
	}
}

// TestAlertsAreAboutWhatIsThere: each rule asks for metrics that workers have, and leads to a paragraph that says what
// to do.
func TestAlertsAreAboutWhatIsThere(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../../deploy/prometheus/usher.rules.yml")
	testkit.NoError(t, err)
	board, err := os.ReadFile("../../deploy/grafana/usher.json")
	testkit.NoError(t, err)
	docs, err := os.ReadFile("../../docs/operations.md")
	testkit.NoError(t, err)

	descriptions := make(chan *prometheus.Desc, 100)
	rdb := testkit.MiniRedis(t)
	NewState(rdb, "test").Describe(descriptions)
	NewBudgets(rdb, "test").Describe(descriptions)
	NewHealth().Describe(descriptions)
	m := NewMetrics(prometheus.NewRegistry(), "test")
	for _, one := range []prometheus.Collector{m.recipients, m.calls, m.deadLetters, m.callSeconds, m.attempts} {
		one.Describe(descriptions)
	}
	close(descriptions)
	known := "usher_build_info"
	for d := range descriptions {
		known += " " + d.String()
	}
	for _, name := range regexp.MustCompile(`usher_[a-z_]+`).FindAllString(string(rules)+string(board), -1) {
		if !strings.Contains(known, `"`+strings.TrimSuffix(name, "_bucket")+`"`) && name != "usher_build_info" {
			t.Errorf("no worker has %s", name)
		}
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 10 {
		t.Errorf("%d alerts", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(string(docs), "\n### "+alert[1]+"\n") ||
			!strings.Contains(string(rules), "docs/operations.md#"+strings.ToLower(alert[1])+"\n") {
			t.Errorf("%s leads to no paragraph", alert[1])
		}
	}
}
