package ratelimit

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

// caller makes calls of a limit that only rests, on a virtual clock.
type caller struct {
	t      *testing.T
	v      *virtual
	l      *Limiter
	outage Breaker // as those that succeed say
}

func newCaller(t *testing.T) caller {
	v := newVirtual(t)
	l := v.limiter(t, Limit{Name: "rest"}, Limit{Name: "all", N: 1000, Window: time.Hour})
	return caller{t, v, l, Breaker{Parties: 2, Few: 100, Many: 100}}
}

// take takes a permit; nil: the limit rests.
func (c caller) take() *Permit {
	c.t.Helper()
	p, _, err := c.l.Try(c.t.Context(), time.Minute, Want{Limit: "rest"}, Want{Limit: "all"})
	testkit.NoError(c.t, err)
	return p
}

var breaker = Failure{
	Breaker:    Breaker{Parties: 2, Few: 3, Many: 10, Age: 10 * time.Second},
	Suspension: Suspension{First: time.Second, Most: 5 * time.Minute, Calm: 10 * time.Second, Why: "500 x"},
}

// fail makes a call for somebody that takes a second and fails, and tells whether the limit is suspended.
func (c caller) fail(party string) bool {
	c.t.Helper()
	p := c.take()
	if p == nil {
		c.t.Fatalf("no permit for %s", party)
	}
	c.v.advance(time.Second)
	f := breaker
	f.Party, f.Took = party, time.Second
	refusals, err := p.Fail(c.t.Context(), "rest", f)
	testkit.NoError(c.t, err)
	return refusals > 0
}

func (c caller) succeed() (ended bool) {
	c.t.Helper()
	ended, err := c.take().Succeed(c.t.Context(), "rest", c.outage)
	testkit.NoError(c.t, err)
	return ended
}

func (c caller) history() History {
	c.t.Helper()
	h, err := c.l.History(c.t.Context(), "rest")
	testkit.NoError(c.t, err)
	for i, o := range h.Outages { // so that they can be compared
		h.Outages[i].From = o.From.UTC()
		if !o.To.IsZero() {
			h.Outages[i].To = o.To.UTC()
		}
	}
	return h
}

func TestFailuresInARowSuspendALimit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		parties []string      // of calls that fail one after the other
		pause   time.Duration // between them
		open    bool          // the last one suspends the limit, and none before
	}{
		"many of several":           {[]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, 0, true},
		"too few of several":        {[]string{"a", "b", "c", "d", "e"}, 0, false},
		"few of two, slowly":        {[]string{"a", "b", "a"}, 8 * time.Second, true},
		"two are too few":           {[]string{"a", "b"}, time.Minute, false},
		"many of one":               {strings.Split("aaaaaaaaaaaaaa", ""), time.Minute, false},
		"of anybody, slowly":        {[]string{"", "", ""}, 8 * time.Second, true},
		"one of two comes at last":  {[]string{"a", "a", "a", "a", "b"}, 8 * time.Second, true},
		"one of two came at first":  {[]string{"b", "a", "a"}, 8 * time.Second, true},
		"one of two is not the end": {[]string{"a", "a", "a"}, 8 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			for i, party := range test.parties {
				if open := c.fail(party); open != (test.open && i == len(test.parties)-1) {
					t.Fatalf("after failure %d: suspended %t", i+1, open)
				}
				c.v.advance(test.pause)
			}
		})
	}
}

// TestASuccessBetweenFailuresIsProofThatCallsAreServed: however many fail.
func TestASuccessBetweenFailuresIsProofThatCallsAreServed(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	for range 20 {
		for _, party := range []string{"a", "b"} {
			if c.fail(party) {
				t.Fatal("suspended")
			}
			c.v.advance(20 * time.Second)
		}
		c.succeed()
		if h := c.history(); len(h.Outages) > 0 || !h.Succeeded.Equal(c.v.now) {
			t.Fatalf("%+v at %s", h, c.v.now)
		}
	}
}

// TestManyFailuresAreAnOutageAlsoWithoutARest: of several, and as old as is asked.
func TestManyFailuresAreAnOutageAlsoWithoutARest(t *testing.T) {
	t.Parallel()
	for parties, want := range map[string]int{"ab": 1, "aa": 0, "a": 0} {
		c := newCaller(t)
		c.outage = Breaker{Parties: 2, Few: 2, Many: 100, Age: 10 * time.Second}
		began := c.v.now
		for _, party := range strings.Split(parties, "") {
			c.fail(party)
			c.v.advance(5 * time.Second)
		}
		if h := c.history(); len(h.Outages) != 0 {
			t.Errorf("%s: %+v before it is over", parties, h)
		}
		c.succeed()
		h := c.history()
		if len(h.Outages) != want || want > 0 && (!h.DownAt(began) || h.DownAt(began.Add(-1))) {
			t.Errorf("%s: %+v", parties, h)
		}
	}
}

// TestOneThatFailsAgainCountsAsTwoIfNothingSucceeds: for a while.
func TestOneThatFailsAgainCountsAsTwoIfNothingSucceeds(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.succeed()
	f := breaker
	f.Party, f.Breaker = "a", Breaker{Parties: 2, Quiet: time.Minute, Few: 2, Many: 2}
	for i, want := range []int{0, 0, 1} {
		refusals, err := c.take().Fail(t.Context(), "rest", f)
		if refusals != want || err != nil {
			t.Fatalf("failure %d: %d, %v", i+1, refusals, err)
		}
		c.v.advance(30 * time.Second)
	}
}

// TestAProbeKnowsWhoseCallFailedLast: so that it can be made for somebody else.
func TestAProbeKnowsWhoseCallFailedLast(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	f := breaker
	f.Party, f.Asked = "a", time.Millisecond
	if refusals, err := c.take().Fail(t.Context(), "rest", f); refusals != 0 || err != nil {
		t.Fatalf("%d, %v", refusals, err)
	}
	c.v.advance(time.Second)
	probe := c.take()
	if !probe.Probes() || probe.Suspect() != "a" {
		t.Errorf("it probes: %t; suspect %q", probe.Probes(), probe.Suspect())
	}
	_, err := probe.Succeed(t.Context(), "rest", c.outage)
	testkit.NoError(t, err)
	if p := c.take(); p.Probes() || p.Suspect() != "" {
		t.Errorf("after a success it probes: %t; suspect %q", p.Probes(), p.Suspect())
	}
}

// TestAnOutageLastsFromItsFirstFailureToASuccess: and a call that was under way when the limit was suspended proves
// nothing about later ones.
func TestAnOutageLastsFromItsFirstFailureToASuccess(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.succeed()
	began := c.v.now
	flying := c.take()
	for _, party := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		c.fail(party)
	}
	if ended, err := flying.Succeed(t.Context(), "rest", c.outage); ended || err != nil {
		t.Errorf("a call that was under way ended the outage: %t, %v", ended, err)
	}
	if p := c.take(); p != nil {
		t.Fatal("calls go on")
	}
	lasts := c.history()
	if want := []Outage{{From: began}}; !reflect.DeepEqual(lasts.Outages, want) {
		t.Fatalf("%+v, want %+v", lasts.Outages, want)
	}
	c.v.advance(time.Second)
	probe := c.take()
	if !probe.Probes() || c.take() != nil {
		t.Fatal("not one call goes first")
	}
	c.v.advance(time.Second)
	if refusals, err := probe.Fail(t.Context(), "rest", breaker); refusals != 2 || err != nil {
		t.Fatalf("a probe that fails: %d, %v", refusals, err)
	}
	c.v.advance(2 * time.Second)
	if !c.succeed() {
		t.Fatal("the outage goes on")
	}
	h := c.history()
	if want := []Outage{{From: began, To: c.v.now}}; !reflect.DeepEqual(h.Outages, want) {
		t.Errorf("%+v, want %+v", h.Outages, want)
	}
	for at, during := range map[time.Time]bool{
		began.Add(-time.Microsecond): false, began: true, c.v.now: true, c.v.now.Add(time.Microsecond): false,
	} {
		if h.DownAt(at) != during || !lasts.DownAt(c.v.now) {
			t.Errorf("%s is in the outage: %t", at, !during)
		}
	}
	for range 12 { // more than are kept
		for _, party := range []string{"a", "b", "c"} {
			c.fail(party)
			c.v.advance(11 * time.Second)
		}
		c.v.advance(time.Hour)
		c.succeed()
	}
	if n := len(c.history().Outages); n != 8 {
		t.Errorf("%d outages are kept", n)
	}
}

// TestAFailureThatWasNotSentDoesNotCount: and one that says how long to wait lets everybody wait.
func TestAFailureThatWasNotSentDoesNotCount(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	testkit.NoError(t, c.l.Announce(t.Context()))
	used := func() int {
		usages, err := ReadUsage(t.Context(), c.v.rdb, "test")
		testkit.NoError(t, err)
		return usages[0].Used
	}
	f := breaker
	f.Unsent = true
	_, err := c.take().Fail(t.Context(), "rest", f)
	testkit.NoError(t, err)
	if used() != 0 {
		t.Errorf("%d calls count", used())
	}
	f.Unsent, f.Asked = false, 20*time.Second
	_, err = c.take().Fail(t.Context(), "rest", f)
	testkit.NoError(t, err)
	c.v.advance(19 * time.Second)
	if used() != 1 || c.take() != nil {
		t.Errorf("%d calls count; does it rest?", used())
	}
	c.v.advance(time.Second)
	if p := c.take(); p == nil || !p.Probes() || c.take() != nil {
		t.Error("not one call goes first")
	}
}

func TestGarbageInAHistoryIsRefused(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	for _, field := range []string{"succeeded", "out", "outages"} {
		c.v.rdb.HSet(t.Context(), stateKey("test", "rest"), field, "12x")
		if h, err := c.l.History(t.Context(), "rest"); err == nil {
			t.Errorf("%s: %+v", field, h)
		}
		c.v.rdb.HDel(t.Context(), stateKey("test", "rest"), field)
	}
}
