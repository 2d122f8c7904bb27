package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// ids are the ids of the tasks that a list shows, sorted.
func (s *stage) ids(args ...string) []string {
	s.t.Helper()
	var ids []string
	for _, task := range s.list(append([]string{"task", "list"}, args...)...) {
		ids = append(ids, task["task_id"].(string))
	}
	return slices.Sorted(slices.Values(ids))
}

func TestTasksThatHaveNotEndedAreListed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "now")
	s.ok("invite", "bob@example.com", "--id", "later", "--in", "2h")
	s.ok("revoke", "inv_123", "--id", "revocation", "--in", "1h")
	s.ok("sync-list", "--id", "sync")
	s.ok("bulk-invite", s.write("p.csv", people("p", 3)), "--campaign", "spring", "--in", "3h")
	s.ok("invite", "cyd@example.com", "--id", "done")
	s.ended("done", record.Record{State: record.Done}) // asynq has not noticed yet
	all := []string{"bulk:spring:1", "later", "now", "revocation", "sync"}
	for args, want := range map[string][]string{
		"": all, "--state=scheduled": {"bulk:spring:1", "later", "revocation"}, "--state=pending": {"now", "sync"},
		"--state=active": nil, "--type=invite": {"later", "now"}, "--type=revoke": {"revocation"},
		"--type=invite --state=pending": {"now"}, "--older-than=1h": nil,
		"--older-than=1ms": all,
	} {
		if got := s.ids(strings.Fields(args)...); !slices.Equal(got, want) {
			t.Errorf("task list %s: %v, want %v", args, got, want)
		}
	}
	for _, task := range s.list("task", "list", "--type", "invite", "--state", "scheduled") {
		want(t, task, map[string]any{"email_address": "bob@example.com", "attempts": 0, "state": "scheduled"})
		if task["enqueued_at"] == nil || task["scheduled_at"] == nil {
			t.Errorf("%v", task)
		}
	}
	a := s.enqueue("task", "list")
	for _, id := range all {
		if !strings.Contains(a.stdout, id) {
			t.Errorf("%s is not there:\n%s", id, a.stdout)
		}
	}
	if a := s.enqueue("task", "list", "--state", "dead"); a.exit != 2 || !strings.Contains(a.stderr, "dead-letter") {
		t.Errorf("%+v", a)
	}
}

func TestATaskIsCancelled(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "now")
	s.ok("invite", "bob@example.com", "--id", "later", "--in", "2h")
	s.ok("revoke", "inv_123", "--id", "revocation")
	for range 2 { // a repeat changes nothing
		object := s.ok("task", "cancel", "now", "later", "revocation", "--yes")
		want(t, object, map[string]any{"cancelled": "[now later revocation]", "cancel_wanted": "[]", "begun": "[]"})
	}
	for _, id := range []string{"now", "later", "revocation"} {
		want(t, s.ok("status", id), map[string]any{"state": "cancelled"})
	}
	if a := s.enqueue("task", "cancel", "now", "later"); a.exit != 0 || a.stdout != "2 tasks cancelled already.\n" {
		t.Errorf("repeated: %+v", a)
	}
	s.ok("invite", "cyd@example.com", "--id", "third")
	want(t, s.ok("task", "cancel", "now", "third", "--yes"),
		map[string]any{"cancelled": "[third now]", "cancelled_before": "[now]"})
	if left := s.ids(); left != nil {
		t.Errorf("left in the queues: %v", left)
	}
	kinds, _ := s.story("bob@example.com")
	if !slices.Equal(kinds, []string{"enqueued", "cancelled"}) {
		t.Errorf("find tells %v", kinds)
	}
	if a := s.enqueue("invite", "bob@example.com", "--id", "later", "--in", "2h"); a.exit != 3 {
		t.Errorf("its id was given again: %+v", a)
	}
}

// TestATimeIsToldAsItIsKept: asynq keeps whole seconds, and what was asked has fractions.
func TestATimeIsToldAsItIsKept(t *testing.T) {
	t.Parallel()
	s := setup(t)
	told := s.ok("invite", "ada@example.com", "--id", "ada", "--in", "2h")["scheduled_at"]
	want(t, s.list("task", "list")[0], map[string]any{"scheduled_at": told})
	told = s.ok("bulk-invite", s.write("p.csv", people("p", 3)), "--campaign", "spring", "--in", "3h")["scheduled_at"]
	want(t, s.list("task", "list", "--type", "bulk-invite")[0], map[string]any{"scheduled_at": told})
}

// TestNothingIsCancelledIfOneCannotBe: every fault is named before anything happens.
func TestNothingIsCancelledIfOneCannotBe(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "now")
	s.ok("invite", "cyd@example.com", "--id", "over")
	s.ended("over", record.Record{State: record.Done})
	s.ok("bulk-invite", s.write("p.csv", people("p", 3)), "--campaign", "spring", "--in", "3h")
	s.ok("sync-list", "--id", "begun")
	s.begins("begun", queues.Housekeeping)
	a := s.enqueue("task", "cancel", "now", "over", "begun", "bulk:spring:1", "nobody", "--yes")
	for _, says := range []string{
		"nothing was cancelled", "over is done", "begun: " + desk.ErrTaskAtWork.Error(), "campaign cancel spring", "nobody",
	} {
		if a.exit != 1 || !strings.Contains(a.stderr, says) || strings.Contains(a.stderr, "now") {
			t.Errorf("exit %d, want %q: %s", a.exit, says, a.stderr)
		}
	}
	want(t, s.ok("status", "now"), map[string]any{"state": "pending"})
	for _, args := range []string{"", "now --scheduled", "now --type=invite"} {
		if a := s.enqueue(append([]string{"task", "cancel"}, strings.Fields(args)...)...); a.exit != 2 {
			t.Errorf("task cancel %s: %+v", args, a)
		}
	}
}

// begins lets the task that waits last in a lane begin, as asynq does for a worker.
func (s *stage) begins(id string, lane queues.Lane) {
	s.t.Helper()
	queue := "asynq:{" + queues.Name(tasks.DefaultNamespace, lane) + "}:"
	moved, err := s.rdb.LMove(s.t.Context(), queue+"pending", queue+"active", "RIGHT", "LEFT").Result()
	testkit.NoError(s.t, err)
	if moved != id {
		s.t.Fatalf("%s has begun", moved)
	}
	testkit.NoError(s.t, s.rdb.HSet(s.t.Context(), queue+"t:"+id, "state", "active").Err())
}

func TestScheduledTasksAreCancelled(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 3 {
		s.ok("invite", fmt.Sprintf("p%d@example.com", i), "--id", fmt.Sprintf("later%d", i), "--in", "2h")
	}
	s.ok("sync-list", "--id", "sync", "--in", "2h")
	s.ok("invite", "ada@example.com", "--id", "now")
	s.ok("bulk-invite", s.write("p.csv", people("p", 3)), "--campaign", "spring", "--in", "3h")
	choose := []string{"task", "cancel", "--scheduled", "--type", "invite"}
	want(t, s.ok(append(choose, "--dry-run")...), map[string]any{"would_cancel": "[later0 later1 later2]"})
	if a := s.enqueue(choose...); a.exit != 2 || !strings.Contains(a.stderr, "--yes") {
		t.Errorf("without --yes off a terminal: %+v", a)
	}
	a := s.run(t.Context(), person{strings.NewReader("yes\n")}, choose...)
	if a.exit != 0 || !strings.Contains(a.stderr, "Cancel 3 tasks?") || !strings.Contains(a.stdout, "3 tasks cancelled.") {
		t.Errorf("%+v", a)
	}
	if left := s.ids(); !slices.Equal(left, []string{"bulk:spring:1", "now", "sync"}) {
		t.Errorf("left: %v", left)
	}
	a = s.enqueue("task", "cancel", "--scheduled", "--yes")
	if a.exit != 0 || !strings.Contains(a.stdout, "1 task cancelled.") || !strings.Contains(a.stderr, "spring") {
		t.Errorf("%+v", a)
	}
}

// TestACallUnderWayIsWaitedFor: nobody says that an invite is cancelled that may have been sent.
func TestACallUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	intents := intent.NewTasks(s.rdb, "usher")
	intents.Memory = store.NewMemory()
	_, err := intents.Claim(t.Context(), "token", time.Minute,
		[]intent.Wish{{Task: "ada", Address: store.IDOf("ada@example.com"), Born: time.Now().UnixMilli()}})
	testkit.NoError(t, err)
	want(t, s.ok("task", "cancel", "ada", "--yes"), map[string]any{"cancelled": "[]", "cancel_wanted": "[ada]"})
	want(t, s.ok("status", "ada"), map[string]any{"state": "pending", "cancel_wanted": true})
	a := s.enqueue("status", "ada")
	if !strings.Contains(a.stdout, "is to be cancelled") {
		t.Errorf("%s", a.stdout)
	}
}

func TestARevocationNamesWhatIsStillToBeSent(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("ada", 2)), "--campaign", "spring", "--in", "3h")
	s.ok("invite", "ADA0@example.com", "--id", "later", "--in", "2h")
	s.ok("invite", "ada0@example.com", "--id", "now")
	s.ok("invite", "bob@example.com", "--id", "other", "--in", "2h")
	revoke := []string{"revoke", "--email", "ada0@example.com"}
	a := s.enqueue(append(revoke, "--yes")...)
	for _, says := range []string{"task later, scheduled for ", "task now, pending", "spring", "task cancel now later"} {
		if a.exit != 0 || !strings.Contains(a.stderr, says) {
			t.Errorf("exit %d, want %q:\n%s", a.exit, says, a.stderr)
		}
	}
	if n := len(s.ids("--type", "invite")); n != 3 {
		t.Errorf("%d invites are left: nobody has said that they go", n)
	}
	a = s.run(t.Context(), person{strings.NewReader("y\nn\n")}, revoke...)
	if n := len(s.ids("--type", "invite")); a.exit != 0 || n != 3 || !strings.Contains(a.stderr, "Cancel them too?") {
		t.Errorf("%d invites are left; %+v", n, a)
	}
	want(t, s.ok(append(revoke, "--yes", "--and-scheduled")...), map[string]any{
		"tasks_cancelled": "[now later]", "tasks_left": "[]", "campaigns_left": "[spring]",
	})
	if left := s.ids("--type", "invite"); !slices.Equal(left, []string{"other"}) {
		t.Errorf("left: %v", left)
	}
	if a := s.enqueue("revoke", "inv_1", "--and-scheduled"); a.exit != 2 {
		t.Errorf("%+v", a)
	}
}

// TestWhatIsAtWorkEndsByItself: a revocation that has begun is not cut off in the middle.
func TestWhatIsAtWorkEndsByItself(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("revoke", "inv_123", "--id", "revocation")
	begun, stop := make(chan struct{}), make(chan struct{})
	server := asynq.NewServerFromRedisClient(s.rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{"usher:housekeeping": 1}, LogLevel: asynq.FatalLevel,
	})
	testkit.NoError(t, server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(begun)
		<-stop
		return nil
	})))
	t.Cleanup(server.Shutdown)
	t.Cleanup(func() { close(stop) })
	<-begun
	a := s.enqueue("task", "cancel", "revocation", "--yes")
	if a.exit != 1 || !strings.Contains(a.stderr, "at work") {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("status", "revocation"), map[string]any{"state": "active"})
}

// TestATaskThatCannotBeReadHidesNoOther: it is named. Nobody is told that an address was forgotten that may be in it.
func TestATaskThatCannotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 540 {
		_, err := s.client().Invite(t.Context(), tasks.Recipient{EmailAddress: fmt.Sprintf("p%d@example.com", i)},
			tasks.ID(fmt.Sprintf("t%d", i)), tasks.In(time.Hour+time.Duration(i)*time.Second))
		testkit.NoError(t, err)
	}
	s.mini.HSet("asynq:{usher:interactive}:t:t7", "msg", "garbage")
	a := s.enqueue("task", "list", "--json")
	if n := strings.Count(a.stdout, "\n"); n != 539 || a.exit != 1 || !strings.Contains(a.stderr, "t7") {
		t.Errorf("%d rows, exit %d: %s", n, a.exit, a.stderr)
	}
	a = s.enqueue("forget", "p539@example.com", "--yes")
	if a.exit != 1 || !strings.Contains(a.stderr, "t7") {
		t.Errorf("%+v", a)
	}
	if a := s.enqueue("status", "t539"); !strings.Contains(a.stdout, "cancelled") {
		t.Errorf("what could be forgotten was not: %+v", a)
	}
}

// TestStatusSpeaksInSentences of a task that is to be tried again, and of one whose failed call does not count.
func TestStatusSpeaksInSentences(t *testing.T) {
	t.Parallel()
	s := setup(t)
	failed := []fate.Attempt{{At: time.Now(), Failure: fate.Failure{HTTPStatus: 503, Message: "service unavailable"}}}
	for id, attempts := range map[string]int{"fresh": 0, "again": 2} {
		s.ok("invite", id+"@example.com", "--id", id)
		r, _, err := s.records.Get(t.Context(), id)
		testkit.NoError(t, err)
		r.Attempts, r.History = attempts, failed
		testkit.NoError(t, s.records.Put(t.Context(), id, r))
	}
	s.takes("usher:interactive", "fresh")
	s.mini.Del("asynq:{usher:interactive}:pending")
	later := redis.Z{Score: float64(time.Now().Add(time.Minute).Unix()), Member: "again"}
	testkit.NoError(t, s.rdb.ZAdd(t.Context(), "asynq:{usher:interactive}:retry", later).Err())
	s.mini.HSet("asynq:{usher:interactive}:t:again", "state", "retry")
	for id, want := range map[string][]string{
		"fresh": {"Task fresh (invite) is active.\n", "does not count as an attempt so far: service unavailable"},
		"again": {"Task again (invite) is to be tried again after 2 attempts.\n", "Its last call failed: service unavail"},
	} {
		for _, text := range want {
			if told := s.enqueue("status", id).stdout; !strings.Contains(told, text) || strings.Contains(told, " 0 att") {
				t.Errorf("%s\nhas not %q", told, text)
			}
		}
	}
}

// TestAPausedCampaignHasOneState: its driver waits in a worker, and both commands say so.
func TestAPausedCampaignHasOneState(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("people.csv", people("p", 3)), "--campaign", "spring")
	for _, state := range []string{"pending", "active"} {
		if state == "active" {
			s.takes("usher:campaign", "bulk:spring:1")
			s.ok("campaign", "pause", "spring")
		}
		want(t, s.ok("status", "bulk:spring:1"), map[string]any{"state": state})
		want(t, s.list("task", "list")[0], map[string]any{"state": state})
	}
}
