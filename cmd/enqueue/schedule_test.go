package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// keeps runs the schedules of a file, as a worker does, until stop is called.
func (s *stage) keeps(file string) (stop func()) {
	s.t.Helper()
	schedules, err := schedule.Read(file)
	testkit.NoError(s.t, err)
	client, err := tasks.NewClient(tasks.Redis(s.rdb))
	testkit.NoError(s.t, err)
	runner := schedule.NewRunner(s.rdb, tasks.DefaultNamespace, schedules, client, zerolog.Nop())
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		runner.Run(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		<-done
	}
	s.t.Cleanup(stop)
	testkit.Eventually(s.t, "the schedules are kept", func() bool {
		return len(s.list("schedule", "list")) == len(schedules)
	})
	return stop
}

// listed is how a schedule is listed.
func (s *stage) listed(name string) map[string]any {
	s.t.Helper()
	for _, row := range s.list("schedule", "list") {
		if row["schedule"] == name {
			return row
		}
	}
	s.t.Fatalf("%s is not listed", name)
	return nil
}

// TestAFileOfSchedulesIsChecked: without any Redis.
func TestAFileOfSchedulesIsChecked(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.url = "redis://127.0.0.1:1/0" // where nothing listens
	good := s.write("good.yaml",
		"schedules:\n  - {name: noon, cron: 0 12 * * *, timezone: Europe/Berlin, task: sync-list}\n")
	a := s.enqueue("schedule", "check", good)
	if a.exit != 0 || !strings.Contains(a.stdout, "noon") || strings.Count(a.stdout, " 12:00:00 +0") != 3 ||
		!strings.Contains(a.stdout, "1 schedule, no fault") {
		t.Errorf("%+v", a)
	}
	got := s.ok("schedule", "check", good)
	if ticks := got["next_ticks"].([]any); got["schedule"] != "noon" || len(ticks) != 3 ||
		!strings.HasSuffix(ticks[0].(string), ":00:00Z") {
		t.Errorf("%v", got)
	}
	bad := s.write("bad.yaml", "schedules:\n  - name: a\n    cron: 99 * * * *\n    task: sync-list\n"+
		"  - name: a\n    cron: '@daily'\n    task: dance\n    file: nowhere.csv\n")
	a = s.enqueue("schedule", "check", bad)
	for _, want := range []string{"line 3: cron: schedule \"a\": ", "line 5: name: ", "line 7: task: ", "3 faults"} {
		if a.exit != 2 || !strings.Contains(a.stderr, want) {
			t.Errorf("%+v has not %q", a, want)
		}
	}
	a = s.enqueue("schedule", "check", bad, "--json")
	if a.exit != 2 || a.stdout != "" || !strings.Contains(a.stderr, `{"line":3,"field":"cron"`) {
		t.Errorf("%+v", a)
	}
	for _, args := range [][]string{{s.dir + "/none.yaml"}, {s.write("yaml.yaml", "schedules: [")}} {
		if a := s.enqueue("schedule", "check", args[0]); a.exit != 2 || !strings.Contains(a.stderr, args[0]) {
			t.Errorf("%+v", a)
		}
	}
}

const everySecond = "schedules:\n  - {name: beat, cron: '@every 1s', task: sync-list}\n"
const yearly = "schedules:\n  - {name: beat, cron: 0 0 29 2 *, task: sync-list}\n"

// TestAScheduleRunsOnceWhenAPersonWantsIt: through a worker that has it, paused or not.
func TestAScheduleRunsOnceWhenAPersonWantsIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if a := s.enqueue("schedule", "run", "beat"); a.exit != 1 || !strings.Contains(a.stderr, "beat: no such schedule") {
		t.Errorf("%+v", a)
	}
	stop := s.keeps(s.write("s.yaml", yearly))
	s.ok("schedule", "pause", "beat")
	got := s.ok("schedule", "run", "beat")
	id := fmt.Sprint(got["task_id"])
	want(t, s.ok("status", id), map[string]any{"task_id": id, "type": "sync-list", "state": "pending"})
	want(t, s.listed("beat"), map[string]any{"last_task": id, "last_run": got["tick"], "pending": false})
	tasks, err := s.inspector().ListPendingTasks("usher:housekeeping")
	if testkit.NoError(t, err); len(tasks) != 1 {
		t.Errorf("%d tasks", len(tasks))
	}
	stop()
	s.abandoned("beat")
	if a := s.enqueue("schedule", "run", "beat"); a.exit != 1 || !strings.Contains(a.stderr, "no worker that runs has") {
		t.Errorf("%+v", a)
	}
}

// TestAScheduleThatRunsWhenAWorkerDoesSaysSo at once, and is no fault of Redis.
func TestAScheduleThatRunsWhenAWorkerDoesSaysSo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.keeps(s.write("s.yaml", yearly))()
	s.idle()
	ctx, cancel := context.WithCancel(t.Context())
	lines, ended := s.watched(ctx, onStderr, "schedule", "run", "beat")
	next(t, lines, has("Warning: no worker"))
	cancel()
	exits(t, ended, exitInterrupted)
	next(t, lines, has("a worker is asked to enqueue the task of schedule beat"))
	if a := s.enqueue("schedule", "run", "beat"); a.exit != 1 || !strings.Contains(a.stderr, "Warning: no worker") ||
		!strings.Contains(a.stderr, "a tick of it is under way") {
		t.Errorf("%+v", a)
	}
}

// abandoned makes it long ago that a worker had a schedule in its file.
func (s *stage) abandoned(name string) {
	s.t.Helper()
	long := redis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli()), Member: name}
	testkit.NoError(s.t, s.rdb.ZAdd(s.t.Context(), store.Keys(tasks.DefaultNamespace).Schedules(), long).Err())
}

// TestAPausedScheduleStaysPaused: whatever workers come and go.
func TestAPausedScheduleStaysPaused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("s.yaml", everySecond)
	stop := s.keeps(file)
	testkit.Eventually(t, "it runs", func() bool { return s.listed("beat")["last_run"] != nil })
	want(t, s.ok("schedule", "pause", "beat"), map[string]any{"schedule": "beat", "state": "paused"})
	testkit.Eventually(t, "the tick that had begun is over", func() bool { return s.listed("beat")["pending"] == false })
	last := s.listed("beat")
	stop()
	s.keeps(file)
	passed := map[any]bool{}
	testkit.Eventually(t, "ticks are passed over", func() bool {
		passed[s.listed("beat")["next"]] = true
		return len(passed) >= 4
	})
	want(t, s.listed("beat"), map[string]any{"state": "paused", "last_task": last["last_task"]})
	if a := s.enqueue("schedule", "list"); !strings.Contains(a.stdout, "│ paused │") {
		t.Errorf("%+v", a)
	}
	if a := s.enqueue("schedule", "resume", "beat"); a.exit != 0 || !strings.Contains(a.stdout, "is active") {
		t.Errorf("%+v", a)
	}
	testkit.Eventually(t, "it goes on", func() bool { return s.listed("beat")["last_task"] != last["last_task"] })
	for _, verb := range []string{"pause", "resume", "remove"} {
		if a := s.enqueue("schedule", verb, "nobody"); a.exit != 1 || !strings.Contains(a.stderr, "nobody: no such") {
			t.Errorf("%+v", a)
		}
	}
}

// TestAScheduleThatAWorkerHasIsNotRemoved: it is named who has it.
func TestAScheduleThatAWorkerHasIsNotRemoved(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("s.yaml", yearly)
	stop := s.keeps(file)
	a := s.enqueue("schedule", "remove", "beat")
	if a.exit != 1 || !strings.Contains(a.stderr, file+" on ") {
		t.Errorf("%+v", a)
	}
	stop()
	s.abandoned("beat")
	want(t, s.listed("beat"), map[string]any{"state": "abandoned", "next": nil})
	a = s.enqueue("schedule", "remove", "beat")
	if a.exit != 0 || !strings.Contains(a.stdout, "It was in no worker's file any more") {
		t.Errorf("%+v", a)
	}
	if left := s.list("schedule", "list"); len(left) != 0 {
		t.Errorf("%v", left)
	}
	if a := s.enqueue("schedule", "remove", "beat"); a.exit != 1 {
		t.Errorf("%+v", a)
	}
}
