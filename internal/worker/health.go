package worker

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
)

const (
	redisPatience = 5 * time.Second // how long Redis may be away before a worker is not ready
	redisPing     = time.Second
)

// Health knows whether a worker is ready for work.
type Health struct {
	mu         sync.Mutex
	running    bool
	stopping   bool
	redisSeen  time.Time
	keyRefused bool
}

// NewHealth gives the health of a worker that has just begun.
func NewHealth() *Health { return &Health{redisSeen: time.Now()} }

func (h *Health) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *Health) started() {
	h.set(func() { h.running, h.stopping, h.keyRefused = true, false, false })
}
func (h *Health) stopped()         { h.set(func() { h.stopping = true }) }
func (h *Health) refused(key bool) { h.set(func() { h.keyRefused = key }) }

// Watch asks Redis every second until the context ends.
func (h *Health) Watch(ctx context.Context, rdb redis.UniversalClient) {
	for ctx.Err() == nil {
		ping, cancel := context.WithTimeout(ctx, redisPing)
		if rdb.Ping(ping).Err() == nil {
			h.set(func() { h.redisSeen = time.Now() })
		}
		cancel()
		_ = policy.Sleep(ctx, redisPing)
	}
}

// NotReady gives the reason why the worker is not ready, or nothing. Waiting for a permit, 429 and 5xx are no reasons.
func (h *Health) NotReady() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stopping:
		return "the worker is stopping"
	case time.Since(h.redisSeen) > redisPatience:
		return "Redis cannot be reached"
	case !h.running:
		return "the worker waits for Redis"
	case h.keyRefused:
		return "Clerk refuses the secret key"
	}
	return ""
}
