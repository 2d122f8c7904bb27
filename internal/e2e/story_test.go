package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestTheLogsTellTheStoryOfACampaign, each line once, although three workers run.
func TestTheLogsTellTheStoryOfACampaign(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/4s", "USHER_RESERVE=0", "USHER_LIMIT_BULK=2/4s",
		"USHER_LOG_LEVEL=info")
	for i := range 30 {
		s.clerk.AddUser(fmt.Sprintf("user%d@example.com", i))
	}
	for range 3 {
		s.worker()
	}
	// A window lets through fewer than a quarter of them, so no quarter is passed over.
	s.ok("bulk-invite", s.write("spring.csv", csv("bulk", 100)), "--campaign", "spring")
	s.told("spring", "campaign is at a quarter")
	s.ok("campaign", "pause", "spring")
	s.told("spring", "campaign is paused")
	s.ok("campaign", "resume", "spring")
	s.told("spring", "campaign ended")
	want(t, s.told("spring", "campaign is at three quarters")[0], map[string]any{"recipients": 100})
	end := s.told("spring", "campaign ended")[0]
	want(t, end, map[string]any{"outcome": "finished", "sent": 100, "dead": 0, "skipped": 0, "remaining": 0})
	if took, _ := end["duration_seconds"].(float64); took < 12 || took > 60 { // three windows at least
		t.Errorf("it took %v s", took)
	}
	if by := fmt.Sprint(s.told("spring", "campaign is paused")[0]["by"]); !strings.Contains(by, "@") {
		t.Errorf("paused by %s", by)
	}
	lines := map[string]int{}
	for _, line := range s.lines("spring") {
		lines[fmt.Sprint(line["message"], line["why"])]++
	}
	for message, n := range lines {
		most := 1
		if strings.HasPrefix(message, "campaign waits") {
			most = 4
		}
		if n > most {
			t.Errorf("%q is told %d times", message, n)
		}
	}
	if len(s.lines("spring")) > 12 {
		t.Errorf("%d lines: %v", len(s.lines("spring")), lines)
	}
	for _, message := range []string{"campaign started", "campaign is resumed"} {
		if lines[message+"<nil>"] != 1 {
			t.Errorf("%q is told %d times", message, lines[message+"<nil>"])
		}
	}

	s.ok("bulk-invite", s.write("autumn.csv", csv("user", 130)), "--campaign", "autumn")
	testkit.Eventually(t, "the users are dead", func() bool { return s.campaign("autumn").Dead == 30 })
	s.ok("campaign", "cancel", "autumn", "--yes")
	want(t, s.told("autumn", "campaign ended")[0], map[string]any{"outcome": "cancelled", "dead": 30})
	if n := len(s.told("autumn", "recipient is dead")); n != 10 {
		t.Errorf("%d of 30 dead recipients have a line", n)
	}
}

// lines are those of all workers about a campaign.
func (s *system) lines(campaign string) (lines []map[string]any) {
	for _, w := range s.workers {
		for text := range strings.Lines(w.Log()) {
			var line map[string]any
			if json.Unmarshal([]byte(text), &line) == nil && line["campaign"] == campaign {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// told waits for a message about a campaign, and gives its lines.
func (s *system) told(campaign, message string) (lines []map[string]any) {
	s.t.Helper()
	testkit.Eventually(s.t, message, func() bool {
		lines = nil
		for _, line := range s.lines(campaign) {
			if line["message"] == message {
				lines = append(lines, line)
			}
		}
		return len(lines) > 0
	})
	return lines
}

// TestDurationsSpanAllRuns: an attempt that another worker goes on with has begun in the first one.
func TestDurationsSpanAllRuns(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_BACKOFF_MIN=8s", "USHER_BACKOFF_MAX=8s", "USHER_LOG_LEVEL=info")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Times: 1, Endpoint: clerktest.Create})
	first := s.worker()
	s.ok("invite", "ada@example.com", "--id", "one")
	testkit.Eventually(t, "an attempt has failed", func() bool { return strings.Contains(first.Log(), "attempt failed") })
	first.stop(syscall.SIGTERM)
	s.worker()
	task, err := s.client.Wait(t.Context(), "one")
	testkit.NoError(t, err)
	requests := s.clerk.Requests()
	spent := requests[len(requests)-1].Arrived.Sub(requests[0].Arrived).Seconds()
	told := 0.0
	for _, w := range s.workers {
		for text := range strings.Lines(w.Log()) {
			var line struct {
				Message         string
				DurationSeconds float64 `json:"duration_seconds"`
			}
			if json.Unmarshal([]byte(text), &line) == nil && line.Message == "task ended" {
				told = line.DurationSeconds
			}
		}
	}
	if task.State != tasks.StateDone || spent <= 0 || told < spent {
		t.Errorf("%s; it took %.1f s, want %.1f s at least", task.State, told, spent)
	}
}
