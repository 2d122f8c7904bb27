package ratelimit

import (
	"fmt"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

// TestFiguresOfWhatNobodyUsesAreForgotten: a limit that only rests has a name of its own for each secret key.
func TestFiguresOfWhatNobodyUsesAreForgotten(t *testing.T) {
	t.Parallel()
	mini := testkit.MiniRedis(t)
	ctx := t.Context()
	announce := func(key string) *Limiter {
		l := newLimiter(t, mini, Limit{Name: "calls", N: 10, Window: time.Second}, Limit{Name: key})
		testkit.NoError(t, l.Announce(ctx))
		return l
	}
	used := announce("key-used")
	for i := range 100 {
		announce(fmt.Sprintf("key-%d", i))
		mini.Del(ctx, stateKey(used.prefix, fmt.Sprintf("key-%d", i))) // a day later
	}
	p, err := used.Acquire(ctx, time.Second, Want{Limit: "key-used"})
	testkit.NoError(t, err)
	testkit.NoError(t, p.Release(ctx))
	announce("key-new")
	usages, err := ReadUsage(ctx, mini, used.prefix)
	var names []string
	for _, u := range usages {
		names = append(names, u.Name)
	}
	if got := fmt.Sprint(names); err != nil || got != "[calls key-new key-used]" {
		t.Errorf("%s, %v", got, err)
	}
	if ttl := mini.TTL(ctx, stateKey(used.prefix, "key-used")).Val(); ttl < 23*time.Hour {
		t.Errorf("what is used is forgotten after %s", ttl)
	}
}
