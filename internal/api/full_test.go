package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestARedisThatIsFullIsTold by what was not done, whatever was asked.
func TestARedisThatIsFullIsTold(t *testing.T) {
	t.Parallel()
	s := setupOn(t, testkit.Client(t, testkit.RunRedis(t, "--maxmemory-policy", "noeviction").Addr))
	s.call(people, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nbob@example.com\n")).is(202)
	testkit.NoError(t, s.desk.DeadLetters.Put(t.Context(), deadletter.Entry{
		ID: "one", TaskID: "one", Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: "ada@example.com",
		Failure: fate.Failure{Reason: fate.ReasonRejected}, FailedAt: time.Now(),
		Payload: []byte(`{"v":1,"email_address":"ada@example.com"}`),
	}))
	testkit.NoError(t, s.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	for _, act := range []struct{ method, path string }{
		{"POST", "/v1/campaigns/spring/pause"}, {"POST", "/v1/campaigns/spring/cancel"}, {"POST", "/v1/syncs"},
		{"POST", "/v1/dead-letters/one/retry"}, {"DELETE", "/v1/dead-letters/one"},
	} {
		got := s.call(people, act.method, act.path, nil).is(http.StatusServiceUnavailable, "redis-full")
		if !strings.Contains(string(got.body), "Redis is full; nothing was changed") {
			t.Errorf("%s: %s", act.path, got.body)
		}
	}
	if n, err := s.desk.DeadLetters.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d dead letters are left, %v", n, err)
	}
	if c, err := s.desk.Campaign(t.Context(), "spring"); err != nil || c.State != tasks.CampaignRunning {
		t.Errorf("%+v, %v", c, err)
	}
}
