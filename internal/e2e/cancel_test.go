package e2e

import (
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
	"example.com/usher/tasks/operator"
)

// TestACancelledInviteIsNotSent: not one that is scheduled, and not one that waits for a permit in a worker.
func TestACancelledInviteIsNotSent(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/5s", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=0")
	s.ok("invite", "scheduled@example.com", "--id", "scheduled", "--in", "2s")
	s.worker()
	s.ok("invite", "first@example.com", "--wait")
	s.ok("invite", "waits@example.com", "--id", "waits", "--ignore-existing")
	testkit.Eventually(t, "the invite is at work", func() bool { return s.state("waits") == tasks.StateActive })
	want(t, s.ok("task", "cancel", "waits", "scheduled", "--yes"), map[string]any{"cancelled": "[waits scheduled]"})
	last := s.ok("invite", "last@example.com", "--ignore-existing", "--wait")
	want(t, last, map[string]any{"state": "done"})
	for _, id := range []string{"waits", "scheduled"} {
		if state := s.state(id); state != tasks.StateCancelled {
			t.Errorf("%s is %s", id, state)
		}
	}
	if made := s.sentTo(); len(made) != 2 || made["first@example.com"] == "" || made["last@example.com"] == "" {
		t.Errorf("sent: %v", made)
	}
	testkit.Eventually(t, "nothing is left in the queues", func() bool { return len(s.list("task", "list")) == 0 })
}

// TestACancelledInviteLeavesItsQueue, although the window that it waits for opens in an hour.
func TestACancelledInviteLeavesItsQueue(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=0")
	s.worker()
	s.ok("bulk-invite", s.write("p.csv", csv("bulk", 40)), "--campaign", "spring")
	testkit.Eventually(t, "the limits are used up", func() bool { return s.campaign("spring").Sent == 11 })
	s.ok("invite", "waits@example.com", "--id", "waits")
	testkit.Eventually(t, "the invite is at work", func() bool { return s.state("waits") == tasks.StateActive })
	s.ok("task", "cancel", "waits", "--yes")
	testkit.Eventually(t, "its queue is empty", func() bool {
		w, err := queues.Count(t.Context(), s.rdb, "usher", queues.Interactive)
		testkit.NoError(t, err)
		return w.Active+w.Pending+w.Retry == 0
	})
	want(t, s.ok("status", "waits"), map[string]any{"state": "cancelled"})
}

// TestACallOfACancelledInviteDecides: if it has invited, the task is done, and else it is cancelled when no late commit
// can come any more. No other call follows.
func TestACallOfACancelledInviteDecides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault clerktest.Fault
		ends  tasks.State
	}{
		"the answer is late":       {clerktest.Fault{For: 2 * time.Second}, tasks.StateDone},
		"the answer is lost":       {clerktest.Fault{After: true}, tasks.StateDone},
		"the request never worked": {clerktest.Fault{}, tasks.StateCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{}, "USHER_TIMEOUT=4s")
			c.fault.Kind, c.fault.Times, c.fault.Endpoint = clerktest.FaultHang, 1, clerktest.Create
			s.clerk.Inject(c.fault)
			people, err := operator.New(s.client, "tests")
			testkit.NoError(t, err)
			s.worker()
			s.ok("invite", "ada@example.com", "--id", "ada")
			testkit.Eventually(t, "the call is made", func() bool {
				return s.clerk.Stats().Endpoints[clerktest.Create].Arrivals == 1
			})
			task, err := people.Cancel(t.Context(), "ada")
			if testkit.NoError(t, err); !task.CancelWanted {
				t.Errorf("cancelled, it stands so: %+v", task)
			}
			task, err = s.client.Wait(t.Context(), "ada")
			if testkit.NoError(t, err); task.State != c.ends {
				t.Errorf("it ended as %s", task.State)
			}
			if calls := s.clerk.Stats().Endpoints[clerktest.Create].Arrivals; calls != 1 {
				t.Errorf("%d calls", calls)
			}
			if made := len(s.clerk.Ledger()); (made == 1) != (c.ends == tasks.StateDone) {
				t.Errorf("%d invitations", made)
			}
		})
	}
}

// TestACampaignThatIsDeletedAtOnceLeavesNoDeadLetter: its task ends as cancelled, and the log says so.
func TestACampaignThatIsDeletedAtOnceLeavesNoDeadLetter(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=0")
	w := s.worker()
	s.ok("bulk-invite", s.write("p.csv", csv("bulk", 40)), "--campaign", "spring")
	testkit.Eventually(t, "it has begun", func() bool { return s.campaign("spring").Sent == 11 })
	s.ok("campaign", "cancel", "spring", "--yes")
	s.ok("campaign", "delete", "spring", "--yes")
	testkit.Eventually(t, "it has ended", func() bool { return strings.Contains(w.Log(), "campaign ended") })
	if n := s.deadLetters(); n != 0 || strings.Contains(w.Log(), "could not be worked on") {
		t.Errorf("%d dead letters", n)
	}
}
