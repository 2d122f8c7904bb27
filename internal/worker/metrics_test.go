package worker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
