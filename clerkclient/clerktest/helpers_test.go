package clerktest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

// clock is a clock that only a test turns.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// sandbox is a served sandbox and a client for it.
type sandbox struct {
	*clerktest.Sandbox
	t     *testing.T
	url   string // with /v1
	key   string
	clock *clock
	http  *http.Client
	// wild: answers are not held to Clerk's document, because faults spoil them on purpose.
	wild bool
}

// setup serves a sandbox on a clock of its own.
func setup(t *testing.T, cfg clerktest.Config) *sandbox {
	t.Helper()
	c := newClock()
	if cfg.Now == nil {
		cfg.Now = c.Now
	}
	s, url := clerktest.NewServer(t, cfg)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &sandbox{Sandbox: s, t: t, url: url, key: "sk_test_x", clock: c, http: &http.Client{Transport: transport}}
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (s *sandbox) request(method, path, body string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	return req
}

// try sends a request; err is what the client sees of a broken connection.
func (s *sandbox) try(req *http.Request) (reply, error) {
	s.t.Helper()
	resp, err := s.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, body}, err
}

// do sends a request that must have an answer, and holds the answer to Clerk's document.
func (s *sandbox) do(method, path, body string) reply {
	s.t.Helper()
	req := s.request(method, path, body)
	r, err := s.try(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if !s.wild {
		checkAnswer(s.t, s.request(method, path, body), r)
	}
	return r
}

func (s *sandbox) create(address string) reply {
	s.t.Helper()
	return s.do("POST", "/invitations", fmt.Sprintf(`{"email_address":%q}`, address))
}

func bulkBody(addresses ...string) string {
	items := make([]map[string]any, len(addresses))
	for i, a := range addresses {
		items[i] = map[string]any{"email_address": a}
	}
	body, _ := json.Marshal(items)
	return string(body)
}

func (s *sandbox) bulk(addresses ...string) reply {
	s.t.Helper()
	return s.do("POST", "/invitations/bulk", bulkBody(addresses...))
}

func (s *sandbox) list(query string) []clerktest.Invitation {
	s.t.Helper()
	r := s.do("GET", "/invitations"+query, "")
	return decode[[]clerktest.Invitation](s.t, r)
}

func decode[T any](t *testing.T, r reply) (v T) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	return v
}

type errorBody struct {
	Errors []struct {
		Message     string         `json:"message"`
		LongMessage string         `json:"long_message"`
		Code        string         `json:"code"`
		Meta        map[string]any `json:"meta"`
	} `json:"errors"`
	TraceID string `json:"clerk_trace_id"`
}

// wantError checks the status and code of a Clerk error and gives its meta.
func wantError(t *testing.T, r reply, status int, code string) map[string]any {
	t.Helper()
	var body errorBody
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || len(body.Errors) == 0 {
		t.Fatalf("status %d with no Clerk error: %v in %s", r.status, err, r.body)
	}
	if r.status != status || body.Errors[0].Code != code {
		t.Fatalf("got %d %s, want %d %s: %s", r.status, body.Errors[0].Code, status, code, r.body)
	}
	if body.TraceID == "" || body.TraceID != r.header.Get("Clerk-Trace-Id") {
		t.Errorf("trace id %q in the body, %q in the header", body.TraceID, r.header.Get("Clerk-Trace-Id"))
	}
	if e := body.Errors[0]; e.Message == "" || e.LongMessage == "" {
		t.Errorf("an error without words: %s", r.body)
	}
	return body.Errors[0].Meta
}

func wantStatus(t *testing.T, r reply, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

func wantAddresses(t *testing.T, got []clerktest.Invitation, want ...string) {
	t.Helper()
	addresses := make([]string, len(got))
	for i, v := range got {
		addresses[i] = v.EmailAddress
	}
	if strings.Join(addresses, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", addresses, want)
	}
}
