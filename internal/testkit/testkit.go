// Package testkit is the one way to start what tests, bench and chaos run on: a redis-server, the sandbox Clerk, and
// the project's own commands. It also finds free ports, builds commands and waits for conditions.
//
// Functions that take a [testing.TB] fail the test and clean up after it. The others return errors. A server that
// does not come up is killed before its error is returned.
package testkit

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// NoError fails the test now if there is an error.
func NoError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits a minute for a condition, because machines are slow at times.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	const every, limit = 20 * time.Millisecond, time.Minute
	NoError(t, Poll(t.Context(), every, limit, what, func(context.Context) (bool, error) { return condition(), nil }))
}

// RunRedis starts a redis-server that ends with the test. It keeps nothing on disk unless args say so; see [Durable].
func RunRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher-redis-")
	NoError(t, err)
	t.Cleanup(func() { removeAll(dir) })
	server, err := StartRedis(t.Context(), dir, args...)
	NoError(t, err)
	t.Cleanup(server.Kill)
	return server
}

// removeAll removes a folder of a redis-server that was killed. A child of it that rewrites a file may go on for a
// moment.
func removeAll(dir string) {
	const every, limit = 5 * time.Millisecond, 15 * time.Second
	_ = Poll(context.Background(), every, limit, "the folder is removed", func(context.Context) (bool, error) {
		return os.RemoveAll(dir) == nil, nil
	})
}

// Client returns a client of the Redis at an address, which is closed with the test.
func Client(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// MiniRedis returns a client of a Redis in this process, which ends with the test. It starts faster than a
// redis-server.
func MiniRedis(t testing.TB) *redis.Client {
	t.Helper()
	return Client(t, miniredis.RunT(t).Addr())
}

// OnBoth runs a test on a redis-server and on a Redis in this process, whose scripts another interpreter runs. The
// two are parallel.
func OnBoth(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, Client(t, RunRedis(t).Addr))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, MiniRedis(t))
	})
}
