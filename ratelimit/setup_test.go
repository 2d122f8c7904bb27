package ratelimit

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"example.com/usher/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// epoch is where virtual time starts: an instant with as many digits as those of today.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// virtual is a Redis whose clock and expiry the test moves.
type virtual struct {
	mini *miniredis.Miniredis
	rdb  *redis.Client
	sent *counter
	now  time.Time
}

func newVirtual(t testing.TB) *virtual {
	t.Helper()
	v := &virtual{mini: miniredis.RunT(t), sent: &counter{}}
	v.rdb = redis.NewClient(&redis.Options{Addr: v.mini.Addr(), MaxRetries: -1})
	v.rdb.AddHook(v.sent)
	t.Cleanup(func() { _ = v.rdb.Close() })
	v.reset()
	return v
}

func (v *virtual) reset() {
	v.mini.FlushAll()
	v.now = epoch
	v.mini.SetTime(v.now)
	v.mini.ClockTTL(true)
}

func (v *virtual) advance(d time.Duration) {
	v.now = v.now.Add(d)
	v.mini.SetTime(v.now)
}

// limiter is a process on this Redis with a clock that is right.
func (v *virtual) limiter(t testing.TB, limits ...Limit) *Limiter {
	t.Helper()
	l := newLimiter(t, v.rdb, limits...)
	l.now = func() time.Time { return v.now }
	return l
}

func newLimiter(t testing.TB, rdb redis.UniversalClient, limits ...Limit) *Limiter {
	t.Helper()
	l, err := New(rdb, "test", limits...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mustTake tries once and expects a permit.
func mustTake(t testing.TB, l *Limiter, hold time.Duration, wants ...Want) *Permit {
	t.Helper()
	p, wait, err := l.Try(t.Context(), hold, wants...)
	if err != nil || p == nil {
		t.Fatalf("got no permit (wait %v, err %v), want one", wait, err)
	}
	return p
}

// mustWait tries once and expects to be told to wait.
func mustWait(t testing.TB, l *Limiter, hold, want time.Duration, wants ...Want) {
	t.Helper()
	p, wait, err := l.Try(t.Context(), hold, wants...)
	if err != nil || p != nil {
		t.Fatalf("got permit %v, err %v, want to wait %v", p, err, want)
	}
	if wait != want {
		t.Fatalf("told to wait %v, want %v", wait, want)
	}
}

func usage(t testing.TB, rdb redis.UniversalClient, limit string) Usage {
	t.Helper()
	all, err := ReadUsage(context.Background(), rdb, "test")
	testkit.NoError(t, err)
	for _, u := range all {
		if u.Name == limit {
			return u
		}
	}
	t.Fatalf("no usage of %s", limit)
	return Usage{}
}

// counter is a hook that counts the scripts sent.
type counter struct{ scripts atomic.Int64 }

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name == "evalsha" || name == "eval" {
			c.scripts.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
