package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/testkit"
)

const apiToken = "signup-token-0123456789-01234567"

// served is a server that runs.
type served struct {
	t    *testing.T
	url  string
	log  *testkit.Buffer
	stop func() int // and gives the exit code
}

// serve runs enqueue serve until it is stopped.
func (s *stage) serve(args ...string) *served {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	v := &served{t: s.t, log: &testkit.Buffer{}}
	ended := make(chan int, 1)
	go func() {
		args := append([]string{"--redis-url", s.url, "serve", "--addr", "127.0.0.1:0", "--log-level", "debug"}, args...)
		ended <- run(ctx, args, strings.NewReader(""), io.Discard, v.log)
	}()
	v.stop = func() int {
		cancel()
		return <-ended
	}
	s.t.Cleanup(cancel)
	testkit.Eventually(s.t, "it serves", func() bool {
		for line := range strings.Lines(v.log.String()) {
			var said struct{ Message, URL string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Message == "serving" {
				v.url = said.URL
			}
		}
		return v.url != ""
	})
	return v
}

func (s *stage) tokens(content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, "tokens")
	testkit.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (v *served) get(client *http.Client, path, token string) int {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, v.url+path, nil)
	testkit.NoError(v.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(r)
	testkit.NoError(v.t, err)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// The server runs until it is told to stop, and answers those who wait when it is.
func TestServe(t *testing.T) {
	t.Parallel()
	s := setup(t)
	v := s.serve("--tokens-file", s.tokens("signup: "+apiToken+"\n"))
	body := strings.NewReader(`{"email_address":"ada@example.com"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.url+"/v1/invitations", body)
	testkit.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+apiToken)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	testkit.NoError(t, err)
	var task struct {
		ID string `json:"task_id"`
	}
	testkit.NoError(t, json.NewDecoder(answer.Body).Decode(&task))
	if seen := s.ok("status", task.ID); seen["state"] != "pending" {
		t.Errorf("the command sees %v", seen)
	}
	if code := v.get(http.DefaultClient, "/v1/status", apiToken); code != http.StatusForbidden {
		t.Errorf("status: %d", code)
	}
	if code := v.get(http.DefaultClient, "/readyz", ""); code != http.StatusOK {
		t.Errorf("ready: %d", code)
	}
	if a := s.enqueue("serve", "--healthcheck", "--addr", strings.TrimPrefix(v.url, "http://")); a.exit != 0 ||
		a.stdout != "ready\n" {
		t.Errorf("health: %+v", a)
	}
	waited, asked := make(chan int, 1), s.mini.CommandCount()
	go func() { waited <- v.get(http.DefaultClient, "/v1/tasks/"+task.ID+"?wait=60s", apiToken) }()
	testkit.Eventually(t, "somebody waits", func() bool { return s.mini.CommandCount() > asked })
	began := time.Now()
	if exit := v.stop(); exit != 0 || time.Since(began) > stopsWithin {
		t.Errorf("exit %d after %s: %s", exit, time.Since(began), v.log)
	}
	if code := <-waited; code != http.StatusOK {
		t.Errorf("who waited was answered %d", code)
	}
	if strings.Contains(v.log.String(), apiToken) || strings.Contains(v.log.String(), "ada@") {
		t.Errorf("the log tells too much: %s", v.log)
	}
	if a := s.enqueue("serve", "--healthcheck", "--addr", strings.TrimPrefix(v.url, "http://")); a.exit != 1 {
		t.Errorf("health of one that has stopped: %+v", a)
	}
}

// A bad setting stops the server at start.
// TestServeNotesErasures in the log that is kept apart from Redis.
func TestServeNotesErasures(t *testing.T) {
	t.Parallel()
	s := setup(t)
	log := filepath.Join(s.dir, "erasures.log")
	v := s.serve("--tokens-file", s.tokens("ops: "+apiToken+" operate\n"), "--erasure-log", log)
	body := strings.NewReader(`{"email_address":"ada@example.com"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.url+"/v1/forgets", body)
	testkit.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+apiToken)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	testkit.NoError(t, err)
	_ = answer.Body.Close()
	noted, err := os.ReadFile(log)
	if answer.StatusCode != http.StatusOK || strings.Count(string(noted), "\n") != 1 {
		t.Errorf("status %d, the log has %q, %v", answer.StatusCode, noted, err)
	}
}

func TestServeRefusesBadSettings(t *testing.T) {
	t.Parallel()
	s := setup(t)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	testkit.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	good := s.tokens("signup: " + apiToken + "\n")
	open := filepath.Join(s.dir, "open")
	testkit.NoError(t, os.WriteFile(open, []byte("signup: "+apiToken+"\n"), 0o644))
	testkit.NoError(t, os.Chmod(open, 0o644))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no tokens":      {nil, "USHER_API_TOKENS_FILE"},
		"open tokens":    {[]string{"--tokens-file", open}, "others cannot read"},
		"both":           {[]string{"--tokens-file", good, "--no-auth"}, "exclude each other"},
		"busy":           {[]string{"--tokens-file", good, "--addr", taken.Addr().String()}, "USHER_API_ADDR"},
		"everywhere":     {[]string{"--tokens-file", good, "--addr", "0.0.0.0:0"}, "--behind-proxy"},
		"free for all":   {[]string{"--no-auth", "--addr", "0.0.0.0:0", "--behind-proxy"}, "loopback"},
		"half of TLS":    {[]string{"--tokens-file", good, "--tls-cert", good}, "USHER_API_TLS_KEY"},
		"no certificate": {[]string{"--tokens-file", good, "--tls-cert", good, "--tls-key", good}, "USHER_API_TLS_CERT"},
		"no address":     {[]string{"--no-auth", "--addr", "off"}, "USHER_API_ADDR"},
		"no number":      {[]string{"--no-auth", "--requests-per-second", "0"}, "--requests-per-second"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.enqueue(append([]string{"serve"}, c.args...)...)
			if a.exit != 2 || !strings.Contains(a.stderr, c.want) || strings.Contains(a.stderr, apiToken) {
				t.Errorf("exit %d: %s", a.exit, a.stderr)
			}
		})
	}
}

// A certificate that is replaced in its files is used without a restart.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	s := setup(t)
	cert, key := testkit.Certify(t, s.dir, 1)
	v := s.serve("--tokens-file", s.tokens("viewer: "+apiToken+" read\n"), "--tls-cert", cert, "--tls-key", key)
	serial := func() (number int64) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true,
			VerifyConnection: func(c tls.ConnectionState) error {
				number = c.PeerCertificates[0].SerialNumber.Int64()
				return nil
			},
		}}}
		if code := v.get(client, "/v1/status", apiToken); code != http.StatusOK {
			t.Errorf("status: %d", code)
		}
		return number
	}
	if n := serial(); n != 1 {
		t.Fatalf("the certificate is number %d", n)
	}
	testkit.Certify(t, s.dir, 2)
	testkit.Eventually(t, "the new certificate is used", func() bool { return serial() == 2 })
	testkit.NoError(t, os.WriteFile(key, []byte("no key"), 0o600))
	testkit.Eventually(t, "the fault is told", func() bool { return serial() == 2 && strings.Contains(v.log.String(), "stays") })
	if a := s.enqueue("serve", "--healthcheck", "--tls-cert", cert, "--addr", strings.TrimPrefix(v.url, "https://")); a.exit != 0 {
		t.Errorf("health: %+v", a)
	}
}

// A person cannot take the id of a tick or of a request over HTTP.
func TestIDsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"schedule.daily.1796000000", "http~signup~1"} {
		if a := s.enqueue("sync-list", "--id", id); a.exit != 2 || len(s.keys()) != 0 {
			t.Errorf("--id %s: exit %d, %s; the keys are %q", id, a.exit, a.stderr, s.keys())
		}
	}
}
