package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

const apiToken = "signup-token-0123456789-01234567"

// unlimited lets a worker send as fast as it can.
func unlimited() []string {
	return []string{"USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0", "USHER_LIMIT_OVERALL=0"}
}

// serve starts enqueue serve and gives its URL.
func (s *system) serve(args ...string) (*process, string) {
	s.t.Helper()
	tokens := s.write("tokens", "signup: "+apiToken+" enqueue,operate\n")
	args = append([]string{"serve", "--addr", "127.0.0.1:0", "--tokens-file", tokens}, args...)
	p := s.begin(s.command("enqueue", nil, args...))
	s.workers = append(s.workers, p) // its log is searched too
	url := ""
	testkit.Eventually(s.t, "the server serves", func() bool {
		for line := range strings.Lines(p.Log()) {
			var said struct{ Message, URL string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Message == "serving" {
				url = said.URL
			}
		}
		return url != ""
	})
	return p, url
}

// example runs a program of a language against a server, and gives what it writes.
func example(t *testing.T, url, dir string, env []string, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), append(env, "USHER_API_URL="+url, "USHER_API_TOKEN="+apiToken, "API="+url,
		"TOKEN="+apiToken)...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// The examples deliver what they say, and repeating them sends nothing more.
func TestExamplesOverHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		program, file string
		args          []string
		count, rows   int
		want          string
	}{
		{"sh", "invite.sh", nil, 1, 2, "422"},
		{"node", "invite.mjs", nil, 100, 1000, "refused: 422 /email_address"},
		{"python3", "invite.py", nil, 100, 1000, "refused: 422 /email_address"},
		{"php", "invite.php", nil, 1, 2, "refused: 422 /email_address"},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			s := start(t, clerktest.Config{}, unlimited()...)
			s.worker()
			_, url := s.serve()
			env := []string{fmt.Sprintf("COUNT=%d", c.count), fmt.Sprintf("ROWS=%d", c.rows)}
			for range 2 {
				out := example(t, url, "../../examples/http", env, c.program, c.file)
				if !strings.Contains(out, c.want) {
					t.Errorf("it wrote:\n%s", out)
				}
				sent := map[string]int{}
				for _, one := range s.clerk.Ledger() {
					sent[one.Address]++
				}
				if len(sent) != c.count+c.rows || len(s.clerk.Ledger()) != len(sent) {
					t.Fatalf("%d addresses were sent %d invitations, want %d:\n%s", len(sent), len(s.clerk.Ledger()),
						c.count+c.rows, out)
				}
			}
		})
	}
}

// The examples of docs/http.md work.
func TestDocumentedRequests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/http.md")
	testkit.NoError(t, err)
	s := start(t, clerktest.Config{}, unlimited()...)
	s.worker()
	_, url := s.serve()
	wants := []string{`"state":"pending"`, `"state":"done"`, `"added":2`, `"errors_total":2`}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != len(wants) {
		t.Fatalf("there are %d examples", len(blocks))
	}
	for i, block := range blocks {
		if out := example(t, url, t.TempDir(), nil, "sh", "-c", block[1]); !strings.Contains(out, wants[i]) {
			t.Errorf("%s\nanswered %s, want %s", block[1], out, wants[i])
		}
	}
}

// A server that is killed in the middle of an upload leaves all of it or nothing, and its repetition adds the rest of
// nothing.
func TestKilledInAnUpload(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=1/1h", "USHER_RESERVE=0", "USHER_LIMIT_BULK=1/1h")
	s.worker()
	var list strings.Builder
	list.WriteString("email_address\n")
	for i := range rows {
		fmt.Fprintf(&list, "person%d@example.com\n", i)
	}
	post := func(url, name string) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/campaigns/"+name+"/recipients",
			strings.NewReader(list.String()))
		testkit.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+apiToken)
		r.Header.Set("Content-Type", "text/csv")
		r.Header.Set("Idempotency-Key", name)
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	server, url := s.serve()
	time.AfterFunc(150*time.Millisecond, server.Kill)
	status, err := post(url, "killed")
	t.Logf("answered %d, %v", status, err)
	c, err := s.client.Campaign(t.Context(), "killed")
	if err == nil && c.State != tasks.CampaignUploading && c.Recipients != 0 && c.Recipients != rows {
		t.Fatalf("%d of %d recipients are there, and the campaign is %s", c.Recipients, rows, c.State)
	}
	_, url = s.serve()
	testkit.Eventually(t, "the repeated upload is taken", func() bool {
		status, err := post(url, "killed")
		testkit.NoError(t, err)
		return status == http.StatusAccepted
	})
	testkit.Eventually(t, "all are there", func() bool { return s.campaign("killed").Recipients == rows })
}
