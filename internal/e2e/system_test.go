// Package e2e tests the promises of the two commands from outside: real binaries, a real redis-server, and the sandbox
// Clerk across a socket.
package e2e

import (
	"context"
	stdbase64 "encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

const testKey = "sk_test_e2eSECRETe2e"

// binaries is the folder of the commands under test.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		binaries = dir
		err = testkit.Build(context.Background(), dir, "example.com/usher/cmd/worker", "example.com/usher/cmd/enqueue")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the commands:", err)
		return 1
	}
	return m.Run()
}

// system is a Redis and a sandbox Clerk, and the workers that a test starts on them.
type system struct {
	t        *testing.T
	redis    *testkit.Redis
	rdb      redis.UniversalClient
	client   *tasks.Client // for what is looked at again and again: a command costs a process each time
	clerk    *clerktest.Sandbox
	clerkURL string
	dir      string
	env      []string
	workers  []*process
}

// start gives a system. Every line that its workers logged is searched for secrets when the test ends.
func start(t *testing.T, config clerktest.Config, env ...string) *system {
	t.Helper()
	server := testkit.RunRedis(t, testkit.Durable()...)
	s := startOn(t, testkit.Client(t, server.Addr), server.URL(), config, env...)
	s.redis = server
	return s
}

// startOn gives a system on a Redis that is there.
func startOn(
	t *testing.T, rdb redis.UniversalClient, redisURL string, config clerktest.Config, env ...string,
) *system {
	t.Helper()
	config.Key = testKey
	clerk, url := clerktest.NewServer(t, config)
	s := &system{t: t, rdb: rdb, clerk: clerk, clerkURL: url, dir: t.TempDir()}
	// Clerk has answered there before, so a worker that starts asks nothing.
	testkit.NoError(t, s.rdb.HSet(t.Context(), store.Keys("usher").Bases(), store.BaseID(url), 1).Err())
	var err error
	s.client, err = tasks.NewClient(tasks.Redis(s.rdb))
	testkit.NoError(t, err)
	s.env = append([]string{
		"REDIS_URL=" + redisURL, "CLERK_SECRET_KEY=" + testKey, "CLERK_API_URL=" + url, "USHER_ADMIN_ADDR=off",
		"USHER_LOG_LEVEL=debug", "USHER_BACKOFF_MIN=50ms", "USHER_BACKOFF_MAX=200ms", "USHER_SETTLE=300ms",
		"USHER_LIMIT_OVERALL=50/1s", // ten times the rate of a test key: most tests ask more than they send
	}, env...)
	t.Cleanup(s.checkLogs)
	return s
}

// checkLogs looks for what no log may hold: the key, a ticket, and the address of anybody who was invited.
func (s *system) checkLogs() {
	forbidden := map[string]string{testKey: "the key", "ticket=": "a ticket", "DATA RACE": "a data race"}
	for _, sent := range s.clerk.Ledger() {
		forbidden[sent.Address] = "an address"
	}
	for _, w := range s.workers {
		text := w.Log()
		for secret, what := range forbidden {
			if at := strings.Index(text, secret); at >= 0 {
				s.t.Errorf("a log holds %s: …%s…", what, text[max(0, at-100):min(len(text), at+100)])
				return
			}
		}
	}
}

// process is a command that goes on beside the test.
type process struct {
	*testkit.Process
	t *testing.T
}

// command says how to run a command with the settings of the system, and with others that come after them.
func (s *system) command(name string, env []string, args ...string) testkit.Command {
	return testkit.Command{
		Name: name, Path: filepath.Join(binaries, name), Args: args, Env: slices.Concat(s.env, env), Dir: s.dir,
	}
}

// begin starts a command and kills it with the test.
func (s *system) begin(c testkit.Command) *process {
	s.t.Helper()
	p, err := testkit.Start(c)
	testkit.NoError(s.t, err)
	s.t.Cleanup(func() {
		p.Kill()
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", c.Name, tail(p.Log(), 6000))
		}
	})
	return &process{p, s.t}
}

// worker starts a worker.
func (s *system) worker(env ...string) *process {
	s.t.Helper()
	w := s.begin(s.command("worker", env))
	s.workers = append(s.workers, w)
	return w
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// exit waits for the end and gives the exit code.
func (p *process) exit() int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	exit, err := p.Wait(ctx)
	testkit.NoError(p.t, err)
	return exit
}

// stop sends a signal and gives how long the end took and the exit code.
func (p *process) stop(signal syscall.Signal) (took time.Duration, exit int) {
	p.t.Helper()
	began := time.Now()
	testkit.NoError(p.t, p.Signal(signal))
	exit = p.exit()
	return time.Since(began), exit
}

// answer is what a run of enqueue (or of worker as a command) gave.
type answer = testkit.Output

func (s *system) enqueue(args ...string) answer {
	s.t.Helper()
	return s.run("", "enqueue", nil, args...)
}

// run runs a command to its end.
func (s *system) run(stdin, command string, env []string, args ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	c := s.command(command, env, args...)
	c.Stdin = stdin
	a, err := testkit.Run(ctx, c)
	testkit.NoError(s.t, err)
	return a
}

// ok runs enqueue with --json, wants exit 0, and gives the one object that it answers.
func (s *system) ok(args ...string) map[string]any {
	s.t.Helper()
	a := s.enqueue(append(args, "--json")...)
	if a.Exit != 0 {
		s.t.Fatalf("enqueue %q: exit %d\n%s%s", args, a.Exit, a.Stdout, a.Stderr)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(a.Stdout), &object); err != nil {
		s.t.Fatalf("enqueue %q answered no single object: %v\n%s", args, err, a.Stdout)
	}
	return object
}

// list runs enqueue with --json, wants exit 0, and gives the objects that it answers, one a line.
func (s *system) list(args ...string) []map[string]any {
	s.t.Helper()
	a := s.enqueue(append(args, "--json")...)
	if a.Exit != 0 {
		s.t.Fatalf("enqueue %q: exit %d\n%s%s", args, a.Exit, a.Stdout, a.Stderr)
	}
	var objects []map[string]any
	for line := range strings.Lines(a.Stdout) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			s.t.Fatalf("enqueue %q: %v in line %q", args, err, line)
		}
		objects = append(objects, object)
	}
	return objects
}

// state tells where a task stands.
func (s *system) state(id any) tasks.State {
	s.t.Helper()
	task, err := s.client.Status(s.t.Context(), fmt.Sprint(id))
	testkit.NoError(s.t, err)
	return task.State
}

// campaign tells how a campaign stands.
func (s *system) campaign(name string) tasks.Campaign {
	s.t.Helper()
	campaign, err := s.client.Campaign(s.t.Context(), name)
	testkit.NoError(s.t, err)
	return campaign
}

// deadLetters counts the dead letters.
func (s *system) deadLetters() int {
	s.t.Helper()
	n, err := deadletter.NewStore(s.rdb, "usher").Count(s.t.Context())
	testkit.NoError(s.t, err)
	return n
}

// limits tells what is used of each limit, by its name.
func (s *system) limits() map[string]ratelimit.Usage {
	s.t.Helper()
	all, err := ratelimit.ReadUsage(s.t.Context(), s.rdb, "usher")
	testkit.NoError(s.t, err)
	limits := map[string]ratelimit.Usage{}
	for _, usage := range all {
		limits[usage.Name] = usage
	}
	return limits
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

// want compares fields of an answer.
func want(t *testing.T, object map[string]any, fields map[string]any) {
	t.Helper()
	for name, value := range fields {
		if got := object[name]; fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v, in %v", name, got, value, object)
		}
	}
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
		case "none": // it has expired since
		default:
			s.t.Fatalf("key %s has type %s", key, kind)
		}
	}
	return all
}
