package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

// TestEveryPageSaysThatRedisHangs, before the server that has the pages closes the connection.
func TestEveryPageSaysThatRedisHangs(t *testing.T) {
	t.Parallel()
	redis := testkit.RunRedis(t)
	rdb, err := settings.OpenRedis(redis.URL(), "")
	testkit.NoError(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	b := setup(t, func(c *Config) { c.Redis = rdb })
	server := httptest.NewUnstartedServer(b.server)
	server.Config.WriteTimeout = 10 * time.Second // a worker's
	server.Start()
	t.Cleanup(server.Close)
	b.url = server.URL
	w := b.browser()
	w.get("/").must(t, http.StatusOK)
	testkit.NoError(t, redis.Hang())
	t.Cleanup(func() { testkit.NoError(t, redis.GoOn()) })
	var looking sync.WaitGroup
	for _, path := range []string{
		"/", "/campaigns", "/campaigns/spring", "/campaigns/spring/cancel", "/campaigns/spring/export", "/dead-letters",
		"/dead-letters/one?id=x", "/dead-letters/confirm?do=retry", "/invitations", "/schedules", "/actions",
	} {
		looking.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			answer, err := w.client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != http.StatusServiceUnavailable ||
				!strings.Contains(string(text), "<h1>Redis does not answer</h1>") {
				t.Errorf("%s: %d, %v: %s", path, answer.StatusCode, err, text)
			}
		})
	}
	looking.Wait()
}
