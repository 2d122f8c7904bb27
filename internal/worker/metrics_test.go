package worker

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

func TestFailedLookUpsAreCounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry, "test")
	m.LookedUp(time.Second, true)
	m.LookedUp(time.Second, false)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		metric := family.GetMetric()[0]
		got[family.GetName()] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	if got["usher_look_ups_failed_total"] != 1 || got["usher_look_up_duration_seconds"] != 2 {
		t.Errorf("%v", got)
	}
}

// TestAttemptsAreAMetric of recipients, and of tasks that have none.
func TestAttemptsAreAMetric(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry, "test")
	m.RecipientEnded(tasks.TypeInvite, fate.Sent, "", 3)
	m.TaskEnded(tasks.TypeInvite, "done", 3)
	m.TaskEnded(tasks.TypeBulkInvite, "done", 1)
	m.RecipientEnded(tasks.TypeBulkInvite, fate.Dead, "taken", 0)
	m.TaskEnded(tasks.TypeRevoke, "dead", 20)
	m.TaskEnded("garbage", "dead", 1)
	m.SavedByLookUp(2)
	families, err := registry.Gather()
	testkit.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			switch family.GetName() {
			case "usher_look_ups_saved_permits_total":
				got["saved"] = metric.GetCounter().GetValue()
			case "usher_attempts":
				labels := metric.GetLabel()
				got[labels[0].GetValue()+" "+labels[1].GetValue()] = metric.GetHistogram().GetSampleSum()
			}
		}
	}
	want := map[string]float64{"saved": 2, "sent invite": 3, "dead bulk-invite": 0, "dead revoke": 20, "dead unknown": 1}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestStopsOfRedisAreAMetric: how many, and how long.
func TestStopsOfRedisAreAMetric(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	h, registry := NewHealth(), prometheus.NewRegistry()
	registry.MustRegister(h)
	go h.Watch(t.Context(), redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1}), "test")
	figure := func(name string) float64 {
		families, err := registry.Gather()
		testkit.NoError(t, err)
		for _, family := range families {
			if family.GetName() == name {
				return family.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
	const count, seconds = "usher_redis_stops_total", "usher_redis_stopped_seconds_total"
	if figure(count) != 0 || figure(seconds) != 0 {
		t.Errorf("before: %v, %v s", figure(count), figure(seconds))
	}
	began := time.Now()
	testkit.NoError(t, server.Hang())
	testkit.Eventually(t, "it has stopped for three seconds", func() bool { return figure(seconds) > 3 })
	testkit.NoError(t, server.GoOn())
	over := func() bool {
		_, lasted := h.stops.all()
		h.stops.mu.Lock()
		defer h.stops.mu.Unlock()
		return h.stops.since.IsZero() && lasted > 0
	}
	testkit.Eventually(t, "it is over", over)
	if got := figure(seconds); figure(count) != 1 || got > time.Since(began).Seconds() {
		t.Errorf("afterwards: %v, %v s", figure(count), got)
	}
}

// TestAStandstillIsAMetric: while calls rest, and not before or after.
func TestAStandstillIsAMetric(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	limiter, err := ratelimit.New(rdb, "test", policy.Default("test").Limits("k")...)
	testkit.NoError(t, err)
	testkit.NoError(t, limiter.Announce(t.Context()))
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewBudgets(rdb, "test"))
	labels := func() (found []string) {
		families, err := registry.Gather()
		testkit.NoError(t, err)
		for _, family := range families {
			if family.GetName() != "usher_standstill_seconds" {
				continue
			}
			for _, m := range family.GetMetric() {
				found = append(found, m.GetLabel()[0].GetValue()+": "+m.GetLabel()[1].GetValue())
			}
		}
		return found
	}
	take := func() *ratelimit.Permit {
		permit, err := limiter.Acquire(t.Context(), time.Minute, ratelimit.Want{Limit: policy.RestCreate})
		testkit.NoError(t, err)
		return permit
	}
	if got := labels(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	_, err = take().Suspend(t.Context(), policy.RestCreate, ratelimit.Suspension{
		First: time.Millisecond, Most: time.Minute, Why: "500 internal_clerk_error (trace abc)",
	})
	testkit.NoError(t, err)
	if got := labels(); !slices.Equal(got, []string{"create: 500 internal_clerk_error"}) {
		t.Errorf("%q", got)
	}
	_, err = take().Succeed(t.Context(), policy.RestCreate, ratelimit.Breaker{})
	testkit.NoError(t, err)
	if got := labels(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
