package main

import (
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// TestShort plays a small storm with another seed each time; -seed and -short of the command play it again.
func TestShort(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if exit := run([]string{"-short"}, &out, t.Output()); exit != exitDone {
		t.Errorf("exit %d, want %d", exit, exitDone)
	}
	t.Log(out.String())
}

func TestMisdelivered(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	sent := []clerktest.Sent{
		{Folded: address(1), Request: 4, At: at},
		{Folded: address(2), Request: 5, At: at, Bulk: true},
		{Folded: address(2), Request: 9, At: at, Late: true},
		{Folded: "eve@example.com", Request: 6, At: at},
	}
	got := strings.Join(misdelivered(sent, onceEach(span{from: 0, to: 3}, span{from: 3, to: 4})), "\n")
	for _, want := range []string{
		"2 of 4 were not sent what was asked: no. 0, no. 3",
		"no. 2 sent 2, want 1: request 5 (bulk) at 09:00:00.000, request 9 (create, late) at 09:00:00.000",
		"a stranger sent 1, want 0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "no. 1 ") || strings.Contains(got, "@") {
		t.Errorf("it blames no. 1, or names an address:\n%s", got)
	}
	if wrong := misdelivered(sent[:1], onceEach(span{from: 1, to: 2})); len(wrong) != 0 {
		t.Errorf("it finds %q where all is well", wrong)
	}
}

func TestProbesMustBeFewAndOneAtATime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	refused := func(millis ...int) (requests []clerktest.Request) {
		for _, ms := range millis {
			requests = append(requests, clerktest.Request{Arrived: at.Add(time.Duration(ms) * time.Millisecond),
				Status: 401})
		}
		return requests
	}
	for _, c := range []struct {
		name     string
		requests []clerktest.Request
		wrong    int
	}{
		{"many in flight and two probes", refused(0, 1, 2, 3, 4, 5, 1000, 5000), 0},
		{"two probes at once", refused(0, 1000, 1010), 1},
		{"too many probes", refused(0, 1000, 2000, 3000, 4000, 5000), 1},
	} {
		s := &stage{}
		if s.checkProbes(c.requests); len(s.violations) != c.wrong {
			t.Errorf("%s: %q, want %d", c.name, s.violations, c.wrong)
		}
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	r := readiness{seen: []readyAnswer{
		{at, 200, "ready"}, {at.Add(time.Second), 503, "Clerk refuses the secret key"},
		{at.Add(2 * time.Second), 503, "Redis cannot be reached"},
	}}
	for until, wrong := range map[time.Duration]int{time.Second: 0, 2 * time.Second: 1} {
		if got := r.violations(at.Add(time.Millisecond), at.Add(until)); len(got) != wrong {
			t.Errorf("until %s: %q, want %d", until, got, wrong)
		}
	}
	if got := r.violations(at.Add(time.Hour), at.Add(2*time.Hour)); len(got) != 1 {
		t.Errorf("never asked: %q, want that said", got)
	}
}

func TestStagesDrawAlikeFromASeed(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64, actor string) uint64 {
		return (&stage{scenario: scenario{name: "storm"}, seed: seed}).rng(actor).Uint64()
	}
	first := draw(1, "killer")
	if again := draw(1, "killer"); again != first {
		t.Error("the same actor draws differently from the same seed")
	}
	if draw(2, "killer") == first || draw(1, "redis") == first {
		t.Error("another seed or actor draws the same")
	}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	total := report{Scenario: "storm", Held: true}
	for _, held := range []bool{true, false} {
		total.add(report{Held: held, Seconds: 1.5,
			Survived: tally{Faults: map[string]int{"reset": 2}, Kills: 3, KillsAtIntent: 2, KillsCut: 1}})
	}
	if total.Held || total.heldRuns != 1 || total.Seconds != 3 {
		t.Errorf("the total is %+v", total)
	}
	if line := total.line(); !strings.Contains(line,
		"4 faults (4 reset) · 6 kills (4 at an open intent, 2 cut a call)") {
		t.Errorf("the line is %q", line)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if got, err := choose(scenarios(), "blame"); err != nil || len(got) != 1 || got[0].name != "blame" {
		t.Errorf("blame chooses %d, %v", len(got), err)
	}
	if _, err := choose(scenarios(), "nothing"); err == nil {
		t.Error("an unknown name is accepted")
	}
}

func TestMixedNeedsAnEarlierBuild(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-only", mixed}, {"-only", mixed, "-old", t.TempDir()}} {
		var stderr strings.Builder
		if exit := run(args, io.Discard, &stderr); exit != exitUsage || !strings.Contains(stderr.String(), "-old") {
			t.Errorf("%q: exit %d, %s", args, exit, stderr.String())
		}
	}
	if o, err := parse(nil, io.Discard); err != nil || len(o.scenarios) != len(scenarios()) {
		t.Errorf("all scenarios without -old: %d, %v", len(o.scenarios), err)
	}
}

func TestPiecesAreTheWhole(t *testing.T) {
	t.Parallel()
	whole, at := span{from: 7, to: 67}, 7
	for i := range pieces {
		if piece := whole.piece(i); piece.from != at || piece.size() != 5 {
			t.Errorf("piece %d is %v", i, piece)
		}
		at = whole.piece(i).to
	}
	if at != whole.to {
		t.Errorf("the last piece ends at %d", at)
	}
}

// TestShares: struck in turn, each fault gets its share of all calls.
func TestShares(t *testing.T) {
	t.Parallel()
	left, sum := 1.0, 0.0
	for _, p := range probabilities([]fault{{share: 0.07}, {share: 0.07}, {share: 0.5}}) {
		sum += left * p
		left *= 1 - p
	}
	if math.Abs(sum-0.64) > 1e-9 {
		t.Errorf("the faults strike %v of the calls, want 0.64", sum)
	}
}
