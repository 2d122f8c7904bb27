package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

const (
	redisPatience = 5 * time.Second // how long Redis may be away before a worker is not ready
	redisPing     = 2 * time.Second
)

// Health knows whether a worker is ready for work.
type Health struct {
	running, stopping, restored atomic.Bool
	keyRefused                  atomic.Pointer[string] // in words; nil: it is not
	redisSeen                   atomic.Pointer[time.Time]
	stops                       stops
	refusals                    refusals
}

// stops are the times in which Redis did not answer.
type stops struct {
	mu     sync.Mutex
	count  int
	before time.Duration // all that are over together
	since  time.Time     // of the one that lasts; zero: Redis answers
}

// note notes whether Redis has answered a question that was put at an instant.
func (s *stops) note(asked time.Time, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !answered && s.since.IsZero():
		s.count++
		s.since = asked
	case answered && !s.since.IsZero():
		s.before += time.Since(s.since)
		s.since = time.Time{}
	}
}

// all gives how many there were, and how long they have lasted together.
func (s *stops) all() (count int, lasted time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return s.count, s.before
	}
	return s.count, s.before + time.Since(s.since)
}

// NewHealth gives the health of a worker that has just begun.
func NewHealth() *Health {
	h := &Health{}
	h.seeRedis()
	return h
}

func (h *Health) seeRedis() { h.redisSeen.Store(new(time.Now())) }

func (h *Health) started() {
	h.keyRefused.Store(nil)
	h.running.Store(true)
	h.stopping.Store(false)
}

// Observe sees what Redis refuses to a client that is not in use yet.
func (h *Health) Observe(rdb redis.UniversalClient) { rdb.AddHook(&h.refusals) }

// Watch asks Redis again and again until the context ends.
func (h *Health) Watch(ctx context.Context, rdb redis.UniversalClient, namespace string) {
	for ctx.Err() == nil {
		asked := time.Now()
		ping, cancel := context.WithTimeout(ctx, redisPing)
		err := rdb.Ping(ping).Err()
		answered := err == nil || store.Refused(err) // then it is there, and refusals say what it refuses
		cancel()
		if answered {
			h.seeRedis()
		}
		if ctx.Err() == nil {
			h.stops.note(asked, answered)
		}
		h.refusals.name(ctx, store.Open(rdb, namespace))
		_ = policy.Sleep(ctx, redisPing)
	}
}

// What every worker tells of itself.
var (
	ready   = prometheus.NewDesc("usher_ready", "1 if this worker is ready, as /readyz says, and 0 if not.", nil, nil)
	stopped = prometheus.NewDesc("usher_redis_stops_total",
		"Times in which Redis did not answer this worker. It is asked every 2 s, and has 2 s to answer.", nil, nil)
	stoppedSeconds = prometheus.NewDesc("usher_redis_stopped_seconds_total",
		"How long Redis did not answer this worker, in all, from a question without an answer to the next answer.", nil, nil)
)

// Describe is for [prometheus.Collector].
func (h *Health) Describe(out chan<- *prometheus.Desc) {
	out <- ready
	out <- stopped
	out <- stoppedSeconds
}

// Collect is for [prometheus.Collector].
func (h *Health) Collect(out chan<- prometheus.Metric) {
	value := 0.0
	if h.NotReady() == "" {
		value = 1
	}
	out <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, value)
	count, lasted := h.stops.all()
	out <- prometheus.MustNewConstMetric(stopped, prometheus.CounterValue, float64(count))
	out <- prometheus.MustNewConstMetric(stoppedSeconds, prometheus.CounterValue, lasted.Seconds())
}

// Restored tells whether work rests because Redis was restored from a copy. The worker is ready all the same.
func (h *Health) Restored() bool { return h.restored.Load() }

// NotReady gives the reason why the worker is not ready, or nothing. Waiting for a permit, 429 and 5xx are no reasons.
func (h *Health) NotReady() string {
	refused := h.keyRefused.Load()
	switch {
	case h.stopping.Load():
		return "the worker is stopping"
	case time.Since(*h.redisSeen.Load()) > redisPatience:
		return "Redis cannot be reached"
	case h.refusals.why() != "":
		return "Redis refuses what a worker needs: " + h.refusals.why()
	case !h.running.Load():
		return "the worker waits for Redis"
	case refused != nil:
		return *refused
	}
	return ""
}

// refuses notes that the worker's calls are refused, and by whom.
func (h *Health) refuses(refusal *clerkclient.Error) {
	says := "Clerk refuses the secret key"
	if refusal.NotClerk {
		says = fmt.Sprintf("something else than Clerk's API refuses calls (%d): is CLERK_API_URL right, or is it a proxy or "+
			"a firewall?", refusal.Status)
	}
	h.keyRefused.Store(&says)
}
