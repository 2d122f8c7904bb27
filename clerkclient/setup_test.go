package clerkclient

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "sk_test_N0tAKeyN0tAKeyN0tAKey"
	testTicket = "eyJhbGciOiJub25lIn0.dGlja2V0.c2lnbmVk"
	testURL    = "https://clerk.example.com/v1/tickets/accept?__clerk_ticket=" + testTicket
	alice      = "Alice.Liddell@Example.com"
	bob        = "bob@example.org"
	aliceID    = "inv_2QaAaAaAaAaAaAaAaAaAaAaAaA"
	bobID      = "inv_2QbBbBbBbBbBbBbBbBbBbBbBbBb"
)

// operation is one of the six calls, with the body of a good answer to it.
type operation struct {
	name, method, path string
	do                 func(context.Context, *Client) (Answer, error)
	good               string
}

func operations() []operation {
	return []operation{
		{"create", http.MethodPost, "/v1/invitations", func(ctx context.Context, c *Client) (Answer, error) {
			_, a, err := c.Create(ctx, &invitation.CreateParams{EmailAddress: alice})
			return a, err
		}, invitationJSON(aliceID, alice, "pending")},
		{"bulk", http.MethodPost, "/v1/invitations/bulk", func(ctx context.Context, c *Client) (Answer, error) {
			_, a, err := c.CreateBulk(ctx, []*invitation.CreateParams{{EmailAddress: alice}, {EmailAddress: bob}})
			return a, err
		}, "[" + invitationJSON(bobID, bob, "pending") + "," + invitationJSON(aliceID, alice, "pending") + "]"},
		{"revoke", http.MethodPost, "/v1/invitations/" + aliceID + "/revoke",
			func(ctx context.Context, c *Client) (Answer, error) {
				_, a, err := c.Revoke(ctx, aliceID)
				return a, err
			}, invitationJSON(aliceID, alice, "revoked")},
		{"delete", http.MethodDelete, "/v1/invitations/" + aliceID,
			func(ctx context.Context, c *Client) (Answer, error) { return c.Delete(ctx, aliceID) },
			`{"object":"invitation","id":"` + aliceID + `","deleted":true}`},
		{"list", http.MethodGet, "/v1/invitations", func(ctx context.Context, c *Client) (Answer, error) {
			_, a, err := c.List(ctx, ListQuery{Limit: 500, Status: "pending", Query: alice})
			return a, err
		}, `{"data":[` + invitationJSON(aliceID, alice, "pending") + `],"total_count":1}`},
		{"users", http.MethodGet, "/v1/users", func(ctx context.Context, c *Client) (Answer, error) {
			_, a, err := c.UsersByEmail(ctx, []string{alice, bob})
			return a, err
		}, `[{"id":"user_1","email_addresses":[{"email_address":"bob@example.org","verification":{` +
			`"status":"verified"}}]}]`},
	}
}

func invitationJSON(id, address, status string) string {
	body, err := json.Marshal(map[string]any{
		"object": "invitation", "id": id, "email_address": address, "status": status, "revoked": status == "revoked",
		"public_metadata": map[string]any{"plan": "pro"}, "url": testURL,
		"created_at": 1_700_000_000_123, "updated_at": 1_700_000_000_456, "expires_at": 1_702_592_000_123,
	})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// newClient returns a client that calls the handler over real HTTP.
func newClient(t testing.TB, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return clientTo(t, server.URL)
}

func clientTo(t testing.TB, origin string) *Client {
	t.Helper()
	c, err := New(Config{Key: testKey, BaseURL: origin + "/v1", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answering is a handler that gives the same answer to everything.
func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// rawServer serves TCP connections, each in its own goroutine, and returns its origin.
func rawServer(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				// A test that fails must not hang.
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}

// readRequest reads one whole request from a raw connection.
func readRequest(r *bufio.Reader) (*http.Request, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req, err
}

// asError checks that the error is an *Error and returns it.
func asError(t testing.TB, err error) *Error {
	t.Helper()
	e, ok := err.(*Error) //nolint:errorlint // every method promises this very type
	if !ok || e == nil {
		t.Fatalf("error is %T %v, want *Error", err, err)
	}
	return e
}

// mustNotLeak prints the values in every way and looks for secrets.
func mustNotLeak(t testing.TB, values ...any) {
	t.Helper()
	for _, value := range values {
		for _, shown := range []any{value, &value, []any{value}, struct{ V any }{value}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
				checkClean(t, verb, fmt.Sprintf(verb, shown))
			}
		}
		if err, ok := value.(error); ok {
			checkClean(t, "Error()", err.Error())
			checkClean(t, "wrapped", fmt.Errorf("sending: %w", err).Error())
		}
	}
}

// mustNotMarshal is mustNotLeak for JSON.
func mustNotMarshal(t testing.TB, values ...any) {
	t.Helper()
	for _, value := range values {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatalf("%T cannot be marshalled: %v", value, err)
		}
		checkClean(t, "json", string(encoded))
	}
}

func checkClean(t testing.TB, how, text string) {
	t.Helper()
	lower := strings.ToLower(text)
	for _, secret := range []string{testKey, testKey[8:], testTicket, "dGlja2V0", "alice", "liddell", "bob@",
		"example.org", "__clerk_ticket"} {
		if strings.Contains(lower, strings.ToLower(secret)) {
			t.Errorf("%s shows %q: %s", how, secret, text)
		}
	}
}

// script is a handler whose next answers a test sets.
type script struct {
	next atomic.Pointer[http.HandlerFunc]
}

func (s *script) set(h http.HandlerFunc) { s.next.Store(&h) }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.next.Load())(w, r) }

func clerkError(code string, more ...string) string {
	meta := "{}"
	if len(more) > 0 {
		meta = more[0]
	}
	return fmt.Sprintf(`{"errors":[{"message":"no","long_message":"It was refused.","code":%q,"meta":%s}],`+
		`"clerk_trace_id":"trace-1"}`,
		cmp.Or(code, "form_param_invalid"), meta)
}
