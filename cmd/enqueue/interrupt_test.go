package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/alicebob/miniredis/v2/server"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// everyCommand has arguments for every command, with which it goes as far as it can.
func everyCommand() map[string][]string {
	return map[string][]string{
		"invite": {"ada@example.com"}, "bulk-invite": {"FILE"}, "revoke": {"inv_1"}, "delete": {"inv_1", "--yes"},
		"sync-list": nil, "status": nil, "find": {"ada@example.com"}, "resume-calls": nil, "invitations": nil,
		"campaign list": nil, "campaign status": {"spring"}, "campaign watch": {"spring"}, "campaign pause": {"spring"},
		"campaign resume": {"spring"}, "campaign cancel": {"spring", "--yes"}, "campaign export": {"spring"},
		"campaign delete": {"spring", "--yes"}, "dead-letter list": nil, "dead-letter show": {"one"},
		"dead-letter retry": {"--all"}, "dead-letter delete": {"--all", "--yes"}, "dead-letter export": nil,
		"schedule list": nil, "schedule check": {"FILE"}, "schedule run": {"daily"}, "schedule pause": {"daily"},
		"schedule resume": {"daily"}, "schedule remove": {"daily"}, "task list": nil,
		"task cancel": {"one", "--yes"}, "completion": {"bash"}, "help": nil, "serve": {"--no-auth", "--addr", "127.0.0.1:0"}, "forget": {"ada@example.com", "--yes"},
		"restore": {"--no-log", "--yes"},
	}
}

// leaves are the paths of all commands.
func leaves(t *testing.T) (paths []string) {
	t.Helper()
	parser, err := kong.New(&grammar{}, kong.Vars{"version": "", "clerk_key": ""})
	testkit.NoError(t, err)
	for _, leaf := range parser.Model.Leaves(false) {
		paths = append(paths, pathOf(leaf))
	}
	return paths
}

// interrupt runs a command, interrupts it once that is due, and wants it to end within a second.
func (s *stage) interrupt(stdin io.Reader, due <-chan struct{}, args ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var interrupted time.Time
	ended := make(chan answer, 1)
	go func() { ended <- s.run(ctx, stdin, args...) }()
	<-due
	interrupted = time.Now()
	cancel()
	a := <-ended
	if took := time.Since(interrupted); took > time.Second || a.exit != exitInterrupted {
		s.t.Errorf("%q: exit %d after %s, want %d within a second\n%s%s", args, a.exit, took, exitInterrupted, a.stdout,
			a.stderr)
	}
	return a
}

// TestEveryCommandIsInterruptedWithinASecond by a signal, while its Redis hangs at its first request.
func TestEveryCommandIsInterruptedWithinASecond(t *testing.T) {
	t.Parallel()
	commands := everyCommand()
	for _, path := range leaves(t) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			args, known := commands[path]
			if !known {
				t.Fatal("everyCommand has no arguments for it; howToRepeat must know it too")
			}
			if path == "help" || path == "completion" || path == "serve" || path == "schedule check" {
				return // they wait for nothing
			}
			s := setup(t)
			args = slices.Clone(args)
			if i := slices.Index(args, "FILE"); i >= 0 {
				args[i] = s.write("people.csv", people("p", 3))
			}
			due := s.hangs(func(cmd string) bool { return !slices.Contains([]string{"HELLO", "CLIENT"}, cmd) })
			a := s.interrupt(strings.NewReader(""), due, append(strings.Fields(path), args...)...)
			if !strings.Contains(a.stderr, "interrupted; nothing was ") &&
				!strings.Contains(a.stderr, "interrupted; unknown whether anything was ") {
				t.Errorf("%s", a.stderr)
			}
			if changes, again := howToRepeat(path); changes && path != "invite" && again == "" {
				t.Error("nobody is told how to repeat it")
			}
		})
	}
}

// hangs lets the stage's Redis answer no more from a command on, and tells when it has come.
func (s *stage) hangs(at func(cmd string) bool) (due <-chan struct{}) {
	came, ended := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.t.Cleanup(func() { close(ended) })
	s.mini.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if at(cmd) {
			once.Do(func() { close(came) })
			<-ended
			return true
		}
		return false
	})
	return came
}

func isScript(cmd string) bool { return strings.HasPrefix(cmd, "EVAL") }

// secondScript lets the script pass that tries what Redis would refuse.
func secondScript() func(cmd string) bool {
	var scripts atomic.Int32
	return func(cmd string) bool { return isScript(cmd) && scripts.Add(1) > 1 }
}

// TestAnInterruptTellsWhatIsKnown: enqueued, not enqueued, or unknown, and how to repeat it.
func TestAnInterruptTellsWhatIsKnown(t *testing.T) {
	t.Parallel()
	read := func(cmd string) bool { return strings.HasPrefix(cmd, "HM") || strings.HasPrefix(cmd, "SCRIPT") }
	for name, test := range map[string]struct {
		at   func(string) bool
		args []string
		want string
	}{
		"not enqueued": {read, []string{"invite", "ada@example.com"}, "interrupted; nothing was enqueued"},
		"unknown": {secondScript(), []string{"invite", "ada@example.com"}, "interrupted; unknown whether anything was " +
			"enqueued, because an answer of Redis was not waited for; do not just repeat it: enqueue find " +
			"ada@example.com tells"},
		"unknown, with an id": {secondScript(), []string{"invite", "ada@example.com", "--id", "one"},
			"repeat it with the same --id"},
		"unknown, a bulk":  {secondScript(), []string{"bulk-invite", "FILE"}, "repeat it with the same file and options"},
		"unknown, a pause": {secondScript(), []string{"campaign", "pause", "spring"}, "repeat it: that does nothing twice"},
		"only reads":       {isScript, []string{"campaign", "watch", "spring"}, "interrupted; nothing was changed"},
		"only rehearses": {isScript, []string{"dead-letter", "delete", "--all", "--dry-run"},
			"interrupted; nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			file := s.write("people.csv", people("p", 3))
			s.ok("bulk-invite", file, "--campaign", "spring")
			s.ok("invite", "dead@example.com", "--id", "dead")
			s.dies("dead", "dead@example.com", s.queued("usher:interactive", "dead"))
			for i, arg := range test.args {
				if arg == "FILE" {
					test.args[i] = file
				}
			}
			due := s.hangs(test.at)
			if name == "only rehearses" || name == "not enqueued" {
				due = s.hangs(func(cmd string) bool { return cmd != "HELLO" && cmd != "CLIENT" })
			}
			a := s.interrupt(strings.NewReader(""), due, test.args...)
			if !strings.Contains(a.stderr, test.want) {
				t.Errorf("%s\nwant %s", a.stderr, test.want)
			}
		})
	}
}

// TestAnUploadThatIsInterruptedAfterItsStepIsUnknown: workers go on with it.
func TestAnUploadThatIsInterruptedAfterItsStepIsUnknown(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("people.csv", people("p", 600))
	ctx, cancel := context.WithCancel(t.Context())
	s.mini.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if stepOf(cmd, args) == moving {
			cancel()
		}
		return false
	})
	a := s.run(ctx, strings.NewReader(""), "bulk-invite", file, "--campaign", "spring")
	if a.exit != exitInterrupted || !strings.Contains(a.stderr, "unknown whether anything was enqueued") ||
		!strings.Contains(a.stderr, "repeat it with the same file and options") {
		t.Errorf("%+v", a)
	}
	s.mini.Server().SetPreHook(nil)
	_, err := s.ledgers.Move(t.Context(), "spring") // as a worker does
	testkit.NoError(t, err)
	want(t, s.ok("campaign", "status", "spring"), map[string]any{"recipients": 600})
}

// TestAScriptThatOnlyReadsChangesNothing, so that who is interrupted while it reads is told so.
func TestAScriptThatOnlyReadsChangesNothing(t *testing.T) {
	t.Parallel()
	w, rdb := &work{}, testkit.MiniRedis(t)
	rdb.AddHook(w)
	_, err := store.ReadHashes(t.Context(), rdb, []string{"a", "b"})
	if testkit.NoError(t, err); w.asked {
		t.Error("it counts as a change")
	}
	if _, _, err := store.NewWorkers(rdb, "usher").List(t.Context()); err != nil || !w.asked {
		t.Errorf("what may change something does not: %v", err)
	}
}

// TestAnInterruptAmongManyTellsHowManyAreDone for certain: the answer about a later one is lost.
func TestAnInterruptAmongManyTellsHowManyAreDone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		key  string // of a script that changes it
		done string
	}{
		"retry as they are": {[]string{"dead-letter", "retry", "--all"}, "{once}:d:e:dead2", "100 dead letters retried"},
		"retry with a field": {[]string{"dead-letter", "retry", "--all", "--set", "notify=no"}, "{once}:d:e:dead2",
			"100 dead letters retried"},
		"retry from a file": {[]string{"dead-letter", "retry", "--from", "FILE", "--unchanged"}, "{once}:d:e:dead2",
			"100 dead letters retried"},
		"delete": {[]string{"dead-letter", "delete", "--all", "--yes"}, "{once}:d:e:dead2", "100 dead letters deleted"},
		"cancel": {[]string{"task", "cancel", "later0", "later1", "later2", "--yes"}, "{once}:t:later2",
			"2 tasks cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			for i := range 120 {
				if name == "cancel" { // letters change a hundred at a time
					break
				}
				old := fmt.Sprint("old", i)
				testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
					ID: old, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: old + "@example.com",
					Payload: fmt.Appendf(nil, `{"v":1,"email_address":"%s@example.com"}`, old), FailedAt: time.Unix(1, 0),
				}))
			}
			for i := range 3 {
				dead, later := fmt.Sprint("dead", i), fmt.Sprint("later", i)
				s.ok("invite", dead+"@example.com", "--id", dead)
				s.dies(dead, dead+"@example.com", s.queued("usher:interactive", dead))
				s.ok("invite", later+"@example.com", "--id", later, "--in", "2h")
			}
			file := filepath.Join(s.dir, "dead.csv")
			if a := s.enqueue("dead-letter", "export", "-o", file); a.exit != 0 {
				t.Fatal(a.stderr)
			}
			if i := slices.Index(test.args, "FILE"); i >= 0 {
				test.args[i] = file
			}
			due, ended := make(chan struct{}), make(chan struct{})
			t.Cleanup(func() { close(ended) })
			var once sync.Once
			s.mini.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
				if !isScript(cmd) || !slices.Contains(args, "usher:"+test.key) || store.OnlyReads(args[0]) {
					return false
				}
				once.Do(func() { close(due) })
				<-ended
				return true
			})
			a := s.interrupt(strings.NewReader(""), due, append(test.args, "--json")...)
			if !strings.Contains(a.stderr, "interrupted; "+test.done+" for certain, and perhaps some more; repeat it") ||
				!strings.Contains(a.stderr, `"outcome":"begun"`) {
				t.Errorf("%s", a.stderr)
			}
		})
	}
}

func TestAnInterruptedWaitTellsTheTask(t *testing.T) {
	t.Parallel()
	s := setup(t)
	due := make(chan struct{})
	go func() {
		testkit.Eventually(t, "it waits", func() bool {
			info, err := s.inspector().GetTaskInfo("usher:interactive", "one")
			return err == nil && info != nil
		})
		close(due)
	}()
	a := s.interrupt(strings.NewReader(""), due, "invite", "ada@example.com", "--id", "one", "--wait", "--json")
	if !strings.Contains(a.stderr, `"code":"interrupted"`) || !strings.Contains(a.stderr, "enqueue status one") ||
		!strings.Contains(a.stderr, `"outcome":"done"`) {
		t.Errorf("%s", a.stderr)
	}
}

// TestAnInterruptedErasureHasBegun: a program must not take it for done.
func TestAnInterruptedErasureHasBegun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	due := make(chan struct{})
	var once sync.Once
	s.mini.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if cmd == "GET" && strings.Contains(args[0], "{once}:t:") { // it waits for the deletion at Clerk
			once.Do(func() { close(due) })
		}
		return false
	})
	a := s.interrupt(strings.NewReader(""), due, "forget", "ada@example.com", "--at-clerk", "--yes", "--json")
	if !strings.Contains(a.stderr, `"outcome":"begun"`) || !strings.Contains(a.stderr, "repeat it") {
		t.Errorf("%+v", a)
	}
}

// silence is an input from which nothing comes.
type silence struct {
	read chan struct{} // closed when it is read
	once sync.Once
}

func (s *silence) Read([]byte) (int, error) {
	s.once.Do(func() { close(s.read) })
	select {}
}

func (*silence) Terminal() bool { return true }

// TestAnInterruptEndsReading: at a terminal it says what it waits for.
func TestAnInterruptEndsReading(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"bulk-invite", "-"}, {"bulk-invite", "-", "--dry-run"}, {"dead-letter", "retry", "--from", "-"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			stdin := &silence{read: make(chan struct{})}
			a := s.interrupt(stdin, stdin.read, args...)
			if !strings.Contains(a.stderr, "Reading from standard input …") ||
				!strings.Contains(a.stderr, "interrupted; nothing was ") {
				t.Errorf("%s", a.stderr)
			}
		})
	}
}

// TestWaitingForRedisIsTold at a terminal.
func TestWaitingForRedisIsTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	due := s.hangs(func(cmd string) bool { return cmd != "HELLO" && cmd != "CLIENT" })
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := changes{make(chan string, 100), true}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--redis-url", s.url, "status"}, strings.NewReader(""), new(bytes.Buffer), out)
	}()
	<-due
	next(t, out.lines, has("Waiting for Redis"))
	cancel()
	exits(t, ended, exitInterrupted)
}

// TestReadingAFIFOIsTold at a terminal, where nothing may come for a while.
func TestReadingAFIFOIsTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	path := filepath.Join(s.dir, "fifo")
	testkit.NoError(t, syscall.Mkfifo(path, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := changes{make(chan string, 100), true}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--redis-url", s.url, "bulk-invite", path}, strings.NewReader(""), new(bytes.Buffer), out)
	}()
	next(t, out.lines, has("Reading from "+path+" …"))
	cancel()
	exits(t, ended, exitInterrupted)
	writer, err := os.OpenFile(path, os.O_RDWR, 0) // whoever opens it goes on
	testkit.NoError(t, err)
	testkit.NoError(t, writer.Close())
}

// TestAnInterruptLeavesNothingInTheWay of repeating the command.
func TestAnInterruptLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file, export := s.write("people.csv", people("p", 3)+"nobody\n"), filepath.Join(s.dir, "export.csv")
	s.ok("bulk-invite", s.write("good.csv", people("p", 3)), "--campaign", "spring")
	for _, args := range [][]string{
		{"bulk-invite", file, "--skip-invalid"}, {"campaign", "export", "spring", "-o", export},
	} {
		due := s.hangs(func(cmd string) bool { return isScript(cmd) || cmd == "HSCAN" })
		s.interrupt(strings.NewReader(""), due, args...)
		for _, path := range []string{file + ".invalid.csv", export} {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%q left %s", args, path)
			}
		}
	}
}
