package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// age lets all that a campaign is kept from be a year older: its instants, and when its invitations were made.
func (s *system) age(name string) {
	s.t.Helper()
	ctx, key, then := s.t.Context(), store.Keys("usher"), time.Now().AddDate(-1, 0, 0)
	for _, field := range []string{"created_at", "uploaded_at", "finished_at"} {
		testkit.NoError(s.t, s.rdb.HSet(ctx, key.Ledger(name, "meta"), field, then.UnixMilli()).Err())
	}
	sentAt := regexp.MustCompile(`"t":\d+`)
	for id, row := range s.rdb.HGetAll(ctx, key.Ledger(name, "rows")).Val() {
		row = sentAt.ReplaceAllString(row, fmt.Sprintf(`"t":%d`, then.Unix()))
		testkit.NoError(s.t, s.rdb.HSet(ctx, key.Ledger(name, "rows"), id, row).Err())
	}
	testkit.NoError(s.t, s.rdb.Set(ctx, key.KeepingSince(), then.UnixMilli(), 0).Err())
	testkit.NoError(s.t, s.rdb.Del(ctx, key.Keeping()).Err()) // whose turn it is
}

// TestACampaignIsDeletedWhenItWasKeptForLongEnough, and one that is younger stays. Nobody in it is invited again: an
// upload into its name is refused, and a tick of a schedule says so, and comes to nothing.
func TestACampaignIsDeletedWhenItWasKeptForLongEnough(t *testing.T) {
	t.Parallel()
	const n = 3
	s := start(t, clerktest.Config{})
	first := s.worker("USHER_KEEP=60d")
	for _, name := range []string{"old", "young"} {
		s.ok("bulk-invite", s.write(name+".csv", csv(name, n)), "--campaign", name, "--expires-in-days", "10", "--wait")
	}
	first.stop(syscall.SIGTERM)
	s.age("old")

	list := s.write("old.csv", csv("old", n))
	file := s.write("schedules.yaml", fmt.Sprintf(`schedules:
  - name: often
    cron: "* * * * * *"
    task: bulk-invite
    file: %s
    campaign: old
`, list))
	second := s.worker("USHER_KEEP=60d")
	deleted := func() bool {
		_, err := s.client.Campaign(t.Context(), "old")
		return err != nil
	}
	testkit.Eventually(t, "the old one is deleted", deleted)
	if c := s.campaign("young"); c.State != tasks.CampaignFinished || c.Sent != n {
		t.Errorf("the young one: %+v", c)
	}
	testkit.Eventually(t, "a log line says so", func() bool {
		return strings.Contains(second.Log(), "campaign is deleted: it was kept for USHER_KEEP")
	})
	told := s.enqueue("bulk-invite", list, "--campaign", "old")
	const why = "; who was invited is no longer known; use another --campaign"
	if told.Exit != 2 || !strings.Contains(told.Stderr, "was deleted on ") || !strings.Contains(told.Stderr, why) {
		t.Errorf("an upload: %+v", told)
	}

	third := s.worker("USHER_SCHEDULE_FILE=" + file)
	testkit.Eventually(t, "a tick came to nothing", func() bool {
		return strings.Contains(third.Log(), "tick came to nothing")
	})
	for _, schedule := range s.list("schedule", "list") {
		if text := fmt.Sprint(schedule["error"]); !strings.Contains(text, "was deleted on ") {
			t.Errorf("its error is %s", text)
		}
	}
	if s.onceEachOf(t, 2*n); !deleted() {
		t.Error("the tick has made the campaign anew")
	}
}

// onceEachOf wants n addresses in the sandbox's ledger, each of them once.
func (s *system) onceEachOf(t *testing.T, n int) {
	t.Helper()
	times := s.invited()
	if total := len(s.clerk.Ledger()); len(times) != n || total != n {
		t.Errorf("%d invitations to %d addresses, want %d: %v", total, len(times), n, times)
	}
}
