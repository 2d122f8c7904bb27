package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
)

const (
	redisPatience = 5 * time.Second // how long Redis may be away before a worker is not ready
	redisPing     = 2 * time.Second
)

// Health knows whether a worker is ready for work.
type Health struct {
	running, stopping, keyRefused atomic.Bool
	restored                      atomic.Bool
	redisSeen                     atomic.Pointer[time.Time]
	refusals                      refusals
}

// NewHealth gives the health of a worker that has just begun.
func NewHealth() *Health {
	h := &Health{}
	h.seeRedis()
	return h
}

func (h *Health) seeRedis() { h.redisSeen.Store(new(time.Now())) }

func (h *Health) started() {
	h.keyRefused.Store(false)
	h.running.Store(true)
	h.stopping.Store(false)
}

// Observe sees what Redis refuses to a client that is not in use yet.
func (h *Health) Observe(rdb redis.UniversalClient) { rdb.AddHook(&h.refusals) }

// Watch asks Redis again and again until the context ends.
func (h *Health) Watch(ctx context.Context, rdb redis.UniversalClient) {
	for ctx.Err() == nil {
		ping, cancel := context.WithTimeout(ctx, redisPing)
		if rdb.Ping(ping).Err() == nil {
			h.seeRedis()
		}
		cancel()
		_ = policy.Sleep(ctx, redisPing)
	}
}

// ready is told by every worker of itself.
var ready = prometheus.NewDesc("usher_ready", "1 if this worker is ready, as /readyz says, and 0 if not.", nil, nil)

// Describe is for [prometheus.Collector].
func (h *Health) Describe(out chan<- *prometheus.Desc) { out <- ready }

// Collect is for [prometheus.Collector].
func (h *Health) Collect(out chan<- prometheus.Metric) {
	value := 0.0
	if h.NotReady() == "" {
		value = 1
	}
	out <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, value)
}

// Restored tells whether work rests because Redis was restored from a copy. The worker is ready all the same.
func (h *Health) Restored() bool { return h.restored.Load() }

// NotReady gives the reason why the worker is not ready, or nothing. Waiting for a permit, 429 and 5xx are no reasons.
func (h *Health) NotReady() string {
	switch {
	case h.stopping.Load():
		return "the worker is stopping"
	case time.Since(*h.redisSeen.Load()) > redisPatience:
		return "Redis cannot be reached"
	case !h.running.Load():
		return "the worker waits for Redis"
	case h.refusals.why() != "":
		return "Redis refuses what a worker needs: " + h.refusals.why()
	case h.keyRefused.Load():
		return "Clerk refuses the secret key"
	}
	return ""
}
