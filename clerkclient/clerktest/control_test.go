package clerktest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// control asks the control and gives its answer.
func (s *sandbox) control(method, path, body string, status int) map[string]any {
	s.t.Helper()
	var out map[string]any
	r := s.controlRaw(method, path, body, status)
	if err := json.Unmarshal(r.body, &out); err != nil {
		s.t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
	}
	return out
}

func (s *sandbox) controlRaw(method, path, body string, status int) reply {
	s.t.Helper()
	req := s.request(method, "", body)
	req.URL.Path, req.URL.RawQuery, _ = strings.Cut(clerktest.ControlPrefix+path, "?")
	r, err := s.try(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return wantStatus(s.t, r, status)
}

func TestControl(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Key: "sk_test_x"})
	if r := s.controlRaw("GET", "/ledger", "", 200); strings.TrimSpace(string(r.body)) != "[]" {
		t.Errorf("an empty ledger is %s", r.body)
	}
	s.control("POST", "/users", `{"email_address":"user@example.com"}`, 200)
	wantError(t, s.create("user@example.com"), 422, "form_identifier_exists")
	id := s.control("POST", "/invitations", `{"email_address":"old@example.com"}`, 200)["id"]
	wantError(t, s.create("old@example.com"), 400, "duplicate_record")
	s.control("POST", "/accept", fmt.Sprintf(`{"id":%q}`, id), 200)
	s.control("POST", "/expire", fmt.Sprintf(`{"id":%q}`, id), 422)
	s.control("POST", "/blocks", `{"domain":"blocked.example"}`, 200)
	s.control("POST", "/blocks", `{"email_address":"no@example.com"}`, 200)
	wantError(t, s.create("a@blocked.example"), 403, "not_allowed_access")
	wantError(t, s.create("no@example.com"), 403, "not_allowed_access")
	s.control("POST", "/rejections", `{"email_address":"odd@example.com","status":400,"code":"odd"}`, 200)
	wantError(t, s.create("odd@example.com"), 400, "odd")
	s.control("POST", "/quota", `{"n":0}`, 200)
	wantError(t, s.create("a@example.com"), 403, "quota_exceeded")
	s.control("POST", "/quota", `{"n":-1}`, 200)
	wantStatus(t, s.create("Ann@example.com"), 200)

	s.control("DELETE", "/key", "", 200)
	wantError(t, s.create("b@example.com"), 401, "clerk_key_invalid")
	s.control("POST", "/key", `{"key":"sk_test_x"}`, 200)
	wantStatus(t, s.create("b@example.com"), 200)

	var ledger []clerktest.Sent
	if err := json.Unmarshal(s.controlRaw("GET", "/ledger?email_address=ANN@example.com", "", 200).body,
		&ledger); err != nil || len(ledger) != 1 || ledger[0].Folded != "ann@example.com" {
		t.Errorf("ledger %+v, %v", ledger, err)
	}
	if err := json.Unmarshal(s.controlRaw("GET", "/ledger?after="+fmt.Sprint(ledger[0].Request), "", 200).body,
		&ledger); err != nil || len(ledger) != 1 || ledger[0].Folded != "b@example.com" {
		t.Errorf("ledger %+v, %v", ledger, err)
	}
	var requests []clerktest.Request
	if err := json.Unmarshal(s.controlRaw("GET", "/requests?after=7", "", 200).body, &requests); err != nil ||
		len(requests) != 2 || requests[0].Number != 8 {
		t.Errorf("requests %+v, %v", requests, err)
	}
	var stats clerktest.Stats
	if err := json.Unmarshal(s.controlRaw("GET", "/stats", "", 200).body, &stats); err != nil ||
		fmt.Sprint(stats) != fmt.Sprint(s.Stats()) || stats.Invitations != 3 {
		t.Errorf("stats %+v, %v", stats, err)
	}
	s.control("POST", "/reset", "", 200)
	s.control("POST", "/demo", "", 200)
	wantAddresses(t, s.list(""), "pending@example.com")
}

func TestControlFaults(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	id := s.control("POST", "/faults",
		`{"kind":"throttle","endpoint":"users","retry_in":"90s","times":5,"probability":1}`, 200)["id"]
	if r := s.do("GET", "/users", ""); r.status != 429 || r.header.Get("Retry-After") != "90" {
		t.Errorf("got %d %v", r.status, r.header)
	}
	var faults []map[string]any
	if err := json.Unmarshal(s.controlRaw("GET", "/faults", "", 200).body, &faults); err != nil || len(faults) != 1 ||
		faults[0]["retry_in"] != "1m30s" || faults[0]["struck"] != 1.0 || faults[0]["id"] != id {
		t.Errorf("faults %v, %v", faults, err)
	}
	s.control("DELETE", fmt.Sprintf("/faults/%v", id), "", 200)
	s.control("DELETE", fmt.Sprintf("/faults/%v", id), "", 422)
	wantStatus(t, s.do("GET", "/users", ""), 200)
	s.control("POST", "/faults", `{"kind":"status"}`, 200)
	s.control("DELETE", "/faults", "", 200)
	wantStatus(t, s.do("GET", "/users", ""), 200)
}

func TestControlConfig(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Key: "sk_test_x" + strings.Repeat("y", 20),
		Bulk: clerktest.Limit{N: 25, Window: time.Hour}})
	out := s.control("PATCH", "/config", `{"list_lag":"5s","bulk_partial":true,"create":"1/1h","retry_after":"date"}`,
		200)
	cfg := s.Config()
	if cfg.ListLag != 5*time.Second || !cfg.BulkPartial || cfg.Create.N != 1 ||
		cfg.RetryAfter != clerktest.RetryDate || cfg.Bulk.N != 25 {
		t.Errorf("config %+v", cfg)
	}
	if out["list_lag"] != "5s" || out["bulk"] != "25/1h0m0s" || strings.Contains(fmt.Sprint(out["key"]), "yyy") {
		t.Errorf("told %v", out)
	}
	s.control("POST", "/limits", `{"overall":"7/1s"}`, 200)
	if cfg := s.Config(); cfg.Overall.N != 7 || cfg.Create.N != 1 {
		t.Errorf("config %+v", cfg)
	}
	before := fmt.Sprint(s.control("GET", "/config", "", 200))
	for _, c := range [][3]string{
		{"PATCH", "/config", `{"bulk_partial":false,"list_lag":"soon"}`}, {"PATCH", "/config", `{"odd":1}`},
		{"PATCH", "/config", `{"list_lag":"-1s"}`},
		{"PATCH", "/config", `{"create":"1/0s"}`}, {"PATCH", "/config", ``}, {"POST", "/limits", `{"create":"x"}`},
		{"POST", "/limits", `{"odd":"1/1h"}`},
		{"POST", "/faults", `{"kind":"odd"}`}, {"POST", "/faults", `{"kind":"status","for":"x"}`},
		{"POST", "/users", `{}`}, {"POST", "/users", `[]`},
		{"POST", "/blocks", `{}`}, {"POST", "/rejections", `{"email_address":"a@example.com","status":200}`},
		{"POST", "/accept", `{"id":"inv_none"}`},
		{"GET", "/ledger?after=x", ""}, {"DELETE", "/faults/x", ""},
	} {
		if s.control(c[0], c[1], c[2], 422)["error"] == "" {
			t.Errorf("%v: no reason", c)
		}
	}
	if after := fmt.Sprint(s.control("GET", "/config", "", 200)); after != before {
		t.Errorf("a refused change changed\n%s\nto\n%s", before, after)
	}
}

// TestConcurrently is for the race detector, and counts: limits hold and nothing is made twice, however many ask at
// once.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{Create: clerktest.Limit{N: 30, Window: time.Hour},
		Bulk: clerktest.Limit{N: 10, Window: time.Hour}, MaxLatency: time.Millisecond})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 5 {
				s.create(fmt.Sprintf("c%d.%d@example.com", i, j))
				s.bulk(fmt.Sprintf("b%d.%d@example.com", i, j), "common@example.com")
				s.do("GET", "/invitations?limit=5", "")
				s.Ledger()
				s.Stats()
				s.Requests()
				s.ClearFault(s.Inject(clerktest.Fault{Kind: clerktest.FaultStatus, Address: "nobody@example.com"}))
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if c, b := st.Endpoints[clerktest.Create], st.Endpoints[clerktest.Bulk]; c.Created != 30 || c.Throttled != 70 ||
		b.Created != 2 || b.Throttled != 90 || st.Create.Max != 100 {
		t.Errorf("create %+v, bulk %+v, %+v", c, b, st.Create)
	}
}

// nowhere takes answers and keeps nothing.
type nowhere struct{ header http.Header }

func (w nowhere) Header() http.Header         { return w.header }
func (w nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (w nowhere) WriteHeader(int)             {}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := clerktest.New(clerktest.Config{})
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/nowhere", nil)
	w := nowhere{http.Header{}}
	for range 200_001 {
		s.ServeHTTP(w, r)
	}
	kept := s.Requests()
	if n := len(kept); n != 100_001 || kept[0].Number != 100_001 || kept[n-1].Number != 200_001 ||
		kept[n-1].Status != 401 {
		t.Errorf("%d kept, from %+v", n, kept[0])
	}
	if got := s.Stats().Endpoints[clerktest.Other]; got.Arrivals != 200_001 || got.Failed != 200_001 {
		t.Errorf("stats %+v", got)
	}
}
