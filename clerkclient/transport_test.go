package clerkclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config Config
		want   string // a part of the error; empty for none
	}{
		"defaults":         {Config{Key: testKey}, ""},
		"live":             {Config{Key: "sk_live_abc"}, ""},
		"loopback name":    {Config{Key: testKey, BaseURL: "http://localhost:6398/v1"}, ""},
		"loopback v4":      {Config{Key: testKey, BaseURL: "http://127.8.0.1:6398/v1/"}, ""},
		"loopback v6":      {Config{Key: testKey, BaseURL: "http://[::1]:6398"}, ""},
		"no key":           {Config{}, "missing"},
		"publishable key":  {Config{Key: "pk_test_secretish"}, "publishable"},
		"other key":        {Config{Key: "whsec_secretish"}, "neither sk_test_ nor sk_live_"},
		"prefix alone":     {Config{Key: "sk_test_"}, "8 characters"},
		"too long":         {Config{Key: "sk_test_" + strings.Repeat("secretish", 100)}, "908 characters"},
		"line break":       {Config{Key: "sk_test_secretish\n"}, "line breaks"},
		"plain http":       {Config{Key: testKey, BaseURL: "http://api.clerk.com/v1"}, `http to "api.clerk.com"`},
		"loopback in name": {Config{Key: testKey, BaseURL: "http://127.0.0.1.example.com/v1"}, "http to"},
		"password": {Config{Key: testKey, BaseURL: "https://user:secretish@api.clerk.com/v1"},
			"user name or password"},
		"query": {Config{Key: testKey, BaseURL: "https://api.clerk.com/v1?secretish=1"},
			"query or fragment"},
		"fragment": {Config{Key: testKey, BaseURL: "https://api.clerk.com/v1#secretish"},
			"query or fragment"},
		"other scheme":       {Config{Key: testKey, BaseURL: "ftp://api.clerk.com/v1"}, `scheme "ftp"`},
		"no URL":             {Config{Key: testKey, BaseURL: "api.clerk.com/secretish"}, "not a URL"},
		"broken URL":         {Config{Key: testKey, BaseURL: "https://user:secretish@%zz"}, "not a URL"},
		"opaque":             {Config{Key: testKey, BaseURL: "https:secretish"}, "not a URL"},
		"version":            {Config{Key: testKey, Version: "1.0\r\nX-Evil: secretish"}, "User-Agent"},
		"timeout":            {Config{Key: testKey, Timeout: -time.Second}, "-1s"},
		"the host alone":     {Config{Key: testKey, BaseURL: "https://api.clerk.com"}, ""},
		"whitespace in base": {Config{Key: testKey, BaseURL: "https://api.clerk.com /v1"}, "not a URL"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := New(test.config)
			if test.want == "" {
				if err != nil || c == nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one about %q", err, test.want)
			}
			if strings.Contains(err.Error(), "secretish") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestKeyKindAndFingerprint(t *testing.T) {
	t.Parallel()
	for key, want := range map[string][2]string{
		"sk_test_abc": {"test", "4b4090cc"}, // printf sk_test_abc | sha256sum
		"sk_live_abc": {"live", "b2817799"},
	} {
		c, err := New(Config{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{c.KeyKind(), c.KeyFingerprint()}; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestRequests checks every byte of meaning in the requests.
func TestRequests(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"create": `{"email_address":"` + alice + `"}`,
		"bulk":   `[{"email_address":"` + alice + `"},{"email_address":"` + bob + `"}]`,
	}
	queries := map[string]string{
		"list":  "limit=500&paginated=true&query=Alice.Liddell%40Example.com&status=pending",
		"users": "email_address=alice.liddell%40example.com&email_address=bob%40example.org&limit=500",
	}
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.Method != op.method || r.URL.EscapedPath() != op.path || r.URL.RawQuery != queries[op.name] ||
					r.Proto != "HTTP/1.1" {
					t.Errorf("%s %s %s", r.Method, r.URL, r.Proto)
				}
				if string(body) != bodies[op.name] || r.ContentLength != int64(len(body)) {
					t.Errorf("body %q of %d, want %q", body, r.ContentLength, bodies[op.name])
				}
				want := map[string]string{
					"Authorization": "Bearer " + testKey, "Accept": "application/json",
					"Clerk-Api-Version": "2026-05-12",
					"User-Agent":        "usher/1.2.3 (+https://example.com/usher)",
				}
				if len(body) > 0 {
					want["Content-Type"] = "application/json"
				}
				if op.method == http.MethodPost {
					want["Content-Length"] = r.Header.Get("Content-Length")
				}
				for name, values := range r.Header {
					if len(values) != 1 || values[0] != want[name] {
						t.Errorf("header %s: %q, want %q", name, values, want[name])
					}
					delete(want, name)
				}
				if len(want) > 0 {
					t.Errorf("headers missing: %v", want)
				}
				_, _ = io.WriteString(w, op.good)
			}))
			if _, err := op.do(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPathsAreChecked also checks Call: the SDK does not escape ids.
func TestPathsAreChecked(t *testing.T) {
	t.Parallel()
	c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	for _, id := range []string{
		"", "..", ".", "../users", "inv_1/../../users", "inv_1?x=1", "inv_1#", "inv 1", "inv_%2e", "inv_1\r\n",
		"inv_é", strings.Repeat("a", 65),
	} {
		_, _, err := c.Revoke(t.Context(), id)
		if e := asError(t, err); e.Outcome != Rejected || e.Sent || e.Code != CodeInvalidRequest || e.Status != 0 {
			t.Errorf("%q: %v", id, e)
		}
	}
	for _, path := range []string{
		"", "/", "/invitations/../users", "/invitations/inv_1?x=1/revoke", "/invitations/inv_1#/revoke",
		"/invitations/in%76", "/a//b", "/a b",
	} {
		err := c.Call(t.Context(), clerk.NewAPIRequest(http.MethodPost, path), &clerk.Invitation{})
		if e := asError(t, err); e.Outcome != Rejected || e.Sent {
			t.Errorf("%q: %v", path, e)
		}
	}
}

func TestParametersThatAreNoJSON(t *testing.T) {
	t.Parallel()
	c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	metadata := json.RawMessage(alice)
	_, _, err := c.Create(t.Context(), &invitation.CreateParams{EmailAddress: alice, PublicMetadata: &metadata})
	if e := asError(t, err); e.Outcome != Rejected || e.Sent {
		t.Errorf("got %v", e)
	}
	mustNotLeak(t, err)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, op := range operations() {
			c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				http.Redirect(w, r, testURL, status)
			}))
			calls.Store(0)
			_, err := op.do(t.Context(), c)
			if e := asError(t, err); e.Status != status || e.Outcome != Transient || calls.Load() != 1 {
				t.Errorf("%s: %v after %d calls", op.name, e, calls.Load())
			}
			mustNotLeak(t, err)
		}
	}
}

// TestBrokenConnections plays what the network can do to a call, and checks what the error says.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	afterRequest := func(then func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			if _, err := readRequest(bufio.NewReader(conn)); err == nil {
				then(conn)
			}
		}
	}
	say := func(text string) func(net.Conn) { return func(conn net.Conn) { _, _ = io.WriteString(conn, text) } }
	tests := map[string]struct {
		serve func(net.Conn)
		code  string
		cause error
	}{
		"closed": {afterRequest(func(net.Conn) {}), CodeConnectionClosed, io.EOF},
		"reset": {afterRequest(func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }), CodeConnectionReset,
			syscall.ECONNRESET},
		"half an answer": {
			afterRequest(say("HTTP/1.1 200 OK\r\n")), CodeConnectionClosed, io.ErrUnexpectedEOF,
		},
		"not HTTP": {afterRequest(say("SSH-2.0-OpenSSH " + testURL + "\r\n")), CodeNetwork, nil},
		"broken header": {
			afterRequest(say("HTTP/1.1 302 Found\r\nLocation " + testTicket + " " + alice + "\r\n\r\n")),
			CodeNetwork, nil,
		},
		"endless header": {
			afterRequest(func(conn net.Conn) {
				say("HTTP/1.1 200 OK\r\n")(conn)
				for line := "X-A: " + strings.Repeat("a", 1000) + "\r\n"; ; {
					if _, err := io.WriteString(conn, line); err != nil {
						return
					}
				}
			}), CodeNetwork, nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, op := range operations() {
				c := clientTo(t, rawServer(t, test.serve))
				answer, err := op.do(t.Context(), c)
				e := asError(t, err)
				if e.Code != test.code || e.Outcome != Transient || !e.Sent || e.Status != 0 || answer != (Answer{}) {
					t.Errorf("%s: %v: code %q, outcome %s, sent %t, answer %v", op.name, e, e.Code, e.Outcome,
						e.Sent, answer)
				}
				if test.cause != nil && !errors.Is(err, test.cause) {
					t.Errorf("%s: cause %v, want %v", op.name, e.Cause, test.cause)
				}
				mustNotLeak(t, err)
				mustNotMarshal(t, err)
			}
		})
	}
}

// deafPort is an address where nobody listens and nobody else can: it is taken by a socket that does not listen.
func deafPort(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

func TestNoConnection(t *testing.T) {
	t.Parallel()
	origin := "http://" + deafPort(t)
	for _, op := range operations() {
		_, err := op.do(t.Context(), clientTo(t, origin))
		e := asError(t, err)
		if e.Code != CodeDial || e.Outcome != Transient || e.Sent || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v: code %q, sent %t", e, e.Code, e.Sent)
		}
		mustNotLeak(t, err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	op := operations()[0]
	server := httptest.NewUnstartedServer(answering(200, op.good))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := httptest.NewServer(answering(200, op.good))
	t.Cleanup(plain.Close)

	for name, origin := range map[string]string{
		"not trusted": server.URL, "not TLS": strings.Replace(plain.URL, "http:", "https:", 1),
		"not even HTTP": strings.Replace(rawServer(t,
			func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }), "http:", "https:", 1),
	} {
		_, err := op.do(t.Context(), clientTo(t, origin))
		if e := asError(t, err); e.Code != CodeTLS || e.Sent || !strings.Contains(e.Error(), "127.0.0.1") {
			t.Errorf("%s: %v: code %q, sent %t", name, e, e.Code, e.Sent)
		}
	}

	c := clientTo(t, server.URL)
	c.transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := op.do(t.Context(), c); err != nil {
		t.Errorf("trusted: %v", err)
	}

	old := httptest.NewUnstartedServer(answering(200, op.good))
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = discardLog()
	old.StartTLS()
	t.Cleanup(old.Close)
	_, err := op.do(t.Context(), clientTo(t, old.URL))
	if e := asError(t, err); e.Code != CodeTLS {
		t.Errorf("TLS 1.1: %v: code %q", e, e.Code)
	}
}

// TestOnlyHTTP1 also holds against a server that offers HTTP/2.
func TestOnlyHTTP1(t *testing.T) {
	t.Parallel()
	op := operations()[0]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("%s, accepts %q", r.Proto, r.Header.Get("Accept-Encoding"))
		}
		_, _ = io.WriteString(w, op.good)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := clientTo(t, server.URL)
	c.transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := op.do(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestContextThatIsOver(t *testing.T) {
	t.Parallel()
	c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, op := range operations() {
		_, err := op.do(canceled, c)
		if e := asError(t, err); !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
			e.Code != CodeCanceled || e.Sent {
			t.Errorf("canceled: %v, sent %t", e, e.Sent)
		}
		_, err = op.do(late, c)
		if e := asError(t, err); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
			e.Code != CodeTimeout || e.Sent {
			t.Errorf("late: %v, sent %t", e, e.Sent)
		}
	}
}

func TestCancelDuringACall(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		ctx, cancel := context.WithCancel(t.Context())
		c := newClient(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		}))
		_, err := op.do(ctx, c)
		if e := asError(t, err); !errors.Is(err, context.Canceled) || e.Outcome != Transient || !e.Sent ||
			e.Code != CodeCanceled {
			t.Errorf("%s: %v: code %q, sent %t", op.name, e, e.Code, e.Sent)
		}
	}
}

// TestCancelWhileReading keeps the status of an answer whose body never came.
func TestCancelWhileReading(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"id":`)
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	}))
	_, err := operations()[0].do(ctx, c)
	e := asError(t, err)
	// It is a race whether the header is read before the cancellation.
	if !errors.Is(err, context.Canceled) || e.Code != CodeCanceled || !e.Sent || e.Status != 0 && e.Status != 200 {
		t.Errorf("%v: code %q, status %d, sent %t", e, e.Code, e.Status, e.Sent)
	}
}

// TestCallsEndWithTheirDeadline has a server that reads and never answers. The call ends at the context's deadline or
// after the configured timeout, whichever comes first.
func TestCallsEndWithTheirDeadline(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		for given, want := range map[time.Duration]time.Duration{0: DefaultTimeout, time.Second: time.Second,
			time.Hour: DefaultTimeout} {
			synctest.Test(t, func(t *testing.T) {
				c := clientTo(t, "http://127.0.0.1:1")
				var asked atomic.Int64
				c.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					go func() {
						defer func() { _ = theirs.Close() }()
						r := bufio.NewReader(theirs)
						if _, err := readRequest(r); err == nil {
							asked.Add(1)
						}
						_, _ = r.ReadByte()
					}()
					return &gate{Conn: ours}, nil
				}
				ctx := t.Context()
				if given > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, given)
					defer cancel()
				}
				start := time.Now()
				_, err := op.do(ctx, c)
				e := asError(t, err)
				if took := time.Since(start); took != want || e.Code != CodeTimeout ||
					!errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s with %s: %v after %s", op.name, given, e, took)
				}
				if !e.Sent || e.Outcome != Transient || asked.Load() != 1 {
					t.Errorf("%s with %s: sent %t, asked %d times", op.name, given, e.Sent, asked.Load())
				}
				synctest.Wait()
			})
		}
	}
}

// TestConnectionsAreKept makes 40 calls at once, three times, on 40 connections.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const parallel = 40
	op := operations()[0]
	var opened atomic.Int64
	var mu sync.Mutex
	waiting, release := 0, make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		mine := release
		if waiting++; waiting == parallel {
			close(release)
			waiting, release = 0, make(chan struct{})
		}
		mu.Unlock()
		<-mine
		_, _ = io.WriteString(w, op.good)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := clientTo(t, server.URL)
	for range 3 {
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				if _, err := op.do(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if opened.Load() != parallel {
		t.Errorf("%d connections for %d calls at once", opened.Load(), parallel)
	}
}

// TestBackendServesTheSDK: any of the SDK's clients runs over it.
func TestBackendServesTheSDK(t *testing.T) {
	t.Parallel()
	c := newClient(t, answering(200, invitationJSON(aliceID, alice, "pending"), "Clerk-Trace-Id", "trace-1"))
	got, err := (&invitation.Client{Backend: c}).Create(t.Context(), &invitation.CreateParams{EmailAddress: alice})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != aliceID || got.Response.StatusCode != 200 || got.Response.Status != "200 OK" ||
		got.Response.TraceID != "trace-1" {
		t.Errorf("got %s, %d, %q", got.ID, got.Response.StatusCode, got.Response.Status)
	}
	if got.Response.RawJSON != nil {
		t.Error("the raw answer, ticket included, was kept")
	}
	var _ clerk.Backend = c
}
