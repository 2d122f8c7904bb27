package clerktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestFaultsBeforeAndAfter plays each kind that ends by itself, before and after the work.
func TestFaultsBeforeAndAfter(t *testing.T) {
	t.Parallel()
	isJSON := func(r reply) bool { return json.Valid(r.body) }
	for _, c := range []struct {
		fault  clerktest.Fault
		status int // 0: no answer
		look   func(reply, error) bool
	}{
		{clerktest.Fault{Kind: clerktest.FaultStatus}, 500, func(r reply, _ error) bool {
			return strings.Contains(string(r.body), "internal_clerk_error") && isJSON(r)
		}},
		{clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503}, 503,
			func(r reply, _ error) bool { return strings.Contains(string(r.body), "service_unavailable") }},
		{clerktest.Fault{Kind: clerktest.FaultStatus, Status: 504}, 504,
			func(r reply, _ error) bool { return strings.Contains(string(r.body), "gateway_timeout") }},
		{clerktest.Fault{Kind: clerktest.FaultStatus, Status: 409}, 409,
			func(r reply, _ error) bool { return strings.Contains(string(r.body), "resource_locked") }},
		{clerktest.Fault{Kind: clerktest.FaultStatus, Status: 418, Code: "teapot"}, 418,
			func(r reply, _ error) bool { return strings.Contains(string(r.body), `"teapot"`) }},
		{clerktest.Fault{Kind: clerktest.FaultHTML}, 502, func(r reply, _ error) bool {
			return strings.Contains(string(r.body), "502 Bad Gateway") &&
				strings.HasPrefix(r.header.Get("Content-Type"), "text/html")
		}},
		{clerktest.Fault{Kind: clerktest.FaultHTML, Status: 503}, 503,
			func(r reply, _ error) bool { return !isJSON(r) }},
		{clerktest.Fault{Kind: clerktest.FaultEmpty}, 200, func(r reply, _ error) bool { return len(r.body) == 0 }},
		{clerktest.Fault{Kind: clerktest.FaultEmpty, Status: 500}, 500,
			func(r reply, _ error) bool { return len(r.body) == 0 }},
		{clerktest.Fault{Kind: clerktest.FaultNotJSON}, 200,
			func(r reply, _ error) bool { return len(r.body) > 0 && !isJSON(r) }},
		{clerktest.Fault{Kind: clerktest.FaultNotJSON, Body: "[]"}, 200,
			func(r reply, _ error) bool { return string(r.body) == "[]" }},
		{clerktest.Fault{Kind: clerktest.FaultTruncated}, 200,
			func(r reply, err error) bool { return err == nil && len(r.body) > 0 && !isJSON(r) }},
		{clerktest.Fault{Kind: clerktest.FaultCut}, 200, func(r reply, err error) bool {
			return len(r.body) > 0 && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET))
		}},
		{clerktest.Fault{Kind: clerktest.FaultReset}, 0,
			func(_ reply, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{clerktest.Fault{Kind: clerktest.FaultThrottle}, 429,
			func(r reply, _ error) bool { return r.header.Get("Retry-After") == "1" }},
		{clerktest.Fault{Kind: clerktest.FaultThrottle, RetryIn: 90 * time.Second,
			ThrottleBody: clerktest.ThrottleHTML}, 429, func(r reply, _ error) bool {
			return r.header.Get("Retry-After") == "90" && !isJSON(r)
		}},
		{clerktest.Fault{Kind: clerktest.FaultThrottle, RetryAfter: clerktest.RetryNone}, 429,
			func(r reply, _ error) bool { return r.header.Get("Retry-After") == "" }},
		{clerktest.Fault{Kind: clerktest.FaultEdge}, 403,
			func(r reply, _ error) bool { return string(r.body) == "error code: 1010" }},
		{clerktest.Fault{Kind: clerktest.FaultUnauthorized}, 401,
			func(r reply, _ error) bool { return strings.Contains(string(r.body), "clerk_key_invalid") }},
		{clerktest.Fault{Kind: clerktest.FaultHang, For: time.Nanosecond}, 200,
			func(r reply, _ error) bool { return isJSON(r) }},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s-%d-%v", c.fault.Kind, c.status, after), func(t *testing.T) {
				t.Parallel()
				s := setup(t, clerktest.Config{})
				s.wild = true
				f := c.fault
				f.After, f.Times, f.Endpoint = after, 1, clerktest.Create
				id := s.Inject(f)
				r, err := s.try(s.request("POST", "/invitations", `{"email_address":"a@example.com"}`))
				if r.status != c.status || !c.look(r, err) {
					t.Errorf("got %d %s, %v", r.status, r.body, err)
				}
				wantMade := after || c.fault.Kind == clerktest.FaultHang
				if made := len(s.Ledger()) == 1; made != wantMade {
					t.Errorf("made: %v, want %v", made, wantMade)
				}
				if q := s.Requests()[0]; q.Fault != f.Kind || q.FaultID != id || q.Status != c.status ||
					q.Recipients != 1 {
					t.Errorf("recorded as %+v", q)
				}
				if st := s.Stats().Endpoints[clerktest.Create]; st.Faulted != 1 {
					t.Errorf("stats %+v", st)
				}
				wantStatus(t, s.create("b@example.com"), 200) // it is over
			})
		}
	}
}

func TestTruncatedIsHalfOfTheAnswer(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.wild = true
	s.AddInvitation("a@example.com")
	whole := s.do("GET", "/invitations", "")
	s.Inject(clerktest.Fault{Kind: clerktest.FaultTruncated, After: true})
	if half := s.do("GET", "/invitations", ""); string(half.body) != string(whole.body[:len(whole.body)/2]) {
		t.Errorf("got %s", half.body)
	}
}

func TestFaultFilters(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	id := s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Address: "Ann@example.com", Times: 3})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 503, Endpoint: clerktest.List})
	wantStatus(t, s.create("bob@example.com"), 200)
	wantStatus(t, s.create("ann@example.com"), 500)
	wantStatus(t, s.bulk("x@example.com", "ANN@example.com"), 500)
	wantStatus(t, s.do("GET", "/invitations", ""), 503)
	wantStatus(t, s.do("GET", "/users?email_address=bob@example.com", ""), 200)
	if got := s.Faults(); len(got) != 2 || got[0].ID != id || got[0].Struck != 2 {
		t.Errorf("faults %+v", got)
	}
	wantStatus(t, s.do("GET", "/users?email_address=bob@example.com&email_address=ann@example.com", ""), 500)
	wantStatus(t, s.create("ann@example.com"), 200) // three times are over
	if s.ClearFault(id) {
		t.Error("it was over already")
	}
	if f := s.Faults(); len(f) != 1 || !s.ClearFault(f[0].ID) || len(s.Faults()) != 0 {
		t.Errorf("faults %+v", f)
	}
	wantStatus(t, s.do("GET", "/invitations", ""), 200)
	s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Status: 504})
	wantStatus(t, s.do("GET", "/users", ""), 504)
	s.ClearFaults()
	wantStatus(t, s.do("GET", "/users", ""), 200)
}

func TestFaultProbability(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (pattern string) {
		s := setup(t, clerktest.Config{Seed: seed})
		s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Probability: 0.5})
		for range 100 {
			pattern += map[int]string{200: ".", 500: "x"}[s.do("GET", "/users", "").status]
		}
		return pattern
	}
	first := run(1)
	if n := strings.Count(first, "x"); n < 20 || n > 80 {
		t.Errorf("%d of 100 at a probability of a half", n)
	}
	if run(1) != first || run(2) == first {
		t.Error("the seed decides, and nothing else")
	}
}

func TestFaultsComeAfterLimits(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 1, Window: time.Minute}})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Times: 2})
	wantStatus(t, s.create("a@example.com"), 500) // takes the place
	wantStatus(t, s.create("a@example.com"), 429) // is not struck
	s.clock.advance(time.Minute)
	wantStatus(t, s.create("a@example.com"), 500)
	s.clock.advance(time.Minute)
	wantStatus(t, s.create("a@example.com"), 200)
}

func TestInvalidFaults(t *testing.T) {
	t.Parallel()
	good := clerktest.Fault{Kind: clerktest.FaultStatus}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*clerktest.Fault){
		"kind": func(f *clerktest.Fault) { f.Kind = "x" }, "endpoint": func(f *clerktest.Fault) { f.Endpoint = "x" },
		"probability": func(f *clerktest.Fault) { f.Probability = 1.1 },
		"status":      func(f *clerktest.Fault) { f.Status = 100 },
		"times":       func(f *clerktest.Fault) { f.Times = -1 }, "for": func(f *clerktest.Fault) { f.For = -1 },
		"retry": func(f *clerktest.Fault) { f.RetryAfter = "x" },
	} {
		f := good
		spoil(&f)
		if f.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Inject did not panic")
		}
	}()
	clerktest.New(clerktest.Config{}).Inject(clerktest.Fault{})
}

// leave sends a request that hangs and gives up once the sandbox has struck it.
func (s *sandbox) leave(method, path, body string) {
	s.t.Helper()
	before := len(s.Requests())
	ctx, cancel := context.WithCancel(s.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		resp, err := s.http.Do(s.request(method, path, body).WithContext(ctx))
		if err == nil {
			resp.Body.Close()
			s.t.Errorf("a hang answered %d", resp.StatusCode)
		}
	})
	testkit.Eventually(s.t, "the request hangs", func() bool {
		r := s.Requests()
		return len(r) > before && r[before].Fault == clerktest.FaultHang
	})
	cancel()
	done.Wait()
	testkit.Eventually(s.t, "the sandbox noticed", func() bool { return s.Requests()[before].Abandoned })
}

func TestHang(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		s := setup(t, clerktest.Config{})
		s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, After: after, Times: 1})
		// a second one would not be refused
		s.leave("POST", "/invitations", `{"email_address":"a@example.com","ignore_existing":true}`)
		s.clock.advance(time.Hour)
		if made := len(s.Ledger()) == 1; made != after {
			t.Errorf("after=%v: made %v", after, made)
		}
		if r := s.Requests()[0]; r.Status != 0 || !r.Abandoned {
			t.Errorf("recorded as %+v", r)
		}
	}
}

func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*sandbox){
		"hang":         func(s *sandbox) { s.Inject(clerktest.Fault{Kind: clerktest.FaultHang}) },
		"hang for ...": func(s *sandbox) { s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, For: time.Hour}) },
		"latency":      func(s *sandbox) { s.Configure(func(c *clerktest.Config) { c.MinLatency = time.Hour }) },
	} {
		s := setup(t, clerktest.Config{})
		prepare(s)
		var done sync.WaitGroup
		done.Go(func() {
			resp, err := s.http.Do(s.request("POST", "/invitations", `{"email_address":"a@example.com"}`))
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s: answered %d", name, resp.StatusCode)
			}
		})
		testkit.Eventually(t, "the request waits", func() bool { return len(s.Requests()) == 1 })
		s.Close()
		done.Wait()
	}
}

func TestLateCommit(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{LateCommit: 5 * time.Second})
	start := s.clock.Now()
	s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Address: "a@example.com", Times: 1})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Bulk,
		LateCommit: 2 * time.Second, Times: 1})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Revoke, Times: 1})
	id := s.AddInvitation("old@example.com").ID
	s.leave("POST", "/invitations", `{"email_address":"a@example.com"}`)
	s.leave("POST", "/invitations/bulk", bulkBody("b@example.com"))
	s.leave("POST", "/invitations/"+id+"/revoke", "")

	s.clock.advance(2*time.Second - 1)
	if n := len(s.Ledger()); n != 0 {
		t.Fatalf("%d made too early", n)
	}
	s.clock.advance(1)
	if l := s.Ledger(); len(l) != 1 || l[0].Address != "b@example.com" || !l[0].Late ||
		!l[0].At.Equal(start.Add(2*time.Second)) {
		t.Errorf("after 2 s: %+v", l)
	}
	wantAddresses(t, s.list(""), "b@example.com", "old@example.com")
	s.clock.advance(time.Minute) // nobody looks at the moment it is due
	list := s.list("")
	wantAddresses(t, list, "a@example.com", "b@example.com")
	if at := time.UnixMilli(list[0].CreatedAt); !at.Equal(start.Add(5 * time.Second)) {
		t.Errorf("created at %v, want the moment it was due", at)
	}
	wantError(t, s.create("a@example.com"), 400, "duplicate_record")
	if got := s.Stats().Endpoints[clerktest.Create].Created; got != 1 {
		t.Errorf("%d created", got)
	}
}

// TestLateCommitMayFail: a late request is judged when it is carried out.
func TestLateCommitMayFail(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{LateCommit: 5 * time.Second})
	s.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Times: 1})
	s.leave("POST", "/invitations", `{"email_address":"a@example.com"}`)
	wantStatus(t, s.create("a@example.com"), 200)
	s.clock.advance(time.Minute)
	if n := len(s.Ledger()); n != 1 {
		t.Errorf("%d made", n)
	}
}

// TestLatency runs in a bubble, on its own time: transit passes before the arrival is stamped, latency after.
func TestLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := clerktest.New(clerktest.Config{MinTransit: 2 * time.Second, MinLatency: 3 * time.Second,
			MaxLatency: 7 * time.Second, LateCommit: time.Minute})
		start := time.Now()
		serve := func(ctx context.Context, address string) (w *httptest.ResponseRecorder, aborted bool) {
			defer func() { aborted = recover() == http.ErrAbortHandler }()
			w = httptest.NewRecorder()
			r := httptest.NewRequestWithContext(ctx, "POST", "/v1/invitations",
				strings.NewReader(`{"email_address":"`+address+`"}`))
			r.Header.Set("Authorization", "Bearer sk_test_x")
			r.Header.Set("Content-Type", "application/json")
			s.ServeHTTP(w, r)
			return w, false
		}
		if w, _ := serve(t.Context(), "a@example.com"); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if took := time.Since(start); took < 5*time.Second || took > 9*time.Second {
			t.Errorf("took %v", took)
		}
		if at := s.Requests()[0].Arrived.Sub(start); at != 2*time.Second {
			t.Errorf("arrived after %v, want the transit's 2 s", at)
		}
		if at := s.Ledger()[0].At; !at.Equal(time.Now()) {
			t.Errorf("made at %v, want the end of the latency", at)
		}

		early, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, aborted := serve(early, "b@example.com"); !aborted || len(s.Requests()) != 1 {
			t.Error("a request that left in transit has arrived")
		}
		late, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if _, aborted := serve(late, "c@example.com"); !aborted || len(s.Ledger()) != 1 || !s.Requests()[1].Abandoned {
			t.Error("a request that left in the latency was carried out")
		}
		time.Sleep(time.Minute) // the bubble's time
		if l := s.Ledger(); len(l) != 2 || l[1].Folded != "c@example.com" || !l[1].Late {
			t.Errorf("no late commit: %+v", l)
		}
	})
}
