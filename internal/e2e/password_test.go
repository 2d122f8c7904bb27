package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestThePasswordOfRedisRotates three times during a campaign, while all connections are broken: no task fails, nothing
// is started anew, and the worker stays ready.
func TestThePasswordOfRedisRotates(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=10/1s", "USHER_LIMIT_BULK=2/1s", "USHER_RESERVE=3",
		"USHER_LOG_LEVEL=info")
	file := s.write("url", "")
	rotate := func(password string, steps ...func()) {
		set := func() {
			testkit.NoError(t, s.rdb.Do(t.Context(), "ACL", "SETUSER", "app", "on", "resetpass", ">"+password, "~*",
				"+@all").Err())
		}
		write := func() { overwrite(t, file, "redis://app:"+password+"@"+s.redis.Addr) }
		if len(password)%2 == 0 {
			set, write = write, set
		}
		set()
		for _, step := range steps {
			step()
		}
		write()
	}
	rotate("p")
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	w := s.worker("REDIS_URL=", "REDIS_URL_FILE="+file, "USHER_ADMIN_ADDR="+addr)
	red := watchReady(t, addr)
	s.ok("bulk-invite", s.write("bulk.csv", csv("bulk", 200)), "--campaign", "spring")
	for i, password := range []string{"pp", "ppp", "pppp"} {
		sent := 40 * (i + 1)
		testkit.Eventually(t, "the campaign goes on", func() bool { return s.campaign("spring").Sent >= sent })
		rotate(password, func() {
			if i == 1 { // who reads the file finds the old password for a while
				testkit.NoError(t, s.rdb.Do(t.Context(), "CLIENT", "KILL", "USER", "app").Err())
			}
		})
		testkit.NoError(t, s.rdb.Do(t.Context(), "CLIENT", "KILL", "USER", "app").Err())
		s.ok("invite", fmt.Sprintf("single%d@example.com", i))
	}
	testkit.Eventually(t, "the campaign has ended", func() bool {
		return s.campaign("spring").State == tasks.CampaignFinished
	})
	testkit.NoError(t, w.Alive())
	if longest := red(); longest >= 5*time.Second {
		t.Errorf("the worker was not ready for %s", longest)
	} else {
		t.Logf("the worker was not ready for %s", longest)
	}
	if n := s.deadLetters(); n > 0 || s.campaign("spring").Sent != 200 {
		t.Errorf("%d dead letters, %+v", n, s.campaign("spring"))
	}
	s.onceEach(200, 3)
	if n := lines(w, `"level":"warn"`, `"level":"error"`); n > 20 {
		t.Errorf("%d warnings:\n%s", n, w.Log())
	}
	if strings.Contains(w.Log(), "ppp") {
		t.Error("the log has a password")
	}
}

// watchReady asks a worker until red is called, which tells for how long it was not ready at most, once it had been.
func watchReady(t *testing.T, addr string) (red func() time.Duration) {
	t.Helper()
	ready := func(ctx context.Context) bool {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
		testkit.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			response.Body.Close()
		}
		return err == nil && response.StatusCode == http.StatusOK
	}
	testkit.Eventually(t, "the worker is ready", func() bool { return ready(t.Context()) })
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	var longest time.Duration
	watching.Go(func() {
		seen := time.Now()
		for ticker := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-ticker.C {
			longest = max(longest, time.Since(seen)-100*time.Millisecond)
			if ready(ctx) {
				seen = time.Now()
			}
		}
	})
	return func() time.Duration {
		stop()
		watching.Wait()
		return max(0, longest)
	}
}
