package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestARightThatIsMissingIsNamed: an operator's request does nothing then; an invitation may be half enqueued.
func TestARightThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	admin := testkit.Client(t, server.Addr)
	testkit.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "small", "on", ">x", "~*", "+@all").Err())
	small := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "small", Password: "x"})
	t.Cleanup(func() { _ = small.Close() })
	s := setupOn(t, small)
	s.call(people, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nbob@example.com\n")).is(202)
	for _, act := range []struct{ refused, method, path, body, says string }{
		{"srem", "POST", "/v1/campaigns/spring/cancel", "", "Redis refuses SREM; ACL SETUSER small +srem gives its user " +
			"the right; nothing was done"},
		{"hset", "POST", "/v1/campaigns/spring/pause", "", "nothing was done"},
		{"lpush", "POST", "/v1/revocations", `{"email_address":"ada@example.com"}`, "nothing was done"},
		{"lpush", "POST", "/v1/invitations", `{"email_address":"ada@example.com"}`, "Redis refuses LPUSH; ACL SETUSER " +
			"small +lpush gives its user the right; what was asked may be done in part: repeat the request"},
	} {
		testkit.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "small", "+@all", "-"+act.refused).Err())
		var body any
		if act.body != "" {
			body = act.body
		}
		got := s.call(people, act.method, act.path, body).is(http.StatusServiceUnavailable, "redis-refuses")
		if !strings.Contains(string(got.body), act.says) {
			t.Errorf("%s: %s, want %q", act.path, got.body, act.says)
		}
	}
	testkit.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "small", "+@all").Err())
	if c, err := s.desk.Campaign(t.Context(), "spring"); err != nil || c.State != tasks.CampaignRunning {
		t.Errorf("%+v, %v", c, err)
	}
}
