package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/api"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
	"example.com/usher/internal/tokens"
	"example.com/usher/tasks"
)

// The tokens of the stage.
const (
	signup = "signup-token-0123456789-01234567"
	other  = "other-token-0123456789-012345678"
	viewer = "viewer-token-0123456789-01234567"
	people = "people-token-0123456789-01234567"
)

// stage is a server with a Redis, and no worker.
type stage struct {
	t    *testing.T
	rdb  redis.UniversalClient
	desk *desk.Desk
	url  string
	log  *testkit.Buffer
}

func setup(t *testing.T, changes ...func(*api.Config)) *stage {
	t.Helper()
	return setupOn(t, testkit.MiniRedis(t), changes...)
}

func setupOn(t *testing.T, rdb redis.UniversalClient, changes ...func(*api.Config)) *stage {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	lines := fmt.Sprintf("signup: %s\nother: %s\nviewer: %s read\npeople: %s enqueue,operate\n", signup, other, viewer, people)
	testkit.NoError(t, os.WriteFile(path, []byte(lines), 0o600))
	known, err := tokens.Open(path, nil)
	testkit.NoError(t, err)
	s := &stage{t: t, rdb: rdb, log: &testkit.Buffer{}}
	s.desk, err = desk.New(rdb, tasks.DefaultNamespace, "test")
	testkit.NoError(t, err)
	config := api.Config{
		Redis: rdb, Namespace: tasks.DefaultNamespace, Tokens: known, Hosts: []string{"127.0.0.1", "api.example.com"},
		PerSecond: 100_000, Log: zerolog.New(s.log), Clerk: settings.Instance{},
	}
	for _, change := range changes {
		change(&config)
	}
	server := api.New(t.Context(), config)
	running := httptest.NewUnstartedServer(nil)
	running.Config = api.HTTPServer(server)
	running.Start()
	t.Cleanup(func() {
		running.Close()
		server.Wait()
	})
	s.url = running.URL
	return s
}

// answer is what the server has said.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// object reads the body.
func (a answer) object() (object map[string]any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, &object); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	return object
}

// is wants a status, and of a problem its kind.
func (a answer) is(status int, kind ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if len(kind) == 0 {
		return a
	}
	if form := a.header.Get("Content-Type"); form != "application/problem+json" {
		a.t.Errorf("a problem came as %s", form)
	}
	p := a.object()
	if p["type"] != "urn:usher:problem:"+kind[0] || p["status"] != float64(status) || p["detail"] == "" || p["title"] == "" {
		a.t.Fatalf("the problem is %s, want %s", a.body, kind[0])
	}
	return a
}

// call makes a request. Headers are pairs of name and value.
func (s *stage) call(token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	return s.do(s.request(token, method, path, body, headers...))
}

func (s *stage) request(token, method, path string, body any, headers ...string) *http.Request {
	s.t.Helper()
	var reader io.Reader
	form := "application/json"
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	case csvBody:
		reader, form = strings.NewReader(string(body)), "text/csv"
	default:
		data, err := json.Marshal(body)
		testkit.NoError(s.t, err)
		reader = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, reader)
	testkit.NoError(s.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		r.Header.Set("Content-Type", form)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	return r
}

type csvBody string

func (s *stage) do(r *http.Request) answer {
	s.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	testkit.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	testkit.NoError(s.t, err)
	return answer{s.t, response.StatusCode, response.Header, data}
}

// queued counts the tasks that have not ended.
func (s *stage) queued() (n int) {
	s.t.Helper()
	testkit.NoError(s.t, s.desk.EachTask(s.t.Context(), desk.TaskFilter{}, func(desk.QueuedTask) error {
		n++
		return nil
	}))
	return n
}

type object = map[string]any
