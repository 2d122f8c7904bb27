package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestARedisThatIsFull: its memory is used up under a running campaign. Every command that writes says so and
// enqueues nothing. Calls that are under way are recorded, no others are made, and all goes on when there is room.
func TestARedisThatIsFull(t *testing.T) {
	t.Parallel()
	const recipients, singles = 300, 20
	s := start(t, clerktest.Config{MinLatency: 50 * time.Millisecond, MaxLatency: 100 * time.Millisecond},
		"USHER_LIMIT_BULK=2/1s", "USHER_LIMIT_CREATE=5/1s", "USHER_RESERVE=2")
	maxmemory := func(is string) {
		t.Helper()
		testkit.NoError(t, s.rdb.ConfigSet(t.Context(), "maxmemory", is).Err())
	}
	s.worker()
	s.ok("bulk-invite", s.write("old.csv", "email\nold@example.com\n"), "--campaign", "old", "--wait")
	for i := range singles {
		s.ok("invite", fmt.Sprintf("single%d@example.com", i))
	}
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", recipients)), "--campaign", "autumn")
	testkit.Eventually(t, "a part is sent", func() bool { return s.campaign("autumn").Sent >= recipients/4 })
	maxmemory("1")
	sent, since := -1, time.Now()
	testkit.Eventually(t, "no calls are made any more", func() bool {
		if now := len(s.clerk.Ledger()); now != sent {
			sent, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	if sent >= recipients+singles {
		t.Fatal("everything was sent before Redis was full")
	}

	list := s.write("more.csv", csv("more", 3))
	for _, command := range [][]string{
		{"invite", "more@example.com"}, {"invite", "more@example.com", "--id", "mine"},
		{"bulk-invite", list, "--campaign", "more"}, {"bulk-invite", list}, {"bulk-invite", list, "--id", "mine"},
		{"bulk-invite", list, "--campaign", "autumn"}, {"revoke", "inv_xlNKaEd5UmVbHddMERPlSaR1C70"},
		{"revoke", "--email", "more@example.com", "--yes"}, {"delete", "inv_xlNKaEd5UmVbHddMERPlSaR1C70", "--yes"},
		{"sync-list"}, {"forget", "more@example.com", "--yes"}, {"campaign", "pause", "autumn"},
		{"campaign", "cancel", "autumn", "--yes"},
	} {
		told := s.enqueue(command...)
		last := told.Stderr[strings.LastIndex(strings.TrimSpace(told.Stderr), "\n")+1:]
		const words = "enqueue: Redis is full (its maxmemory is used up): nothing was changed."
		if told.Exit != 1 || !strings.HasPrefix(last, words) {
			t.Errorf("%v: %+v", command, told)
		}
		if coded := s.enqueue(append(command, "--json")...); !strings.Contains(coded.Stderr, `"code":"redis_full"`) {
			t.Errorf("%v: %+v", command, coded)
		}
	}
	if old := s.ok("campaign", "delete", "old", "--yes"); old["deleted_at"] == nil {
		t.Errorf("%v", old)
	}
	if c := s.campaign("autumn"); c.State != tasks.CampaignRunning || c.Recipients != recipients {
		t.Errorf("%+v", c)
	}
	maxmemory("0")
	s.ok("invite", fmt.Sprintf("single%d@example.com", singles))
	testkit.Eventually(t, "all goes on", func() bool {
		return s.campaign("autumn").State == tasks.CampaignFinished && len(s.clerk.Ledger()) == recipients+singles+2
	})
	s.onceEach(recipients, singles+1)
	t.Logf("%d of %d were sent when Redis was full", sent, recipients+singles)
}
