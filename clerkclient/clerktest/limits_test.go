package clerktest_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// tryAt sends a create at each of these offsets from the clock's start and tells which passed.
func (s *sandbox) tryAt(offsets ...time.Duration) string {
	s.t.Helper()
	start, passed := s.clock.Now(), make([]string, len(offsets))
	for i, d := range offsets {
		s.clock.advance(start.Add(d).Sub(s.clock.Now()))
		passed[i] = map[int]string{200: "yes", 429: "no"}[s.create(fmt.Sprintf("l%d.%d@example.com", i, d)).status]
	}
	return strings.Join(passed, " ")
}

func TestLimitsExactly(t *testing.T) {
	t.Parallel()
	const s = time.Second
	limit := clerktest.Limit{N: 2, Window: 10 * s}
	for _, c := range []struct {
		name string
		cfg  clerktest.Config
		at   []time.Duration
		want string
	}{
		{"sliding", clerktest.Config{Create: limit},
			[]time.Duration{0, 4 * s, 9 * s, 10*s - 1, 10 * s, 14*s - 1, 14 * s, 20*s - 1, 20 * s},
			"yes yes no no yes no yes no yes"},
		// The clock starts at a whole minute, so windows start at 0, 10, 20 …
		{"fixed", clerktest.Config{Create: limit, FixedWindow: true},
			[]time.Duration{8 * s, 9 * s, 10*s - 1, 10 * s, 11 * s, 12 * s, 20*s - 1, 20 * s},
			"yes yes no yes yes no no yes"},
		{"sliding, refused count", clerktest.Config{Create: limit, RefusedCount: true},
			[]time.Duration{0, 4 * s, 9 * s, 14 * s, 19*s - 1, 24*s - 1, 24 * s}, "yes yes no yes no no no"},
		{"fixed, refused count", clerktest.Config{Create: limit, RefusedCount: true, FixedWindow: true},
			[]time.Duration{8 * s, 8 * s, 9 * s, 10 * s}, "yes yes no yes"},
		{"off", clerktest.Config{}, []time.Duration{0, 0, 0, 0}, "yes yes yes yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := setup(t, c.cfg).tryAt(c.at...); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	one := clerktest.Limit{N: 1, Window: time.Minute}
	s := setup(t, clerktest.Config{Create: one, Bulk: one})
	wantStatus(t, s.bulk("a@example.com"), 200)
	wantStatus(t, s.create("b@example.com"), 200)
	wantStatus(t, s.bulk("c@example.com"), 429)
	wantStatus(t, s.create("c@example.com"), 429)
	wantStatus(t, s.do("GET", "/invitations", ""), 200)

	s = setup(t, clerktest.Config{Create: one, Bulk: one, SharedBuckets: true})
	wantStatus(t, s.bulk("a@example.com"), 200)
	wantStatus(t, s.create("b@example.com"), 429)
}

func TestOverallLimit(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 2, Window: time.Hour},
		Overall: clerktest.Limit{N: 3, Window: 10 * time.Second}})
	id := s.AddInvitation("a@example.com").ID
	wantStatus(t, s.do("GET", "/invitations", ""), 200)
	wantStatus(t, s.do("GET", "/users", ""), 200)
	wantStatus(t, s.do("POST", "/invitations/"+id+"/revoke", ""), 200)
	wantStatus(t, s.create("b@example.com"), 429) // takes no place of the create limit
	wantStatus(t, s.do("GET", "/nowhere", ""), 404)
	s.clock.advance(10 * time.Second)
	wantStatus(t, s.create("b@example.com"), 200)
	wantStatus(t, s.create("c@example.com"), 200)
	wantStatus(t, s.create("d@example.com"), 429)
	wantStatus(t, s.do("GET", "/users", ""), 200) // the refused create took no place of the overall limit either
	wantStatus(t, s.do("GET", "/users", ""), 429)
	if got := s.create("d@example.com").header.Get("Retry-After"); got != "3600" {
		t.Errorf("Retry-After %s, want the longer one of the waits, an hour and 10 s", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 1, Window: time.Minute}})
	wantStatus(t, s.create("a@example.com"), 200)
	s.clock.advance(500 * time.Millisecond)
	r := s.create("b@example.com")
	wantError(t, r, 429, "too_many_requests")
	if got := r.header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After %s, want 59.5 s rounded up", got)
	}
	again := s.create("b@example.com")
	seconds, _ := strconv.Atoi(again.header.Get("Retry-After"))
	s.clock.advance(time.Duration(seconds) * time.Second)
	wantStatus(t, s.create("b@example.com"), 200)

	s.Configure(func(c *clerktest.Config) {
		c.RetryAfter, c.ThrottleBody = clerktest.RetryDate, clerktest.RateLimitExceeded
	})
	s.clock.advance(200 * time.Millisecond)
	r = s.create("c@example.com")
	wantError(t, r, 429, "rate_limit_exceeded")
	at, err := http.ParseTime(r.header.Get("Retry-After"))
	if wait := at.Sub(s.clock.Now()); err != nil || wait < 59800*time.Millisecond || wait >= 60800*time.Millisecond {
		t.Errorf("Retry-After %q, %v from now: %v", r.header.Get("Retry-After"), wait, err)
	}

	s.Configure(func(c *clerktest.Config) {
		c.RetryAfter, c.ThrottleBody = clerktest.RetryNone, clerktest.ThrottleHTML
	})
	r = wantStatus(t, s.create("c@example.com"), 429)
	if r.header.Get("Retry-After") != "" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") ||
		!strings.Contains(string(r.body), "<html>") {
		t.Errorf("got %v %s", r.header, r.body)
	}
}

func TestFixedRetryAfterIsTheWindowsEnd(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Bulk: clerktest.Limit{N: 1, Window: time.Minute}, FixedWindow: true})
	s.clock.advance(45 * time.Second)
	wantStatus(t, s.bulk("a@example.com"), 200)
	if got := wantStatus(t, s.bulk("b@example.com"), 429).header.Get("Retry-After"); got != "15" {
		t.Errorf("Retry-After %s, want 15", got)
	}
}

func TestSetLimitsKeepsCounting(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 5, Window: time.Minute}})
	for i := range 3 {
		wantStatus(t, s.create(fmt.Sprintf("a%d@example.com", i)), 200)
	}
	s.SetLimits(clerktest.Limit{N: 3, Window: time.Minute}, clerktest.Limit{}, clerktest.Limit{})
	wantStatus(t, s.create("b@example.com"), 429)
	s.SetLimits(clerktest.Limit{N: 4, Window: time.Minute}, clerktest.Limit{}, clerktest.Limit{})
	wantStatus(t, s.create("b@example.com"), 200)
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 2, Window: 10 * time.Second},
		Bulk: clerktest.Limit{Window: time.Minute}})
	s.tryAt(0, 9*time.Second, 9*time.Second, 10*time.Second, 30*time.Second) // yes yes no yes yes
	wantStatus(t, s.bulk("a@example.com", "b@example.com"), 200)
	wantStatus(t, s.bulk("a@example.com"), 400)
	got := s.Stats()
	want := clerktest.EndpointStats{Arrivals: 5, Succeeded: 4, Failed: 1, Throttled: 1, Created: 4}
	if got.Endpoints[clerktest.Create] != want {
		t.Errorf("create %+v, want %+v", got.Endpoints[clerktest.Create], want)
	}
	if bulk := got.Endpoints[clerktest.Bulk]; bulk.Arrivals != 2 || bulk.Created != 2 || bulk.Failed != 1 {
		t.Errorf("bulk %+v", bulk)
	}
	if w := got.Create; w.Max != 3 || w.Taken != 4 || w.Held != 1 {
		t.Errorf("create window %+v, want max 3 (9 s, 9 s, 10 s), 4 taken, 1 held", w)
	}
	if w := got.Bulk; w.Max != 2 || w.Taken != 2 {
		t.Errorf("bulk window %+v: a limit that is off is measured too", w)
	}
	if got.Invitations != 6 || got.Emails != 6 {
		t.Errorf("got %+v", got)
	}
	if r := s.Requests()[2]; !r.Throttled || r.Status != 429 || r.Code != "too_many_requests" {
		t.Errorf("request %+v", r)
	}
}

func TestLimitText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]clerktest.Limit{
		"100/1h": {N: 100, Window: time.Hour}, "0": {}, "0/1m": {Window: time.Minute},
		"5/1.5s": {N: 5, Window: 1500 * time.Millisecond},
	} {
		var got, again clerktest.Limit
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != want {
			t.Errorf("%s does not come back: %v, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "100", "x/1h", "1/x", "-1/1h", "1/-1h", "1/0s"} {
		var l clerktest.Limit
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, l)
		}
	}
}

func TestDocumented(t *testing.T) {
	t.Parallel()
	for key, overall := range map[string]int{"sk_test_a": 100, "sk_live_a": 1000} {
		c := clerktest.Documented(key)
		if c.Create.String() != "100/1h0m0s" || c.Bulk.String() != "25/1h0m0s" || c.Overall.N != overall ||
			c.Overall.Window != 10*time.Second || c.Key != key {
			t.Errorf("got %+v", c)
		}
	}
}

func TestInvalidConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]clerktest.Config{
		"limit": {Create: clerktest.Limit{N: 1}}, "retry": {RetryAfter: "soon"}, "body": {ThrottleBody: "x"},
		"naming":  {DuplicatesNamed: "x"},
		"latency": {MinLatency: -1}, "lag": {ListLag: -1},
	} {
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: New did not panic", name)
				}
			}()
			clerktest.New(cfg)
		}()
	}
}
