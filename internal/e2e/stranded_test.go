package e2e

import (
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

const (
	invitesQueue = "asynq:{usher:interactive}:"
	leases       = invitesQueue + "lease"
)

// TestInvitesWithoutALeaseAreDelivered: asynq's own recoverer does not find them.
func TestInvitesWithoutALeaseAreDelivered(t *testing.T) {
	t.Parallel()
	const n = 23
	s := start(t, clerktest.Config{})
	died := s.worker("USHER_LIMIT_OVERALL=1/1h") // nearly all wait
	s.invites("single", n, tasks.Recipient{IgnoreExisting: true})
	testkit.Eventually(t, "all are at work", func() bool {
		return s.rdb.LLen(t.Context(), invitesQueue+"active").Val() >= n-1
	})
	died.stop(syscall.SIGKILL)
	left := s.rdb.LLen(t.Context(), invitesQueue+"active").Val()
	testkit.NoError(t, s.rdb.Del(t.Context(), leases).Err())
	mends := s.worker()
	testkit.Eventually(t, "all have a lease", func() bool { return s.rdb.ZCard(t.Context(), leases).Val() == left })
	mends.stop(syscall.SIGTERM)
	// asynq waits for half a minute after the end of a lease, and looks for such ends when a worker starts.
	for _, id := range s.rdb.ZRange(t.Context(), leases, 0, -1).Val() {
		s.rdb.ZIncrBy(t.Context(), leases, -31, id)
	}
	s.worker()
	testkit.Eventually(t, "all are delivered", func() bool { return len(s.clerk.Ledger()) >= n })
	testkit.Eventually(t, "all tasks have ended", func() bool {
		return len(s.rdb.Keys(t.Context(), invitesQueue+"t:*").Val()) == 0
	})
	s.onceEach(0, n)
}

// TestLeasesAreLostUnderALivingWorker: no invite runs twice, and each of their ids is free again.
func TestLeasesAreLostUnderALivingWorker(t *testing.T) {
	t.Parallel()
	const n = 60
	s := start(t, clerktest.Config{MinLatency: 50 * time.Millisecond, MaxLatency: 200 * time.Millisecond},
		"USHER_LIMIT_CREATE=6/1s", "USHER_LIMIT_BULK=1/1s", "USHER_RESERVE=1")
	w := s.worker()
	s.invites("single", n, tasks.Recipient{IgnoreExisting: true})
	testkit.Eventually(t, "all are delivered, while leases are lost", func() bool {
		if err := s.rdb.Del(t.Context(), leases).Err(); err != nil {
			t.Error(err)
		}
		return len(s.clerk.Ledger()) >= n
	})
	testkit.Eventually(t, "each id is free again", func() bool {
		return len(s.rdb.Keys(t.Context(), invitesQueue+"t:*").Val()) == 0
	})
	s.onceEach(0, n)
	if n := lines(w, "asynq had stranded tasks"); n == 0 || n > 3 {
		t.Errorf("that is told %d times", n)
	}
}
