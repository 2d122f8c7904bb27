package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// watcher is a watch of a campaign that goes on beside the test.
type watcher struct {
	*process
	out *testkit.Buffer
}

// watch starts `campaign watch NAME --json`.
func (s *system) watch(name string) *watcher {
	s.t.Helper()
	w := &watcher{out: &testkit.Buffer{}}
	c := s.command("enqueue", nil, "campaign", "watch", name, "--json")
	c.Stdout = w.out
	w.process = s.begin(c)
	return w
}

// told are the objects that it has written so far.
func (w *watcher) told() (objects []map[string]any) {
	w.t.Helper()
	for line := range strings.Lines(w.out.String()) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			w.t.Fatalf("%v in line %q", err, line)
		}
		objects = append(objects, object)
	}
	return objects
}

// tells waits until its last object is as wanted.
func (w *watcher) tells(what string, as func(map[string]any) bool) map[string]any {
	w.t.Helper()
	var last map[string]any
	testkit.Eventually(w.t, "the watch tells that "+what, func() bool {
		if all := w.told(); len(all) > 0 {
			last = all[len(all)-1]
		}
		return last != nil && as(last)
	})
	return last
}

// instant reads a time in an answer.
func instant(t *testing.T, object map[string]any, field string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(object[field]))
	if err != nil {
		t.Fatalf("%s: %v, in %v", field, err, object)
	}
	return at
}

// TestTheETAHolds: after a tenth of an undisturbed campaign it is known when it ends. The bound is twice as wide as
// what is promised, because machines are slow at times.
func TestTheETAHolds(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 20 * time.Millisecond, MaxLatency: 80 * time.Millisecond},
		"USHER_LIMIT_CREATE=20/2s", "USHER_LIMIT_BULK=5/2s", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=0")
	s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 310)), "--campaign", "load")
	watch := s.watch("load")
	if exit := watch.exit(); exit != 0 {
		t.Fatalf("exit %d", exit)
	}
	told := watch.told()
	end := told[len(told)-1]
	want(t, end, map[string]any{"state": "finished", "sent": 310, "remaining": 0, "eta": nil, "eta_assumption": nil,
		"standstill": nil})
	took := instant(t, end, "finished_at").Sub(instant(t, end, "started_at"))
	for _, object := range told {
		if object["sent"].(float64) < 31 || object["state"] != "running" {
			continue
		}
		off := instant(t, object, "eta").Sub(instant(t, end, "finished_at"))
		t.Logf("with %v sent the ETA is %s off; the campaign took %s", object["sent"], off, took)
		if off.Abs() > took*30/100 {
			t.Errorf("with %v sent the ETA is %s off, of %s", object["sent"], off, took)
		}
		if !strings.HasPrefix(object["eta_assumption"].(string), "at no more than 2100 a minute; if nothing fails") ||
			object["recipients_per_hour"] == nil {
			t.Errorf("%v", object)
		}
		return
	}
	t.Error("the watch told nothing between a tenth and the end")
}

// TestASmallCampaignIsNotHeldUpByALargeOne: its fair share is half of every window, 35 recipients, so that it has three
// of them to wait for. The watch looks every second, and sees it at least once beside the large one.
func TestASmallCampaignIsNotHeldUpByALargeOne(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{MinLatency: 20 * time.Millisecond, MaxLatency: 80 * time.Millisecond},
		"USHER_LIMIT_CREATE=20/2s", "USHER_LIMIT_BULK=5/2s", "USHER_LIMIT_OVERALL=0", "USHER_RESERVE=0")
	s.worker()
	s.worker()
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 700)), "--campaign", "large")
	testkit.Eventually(t, "the large one has begun", func() bool { return len(s.clerk.Ledger()) > 0 })
	watch := s.watch("large")
	watch.tells("it is under way", func(o map[string]any) bool { return o["sent"] != 0.0 })
	s.ok("bulk-invite", s.write("small.csv", csv("small", 100)), "--campaign", "small")
	watch.tells("there is another campaign", func(o map[string]any) bool {
		return strings.Contains(fmt.Sprint(o["eta_assumption"]), "beside 1 other campaign")
	})
	testkit.Eventually(t, "the small one is finished", func() bool {
		return s.campaign("small").State == tasks.CampaignFinished
	})
	small := s.ok("campaign", "status", "small")
	const fair = 3 * 2 * time.Second
	if took := instant(t, small, "finished_at").Sub(instant(t, small, "started_at")); took > 2*fair {
		t.Errorf("it took %s, and its fair share are %s", took, fair)
	}
	want(t, s.ok("campaign", "status", "large"), map[string]any{"state": "running"})
}

func TestAWatchTellsWhyACampaignStandsStill(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=5/1h", "USHER_LIMIT_BULK=1/1h", "USHER_LIMIT_OVERALL=0",
		"USHER_RESERVE=0")
	s.clerk.AddUser("bulk0@example.com")
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 100)), "--campaign", "load")
	status := s.ok("campaign", "status", "load")
	want(t, status, map[string]any{"eta": nil})
	stands := func(o map[string]any) any {
		s, _ := o["standstill"].(map[string]any)
		return s["reason"]
	}
	if stands(status) != "no_worker" {
		t.Errorf("%v", status)
	}

	worker := s.worker()
	watch, other := s.watch("load"), s.watch("load")
	still := watch.tells("the limits are used up", func(o map[string]any) bool {
		return o["sent"] == 15.0 && stands(o) == "window"
	})
	left := time.Until(instant(t, still["standstill"].(map[string]any), "until"))
	if left < 50*time.Minute || left > time.Hour {
		t.Errorf("the next call comes in %s", left)
	}
	if left := time.Until(instant(t, still, "eta")); left < 5*time.Hour || left > 6*time.Hour { // 84 at 15 an hour
		t.Errorf("the end comes in %s", left)
	}
	if a := s.enqueue("campaign", "status", "load"); !strings.Contains(a.Stdout, "1 dead: 1 form_identifier_exists") ||
		!strings.Contains(a.Stdout, "the limits are used up, until ") {
		t.Errorf("a person reads:\n%s", a.Stdout)
	}
	s.ok("campaign", "pause", "load")
	want(t, watch.tells("it is paused", func(o map[string]any) bool {
		return o["state"] == "paused"
	}), map[string]any{"eta": nil})
	if err := other.Signal(syscall.SIGINT); err != nil || other.exit() != 130 {
		t.Errorf("%v, exit %d after an interrupt", err, other.exit())
	}

	worker.stop(syscall.SIGINT)
	testkit.NoError(t, s.redis.Restart(t.Context()))
	s.ok("campaign", "resume", "load")
	watch.tells("no worker runs", func(o map[string]any) bool {
		return o["state"] == "running" && stands(o) == "no_worker"
	})
	if list := s.list("campaign", "list", "--state", "running"); len(list) != 1 {
		t.Errorf("running are %v", list)
	}
	if list := s.list("campaign", "list", "--state", "finished"); len(list) != 0 {
		t.Errorf("finished are %v", list)
	}
	s.ok("campaign", "cancel", "load", "--yes")
	if exit := watch.exit(); exit != 3 {
		t.Errorf("exit %d after it was cancelled", exit)
	}
	if a := s.enqueue("campaign", "watch", "nobody"); a.Exit != 1 {
		t.Errorf("watching nobody: exit %d, %s", a.Exit, a.Stderr)
	}
}
