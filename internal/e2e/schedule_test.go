package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/testkit"
)

// ticksWatched is how many ticks are watched; USHER_E2E_TICKS=20 takes a while longer.
func ticksWatched(t *testing.T) int {
	t.Helper()
	text, set := os.LookupEnv("USHER_E2E_TICKS")
	if !set {
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 6 {
		t.Fatalf("USHER_E2E_TICKS is %q, want a number from 6", text)
	}
	return n
}

// ticks gives the tasks of a schedule's ticks by their instants (Unix seconds), and whether each is done.
func (s *system) ticks(name string) map[int64]bool {
	s.t.Helper()
	ticks := map[int64]bool{}
	const before = "usher:{once}:t:schedule."
	keys, err := s.rdb.Keys(s.t.Context(), before+name+".*").Result()
	if err != nil {
		return ticks // Redis is away, and is asked again
	}
	for _, key := range keys {
		instant, err := strconv.ParseInt(strings.TrimPrefix(key, before+name+"."), 10, 64)
		if err != nil {
			s.t.Errorf("task %s is no tick's", key)
		}
		var record struct{ State string }
		if json.Unmarshal([]byte(s.rdb.Get(s.t.Context(), key).Val()), &record) == nil {
			ticks[instant] = record.State == "done"
		}
	}
	return ticks
}

func allDone(ticks map[int64]bool) bool {
	return !slices.Contains(slices.Collect(maps.Values(ticks)), false)
}

// TestEveryTickHappensOnce with three workers, of which one is killed and one is stopped for a while.
func TestEveryTickHappensOnce(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("Redis is restarted %t", restart), func(t *testing.T) {
			t.Parallel()
			n := ticksWatched(t)
			s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
			const seconds = 2
			file := s.write("schedules.yaml", `schedules:
  - name: tick
    cron: "*/2 * * * * *"
    task: invite
    email_address: ada@example.com
    options: {ignore_existing: true}
`)
			killed, stopped, other := s.worker("USHER_SCHEDULE_FILE="+file), s.worker("USHER_SCHEDULE_FILE="+file),
				s.worker("USHER_SCHEDULE_FILE="+file)
			until := func(n int) {
				testkit.Eventually(t, fmt.Sprintf("%d ticks are done", n), func() bool {
					ticks := s.ticks("tick")
					return len(ticks) >= n && allDone(ticks)
				})
			}
			until(n / 3)
			killed.stop(syscall.SIGKILL)
			if err := stopped.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			until(n/3 + 2)
			if err := stopped.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if restart {
				testkit.NoError(t, s.redis.Restart(t.Context()))
			}
			until(n)
			stopped.stop(syscall.SIGTERM)
			other.stop(syscall.SIGTERM)
			s.worker() // for what they may have put back
			until(n)
			s.onePerTick(seconds, restart)
		})
	}
}

// onePerTick wants an invitation for every tick, and no tick missing unless some may be.
func (s *system) onePerTick(seconds int64, mayMiss bool) {
	s.t.Helper()
	ticks := slices.Sorted(maps.Keys(s.ticks("tick")))
	first, last := ticks[0], ticks[len(ticks)-1]
	should := int((last-first)/seconds) + 1
	s.t.Logf("%d invitations for %d ticks of %d", len(s.clerk.Ledger()), len(ticks), should)
	if sent := len(s.clerk.Ledger()); sent != len(ticks) {
		s.t.Errorf("%d invitations for %d ticks", sent, len(ticks))
	}
	for _, tick := range ticks {
		if tick%seconds != 0 {
			s.t.Errorf("tick %d is no instant of the schedule", tick)
		}
	}
	if len(ticks) != should && !mayMiss {
		s.t.Errorf("%d ticks from %d to %d, want %d: %v", len(ticks), first, last, should, ticks)
	}
	if dead := s.list("dead-letter", "list"); len(dead) != 0 {
		s.t.Errorf("dead letters: %v", dead)
	}
}

// TestAScheduledListSendsItsNewRows and says what is wrong with it meanwhile.
func TestAScheduledListSendsItsNewRows(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	people := s.write("people.csv", csv("bulk", 2))
	s.worker("USHER_SCHEDULE_FILE=" + s.write("schedules.yaml", `schedules:
  - name: grow
    cron: "@every 1s"
    timezone: Europe/Berlin
    task: bulk-invite
    file: `+people+"\n"))
	testkit.Eventually(t, "both are sent", func() bool { return len(s.clerk.Ledger()) == 2 })
	overwrite(t, people, csv("bulk", 5))
	testkit.Eventually(t, "the new ones are sent", func() bool { return len(s.clerk.Ledger()) == 5 })
	overwrite(t, people, "email\nnobody\n")
	failing := func() (is bool) {
		testkit.NoError(t, schedule.Each(t.Context(), s.rdb, "usher", func(s schedule.Standing) error {
			is = s.LastError != ""
			return nil
		}))
		return is
	}
	testkit.Eventually(t, "the bad row is told", failing)
	standing := s.ok("schedule", "list")
	want(t, standing, map[string]any{"name": "grow", "cron": "@every 1s", "timezone": "Europe/Berlin",
		"task": "bulk-invite", "last_task_id": nil})
	if text := fmt.Sprint(standing["last_error"]); !strings.Contains(text, "line 2: email_address") {
		t.Errorf("error %q", text)
	}
	overwrite(t, people, csv("bulk", 5))
	testkit.Eventually(t, "the file is good again", func() bool { return !failing() })
	standing = s.ok("schedule", "list")
	want(t, standing, map[string]any{"last_error": nil})
	if id := fmt.Sprint(standing["last_task_id"]); !strings.HasPrefix(id, "bulk:grow:") {
		t.Errorf("last task %q", id)
	}
	for _, field := range []string{"last_at", "next_at"} {
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(standing[field])); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	s.onceEach(5, 0)
}
