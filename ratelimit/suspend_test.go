package ratelimit

import (
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

// TestASuspensionGrowsWithEachProbeThatIsRefused: for all processes together, and calls that were under way count
// once.
func TestASuspensionGrowsWithEachProbeThatIsRefused(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	limit := Limit{Name: "rest"}
	workers := []*Limiter{v.limiter(t, limit), v.limiter(t, limit)}
	testkit.NoError(t, workers[0].Announce(t.Context()))
	s := Suspension{First: time.Second, Most: 5 * time.Minute, Calm: 10 * time.Second, Why: "503 maintenance_mode"}
	suspend := func(p *Permit) {
		t.Helper()
		_, err := p.Suspend(t.Context(), "rest", s)
		testkit.NoError(t, err)
	}
	take := func(n int) (*Permit, time.Duration) {
		t.Helper()
		p, wait, err := workers[n%2].Try(t.Context(), time.Second, Want{Limit: "rest"})
		testkit.NoError(t, err)
		return p, wait
	}
	var flying []*Permit
	for i := range 20 {
		p, _ := take(i)
		flying = append(flying, p)
	}
	for _, p := range flying {
		suspend(p)
	}
	rest := func() time.Duration {
		t.Helper()
		usages, err := ReadUsage(t.Context(), v.rdb, "test")
		testkit.NoError(t, err)
		return usages[0].BlockedUntil.Sub(usages[0].At)
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		if p, wait := take(i); p != nil || wait != min(want, 5)*time.Second {
			t.Fatalf("rest %d: a permit %v, or a wait of %s", i+1, p, wait)
		}
		usages, err := ReadUsage(t.Context(), v.rdb, "test")
		testkit.NoError(t, err)
		if u := usages[0]; !u.Since.Equal(epoch) || u.Why != s.Why || rest() != want*time.Second {
			t.Fatalf("%+v, want a rest of %s", u, want*time.Second)
		}
		v.advance(want * time.Second)
		probe, _ := take(i)
		if probe == nil {
			t.Fatal("nobody may find out whether it is over")
		}
		if other, _ := take(i + 1); other != nil {
			t.Fatal("two calls go first")
		}
		suspend(probe)
	}
	v.advance(5 * time.Minute)
	probe, _ := take(0)
	testkit.NoError(t, probe.Done(t.Context()))
	if usages, err := ReadUsage(t.Context(), v.rdb, "test"); err != nil || !usages[0].Since.IsZero() {
		t.Errorf("%+v, %v", usages, err)
	}
	for _, c := range []struct{ calm, want time.Duration }{
		{9 * time.Second, 5 * time.Minute}, {10 * time.Second, time.Second},
	} {
		v.advance(c.calm)
		p, _ := take(1)
		suspend(p)
		if rest() != c.want {
			t.Errorf("after %s of success it rests for %s, want %s", c.calm, rest(), c.want)
		}
		if resumed, err := Resume(t.Context(), v.rdb, "test", "rest"); !resumed || err != nil {
			t.Errorf("%t, %v", resumed, err)
		}
		probe, _ := take(0)
		if other, _ := take(1); probe == nil || other != nil {
			t.Fatal("not one call goes first after it was resumed")
		}
		testkit.NoError(t, probe.Done(t.Context()))
		if resumed, err := Resume(t.Context(), v.rdb, "test", "rest"); resumed || err != nil {
			t.Errorf("it does not rest: %t, %v", resumed, err)
		}
	}
}
