package ratelimit

import (
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

// TestWhatIsSentTwiceCountsOnce: a client repeats a script whose answer is late.
func TestWhatIsSentTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	rdb.AddHook(testkit.Twice{})
	l := newLimiter(t, rdb, Limit{Name: "calls", N: 4, Window: time.Hour}, Limit{Name: "rest"})
	wants := []Want{{Limit: "calls"}, {Limit: "rest"}}
	f := breaker
	f.Many, f.Most = 3, time.Minute
	for i, party := range []string{"a", "b", "c"} { // the third suspends
		p := mustTake(t, l, time.Minute, wants...)
		f.Party = party
		refusals, err := p.Fail(t.Context(), "rest", f)
		if err != nil || refusals != i/2 {
			t.Errorf("failure %d: %d, %v", i+1, refusals, err)
		}
	}
	if rested, err := Resume(t.Context(), rdb, "test", "rest"); err != nil || !rested {
		t.Errorf("resumed: %t, %v", rested, err)
	}
	probe := mustTake(t, l, time.Minute, wants...)
	if refusals, err := probe.Suspend(t.Context(), "rest", Suspension{First: time.Minute}); err != nil || refusals != 2 {
		t.Errorf("the probe's refusal: %d, %v", refusals, err)
	}
	if p, wait, err := l.Try(t.Context(), time.Minute, Want{Limit: "calls"}); p != nil || err != nil {
		t.Errorf("after four calls of four there is %v, %v, %v", p, wait, err)
	}
}
