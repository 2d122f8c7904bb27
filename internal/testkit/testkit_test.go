package testkit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Command{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Dir: t.TempDir()})
	NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

func TestAProcessRunsUntilItIsKilled(t *testing.T) {
	t.Parallel()
	p := shell(t, "exec sleep 60")
	if err := p.Alive(); err != nil {
		t.Error(err)
	}
	p.Kill()
	if err := p.Alive(); err == nil {
		t.Error("it is alive after it was killed")
	}
	p.Kill() // again, as a deferred one does
}

func TestAProcessThatEndsTellsItsLastWords(t *testing.T) {
	t.Parallel()
	p := shell(t, "echo no such luck >&2; exit 3")
	<-p.ended
	for _, says := range []string{"exit status 3", "no such luck"} {
		if err := p.Alive(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in %v", says, err)
		}
	}
}

func TestAServerThatDoesNotComeUpIsKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := shell(t, "exec sleep 60")
	err := untilUp(ctx, p, "it answers", func(context.Context) bool { return false })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if err := p.Alive(); err == nil {
		t.Error("it runs on")
	}
}

func TestAPortIsGivenOnce(t *testing.T) {
	t.Parallel()
	given := map[string]bool{}
	for range 200 {
		addr, err := FreeAddr()
		NoError(t, err)
		if given[addr] {
			t.Errorf("%s was given twice", addr)
		}
		given[addr] = true
	}
}

func TestPoll(t *testing.T) {
	t.Parallel()
	fault := errors.New("broken")
	for name, c := range map[string]struct {
		limit time.Duration
		done  func(context.Context) (bool, error)
		want  error
	}{
		"reached":  {time.Minute, func(context.Context) (bool, error) { return true, nil }, nil},
		"too late": {10 * time.Millisecond, func(context.Context) (bool, error) { return false, nil }, ErrTooLate},
		"late amid a look": {10 * time.Millisecond, func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}, ErrTooLate},
		"broken": {time.Minute, func(context.Context) (bool, error) { return false, fault }, fault},
	} {
		if err := Poll(t.Context(), time.Millisecond, c.limit, name, c.done); !errors.Is(err, c.want) {
			t.Errorf("%s: the error is %v, want %v", name, err, c.want)
		}
	}
}

func TestRedisStartsAgainWithWhatItWasToldToKeep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{"durable": {Durable(), "value"}, "not durable": {nil, ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := RunRedis(t, c.args...)
			rdb := Client(t, server.Addr)
			NoError(t, rdb.Set(t.Context(), "key", "value", 0).Err())
			server.Kill()
			NoError(t, server.Start(t.Context()))
			if got := rdb.Get(t.Context(), "key").Val(); got != c.want {
				t.Errorf("it has %q after a kill, want %q", got, c.want)
			}
		})
	}
}

func TestRunTellsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	run := func(script string) (Output, error) {
		return Run(t.Context(), Command{
			Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Dir: t.TempDir(), Stdin: "in",
			Env: []string{"SAYS=env"},
		})
	}
	if out, err := run("cat; echo $SAYS >&2; exit 3"); err != nil ||
		out != (Output{Exit: 3, Stdout: "in", Stderr: "env\n"}) {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := run("kill -9 $$"); err == nil {
		t.Errorf("an end by a signal is no error: %+v", out)
	}
}

// TestBuildTakesWhatWasBuiltBefore is not parallel because of the variable.
func TestBuildTakesWhatWasBuiltBefore(t *testing.T) {
	built := t.TempDir()
	NoError(t, os.WriteFile(filepath.Join(built, "worker"), []byte("a binary"), 0o600))
	t.Setenv(BuiltVariable, built)
	dir := filepath.Join(t.TempDir(), "bin")
	NoError(t, Build(t.Context(), dir, "example.com/usher/cmd/worker"))
	if got, err := os.ReadFile(filepath.Join(dir, "worker")); string(got) != "a binary" {
		t.Errorf("%q, %v", got, err)
	}
}
