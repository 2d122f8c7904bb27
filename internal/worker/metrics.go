package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
)

// Metrics counts what a worker does. Labels never hold addresses.
type Metrics struct {
	tasks       *prometheus.CounterVec
	calls       *prometheus.CounterVec
	callSeconds *prometheus.HistogramVec
	waitSeconds *prometheus.HistogramVec
	lookUps     prometheus.Histogram
	deadLetters *prometheus.CounterVec

	lookUpsFailed prometheus.Counter
}

// NewMetrics registers a worker's metrics.
func NewMetrics(registry prometheus.Registerer, version string) *Metrics {
	metric := promauto.With(registry)
	metric.NewGauge(prometheus.GaugeOpts{
		Name: "usher_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version},
	}).Set(1)
	callBuckets := prometheus.ExponentialBuckets(0.01, 2, 13)  // 10 ms to 41 s
	waitBuckets := prometheus.ExponentialBuckets(0.001, 4, 13) // 1 ms to 4.7 h
	return &Metrics{
		tasks: metric.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_tasks_ended_total", Help: "Tasks that ended, by type and outcome.",
		}, []string{"type", "outcome"}),
		calls: metric.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_calls_total", Help: "Calls to Clerk, by kind and outcome.",
		}, []string{"call", "outcome"}),
		callSeconds: metric.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_call_duration_seconds", Help: "Time from a permit to Clerk's answer.", Buckets: callBuckets,
		}, []string{"call"}),
		waitSeconds: metric.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_permit_wait_seconds", Help: "Time a call waited for its permit.", Buckets: waitBuckets,
		}, []string{"call"}),
		lookUps: metric.NewHistogram(prometheus.HistogramOpts{
			Name: "usher_look_up_duration_seconds", Buckets: callBuckets,
			Help: "Time of a look-up before bulk calls, its waits for permits included.",
		}),
		lookUpsFailed: metric.NewCounter(prometheus.CounterOpts{
			Name: "usher_look_ups_failed_total", Help: "Look-ups before bulk calls that Clerk did not answer in time.",
		}),
		deadLetters: metric.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_dead_letters_written_total", Help: "Dead letters written, by reason.",
		}, []string{"reason"}),
	}
}

// TaskEnded counts a task that ended.
func (m *Metrics) TaskEnded(kind, outcome string) {
	m.tasks.WithLabelValues(knownKind(kind), outcome).Inc()
}

// Called counts a call that was answered.
func (m *Metrics) Called(kind policy.Call, outcome clerkclient.Outcome, t call.Timing) {
	m.calls.WithLabelValues(string(kind), string(outcome)).Inc()
	m.callSeconds.WithLabelValues(string(kind)).Observe(t.Answer.Seconds())
	m.waitSeconds.WithLabelValues(string(kind)).Observe(t.Permit.Seconds())
}

// DeadLetterWritten counts a dead letter.
func (m *Metrics) DeadLetterWritten(reason fate.Reason) {
	m.deadLetters.WithLabelValues(string(reason)).Inc()
}

// LookedUp counts a look-up.
func (m *Metrics) LookedUp(took time.Duration, failed bool) {
	m.lookUps.Observe(took.Seconds())
	if failed {
		m.lookUpsFailed.Inc()
	}
}

// knownKind bounds the label: a task put into a queue by hand may be of any type.
func knownKind(kind string) string {
	switch kind {
	case "invite", "bulk-invite", "revoke", "delete", "sync-list":
		return kind
	}
	return "unknown"
}
