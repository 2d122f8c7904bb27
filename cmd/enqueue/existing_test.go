package main

import (
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/ledger"
)

// skip lets n recipients of a campaign be skipped.
func (s *stage) skip(campaign string, n int) {
	s.t.Helper()
	s.settle(campaign, n, func(row ledger.Row) ledger.Outcome {
		cause := refusal(fate.CodeUser)
		decision := fate.Decision{State: row.State, Next: fate.Skipped, Intent: fate.IntentRefused, Cause: &cause}
		return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
	})
}

// TestTheCountsOfACampaignAddUp wherever they are told.
func TestTheCountsOfACampaignAddUp(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("people.csv", people("p", 20))
	if a := s.enqueue("bulk-invite", file, "--campaign", "spring", "--on-existing-user", "leave"); a.exit != 2 ||
		!strings.Contains(a.stderr, "on_existing_user") {
		t.Errorf("a wish that is none: %+v", a)
	}
	s.ok("bulk-invite", file, "--campaign", "spring", "--on-existing-user", "skip")
	s.sent("spring", 2)
	s.skip("spring", 3)
	s.dead("spring", 1, "duplicate_record")
	s.dead("spring", 11, "not_allowed_access")
	counts := map[string]any{"recipients": 20, "sent": 2, "dead": 12, "skipped": 3, "remaining": 3}
	want(t, s.ok("status", "spring"), counts)
	want(t, s.ok("status", "bulk:spring:1"), counts)
	want(t, s.list("campaign", "list")[0], counts)
	for _, told := range [][]string{{"campaign", "status", "spring"}, {"status", "bulk:spring:1"}} {
		if a := s.enqueue(told...); !strings.Contains(a.stdout, "2 sent") || !strings.Contains(a.stdout, "3 skipped") ||
			!strings.Contains(a.stdout, "3 remaining") || !strings.Contains(a.stdout, "12 dead") {
			t.Errorf("%q: %s", told, a.stdout)
		}
	}
	outcomes := map[any]int{}
	for _, row := range s.list("campaign", "export", "spring") {
		outcomes[row["outcome"]]++
		if (row["outcome"] == "skipped") != (row["cause"] == fate.CodeUser) {
			t.Errorf("%v", row)
		}
	}
	if outcomes["skipped"] != 3 || outcomes["sent"] != 2 || outcomes["dead"] != 12 || outcomes["waiting"] != 3 {
		t.Errorf("%v", outcomes)
	}
	s.sent("spring", 3)
	s.finish("spring")
	a := s.enqueue("bulk-invite", file, "--campaign", "spring", "--on-existing-user", "skip", "--wait")
	for _, words := range []string{
		"20 recipients, 5 sent, 12 dead, 3 skipped.", "Dead: 11 not_allowed_access, 1 duplicate_record.",
		"… and 2 more. All of them: enqueue dead-letter list --campaign spring",
	} {
		if !strings.Contains(a.stdout, words) {
			t.Errorf("no %q in\n%s", words, a.stdout)
		}
	}
	if n := strings.Count(a.stdout, "│ spring:"); n != deadShown {
		t.Errorf("%d dead letters are shown", n)
	}
	if a = s.enqueue("campaign", "watch", "spring"); !strings.Contains(a.stderr, "20 of 20 recipients: 5 sent, 12 dead, "+
		"3 skipped, 0 remaining") {
		t.Errorf("%s", a.stderr)
	}
}
