package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// TestAUserIsSkipped: found by a look-up or by Clerk's refusal, alone or in a campaign, and told the same everywhere.
func TestAUserIsSkipped(t *testing.T) {
	t.Parallel()
	for _, bulkLimit := range []string{"25/1h", "0"} { // with and without look-ups
		t.Run("bulk limit "+bulkLimit, func(t *testing.T) {
			t.Parallel()
			admin, err := testkit.FreeAddr()
			testkit.NoError(t, err)
			s := start(t, clerktest.Config{}, "USHER_LIMIT_BULK="+bulkLimit, "USHER_ADMIN_ADDR="+admin)
			for _, user := range []string{"single@example.com", "bulk0@example.com", "bulk1@example.com"} {
				s.clerk.AddUser(user)
			}
			w := s.worker()
			skip := []string{"--on-existing-user", "skip", "--wait"}
			done := s.ok(append([]string{"invite", "Single@example.com", "--id", "one"}, skip...)...)
			want(t, done, map[string]any{"state": "done", "error": nil, "invitation_id": nil})
			if why, ok := done["skipped"].(map[string]any); !ok || why["code"] != "form_identifier_exists" {
				t.Errorf("skipped: %v", done["skipped"])
			}
			if a := s.enqueue("status", "one"); !strings.Contains(a.Stdout, "skipped, and nobody was invited") {
				t.Errorf("%s", a.Stdout)
			}
			file := s.write("people.csv", "email,on_existing_user\nbulk0@example.com,\nbulk1@example.com,dead-letter\n"+
				"bulk2@example.com,\n")
			counts := map[string]any{"recipients": 3, "sent": 1, "dead": 1, "skipped": 1, "remaining": 0}
			bulk := append([]string{"bulk-invite", file, "--campaign", "spring"}, skip...)
			want(t, s.ok(bulk...), counts)
			want(t, s.ok("campaign", "status", "spring"), counts)
			want(t, s.list("campaign", "list")[0], counts)
			want(t, s.ok(bulk...), map[string]any{"added": 0, "known": 3, "known_dead": 1, "skipped": 1})
			if n := s.deadLetters(); n != 1 {
				t.Errorf("%d dead letters", n)
			}
			causes := map[string]any{}
			for _, row := range s.list("campaign", "export", "spring") {
				causes[fmt.Sprint(row["outcome"])] = row["cause"]
			}
			want(t, causes, map[string]any{
				"sent": nil, "dead": "form_identifier_exists", "skipped": "form_identifier_exists",
			})
			for _, address := range []string{"single@example.com", "bulk0@example.com"} {
				if a := s.enqueue("find", address); !strings.Contains(a.Stdout, "skipped") ||
					!strings.Contains(a.Stdout, "form_identifier_exists") {
					t.Errorf("%s", a.Stdout)
				}
			}
			metrics := scrape(t, admin)
			looksUp := bulkLimit != "0"
			for _, line := range []string{
				fmt.Sprintf("usher_look_ups_saved_permits_total %d", map[bool]int{true: 2}[looksUp]),
				fmt.Sprintf(`usher_attempts_sum{outcome="dead",type="bulk-invite"} %d`, map[bool]int{false: 1}[looksUp]),
				`usher_attempts_sum{outcome="sent",type="bulk-invite"} 1`, `usher_redis_stops_total 0`,
				`usher_recipients_ended_total{code="form_identifier_exists",outcome="skipped",type="invite"} 1`,
				`usher_recipients_ended_total{code="form_identifier_exists",outcome="skipped",type="bulk-invite"} 1`,
				`usher_recipients_ended_total{code="form_identifier_exists",outcome="dead",type="bulk-invite"} 1`,
				`usher_recipients_ended_total{code="",outcome="sent",type="bulk-invite"} 1`,
				`usher_dead_letters_written_total{code="form_identifier_exists",reason="rejected"} 1`,
			} {
				if !strings.Contains(metrics, line) {
					t.Errorf("the metrics have no %s", line)
				}
			}
			if log := w.Log(); !strings.Contains(log, `"skipped":true,"code":"form_identifier_exists"`) {
				t.Error("the line of the task has no code")
			}
		})
	}
}

func scrape(t *testing.T, admin string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	testkit.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	testkit.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	testkit.NoError(t, err)
	return string(text)
}
