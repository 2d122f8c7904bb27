package main

import (
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/tasks"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(20 - i)
	}
	for _, c := range []struct {
		values []float64
		p      int
		want   float64
	}{
		{twenty, 50, 10}, {twenty, 95, 19}, {twenty, 100, 20},
		{[]float64{7}, 50, 7}, {[]float64{3, 1, 2}, 50, 2}, {[]float64{1, math.Inf(1)}, 95, math.Inf(1)},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile(%v, %d) = %v, want %v", c.values, c.p, got, c.want)
		}
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("of nothing it is %v, want not a number", got)
	}
}

func TestParseInfo(t *testing.T) {
	t.Parallel()
	const info = "# Stats\r\ntotal_connections_received:3\r\ntotal_commands_processed:12\r\nused_memory_human:1.1M\r\n"
	if n, err := parseInfo(info, "total_commands_processed"); n != 12 || err != nil {
		t.Errorf("total_commands_processed is %d, %v; want 12", n, err)
	}
	for _, name := range []string{"total_commands", "used_memory_human"} {
		if n, err := parseInfo(info, name); err == nil {
			t.Errorf("%s is %d, want an error", name, n)
		}
	}
}

func TestParseCalls(t *testing.T) {
	t.Parallel()
	const stats = "# Commandstats\r\ncmdstat_rpoplpush:calls=812,usec=900,usec_per_call=1.11\r\n" +
		"cmdstat_config|get:calls=3,usec=9\r\ncmdstat_rpop:calls=many,usec=9\r\n"
	for command, want := range map[string]int64{"rpoplpush": 812, "config|get": 3, "blmove": 0} {
		if n, err := parseCalls(stats, command); n != want || err != nil {
			t.Errorf("%s was called %d times, %v; want %d", command, n, err, want)
		}
	}
	if n, err := parseCalls(stats, "rpop"); err == nil {
		t.Errorf("%q calls are %d, want an error", "many", n)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	const stat = "4711 (a (bad) name) S 1 4711 4711 0 -1 4194304 1200 0 3 0 150 50 0 0 20 0 9 0 12345 1000 200\n"
	if cpu, err := parseStat(stat); cpu != 2*time.Second || err != nil {
		t.Errorf("got %s, %v; want 2s: 150 ticks in the program and 50 in the kernel", cpu, err)
	}
	for _, bad := range []string{"", "4711 (short) S 1 2", "1 (x) S 1 1 1 0 -1 1 1 0 3 0 many 50 0"} {
		if cpu, err := parseStat(bad); err == nil {
			t.Errorf("%q gives %s, want an error", bad, cpu)
		}
	}
}

func TestParsePeak(t *testing.T) {
	t.Parallel()
	const status = "Name:\tenqueue\nVmPeak:\t 1234567 kB\nVmHWM:\t  102400 kB\nVmRSS:\t     12 kB\n"
	if peak, err := parsePeak(status); peak != 100<<20 || err != nil {
		t.Errorf("got %d, %v; want 100 MiB", peak, err)
	}
	for _, bad := range []string{"", "Name:\tenqueue\nState:\tZ (zombie)\n", "VmHWM:\tmuch kB\n"} {
		if peak, err := parsePeak(bad); err == nil {
			t.Errorf("%q gives %d, want an error", bad, peak)
		}
	}
}

// TestTheLongestStopIsTheLongestCommand also when a short one came after it, and without the log's own reading.
func TestTheLongestStopIsTheLongestCommand(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := startRedis(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.close)
	if got, err := server.slowest(ctx); got != slowIs || err != nil {
		t.Errorf("of nothing it is %s, %v; want the bound %s", got, err, slowIs)
	}
	const loop = "for i = 1, tonumber(ARGV[1]) do redis.call('TIME') end return 1"
	for _, n := range []int{100_000, 10_000} {
		if err := server.rdb.Eval(ctx, loop, nil, n).Err(); err != nil {
			t.Fatal(err)
		}
	}
	long, err := server.slowest(ctx)
	if long < 5*time.Millisecond || err != nil {
		t.Errorf("the longest command took %s, %v", long, err)
	}
	if err := server.forgetSlow(ctx); err != nil {
		t.Fatal(err)
	}
	if again, err := server.slowest(ctx); again >= long || err != nil {
		t.Errorf("after it was forgotten: %s, %v", again, err)
	}
}

// TestWhatTheBaselineDoesNotDoIsNotMissing in the table.
func TestWhatTheBaselineDoesNotDoIsNotMissing(t *testing.T) {
	t.Parallel()
	r := report{rows: []row{{answer: answer{
		usher: figure{value: 1}, before: figure{err: errNoEarlier}, baseline: figure{err: errNoBaseline},
	}}}}
	if !r.complete() || r.rows[0].remarks() != "" {
		t.Errorf("complete: %t, remarks: %q", r.complete(), r.rows[0].remarks())
	}
	if r.rows[0].usher = (figure{err: errNoFigure}); r.complete() {
		t.Error("a figure that is missing of Usher is not noticed")
	}
}

func TestParseCPUInfo(t *testing.T) {
	t.Parallel()
	const info = "processor\t: 0\nmodel name\t: Example 3000\n\nprocessor\t: 1\nmodel name\t: Example 3000\n"
	if model, count := parseCPUInfo(info); model != "Example 3000" || count != 2 {
		t.Errorf("got %d × %q", count, model)
	}
}

// calls makes up requests: one each 100 ms, every fifth refused, each preceded by a look-up that is no call for an
// invitation.
func calls(n int) []clerktest.Request {
	start := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	var requests []clerktest.Request
	for i := range n {
		at, status := start.Add(time.Duration(i)*100*time.Millisecond), 200
		if i%5 == 0 {
			status = 429
		}
		requests = append(requests,
			clerktest.Request{Endpoint: clerktest.Users, Arrived: at.Add(-time.Hour), Status: 200},
			clerktest.Request{Endpoint: clerktest.Bulk, Arrived: at, Status: status, Recipients: 10})
	}
	return requests
}

func TestSpanAndPace(t *testing.T) {
	t.Parallel()
	requests := calls(101) // the last one, number 100, is refused
	if got := span(requests); got != 9900*time.Millisecond {
		t.Errorf("span is %s, want 9.9 s: from the first call, refused or not, to the last that succeeded", got)
	}
	if got := pace(requests); math.Abs(got-80) > 1 {
		t.Errorf("pace is %v recipients/s, want 80: four calls of ten in half a second", got)
	}
	if got := pace(calls(2)); !math.IsNaN(got) {
		t.Errorf("pace of too few calls is %v, want not a number", got)
	}
	if got := span(nil); got != 0 {
		t.Errorf("span of nothing is %s", got)
	}
}

func TestBestSpan(t *testing.T) {
	t.Parallel()
	const window = 6 * time.Second
	for n, want := range map[int]time.Duration{350: 0, 351: window, 440: window, 1390: 3 * window} {
		if got := bestSpan(n); got != want {
			t.Errorf("bestSpan(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	list := people("person", 101)
	out, rest := split(list, 50)
	if len(out) != 3 || out[1].EmailAddress != list[50].EmailAddress || len(rest) != 98 ||
		rest[0].EmailAddress != list[1].EmailAddress {
		t.Errorf("got %d out and %d that remain; want numbers 0, 50 and 100, and the other 98", len(out), len(rest))
	}
}

func TestBullJobs(t *testing.T) {
	t.Parallel()
	tens, ones := bullJobs(people("person", 25), bulkSize), bullJobs(people("person", 2), 1)
	if len(tens) != 3 || len(ones) != 2 {
		t.Fatalf("%d jobs for ten and %d for one, want 3 and 2", len(tens), len(ones))
	}
	if last, ok := tens[2].Data.([]tasks.Recipient); !ok || len(last) != 5 {
		t.Errorf("the last job for ten has %v, want the 5 that remain", tens[2].Data)
	}
	if one, ok := ones[1].Data.(tasks.Recipient); !ok || one.EmailAddress != "person00001@example.com" {
		t.Errorf("the second job for one has %v", ones[1].Data)
	}
}

func TestWithoutNodeNothingElseIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := &bench{dir: t.TempDir()}
	if err := b.installBull(t.Context()); !errors.Is(err, errNoNode) {
		t.Fatalf("got %v, want that node is not installed", err)
	}
	without := row{answer: answer{before: figure{err: errNoEarlier}, baseline: measured(0, b.bull.err)}}
	if got := without.remarks(); got != "baseline not measured: node is not installed" {
		t.Errorf("the row remarks %q", got)
	}
	if !(report{rows: []row{without}}).complete() {
		t.Error("the report is not complete; want it to be: there is nothing to measure")
	}
	without.baseline.err = errNoFigure
	if (report{rows: []row{without}}).complete() {
		t.Error("the report is complete without a figure")
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{
		0: "0", 0.5: "0.50", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567", -150: "-150", -1500: "-1,500",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) = %s, want %s", value, got, want)
		}
	}
	bounded := row{answer: answer{usher: figure{value: 90}, baseline: figure{value: 30_000, atLeast: true}}}
	if got := bounded.ratioText(); got != "< 0.0030" {
		t.Errorf("ratio to a bound is %s", got)
	}
	missing := row{answer: answer{usher: measured(math.NaN(), nil), baseline: figure{value: 1}}}
	if got := missing.ratioText(); got != "-" || missing.remarks() == "" {
		t.Errorf("ratio of a missing figure is %s, remarks %q; want - and why", got, missing.remarks())
	}
}

func TestAnEarlierBuildHasAColumnOfItsOwn(t *testing.T) {
	t.Parallel()
	shown := row{answer: answer{usher: figure{value: 1}, before: figure{value: 7654}, baseline: figure{value: 3}}}
	for _, compared := range []bool{true, false} {
		r := report{rows: []row{shown}, compared: compared}
		if !compared {
			r.rows[0].before = figure{err: errNoEarlier}
		}
		var table strings.Builder
		if err := r.print(&table, false); err != nil {
			t.Fatal(err)
		}
		if got := table.String(); strings.Contains(got, "before") != compared ||
			strings.Contains(got, "7,654") != compared {
			t.Errorf("compared %t:\n%s", compared, got)
		}
		if !r.complete() || r.rows[0].remarks() != "" {
			t.Errorf("compared %t: something is missing: %s", compared, r.rows[0].remarks())
		}
	}
	if exit := run([]string{"-old", t.TempDir()}, io.Discard, io.Discard); exit != exitUsage {
		t.Errorf("a folder without commands: exit %d", exit)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if got := choose(measurements(), regexp.MustCompile("memory of Redis, invite tasks")); len(got) != 1 {
		t.Errorf("%d measurements chosen, want the one that has the row", len(got))
	}
	if got := choose(measurements(), regexp.MustCompile("")); len(got) != len(measurements()) {
		t.Errorf("%d measurements chosen, want all", len(got))
	}
}
