package worker

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/tasks"
)

// Metrics counts what a worker does. Labels never hold addresses.
type Metrics struct {
	tasks, calls, deadLetters *prometheus.CounterVec
	recipients                *prometheus.CounterVec
	stranded                  *prometheus.CounterVec
	callSeconds, waitSeconds  *prometheus.HistogramVec
	attempts                  *prometheus.HistogramVec

	tally         tally
	codes         codes
	lookUps       prometheus.Observer
	lookUpsFailed prometheus.Counter
	lookUpsSaved  prometheus.Counter
}

// NewMetrics registers a worker's metrics.
func NewMetrics(registry prometheus.Registerer, version string) *Metrics {
	metric := promauto.With(registry)
	metric.NewGauge(prometheus.GaugeOpts{
		Name: "usher_build_info", Help: "1, with the version as a label.",
		ConstLabels: prometheus.Labels{"version": version},
	}).Set(1)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return metric.NewCounterVec(prometheus.CounterOpts{Name: "usher_" + name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		opts := prometheus.HistogramOpts{Name: "usher_" + name, Help: help, Buckets: buckets}
		return metric.NewHistogramVec(opts, labels)
	}
	callBuckets := prometheus.ExponentialBuckets(0.01, 2, 13)  // 10 ms to 41 s
	waitBuckets := prometheus.ExponentialBuckets(0.001, 4, 13) // 1 ms to 4.7 h
	m := &Metrics{
		tasks:       counter("tasks_ended_total", "Tasks that ended, by type and outcome.", "type", "outcome"),
		calls:       counter("calls_total", "Calls to Clerk, by kind and outcome.", "call", "outcome"),
		callSeconds: seconds("call_duration_seconds", "Time from a permit to Clerk's answer.", callBuckets, "call"),
		waitSeconds: seconds("permit_wait_seconds", "Time a call waited for its permit.", waitBuckets, "call"),
		lookUps: seconds("look_up_duration_seconds",
			"Time of a look-up before bulk calls, its waits for permits included.", callBuckets).WithLabelValues(),
		lookUpsFailed: counter("look_ups_failed_total",
			"Look-ups before bulk calls that Clerk did not answer in time.").WithLabelValues(),
		lookUpsSaved: counter("look_ups_saved_permits_total",
			"Recipients whom a look-up before bulk calls has ended, so that none of their calls took a permit.").
			WithLabelValues(),
		attempts: metric.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_attempts", Buckets: []float64{0, 1, 2, 3, 5, 10, 20, 50},
			Help: "Attempts that recipients of invites and campaigns, and other tasks, needed until they ended, by the type " +
				"of task and the outcome.",
		}, []string{"type", "outcome"}),
		recipients: counter("recipients_ended_total",
			"Recipients that have their outcome, by the type of task, the outcome and the code of its cause.",
			"type", "outcome", "code"),
		deadLetters: counter("dead_letters_written_total", "Dead letters written, by reason and code.", "reason", "code"),
		stranded: counter("stranded_tasks_total",
			"Tasks found that asynq would not have run again, by what was done about it.", "done"),
	}
	for _, kind := range []string{tasks.TypeInvite, tasks.TypeBulkInvite} {
		m.recipients.WithLabelValues(kind, string(fate.Sent), "") // an increase is not seen of what was never 0
	}
	return m
}

// TaskEnded counts a task that ended. The attempts of one that has recipients are told with those.
func (m *Metrics) TaskEnded(kind, outcome string, attempts int) {
	kind = knownKind(kind)
	m.tasks.WithLabelValues(kind, outcome).Inc()
	if kind != tasks.TypeInvite && kind != tasks.TypeBulkInvite {
		m.attempts.WithLabelValues(kind, outcome).Observe(float64(attempts))
	}
}

// Called counts a call that was answered.
func (m *Metrics) Called(kind policy.Call, outcome clerkclient.Outcome, t call.Timing) {
	m.calls.WithLabelValues(string(kind), string(outcome)).Inc()
	m.callSeconds.WithLabelValues(string(kind)).Observe(t.Answer.Seconds())
	m.waitSeconds.WithLabelValues(string(kind)).Observe(t.Permit.Seconds())
}

// RecipientEnded counts a recipient that has its outcome. The code is that of one who is not sent.
func (m *Metrics) RecipientEnded(kind string, outcome fate.Step, code string, attempts int) {
	m.attempts.WithLabelValues(kind, string(outcome)).Observe(float64(attempts))
	m.recipients.WithLabelValues(kind, string(outcome), m.codes.bounded(code)).Inc()
	if outcome == fate.Sent {
		m.tally.add(store.Counts{Sent: 1})
	}
}

// DeadLetterWritten counts a dead letter.
func (m *Metrics) DeadLetterWritten(cause fate.Failure) {
	m.deadLetters.WithLabelValues(string(cause.Reason), m.codes.bounded(cause.Code)).Inc()
	if cause.Reason == fate.ReasonRejected {
		m.tally.add(store.Counts{Refused: 1})
	} else {
		m.tally.add(store.Counts{Dead: 1})
	}
}

// mostCodes is how many different codes are labels: what answers in Clerk's place may say anything.
const mostCodes = 100

// codes are those that are labels.
type codes struct {
	mu   sync.Mutex
	seen map[string]bool
}

// bounded gives a code as a label: itself, or "other" if there are too many.
func (c *codes) bounded(code string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case code == "" || c.seen[code]:
		return code
	case len(c.seen) >= mostCodes:
		return "other"
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[code] = true
	return code
}

// LookedUp counts a look-up.
func (m *Metrics) LookedUp(took time.Duration, failed bool) {
	m.lookUps.Observe(took.Seconds())
	if failed {
		m.lookUpsFailed.Inc()
	}
}

// SavedByLookUp counts recipients whom a look-up has ended.
func (m *Metrics) SavedByLookUp(recipients int) { m.lookUpsSaved.Add(float64(recipients)) }

// mended counts tasks that asynq had stranded.
func (m *Metrics) mended(found mended) {
	m.stranded.WithLabelValues("lease").Add(float64(found.leases))
	m.stranded.WithLabelValues("pending").Add(float64(found.pending))
	m.stranded.WithLabelValues("dropped").Add(float64(found.dropped))
}

// knownKind bounds the label: a task put into a queue by hand may be of any type.
func knownKind(kind string) string {
	known := []string{tasks.TypeInvite, tasks.TypeBulkInvite, tasks.TypeRevoke, tasks.TypeDelete, tasks.TypeSyncList}
	if slices.Contains(known, kind) {
		return kind
	}
	return "unknown"
}
