package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

const hold = 10 * time.Second

var (
	calls   = Limit{Name: "calls", N: 2, Window: time.Minute}
	overall = Limit{Name: "overall", N: 5, Window: 10 * time.Second}
	off     = Limit{Name: "off"}
)

func TestBadFiguresAreRefused(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	for name, limits := range map[string][]Limit{
		"want 1 to 64 letters": {{Name: "a:b", N: 1, Window: time.Second}},
		"N is -1":              {{Name: "a", N: -1, Window: time.Second}},
		"at least a microsec":  {{Name: "a", N: 1}},
		"at most":              {{Name: "a", N: 1, Window: 400 * 24 * time.Hour}},
		"given twice":          {calls, calls},
	} {
		if _, err := New(v.rdb, "test", limits...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: error is %v, want one with %q", limits, err, name)
		}
	}
	for _, prefix := range []string{"", "a{b}", "a b"} {
		if _, err := New(v.rdb, prefix, calls); err == nil {
			t.Errorf("prefix %q was accepted", prefix)
		}
		if _, err := ReadUsage(t.Context(), v.rdb, prefix); err == nil {
			t.Errorf("prefix %q was read", prefix)
		}
	}
}

func TestBadWantsAreRefused(t *testing.T) {
	t.Parallel()
	l := newVirtual(t).limiter(t, calls, off)
	for name, wants := range map[string][]Want{
		"at least one":      {},
		"there are: calls,": {{Limit: "cals"}},
		"wanted twice":      {{Limit: "calls"}, {Limit: "calls", Share: "a", Max: 1}},
		"hold 3 places":     {{Limit: "calls", Share: "a", Max: 3}},
		"hold 0 places":     {{Limit: "calls", Share: "a"}},
		"no Share is named": {{Limit: "calls", Max: 1}},
		"share \"a/b\"":     {{Limit: "calls", Share: "a/b", Max: 1}},
	} {
		_, err := l.Acquire(t.Context(), hold, wants...)
		if err == nil || !strings.Contains(err.Error(), name) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%v: error is %v, want one with %q", wants, err, name)
		}
	}
	for _, d := range []time.Duration{0, -time.Second, 500 * 24 * time.Hour} {
		if _, _, err := l.Try(t.Context(), d, Want{Limit: "calls"}); err == nil {
			t.Errorf("hold %v was accepted", d)
		}
	}
	if _, _, err := l.Try(t.Context(), hold, Want{Limit: "off", Share: "a", Max: 7}); err != nil {
		t.Errorf("a share of a limit that is switched off: %v", err)
	}
}

func TestAWindowStartsAtTheAnswer(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, calls)
	want := Want{Limit: "calls"}

	first := mustTake(t, l, hold, want)
	second := mustTake(t, l, hold, want)
	if got := first.Deadline(); !got.Equal(epoch.Add(hold)) {
		t.Errorf("deadline is %v, want %v", got, epoch.Add(hold))
	}
	mustWait(t, l, hold, time.Minute, want) // in flight: an answer this moment frees a place in a window
	v.advance(4 * time.Second)
	testkit.NoError(t, second.Done(t.Context()))
	v.advance(time.Second)
	mustWait(t, l, hold, 59*time.Second, want) // second's window; first may take longer
	testkit.NoError(t, first.Done(t.Context()))
	v.advance(59*time.Second - µs)
	mustWait(t, l, hold, µs, want)
	v.advance(µs)
	mustTake(t, l, hold, want)
	mustWait(t, l, hold, time.Second, want)
}

func TestADeadHolderCountsUntilItsDeadlineAndAWindow(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, Limit{Name: "calls", N: 1, Window: time.Minute})
	mustTake(t, l, hold, Want{Limit: "calls"})
	v.advance(hold)
	mustWait(t, l, hold, time.Minute, Want{Limit: "calls"})
	v.advance(time.Minute - µs)
	mustWait(t, l, hold, µs, Want{Limit: "calls"})
	v.advance(µs)
	mustTake(t, l, hold, Want{Limit: "calls"})
}

func TestALateDoneCountsFromNowAndNeverRevives(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, Limit{Name: "calls", N: 1, Window: time.Minute})
	p := mustTake(t, l, hold, Want{Limit: "calls"})
	v.advance(hold + 30*time.Second)
	testkit.NoError(t, p.Done(t.Context()))
	v.advance(45 * time.Second) // more than the deadline and a window from the start
	mustWait(t, l, hold, 15*time.Second, Want{Limit: "calls"})
	v.advance(15 * time.Second)
	p = mustTake(t, l, hold, Want{Limit: "calls"})
	v.advance(hold + time.Minute)
	mustTake(t, l, hold, Want{Limit: "calls"})
	testkit.NoError(t, p.Done(t.Context())) // too late: its entry is gone
	v.advance(time.Second)
	mustWait(t, l, hold, time.Minute, Want{Limit: "calls"})
}

func TestAllLimitsOrNone(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, calls, overall)
	testkit.NoError(t, l.Announce(t.Context()))
	both := []Want{{Limit: "calls"}, {Limit: "overall"}}
	mustTake(t, l, hold, both...)
	mustTake(t, l, hold, both...)
	mustWait(t, l, hold, time.Minute, both...)
	if u := usage(t, v.rdb, "overall"); u.Used != 2 {
		t.Errorf("overall has %d places taken after a refusal by the other limit, want 2", u.Used)
	}
	mustTake(t, l, hold, Want{Limit: "overall"})
}

func TestAShareLeavesTheRest(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, overall)
	testkit.NoError(t, l.Announce(t.Context()))
	in, out := Want{Limit: "overall", Share: "campaigns", Max: 3}, Want{Limit: "overall"}
	var permits []*Permit
	for range 3 {
		permits = append(permits, mustTake(t, l, hold, in))
	}
	mustWait(t, l, hold, 10*time.Second, in)
	testkit.NoError(t, permits[0].Done(t.Context()))
	v.advance(9 * time.Second)
	mustWait(t, l, hold, time.Second, in)
	mustTake(t, l, hold, out)
	u := usage(t, v.rdb, "overall")
	want := []ShareUsage{{Name: "campaigns", Max: 3, Used: 3, InFlight: 2}}
	if u.Used != 4 || u.InFlight != 3 || !reflect.DeepEqual(u.Shares, want) {
		t.Errorf("usage is %+v, want 4 used, 3 in flight, shares %+v", u, want)
	}
	v.advance(time.Second)
	mustTake(t, l, hold, in)
}

func TestReleaseGivesThePlaceBack(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, calls)
	testkit.NoError(t, l.Announce(t.Context()))
	want := Want{Limit: "calls", Share: "some", Max: 1}
	p := mustTake(t, l, hold, want)
	mustWait(t, l, hold, time.Minute, want)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	testkit.NoError(t, p.Release(ctx)) // reports what has happened all the same
	testkit.NoError(t, p.Release(t.Context()))
	if u := usage(t, v.rdb, "calls"); u.Used != 0 || u.Shares[0].Used != 0 {
		t.Errorf("usage after giving back is %+v, want none", u)
	}
	if err := p.Done(t.Context()); err == nil {
		t.Error("Done after Release was accepted")
	}
	p = mustTake(t, l, hold, want)
	testkit.NoError(t, p.Done(t.Context()))
	testkit.NoError(t, p.Release(t.Context()))
	if u := usage(t, v.rdb, "calls"); u.Used != 1 {
		t.Errorf("Release after Done leaves %d places taken, want 1", u.Used)
	}
}

func TestAReleaseAfterAFailedDoneGivesNothingBack(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, calls)
	testkit.NoError(t, l.Announce(t.Context()))
	p := mustTake(t, l, hold, Want{Limit: "calls"})
	v.mini.SetError("LOADING for a while")
	if err := p.Done(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Done without Redis: %v, want ErrUnavailable", err)
	}
	v.mini.SetError("")
	testkit.NoError(t, p.Release(t.Context()))
	if u := usage(t, v.rdb, "calls"); u.Used != 1 || u.InFlight != 1 {
		t.Errorf("usage is %+v, want the call still in flight", u)
	}
	testkit.NoError(t, p.Done(t.Context()))
	if u := usage(t, v.rdb, "calls"); u.Used != 1 || u.InFlight != 0 {
		t.Errorf("usage is %+v, want the call answered", u)
	}
}

// The client repeats a script whose answer was lost, and must learn that it was granted: in a full window too, and as
// the probe.
func TestARepeatedScriptIsOnePlace(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	one := Limit{Name: "one", N: 1, Window: time.Minute}
	l := v.limiter(t, one, calls, off)
	testkit.NoError(t, l.Announce(t.Context()))
	testkit.NoError(t, mustTake(t, l, hold, Want{Limit: "off"}).Refuse(t.Context(), "off", 0))
	for i, wants := range [][]Want{{{Limit: "one"}}, {{Limit: "off"}}, {{Limit: "calls"}}} {
		req, err := l.request(hold, wants)
		testkit.NoError(t, err)
		for range 3 {
			args := append([]any{fmt.Sprint("permit ", i), hold.Microseconds()}, req.args...)
			got, err := parseAcquired(run(t.Context(), v.rdb, acquireScript, req.keys, args...))
			if err != nil || !got.granted || (got.probe == probesLimit) != (wants[0].Limit == "off") {
				t.Fatalf("%v: got %+v, %v, want it granted again", wants, got, err)
			}
			v.advance(time.Second)
		}
	}
	for _, limit := range []string{"one", "calls"} {
		if u := usage(t, v.rdb, limit); u.Used != 1 {
			t.Errorf("%s has %d places taken, want 1", limit, u.Used)
		}
	}
}

// A process with a short window must not trim the entries that another needs for its long one.
func TestALongerWindowOfAnotherProcessIsKept(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	long, short := v.limiter(t, Limit{Name: "calls", N: 3, Window: time.Hour}),
		v.limiter(t, Limit{Name: "calls", N: 1, Window: time.Second})
	want := Want{Limit: "calls"}
	testkit.NoError(t, long.Announce(t.Context()))
	for range 3 {
		testkit.NoError(t, mustTake(t, short, hold, want).Done(t.Context()))
		v.advance(time.Second)
	}
	mustWait(t, long, hold, time.Hour-3*time.Second, want)
	testkit.NoError(t, mustTake(t, short, hold, want).Done(t.Context()))
	mustWait(t, long, hold, time.Hour-2*time.Second, want)

	// Twice the longest window later it is forgotten, and the log shrinks.
	v.advance(2 * time.Hour)
	for range 3 {
		v.advance(time.Second)
		testkit.NoError(t, mustTake(t, short, hold, want).Done(t.Context()))
	}
	members, err := v.mini.ZMembers(logKey("test", "calls"))
	testkit.NoError(t, err)
	if len(members) != 1 {
		t.Errorf("the log has %d entries, want only the last", len(members))
	}
}

func TestRefusedCallsKeepEverybodyWaitingThenOneGoesFirst(t *testing.T) {
	t.Parallel()
	for _, limit := range []Limit{{Name: "calls", N: 9, Window: 10 * time.Second}, {Name: "calls"}} { // on and off
		v := newVirtual(t)
		a, b := v.limiter(t, limit), v.limiter(t, limit)
		testkit.NoError(t, a.Announce(t.Context()))
		want, ctx := Want{Limit: "calls"}, t.Context()
		refused, late, early := mustTake(t, a, hold, want), mustTake(t, b, hold, want), mustTake(t, b, hold, want)
		testkit.NoError(t, refused.Refuse(ctx, "calls", 30*time.Second))
		testkit.NoError(t, early.Refuse(ctx, "calls", 20*time.Second)) // does not shorten it
		mustWait(t, b, hold, 30*time.Second, want)
		testkit.NoError(t, late.Done(ctx)) // was in flight already: proves nothing
		mustWait(t, b, hold, 30*time.Second, want)
		if u := usage(t, v.rdb, "calls"); !u.BlockedUntil.Equal(v.now.Add(30*time.Second)) || u.Probing ||
			!u.NextFree.Equal(u.BlockedUntil) {
			t.Errorf("usage is %+v, want it blocked for 30s", u)
		}
		v.advance(30 * time.Second)

		probe := mustTake(t, b, hold, want)
		if u := usage(t, v.rdb, "calls"); !u.BlockedUntil.IsZero() || !u.Probing {
			t.Errorf("usage is %+v, want it probing", u)
		}
		mustWait(t, a, hold, 50*time.Millisecond, want)
		v.advance(400 * time.Millisecond)
		mustWait(t, a, hold, 400*time.Millisecond, want)
		testkit.NoError(t, probe.Refuse(ctx, "calls", time.Second)) // refused again
		mustWait(t, a, hold, time.Second, want)
		v.advance(time.Second)

		dead := mustTake(t, a, hold, want)
		v.advance(hold - 30*time.Millisecond)
		mustWait(t, b, hold, 30*time.Millisecond, want) // not longer than the probe may take
		v.advance(30 * time.Millisecond)
		probe = mustTake(t, b, hold, want)
		testkit.NoError(t, dead.Done(ctx)) // it was replaced: proves nothing
		mustWait(t, a, hold, 50*time.Millisecond, want)
		testkit.NoError(t, probe.Release(ctx)) // never sent: another goes first
		probe = mustTake(t, a, hold, want)
		mustWait(t, b, hold, 50*time.Millisecond, want)
		testkit.NoError(t, probe.Done(ctx))
		mustTake(t, a, hold, want)
		mustTake(t, b, hold, want)
	}
}

func TestAProbeRefusedByAnotherLimitProvesNothing(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, overall, Limit{Name: "calls", N: 9, Window: time.Minute})
	ctx := t.Context()
	testkit.NoError(t, mustTake(t, l, hold, Want{Limit: "calls"}).Refuse(ctx, "calls", time.Second))
	v.advance(time.Second)
	probe := mustTake(t, l, hold, Want{Limit: "calls"}, Want{Limit: "overall"})
	testkit.NoError(t, probe.Refuse(ctx, "overall", time.Minute))
	mustTake(t, l, hold, Want{Limit: "calls"}) // the next probe
	mustWait(t, l, hold, 50*time.Millisecond, Want{Limit: "calls"})
	if err := probe.Refuse(ctx, "else", time.Second); err == nil {
		t.Error("a refusal by a limit that the permit does not hold was accepted")
	}
}

// A refusal that arrives while the probe is under way is newer than what the probe can prove.
func TestARefusalDuringTheProbeOutlastsIt(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, overall)
	want, ctx := Want{Limit: "overall"}, t.Context()
	slow, fast := mustTake(t, l, hold, want), mustTake(t, l, hold, want)
	testkit.NoError(t, fast.Refuse(ctx, "overall", time.Second))
	v.advance(time.Second)
	probe := mustTake(t, l, hold, want)
	testkit.NoError(t, slow.Refuse(ctx, "overall", 5*time.Second))
	testkit.NoError(t, probe.Done(ctx))
	mustWait(t, l, hold, 5*time.Second, want)
}

func TestWithoutCountingNothingIsAsked(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, off)
	p, q := mustTake(t, l, hold, Want{Limit: "off"}), mustTake(t, l, hold, Want{Limit: "off"})
	before := v.sent.scripts.Load()
	testkit.NoError(t, p.Done(t.Context()))
	testkit.NoError(t, q.Release(t.Context()))
	if n := v.sent.scripts.Load() - before; n != 0 {
		t.Errorf("settling sent %d scripts, want none", n)
	}
	if keys := v.mini.Keys(); len(keys) != 0 {
		t.Errorf("a limit that is switched off left keys: %v", keys)
	}
}

func TestIdleKeysVanish(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	l := v.limiter(t, calls, off)
	want := Want{Limit: "calls", Share: "some", Max: 2}
	testkit.NoError(t, mustTake(t, l, hold, want).Done(t.Context()))
	testkit.NoError(t, mustTake(t, l, hold, want, Want{Limit: "off"}).Refuse(t.Context(), "off", time.Hour))
	if got := len(v.mini.Keys()); got != 5 {
		t.Fatalf("there are %d keys, want 5: %v", got, v.mini.Keys())
	}
	v.advance(26 * time.Hour)
	if keys := v.mini.Keys(); len(keys) != 0 {
		t.Errorf("keys left after a day: %v", keys)
	}
}

func TestUsageOfWhatIsAnnounced(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	if all, err := ReadUsage(t.Context(), v.rdb, "test"); err != nil || len(all) != 0 {
		t.Errorf("without an announcement: %v, %v, want nothing", all, err)
	}
	l := v.limiter(t, calls, overall, off)
	testkit.NoError(t, l.Announce(t.Context()))
	mustTake(t, l, hold, Want{Limit: "calls"})
	testkit.NoError(t, mustTake(t, l, hold, Want{Limit: "calls"}).Done(t.Context()))
	v.advance(time.Second)
	all, err := ReadUsage(t.Context(), v.rdb, "test")
	testkit.NoError(t, err)
	if len(all) != 3 || all[0].Name != "calls" || all[1].Name != "off" || all[2].Name != "overall" {
		t.Fatalf("usage is %+v, want calls, off, overall", all)
	}
	u := all[0]
	if u.N != 2 || u.Window != time.Minute || u.Used != 2 || u.InFlight != 1 || !u.At.Equal(v.now) ||
		!u.NextFree.Equal(v.now.Add(59*time.Second)) {
		t.Errorf("usage of calls is %+v", u)
	}
	if u := all[2]; u.Used != 0 || !u.NextFree.IsZero() {
		t.Errorf("usage of overall is %+v, want a place free now", u)
	}
	few, err := readAll(t.Context(), v.rdb, "test", 1) // the script ends after the first, and is run again
	if testkit.NoError(t, err); len(few) != 3 || len(few[0].Frees) != 1 || few[2].Name != "overall" {
		t.Errorf("read in parts it is %+v", few)
	}
}
