package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// changes is a stream that tells of every line that is written to it.
type changes struct {
	lines    chan string
	terminal bool
}

func (c changes) Terminal() bool { return c.terminal }

func (c changes) Write(p []byte) (int, error) {
	c.lines <- string(p)
	return len(p), nil
}

// watched runs the command beside the test, and gives what it writes to its standard output or its standard error as
// it comes.
func (s *stage) watched(ctx context.Context, stream string, args ...string) (lines <-chan string, exit <-chan int) {
	out := changes{make(chan string, 1000), stream == onTerminal}
	ended := make(chan int, 1)
	args = append([]string{"--redis-url", s.url}, args...)
	go func() {
		stdout, stderr := io.Writer(out), io.Discard
		if stream != onStdout {
			stdout, stderr = stderr, stdout
		}
		ended <- run(ctx, args, strings.NewReader(""), stdout, stderr)
	}()
	return out.lines, ended
}

// What of a command is watched.
const (
	onStdout   = "standard output"
	onStderr   = "standard error"
	onTerminal = "standard error that is a terminal"
)

// next is the next of some lines that is as wanted.
func next(t *testing.T, lines <-chan string, as func(string) bool) string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line := <-lines:
			if as(line) {
				return line
			}
		case <-late:
			t.Fatal("no such line within a minute")
		}
	}
}

func has(text string) func(string) bool {
	return func(line string) bool { return strings.Contains(line, text) }
}

// exits wants an exit code within a minute.
func exits(t *testing.T, exit <-chan int, want int) {
	t.Helper()
	select {
	case got := <-exit:
		if got != want {
			t.Errorf("exit %d, want %d", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("no end within a minute")
	}
}

func TestAWaitEndsWithItsTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	lines, exit := s.watched(t.Context(), onStdout, "invite", "ada@example.com", "--id", "ada", "--wait")
	next(t, lines, has("Enqueued the invitation of ada@example.com: task ada.\n"))
	s.ended("ada", record.Record{State: record.Done, InvitationID: "inv_1"})
	next(t, lines, has("Done: invitation inv_1.\n"))
	exits(t, exit, 0)
}

// TestAnInterruptLeavesTheTask: it ends the wait at once.
func TestAnInterruptLeavesTheTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 3))
	for task, args := range map[string][]string{
		"ada":           {"invite", "ada@example.com", "--id", "ada"},
		"bulk:spring:1": {"bulk-invite", file, "--campaign", "spring"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		lines, exit := s.watched(ctx, onStdout, append(args, "--wait")...)
		next(t, lines, has(task))
		interrupt()
		exits(t, exit, 130)
		want(t, s.ok("status", task), map[string]any{"state": "pending"})
	}
}

func TestAWatchTellsAProgramEveryChange(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("bulk", 20)), "--campaign", "spring")
	lines, exit := s.watched(t.Context(), onStdout, "campaign", "watch", "spring", "--json")
	next(t, lines, has(`"sent":0`))
	s.sent("spring", 5)
	next(t, lines, has(`"sent":5`))
	s.ok("campaign", "pause", "spring")
	next(t, lines, has(`"reason":"paused"`))
	s.ok("campaign", "cancel", "spring", "--yes")
	last := next(t, lines, has(`"state":"cancelled"`))
	exits(t, exit, 3)
	var object map[string]any
	testkit.NoError(t, json.Unmarshal([]byte(last), &object))
	if _, told := object["recipients_per_hour"]; !told || len(lines) != 0 {
		t.Errorf("%v, and %d more", object, len(lines))
	}
}

// TestACampaignThatIsOverIsNotAskedAbout: a finished one cannot be cancelled, and a cancelled one stays so.
func TestACampaignThatIsOverIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, name := range []string{"done", "gone"} {
		s.ok("bulk-invite", s.write(name+".csv", people(name, 2)), "--campaign", name)
	}
	s.sent("done", 2)
	s.finish("done")
	if a := s.enqueue("campaign", "cancel", "done"); a.exit != 1 || strings.Contains(a.stderr, "to go?") {
		t.Errorf("%+v", a)
	}
	if a := s.enqueue("campaign", "cancel", "gone"); a.exit != 2 || !strings.Contains(a.stderr, "2 recipients to go?") {
		t.Errorf("%+v", a)
	}
	s.ok("campaign", "cancel", "gone", "--yes")
	want(t, s.ok("campaign", "cancel", "gone"), map[string]any{"state": "cancelled"})
}

func TestAWatchTellsAPersonEveryTenth(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("bulk", 20)), "--campaign", "spring")
	lines, exit := s.watched(t.Context(), onStderr, "campaign", "watch", "spring")
	next(t, lines, has("0 of 20 recipients: 0 sent, 0 dead, 20 remaining, no ETA"))
	s.sent("spring", 5)
	next(t, lines, has("5 of 20 recipients: 5 sent, 0 dead, 15 remaining"))
	s.ok("campaign", "pause", "spring")
	next(t, lines, has("paused"))
	s.ok("campaign", "resume", "spring")
	next(t, lines, has("no ETA"))
	s.dead("spring", 15, "duplicate_record")
	s.finish("spring")
	next(t, lines, has("20 of 20 recipients: 5 sent, 15 dead, 0 remaining, finished"))
	exits(t, exit, 0)
	if len(lines) != 0 {
		t.Errorf("and then %q", <-lines)
	}
}

// TestAWatchTellsWhyACampaignStandsStill once for each reason, but for a window that is closed as usual.
func TestAWatchTellsWhyACampaignStandsStill(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	p := progress{out: &output{stderr: &told}}
	c := tasks.Campaign{State: tasks.CampaignRunning, Recipients: 10, Remaining: 10, ETA: time.Now().Add(time.Hour)}
	for _, s := range []*tasks.Standstill{
		nil, {Reason: "endpoint", Message: "Clerk serves nobody"}, nil, {Reason: "endpoint", Message: "Clerk serves nobody"},
		{Reason: "window", Message: "the limits are used up"}, {Reason: "key", Message: "the key is refused"},
	} {
		c.Standstill = s
		testkit.NoError(t, p.show(c, 0))
	}
	lines := strings.Split(strings.TrimSpace(told.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "Clerk serves nobody") ||
		!strings.Contains(lines[2], "key is refused") {
		t.Errorf("told is %q", lines)
	}
}

func TestAWaitForABulkShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", people("bulk", 20))
	lines, exit := s.watched(t.Context(), onStderr, "bulk-invite", file, "--campaign", "spring", "--wait")
	next(t, lines, has("0 of 20"))
	s.sent("spring", 20)
	s.finish("spring")
	next(t, lines, has("20 of 20"))
	exits(t, exit, 0)
	// With --json only the answer is told, when it is there.
	lines, exit = s.watched(t.Context(), onStdout, "bulk-invite", file, "--campaign", "spring", "--wait", "--json")
	exits(t, exit, 0)
	answered := s.object(answer{stdout: next(t, lines, has("sent"))})
	want(t, answered, map[string]any{"sent": 20, "state": tasks.StateDone})
	if len(lines) != 0 {
		t.Errorf("and then %q", <-lines)
	}
}

func TestAWatchDrawsABarOnATerminal(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("bulk", 20)), "--campaign", "spring")
	lines, exit := s.watched(t.Context(), onTerminal, "campaign", "watch", "spring")
	next(t, lines, has("0 of 20"))
	s.sent("spring", 10)
	next(t, lines, has("10 of 20"))
	s.sent("spring", 10)
	s.finish("spring")
	next(t, lines, has("20 sent, 0 dead, 0 remaining, finished"))
	exits(t, exit, 0)
}

// TestNothingIsToldTwice: an ETA and a pace waver, and a window that is closed is no news.
func TestNothingIsToldTwice(t *testing.T) {
	t.Parallel()
	c := tasks.Campaign{Name: "spring", State: tasks.CampaignRunning, Recipients: 100, Sent: 10, ETA: time.Now()}
	later, closed, further := c, c, c
	later.ETA, further.Sent = c.ETA.Add(time.Hour), 25
	closed.Standstill = &tasks.Standstill{Reason: forecast.ClosedWindow, Message: "the limits are used up"}
	for name, show := range map[string]struct {
		json  bool
		looks []tasks.Campaign
		want  int
	}{
		"the ETA, to a program":          {true, []tasks.Campaign{c, later, c}, 1},
		"the ETA, to a person":           {false, []tasks.Campaign{c, later, c}, 1},
		"a closed window, to a person":   {false, []tasks.Campaign{c, closed, c}, 1},
		"what has changed, to a program": {true, []tasks.Campaign{c, further, further}, 2},
		"what has changed, to a person":  {false, []tasks.Campaign{c, further, further}, 2},
	} {
		var told strings.Builder
		p := progress{out: &output{stdout: &told, stderr: &told, json: show.json}}
		for i, look := range show.looks {
			testkit.NoError(t, p.show(look, float64(i)))
		}
		if got := strings.Count(told.String(), "\n"); got != show.want {
			t.Errorf("%s: told %d times, want %d:\n%s", name, got, show.want, told.String())
		}
	}
}

// TestWhoWaitsIsToldThatClerkServesNobody: with the code, and since when.
func TestWhoWaitsIsToldThatClerkServesNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, policy.Default("test").Limits("k")...)
	testkit.NoError(t, err)
	testkit.NoError(t, limiter.Announce(t.Context()))
	testkit.NoError(t, policy.Default("test").Announce(t.Context(), s.rdb, tasks.DefaultNamespace))
	permit, err := limiter.Acquire(t.Context(), time.Minute, ratelimit.Want{Limit: policy.RestCreate})
	testkit.NoError(t, err)
	_, err = permit.Suspend(t.Context(), policy.RestCreate, ratelimit.Suspension{
		First: time.Hour, Why: "400 invitations_not_supported (trace abc)",
	})
	testkit.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	lines, exit := s.watched(ctx, onStderr, "invite", "ada@example.com", "--id", "ada", "--wait")
	next(t, lines, func(line string) bool {
		return strings.Contains(line, "Clerk serves nobody: 400 invitations_not_supported (trace abc), since ")
	})
	cancel()
	<-exit
}
