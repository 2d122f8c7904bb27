package rig

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Command{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
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
	if err := p.Alive(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("it says %v", err)
	}
}

func TestAServerThatDoesNotComeUpIsKilled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := shell(t, "exec sleep 60")
	if err := untilUp(ctx, p, "it answers", func(context.Context) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if err := p.Alive(); err == nil {
		t.Error("it runs on")
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

func TestRedisStartsAgainWithWhatItHad(t *testing.T) {
	t.Parallel()
	server, err := StartRedis(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := rdb.Get(t.Context(), "key").Result(); got != "value" || err != nil {
		t.Errorf("it has %q, %v after a kill", got, err)
	}
}
