package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestASignalEndsACommandAtOnce: whatever it waits for.
func TestASignalEndsACommandAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang})
	dryRun := s.begin(s.command("enqueue", nil, "bulk-invite", s.write("p.csv", csv("bulk", 300)), "--dry-run"))
	testkit.Eventually(t, "it asks", func() bool { return len(s.clerk.Requests()) >= 4 })
	if took, exit := dryRun.stop(syscall.SIGINT); exit != 130 || took > 3*time.Second {
		t.Errorf("exit %d after %s, want 130 at once", exit, took)
	}
}

// TestASignalEndsACommandThatReads: from a pipe, or a FIFO that nobody writes, or with a Redis that hangs.
func TestASignalEndsACommandThatReads(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	fifo := filepath.Join(s.dir, "fifo")
	testkit.NoError(t, syscall.Mkfifo(fifo, 0o600))
	hung := testkit.RunRedis(t)
	testkit.NoError(t, hung.Hang())
	t.Cleanup(func() { _ = hung.GoOn() })
	for name, args := range map[string][]string{
		"a pipe": {"bulk-invite", "-"}, "a FIFO": {"bulk-invite", fifo},
		"a FIFO of corrections": {"dead-letter", "retry", "--from", fifo},
		"a Redis that hangs":    {"invite", "ada@example.com", "--redis-url", hung.URL()},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(name+" "+signal.String(), func(t *testing.T) {
				t.Parallel()
				c := s.command("enqueue", nil, args...)
				cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
				cmd.Env = testkit.Environment(c.Dir, c.Env)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				stdin, err := cmd.StdinPipe()
				testkit.NoError(t, err)
				defer stdin.Close()
				testkit.NoError(t, cmd.Start())
				testkit.Eventually(t, "it waits", idle(cmd.Process.Pid))
				began := time.Now()
				testkit.NoError(t, cmd.Process.Signal(signal))
				_ = cmd.Wait()
				if took, exit := time.Since(began), cmd.ProcessState.ExitCode(); exit != 130 || took > time.Second {
					t.Errorf("exit %d after %s, want 130 within a second", exit, took)
				}
				if !strings.Contains(stderr.String(), "interrupted; nothing was ") {
					t.Errorf("%s", stderr.String())
				}
			})
		}
	}
}

// idle gives what tells whether a process has done nothing for a while: it waits for something.
func idle(pid int) func() bool {
	before, since := "", time.Now()
	return func() bool {
		now, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(now))
		if err != nil || len(fields) < 15 { // a system that does not tell
			return time.Since(since) > 2*time.Second
		}
		if spent := fields[13] + " " + fields[14]; spent != before || fields[2] != "S" {
			before, since = spent, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	}
}
