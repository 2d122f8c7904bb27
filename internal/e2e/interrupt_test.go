package e2e

import (
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestASignalEndsACommandAtOnce: whatever it waits for.
func TestASignalEndsACommandAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang})
	dryRun := s.begin(s.command("enqueue", nil, "bulk-invite", s.write("p.csv", csv("bulk", 300)), "--dry-run"))
	testkit.Eventually(t, "it asks", func() bool { return len(s.clerk.Requests()) >= 4 })
	if took, exit := dryRun.stop(syscall.SIGINT); exit != 130 || took > 3*time.Second {
		t.Errorf("exit %d after %s, want 130 at once", exit, took)
	}
}
