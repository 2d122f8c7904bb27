// Package e2e tests the promises of the two commands from outside: real binaries, a real redis-server, and the sandbox
// Clerk across a socket.
package e2e

import (
	"bytes"
	"context"
	stdbase64 "encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/redistest"
)

const testKey = "sk_test_e2eSECRETe2e"

// binaries is the folder of the commands under test.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, buildFlags()...)
	build := exec.Command("go", append(args, "example.com/usher/cmd/worker", "example.com/usher/cmd/enqueue")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the commands: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// system is a Redis and a sandbox Clerk, and the workers that a test starts on them.
type system struct {
	t        *testing.T
	redis    *redistest.Server
	rdb      *redis.Client
	clerk    *clerktest.Sandbox
	clerkURL string
	env      []string

	mu   sync.Mutex
	logs []*logBuffer
}

// start gives a system. Every line that its processes logged is searched for secrets when the test ends.
func start(t *testing.T, config clerktest.Config, env ...string) *system {
	t.Helper()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always") // as it is run for real
	config.Key = testKey
	clerk, url := clerktest.NewServer(t, config)
	s := &system{t: t, redis: server, clerk: clerk, clerkURL: url}
	s.rdb = redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = s.rdb.Close() })
	s.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "REDIS_URL=" + server.URL(),
		"CLERK_SECRET_KEY=" + testKey, "CLERK_API_URL=" + url, "USHER_ADMIN_ADDR=off", "USHER_LOG_LEVEL=debug",
		"USHER_BACKOFF_MIN=50ms", "USHER_BACKOFF_MAX=200ms", "USHER_SETTLE=300ms",
	}, env...)
	t.Cleanup(s.checkLogs)
	return s
}

// checkLogs looks for what no log may hold: the key, a ticket, and the address of anybody who was invited.
func (s *system) checkLogs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	forbidden := map[string]string{testKey: "the key", "ticket=": "a ticket", "DATA RACE": "a data race"}
	for _, sent := range s.clerk.Ledger() {
		forbidden[sent.Address] = "an address"
	}
	for _, log := range s.logs {
		text := log.String()
		for secret, what := range forbidden {
			if at := strings.Index(text, secret); at >= 0 {
				s.t.Errorf("a log holds %s: …%s…", what, text[max(0, at-100):min(len(text), at+100)])
				return
			}
		}
	}
}

// logBuffer may be read while it is written.
type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// process is a worker that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *logBuffer
	ended  chan struct{}
	result error
}

// worker starts a worker and stops it with the test, which must not have failed it.
func (s *system) worker(env ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, log: &logBuffer{}, ended: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(binaries, "worker"))
	p.cmd.Env = append(append([]string{}, s.env...), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.logs = append(s.logs, p.log)
	s.mu.Unlock()
	go func() {
		p.result = p.cmd.Wait()
		close(p.ended)
	}()
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if s.t.Failed() {
			s.t.Logf("log of the worker:\n%s", tail(p.log.String(), 6000))
		}
	})
	return p
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// stop sends a signal and gives how long the end took and the exit code.
func (p *process) stop(signal os.Signal) (took time.Duration, exit int) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the worker did not end within 30 s")
	}
	return time.Since(began), p.cmd.ProcessState.ExitCode()
}

// answer is what a run of enqueue (or of worker as a command) gave.
type answer struct {
	exit           int
	stdout, stderr string
}

func (s *system) enqueue(args ...string) answer {
	s.t.Helper()
	return s.run("", "enqueue", nil, args...)
}

// run runs a command to its end.
func (s *system) run(stdin, command string, env []string, args ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, command), args...)
	cmd.Env = append(append([]string{}, s.env...), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ProcessState.Sys().(syscall.WaitStatus).Signaled()) {
		s.t.Fatalf("%s %q: %v\n%s%s", command, args, err, stdout.String(), stderr.String())
	}
	return answer{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// ok runs enqueue with --json, wants exit 0, and gives the one object that it answers.
func (s *system) ok(args ...string) map[string]any {
	s.t.Helper()
	a := s.enqueue(append(args, "--json")...)
	if a.exit != 0 {
		s.t.Fatalf("enqueue %q: exit %d\n%s%s", args, a.exit, a.stdout, a.stderr)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(a.stdout), &object); err != nil {
		s.t.Fatalf("enqueue %q answered no single object: %v\n%s", args, err, a.stdout)
	}
	return object
}

// list runs enqueue with --json, wants exit 0, and gives the objects that it answers, one a line.
func (s *system) list(args ...string) []map[string]any {
	s.t.Helper()
	a := s.enqueue(append(args, "--json")...)
	if a.exit != 0 {
		s.t.Fatalf("enqueue %q: exit %d\n%s%s", args, a.exit, a.stdout, a.stderr)
	}
	var objects []map[string]any
	for line := range strings.Lines(a.stdout) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			s.t.Fatalf("enqueue %q: %v in line %q", args, err, line)
		}
		objects = append(objects, object)
	}
	return objects
}

// write puts a file into a folder of its own.
func (s *system) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// overwrite changes a file that is read meanwhile.
func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition, generously: machines are slow at times.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		case <-ticker.C:
		}
	}
}

// want compares fields of an answer.
func want(t *testing.T, object map[string]any, fields map[string]any) {
	t.Helper()
	for name, value := range fields {
		if got := object[name]; fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v, in %v", name, got, value, object)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func base64(data []byte) string { return stdbase64.StdEncoding.EncodeToString(data) }

// dump gives everything that Redis holds, as text by key.
func (s *system) dump() map[string]string {
	s.t.Helper()
	ctx := s.t.Context()
	all := map[string]string{}
	keys, err := s.rdb.Keys(ctx, "*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		switch kind := s.rdb.Type(ctx, key).Val(); kind {
		case "string":
			all[key] = s.rdb.Get(ctx, key).Val()
		case "hash":
			all[key] = fmt.Sprint(s.rdb.HGetAll(ctx, key).Val())
		case "list":
			all[key] = fmt.Sprint(s.rdb.LRange(ctx, key, 0, -1).Val())
		case "set":
			all[key] = fmt.Sprint(s.rdb.SMembers(ctx, key).Val())
		case "zset":
			all[key] = fmt.Sprint(s.rdb.ZRange(ctx, key, 0, -1).Val())
		default:
			s.t.Fatalf("key %s has type %s", key, kind)
		}
	}
	return all
}
