package page

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

// TestWhatIsLostIsRed: a retry loses nothing, and is drawn as any other action.
func TestWhatIsLostIsRed(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.letter("a", "ada@example.com", "", "no such thing", time.Now())
	w := b.browser()
	w.get("/dead-letters").must(t, http.StatusOK, `class="button primary" href="/dead-letters/confirm?do=retry"`,
		"422: no such thing")
	w.get("/dead-letters/one?id=a").must(t, http.StatusOK, "422: no such thing")
	w.get("/dead-letters/confirm?do=retry").must(t, http.StatusOK, `<button class="primary">Retry`)
	w.get("/dead-letters/confirm?do=delete").must(t, http.StatusOK, `<button class="primary danger">Delete`)
	none := w.get("/dead-letters?code=other").must(t, http.StatusOK, "None among the 1")
	if strings.Contains(none.body, "primary") {
		t.Errorf("nothing is chosen, and there is an action: %s", none.body)
	}
}

// TestProblemsSayWhereToGo: a page that is not there is left, and one that could not be read is asked for again.
func TestProblemsSayWhereToGo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	w.get("/campaigns/none").must(t, http.StatusNotFound, "Nothing is here", `href="/">Go to Now`)
	b.server.Redis.Close()
	w.get("/campaigns?from=x").must(t, http.StatusServiceUnavailable, `href="/campaigns?from=x">Try again`)
	w.post("/campaigns/none/pause").must(t, http.StatusServiceUnavailable, `href="/">Go to Now`)
}

// TestNowTellsThatThereAreNoLimits, where workers run with limits switched off.
func TestNowTellsThatThereAreNoLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	w.get("/").must(t, http.StatusOK, "No limits are known yet")
	p := b.limits()
	p.Create, p.Bulk, p.Overall, p.Reserve = settings.Rate{}, settings.Rate{}, settings.Rate{}, 0
	limiter, err := ratelimit.New(b.rdb, tasks.DefaultNamespace, p.Limits("k")...)
	testkit.NoError(t, err)
	testkit.NoError(t, p.Announce(t.Context(), b.rdb, tasks.DefaultNamespace))
	testkit.NoError(t, limiter.Announce(t.Context()))
	b.lives()
	if n := strings.Count(w.get("/").must(t, http.StatusOK).body, "No limit.<"); n != 3 {
		t.Errorf("%d of 3 budgets have no limit", n)
	}
}
