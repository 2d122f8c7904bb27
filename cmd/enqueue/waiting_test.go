package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// limited announces limits of 3 single calls and one bulk an hour, as a worker does.
func (s *stage) limited() *ratelimit.Limiter {
	s.t.Helper()
	p := policy.Default("test")
	p.Create, p.Bulk = settings.Rate{N: 3, Window: time.Hour}, settings.Rate{N: 1, Window: time.Hour}
	p.Reserve, p.SettlingTime = 1, 30*time.Second
	testkit.NoError(s.t, p.Announce(s.t.Context(), s.rdb, tasks.DefaultNamespace))
	limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, p.Limits("k")...)
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, limiter.Announce(s.t.Context()))
	return limiter
}

// spend makes n calls that a limit counts.
func spend(t *testing.T, limiter *ratelimit.Limiter, limit string, n int) {
	t.Helper()
	for range n {
		permit, err := limiter.Acquire(t.Context(), time.Minute, ratelimit.Want{Limit: limit})
		testkit.NoError(t, err)
		testkit.NoError(t, permit.Done(t.Context()))
	}
}

// suspend lets a limit rest.
func suspend(t *testing.T, limiter *ratelimit.Limiter, limit, why string) {
	t.Helper()
	permit, err := limiter.Acquire(t.Context(), time.Minute, ratelimit.Want{Limit: limit})
	testkit.NoError(t, err)
	_, err = permit.Suspend(t.Context(), limit, ratelimit.Suspension{First: time.Hour, Why: why})
	testkit.NoError(t, err)
}

// standstill is why a task or a campaign stands still, as a program is told; its fields are empty if it does not.
func standstill(t *testing.T, object map[string]any) (reason string, until time.Time) {
	t.Helper()
	s, stands := object["standstill"].(map[string]any)
	if !stands {
		return "", until
	}
	if text, known := s["until"].(string); known {
		at, err := time.Parse(time.RFC3339, text)
		testkit.NoError(t, err)
		until = at
	}
	if s["message"] == "" {
		t.Errorf("it says nothing: %v", s)
	}
	return s["reason"].(string), until
}

func TestATaskSaysWhyItWaits(t *testing.T) {
	t.Parallel()
	claim := func(s *stage, task string, till time.Duration) {
		intents := intent.NewTasks(s.rdb, tasks.DefaultNamespace)
		intents.Memory = store.NewMemory()
		wish := intent.Wish{Task: task, Address: store.IDOf("ada@example.com"), Born: time.Now().UnixMilli()}
		_, err := intents.Claim(s.t.Context(), "token", till, []intent.Wish{wish})
		testkit.NoError(s.t, err)
		if task == "ada" {
			testkit.NoError(s.t, intents.Settle(s.t.Context(), intent.Settlement{
				Wish: wish, Token: "token", End: fate.IntentUnknown,
			}))
		}
	}
	for name, c := range map[string]struct {
		task    string
		prepare func(*stage)
		reason  string
		until   time.Duration // 0: not known
	}{
		"nothing": {"ada", func(s *stage) { s.limited() }, "", 0},
		"the window is closed": {"ada", func(s *stage) {
			limiter := s.limited()
			spend(s.t, limiter, policy.LimitCreate, 3)
			spend(s.t, limiter, policy.LimitBulk, 1)
		}, "window", time.Hour},
		"Clerk serves nobody": {"ada", func(s *stage) {
			suspend(s.t, s.limited(), policy.RestWrites, "503 maintenance_mode")
		}, "endpoint", time.Hour},
		"Clerk serves nobody who revokes": {"revocation", func(s *stage) {
			suspend(s.t, s.limited(), policy.RestRevoke, "403 authorization_invalid")
		}, "endpoint", time.Hour},
		"Clerk serves nobody who revokes, which is not its matter": {"ada", func(s *stage) {
			suspend(s.t, s.limited(), policy.RestRevoke, "403 authorization_invalid")
		}, "", 0},
		"the key is refused": {"revocation", func(s *stage) {
			permit, err := s.limited().Acquire(s.t.Context(), time.Minute, ratelimit.Want{Limit: policy.KeyLimit("k")})
			testkit.NoError(s.t, err)
			testkit.NoError(s.t, permit.Refuse(s.t.Context(), policy.KeyLimit("k"), time.Hour))
		}, "key", time.Hour},
		"its own call was lost": {"ada", func(s *stage) {
			s.limited()
			claim(s, "ada", time.Minute)
		}, "doubt", 30 * time.Second},
		"its own call is under way": {"ada", func(s *stage) {
			s.limited()
			claim(s, "another", time.Minute)
		}, "", 0},
		"no worker runs": {"ada", func(s *stage) {
			s.limited()
			s.mini.Del(store.Keys(tasks.DefaultNamespace).Workers())
		}, "no_worker", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.ok("invite", "ada@example.com", "--id", "ada")
			s.ok("revoke", "inv_123", "--id", "revocation")
			c.prepare(s)
			object := s.ok("status", c.task)
			reason, until := standstill(t, object)
			if reason != c.reason || until.IsZero() != (c.until == 0) {
				t.Fatalf("%q until %s, want %q: %v", reason, until, c.reason, object)
			}
			if left := time.Until(until); c.until > 0 && (left > c.until || left < c.until-20*time.Second) {
				t.Errorf("for another %s, want %s", left, c.until)
			}
			told := s.enqueue("status", c.task).stdout
			if strings.Contains(told, "It waits: ") != (c.reason != "") {
				t.Errorf("a person reads: %s", told)
			}
		})
	}
}

// TestWhatAnotherProgramDidToATaskIsSaid: asynqmon pauses queues, and deletes and archives tasks.
func TestWhatAnotherProgramDidToATaskIsSaid(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.limited()
	for _, id := range []string{"gone", "kept", "stays"} {
		s.ok("invite", id+"@example.com", "--id", id)
	}
	s.ok("sync-list", "--id", "sync")
	s.ok("bulk-invite", s.write("l.csv", "email\nada@example.com\n"), "--campaign", "spring")
	inspector := s.inspector()
	testkit.NoError(t, inspector.DeleteTask("usher:interactive", "gone"))
	testkit.NoError(t, inspector.ArchiveTask("usher:interactive", "kept"))
	if reason, _ := standstill(t, s.ok("status", "gone")); reason != "no_queue" {
		t.Errorf("of the deleted one: %q", reason)
	}
	if kinds, _ := s.story("gone"); !slices.Equal(kinds, []string{"waiting"}) {
		t.Errorf("the story of the deleted one: %q", kinds)
	}
	if a := s.enqueue("invite", "kept@example.com", "--id", "kept"); a.exit != 3 ||
		!strings.Contains(a.stderr, "run it again there; it has no dead letter") {
		t.Errorf("the archived one: %v", a)
	}
	if kinds, _ := s.story("kept@example.com"); !slices.Equal(kinds, []string{"enqueued", "dead"}) {
		t.Errorf("the story of the archived one: %q", kinds)
	}
	if a := s.enqueue("invite", "gone@example.com", "--id", "gone"); a.exit != 0 {
		t.Errorf("the deleted one enqueued again: %v", a)
	}
	reasons := func() (reasons []string) {
		for _, of := range [][]string{
			{"status", "gone"}, {"status", "sync"}, {"campaign", "status", "spring"}, {"status"},
		} {
			reason, _ := standstill(t, s.ok(of...))
			reasons = append(reasons, reason)
		}
		return reasons
	}
	for _, queue := range []string{"usher:interactive", "usher:campaign", "usher:housekeeping"} {
		testkit.NoError(t, inspector.PauseQueue(queue))
	}
	if got := reasons(); !slices.Equal(got, []string{"queue", "queue", "queue", "queue"}) {
		t.Errorf("while the queues are paused: %q", got)
	}
	if told := s.enqueue("status").stdout; strings.Count(told, "is paused by another program") != 3 {
		t.Errorf("%s", told)
	}
	for _, queue := range []string{"usher:interactive", "usher:campaign", "usher:housekeeping"} {
		testkit.NoError(t, inspector.UnpauseQueue(queue))
	}
	if got := reasons(); slices.Contains(got, "queue") {
		t.Errorf("when they are not any more: %q", got)
	}
}

// TestAnInviteKnowsItsPlace: behind those that a worker has taken, and those that were enqueued before it.
func TestAnInviteKnowsItsPlace(t *testing.T) {
	t.Parallel()
	s := setup(t)
	limiter := s.limited()
	for i := range 5 {
		s.ok("invite", fmt.Sprintf("p%d@example.com", i), "--id", fmt.Sprint(i))
	}
	taken, stop := make(chan string, 5), make(chan struct{})
	server := asynq.NewServerFromRedisClient(s.rdb, asynq.Config{
		Concurrency: 2, Queues: map[string]int{"usher:interactive": 1}, LogLevel: asynq.FatalLevel,
	})
	testkit.NoError(t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		taken <- task.ResultWriter().TaskID()
		<-stop
		return nil
	})))
	t.Cleanup(server.Shutdown)
	t.Cleanup(func() { close(stop) })
	<-taken
	<-taken
	spend(t, limiter, policy.LimitCreate, 3)
	spend(t, limiter, policy.LimitBulk, 1)
	for i := range 5 {
		object := s.ok("status", fmt.Sprint(i))
		want(t, object, map[string]any{"ahead": i})
		eta, err := time.Parse(time.RFC3339, fmt.Sprint(object["eta"]))
		testkit.NoError(t, err)
		if left := time.Until(eta); left > time.Hour || left < 59*time.Minute { // two of them ride in a bulk
			t.Errorf("invite %d: its turn is in %s", i, left)
		}
	}
	told := s.enqueue("status", "3").stdout
	if !strings.Contains(told, "3 invites before it.") || !strings.Contains(told, "It should be sent at ") {
		t.Errorf("a person reads: %s", told)
	}
}

// TestStatusTellsThatThereAreNoLimits, where they are switched off.
func TestStatusTellsThatThereAreNoLimits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	p := policy.Default("test")
	p.Create, p.Bulk, p.Overall, p.Reserve = settings.Rate{}, settings.Rate{}, settings.Rate{}, 0
	testkit.NoError(t, p.Announce(t.Context(), s.rdb, tasks.DefaultNamespace))
	limiter, err := ratelimit.New(s.rdb, tasks.DefaultNamespace, p.Limits("k")...)
	testkit.NoError(t, err)
	testkit.NoError(t, limiter.Announce(t.Context()))
	if told := s.enqueue("status").stdout; !strings.Contains(told, "Calls have no limits.") {
		t.Errorf("%s", told)
	}
}

// TestStatusTellsWhoWorks: and since when nobody does.
func TestStatusTellsWhoWorks(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.limited()
	s.mini.Del(store.Keys(tasks.DefaultNamespace).Workers())
	workers := store.NewWorkers(s.rdb, tasks.DefaultNamespace)
	now := time.Now().Truncate(time.Second)
	s.mini.SetTime(now)
	for _, w := range []store.Worker{
		{
			ID: "a", Host: "a.example", PID: 7, Version: "v1.2", KeyKind: "test", Active: map[string]int{"invite": 3},
			Since: now,
		},
		{ID: "b", Host: "b.example", PID: 8, Stopped: true},
	} {
		testkit.NoError(t, workers.Announce(t.Context(), w))
	}
	told := func() (objects []any) {
		object := s.ok("status")
		objects, _ = object["workers"].([]any)
		return objects
	}
	if list := told(); len(list) != 1 {
		t.Errorf("%v", list)
	} else {
		want(t, list[0].(map[string]any), map[string]any{
			"host": "a.example", "pid": 7, "version": "v1.2", "key_kind": "test", "active": "map[invite:3]", "state": "running",
		})
	}
	if text := s.enqueue("status").stdout; !strings.Contains(text, "3 invite") || !strings.Contains(text, "v1.2") {
		t.Errorf("%s", text)
	}
	s.mini.SetTime(now.Add(time.Minute))
	if list := told(); len(list) != 1 || list[0].(map[string]any)["state"] != "lost" {
		t.Errorf("after a minute without a sign: %v", list)
	}
	reason, _ := standstill(t, s.ok("status"))
	if reason != "no_worker" {
		t.Errorf("standstill: %q", reason)
	}
	a := s.enqueue("invite", "ada@example.com")
	if !strings.Contains(a.stderr, "no worker runs, since ") {
		t.Errorf("%s", a.stderr)
	}
}

// TestWhatWaitsForAWorkerSaysSoAtOnce: all commands that leave work to one.
func TestWhatWaitsForAWorkerSaysSoAtOnce(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args  []string
		known string // when it is interrupted then
	}{
		"erasure at Clerk": {[]string{"forget", "ada@example.com", "--at-clerk", "--yes"}, "is kept out from now on"},
		"retry":            {[]string{"dead-letter", "retry", "dead", "--wait"}, "1 dead letter retried"},
		"mend":             {[]string{"dead-letter", "retry", "dead", "--set", "notify=no", "--wait"}, "1 dead letter ret"},
		"invite":           {[]string{"invite", "ada@example.com", "--wait"}, "is enqueued"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.ok("invite", "dead@example.com", "--id", "dead")
			s.dies("dead", "dead@example.com", s.queued("usher:interactive", "dead"))
			s.idle()
			ctx, cancel := context.WithCancel(t.Context())
			lines, ended := s.watched(ctx, onStderr, test.args...)
			next(t, lines, has("Warning: no worker has run yet"))
			cancel()
			exits(t, ended, exitInterrupted)
			next(t, lines, func(line string) bool {
				return strings.Contains(line, "interrupted; ") && strings.Contains(line, test.known)
			})
		})
	}
}

// TestWhoeverWaitsWhileWorkRestsIsToldWhy: all commands that wait for what changes something at Clerk.
func TestWhoeverWaitsWhileWorkRestsIsToldWhy(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"erasure at Clerk":     {"forget", "ada@example.com", "--at-clerk", "--yes"},
		"retry":                {"dead-letter", "retry", "dead", "--wait"},
		"mend":                 {"dead-letter", "retry", "dead", "--set", "notify=no", "--wait"},
		"retry in a campaign":  {"dead-letter", "retry", "--campaign", "spring", "--wait"},
		"invite":               {"invite", "ada@example.com", "--wait"},
		"revocation":           {"revoke", "inv_1", "--yes", "--wait"},
		"deletion":             {"delete", "inv_1", "--yes", "--wait"},
		"recipients of a list": {"bulk-invite", "people.csv", "--wait"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.limited()
			s.ok("invite", "dead@example.com", "--id", "dead")
			s.dies("dead", "dead@example.com", s.queued("usher:interactive", "dead"))
			s.ok("bulk-invite", s.write("people.csv", people("bulk", 2)), "--campaign", "spring")
			s.dead("spring", 1, "form_param_format_invalid")
			_, err := store.BeginRestoration(t.Context(), store.Open(s.rdb, tasks.DefaultNamespace))
			testkit.NoError(t, err)
			for i, arg := range args {
				if arg == "people.csv" {
					args[i] = filepath.Join(s.dir, arg)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			lines, ended := s.watched(ctx, onStderr, args...)
			next(t, lines, has("Redis was restored from a copy, and work rests until enqueue restore has ended"))
			cancel()
			exits(t, ended, exitInterrupted)
		})
	}
}
