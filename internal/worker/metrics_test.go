package worker

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
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
