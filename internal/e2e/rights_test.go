package e2e

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
)

// documented are the rules of the Redis user that docs/operations.md names.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	testkit.NoError(t, err)
	rule := regexp.MustCompile(`(?s)\nuser usher on >PASSWORD (.*?)\n` + "```").FindSubmatch(text)
	if rule == nil {
		t.Fatal("docs/operations.md has no line that begins with user usher on >PASSWORD")
	}
	return strings.Fields(strings.ReplaceAll(string(rule[1]), "\\\n", " "))
}

// limited is a system whose Redis user has few rights.
type limited struct {
	*system
	complete bool   // all must go well
	admin    string // the URL of the first worker's pages
}

const adminToken = "admin-token-0123456789-0123456789"

// visit makes a request of the pages.
func (l *limited) visit(client *http.Client, method, path, form, body string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, l.admin+path, strings.NewReader(body))
	testkit.NoError(l.t, err)
	r.Header.Set("Content-Type", form)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := client.Do(r)
	testkit.NoError(l.t, err)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && l.complete {
		l.t.Errorf("%s %s: %s", method, path, answer.Status)
	}
}

// pages does what people do on the pages.
func (l *limited) pages() {
	l.t.Helper()
	jar, err := cookiejar.New(nil)
	testkit.NoError(l.t, err)
	client := &http.Client{Jar: jar}
	l.visit(client, "POST", "/list", "multipart/form-data; boundary=X", strings.ReplaceAll(`--X
Content-Disposition: form-data; name="list"; filename="people.csv"

email
page@example.com
--X--
`, "\n", "\r\n"))
	for _, path := range []string{
		"/list", "/", "/campaigns", "/campaigns/spring", "/campaigns/spring/export", "/dead-letters",
		"/dead-letters?code=none", "/dead-letters/confirm?do=delete", "/invitations", "/schedules", "/actions", "/metrics",
	} {
		l.visit(client, "GET", path, "", "")
	}
	for path, fields := range map[string]url.Values{
		"/find": {"what": {"ada@example.com"}}, "/schedules/sync/pause": {}, "/list/drop": {},
		"/dead-letters/delete": {"cut": {time.Now().UTC().Format(time.RFC3339Nano)}, "code": {"none"}},
		"/dead-letters/retry":  {"cut": {time.Now().UTC().Format(time.RFC3339Nano)}, "code": {"none"}},
		"/invitations/revoke":  {"id": {"inv_xlNKaEd5UmVbHddMERPlSaR1C70"}},
	} {
		l.visit(client, "POST", path, "application/x-www-form-urlencoded", fields.Encode())
	}
}

func startLimited(t *testing.T, rules []string, config clerktest.Config, env ...string) *limited {
	t.Helper()
	schedules := "schedules:\n  - name: sync\n    cron: \"0 4 1 1 *\"\n    task: sync-list\n"
	l := &limited{system: start(t, config, env...)}
	l.env = append(l.env, "USHER_SCHEDULE_FILE="+l.write("schedules.yaml", schedules), "USHER_STRICT=true",
		"REDIS_URL=redis://usher:secret@"+l.redis.Addr)
	l.allow(rules)
	return l
}

// allow gives the user of the workers exactly these rights.
func (l *limited) allow(rules []string) {
	l.t.Helper()
	args := []any{"ACL", "SETUSER", "usher", "reset", "on", ">secret"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	testkit.NoError(l.t, l.rdb.Do(l.t.Context(), args...).Err())
}

// refused tells what Redis has refused to the user.
func (l *limited) refused() (what []string) {
	l.t.Helper()
	entries, err := l.rdb.ACLLog(l.t.Context(), 100).Result()
	testkit.NoError(l.t, err)
	for _, e := range entries {
		if e.Username == "usher" {
			what = append(what, e.Reason+" "+e.Object)
		}
	}
	return what
}

// do runs enqueue, which must come to exit.
func (l *limited) do(exit int, args ...string) (stdout string) {
	a := l.enqueue(append(args, "--json")...)
	if a.Exit != exit && l.complete {
		l.t.Errorf("enqueue %q: exit %d, want %d\n%s%s", args, a.Exit, exit, a.Stdout, a.Stderr)
	}
	return a.Stdout
}

// everything does what people and services do with Usher, until Redis refuses something.
func (l *limited) everything() {
	field := func(text, name string) string {
		found := regexp.MustCompile(`"` + name + `":\s*"([^"]*)"`).FindStringSubmatch(text)
		if found == nil {
			return "none"
		}
		return found[1]
	}
	var first *process
	l.clerk.AddUser("user@example.com")
	for _, step := range []func(){
		func() {
			addr, err := testkit.FreeAddr()
			testkit.NoError(l.t, err)
			l.admin = "http://" + addr
			first = l.worker("USHER_TIMEOUT=2s", "USHER_ADMIN_ADDR="+addr, "USHER_ADMIN_TOKEN="+adminToken)
		},
		func() { l.do(0, "invite", "ada@example.com", "--wait", "--wait-timeout=20s") },
		func() { l.do(0, "status") },
		func() {
			l.do(0, "bulk-invite", l.write("b.csv", csv("bulk", 30)), "--campaign=spring", "--wait", "--wait-timeout=20s")
		},
		func() { l.do(0, "campaign", "export", "spring") },
		func() { l.do(0, "campaign", "list") },
		func() { l.do(0, "sync-list", "--wait", "--wait-timeout=20s") },
		func() { l.do(0, "invitations") },
		func() { l.do(3, "invite", "user@example.com", "--wait", "--wait-timeout=20s") },
		func() { l.do(0, "dead-letter", "retry", field(l.do(0, "dead-letter", "list"), "id")) },
		func() {
			id := field(l.do(0, "invite", "later@example.com", "--in=1d"), "task_id")
			l.do(0, "status", id)
			l.do(0, "task", "list")
			l.do(0, "find", "later@example.com")
			l.do(0, "task", "cancel", field(l.do(0, "invite", "later@example.com", "--in=2d"), "task_id"), "--yes")
			l.do(0, "forget", "later@example.com", "--yes")
		},
		func() {
			l.do(0, "bulk-invite", l.write("c.csv", csv("later", 300)), "--campaign=autumn", "--in=1d")
			l.do(0, "campaign", "pause", "autumn")
			l.do(0, "campaign", "resume", "autumn")
			l.do(0, "campaign", "cancel", "autumn", "--yes")
			upload := ledger.New(l.rdb, "usher").Stage() // that was broken off
			row := ledger.Recipient{Folded: "bulk3@example.com", Data: []byte(`{"email_address":"bulk3@example.com"}`)}
			testkit.NoError(l.t, upload.Add(l.t.Context(), []ledger.Recipient{row}))
			l.do(0, "forget", "bulk3@example.com", "--yes")
		},
		func() { l.pages() },
		func() { l.do(0, "campaign", "delete", "autumn", "--yes") },
		func() { l.do(0, "revoke", "--campaign=spring", "--yes", "--wait", "--wait-timeout=20s") },
		func() { l.do(0, "delete", "--email=ada@example.com", "--yes", "--wait", "--wait-timeout=20s") },
		func() { l.do(0, "schedule", "list") },
		func() { l.do(1, "schedule", "pause", "none") },
		func() { l.do(0, "resume-calls") },
		func() { l.do(0, "dead-letter", "delete", "--all", "--yes") },
		func() { // an invite is active when its worker dies, another one when it stops
			l.clerk.Inject(clerktest.Fault{Kind: clerktest.FaultHang, Endpoint: clerktest.Create})
			l.do(0, "invite", "bob@example.com")
			if len(l.refused()) == 0 {
				testkit.Eventually(l.t, "the call hangs", func() bool { return l.clerk.Faults()[0].Struck > 0 })
			}
			first.stop(syscall.SIGKILL)
			l.worker("USHER_TIMEOUT=2s")
			l.do(0, "sync-list", "--wait", "--wait-timeout=20s") // it works, and has looked for stranded tasks
			l.do(0, "invite", "carol@example.com")
		},
		func() { l.workers[1].stop(syscall.SIGTERM) },
	} {
		if step(); len(l.refused()) > 0 {
			return
		}
	}
}

// TestTheDocumentedRightsSuffice: and nothing more is even asked for.
func TestTheDocumentedRightsSuffice(t *testing.T) {
	t.Parallel()
	l := startLimited(t, documented(t), clerktest.Config{})
	l.complete = true
	l.everything()
	if refused := l.refused(); len(refused) > 0 {
		t.Errorf("Redis refuses %q", refused)
	}
}

// TestNoDocumentedRightIsTooMuch: without any of them something is refused.
func TestNoDocumentedRightIsTooMuch(t *testing.T) {
	t.Parallel()
	if !testkit.Long {
		t.Skip("it starts the system once for each right, which takes minutes: .ci/test -tags long runs it")
	}
	rules := documented(t)
	for i, rule := range rules {
		if !strings.HasPrefix(rule, "+") {
			continue
		}
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			l := startLimited(t, slices.Delete(slices.Clone(rules), i, i+1), clerktest.Config{})
			if l.everything(); len(l.refused()) == 0 {
				t.Error("nothing is refused without it")
			}
		})
	}
}
