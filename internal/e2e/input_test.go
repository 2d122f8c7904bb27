package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestBadInputLeavesNothing runs every kind of bad setting, address, option and file: exit 2, one line that says what is
// wrong, and an untouched Redis.
func TestBadInputLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	good := s.write("good.csv", "email\nada@example.com\n")
	bad := s.write("bad.csv", "email,expires_in_days\nada@example.com,5\nnot-an-address,5\nbob@example.com,999\n")
	unknown := s.write("unknown.csv", "email,shoe size\nada@example.com,42\n")
	xlsx := s.write("people.xlsx", "PK\x03\x04rest")
	latin1 := s.write("latin1.csv", "email\nj\xe4rg@example.com\n")
	empty := s.write("empty.csv", "email\n")
	cases := map[string]struct {
		args []string
		says string
	}{
		"no command":            {nil, "expected one of"},
		"unknown command":       {[]string{"invit"}, "unexpected argument"},
		"unknown flag":          {[]string{"invite", "ada@example.com", "--frobnicate"}, "--frobnicate"},
		"no address":            {[]string{"invite"}, "address"},
		"not an address":        {[]string{"invite", "ada"}, "email_address"},
		"a display name":        {[]string{"invite", "Ada <ada@example.com>"}, "display name"},
		"two addresses":         {[]string{"invite", "a@example.com,b@example.com"}, "email_address"},
		"no dot in the domain":  {[]string{"invite", "ada@localhost"}, "dot"},
		"a long address":        {[]string{"invite", strings.Repeat("a", 250) + "@example.com"}, "254"},
		"metadata":              {[]string{"invite", "ada@example.com", "--metadata", "[1]"}, "public_metadata"},
		"metadata with a tail":  {[]string{"invite", "ada@example.com", "--metadata", "{} {}"}, "public_metadata"},
		"expires in 0 days":     {[]string{"invite", "ada@example.com", "--expires-in-days", "0"}, "365"},
		"expires in 366 days":   {[]string{"invite", "ada@example.com", "--expires-in-days", "366"}, "365"},
		"redirect":              {[]string{"invite", "ada@example.com", "--redirect-url", "app.example.com"}, "redirect_url"},
		"template":              {[]string{"invite", "ada@example.com", "--template-slug", "x"}, "template_slug"},
		"at and in":             {[]string{"invite", "ada@example.com", "--at", "2099-01-01 09:00", "--in", "2d"}, "--in"},
		"a past time":           {[]string{"invite", "ada@example.com", "--at", "2020-01-01 09:00"}, "past"},
		"no time":               {[]string{"invite", "ada@example.com", "--at", "tomorrow"}, "tomorrow"},
		"no wait timeout":       {[]string{"invite", "ada@example.com", "--wait", "--wait-timeout", "soon"}, "--wait-timeout"},
		"no wait":               {[]string{"revoke", "inv_SftISK7GFJOAPfh0WxgHZZBcsQQ", "--wait-timeout", "5s"}, "--wait"},
		"no duration":           {[]string{"invite", "ada@example.com", "--in", "soon"}, "soon"},
		"an id":                 {[]string{"invite", "ada@example.com", "--id", "a b"}, "id"},
		"invitation id":         {[]string{"revoke", "inv_../../users"}, "invitation_id"},
		"campaign name":         {[]string{"bulk-invite", good, "--campaign", "a b"}, "campaign"},
		"bad rows":              {[]string{"bulk-invite", bad}, "line 3"},
		"unknown column":        {[]string{"bulk-invite", unknown}, "shoe size"},
		"a workbook":            {[]string{"bulk-invite", xlsx}, "CSV"},
		"another encoding":      {[]string{"bulk-invite", latin1}, "UTF-8"},
		"no rows":               {[]string{"bulk-invite", empty}, "row"},
		"no file":               {[]string{"bulk-invite", "no-such-file.csv"}, "no-such-file.csv"},
		"stdin without a place": {[]string{"bulk-invite", "-", "--skip-invalid"}, "--invalid-to"},
		"redis url":             {[]string{"status", "--redis-url", "http://:hunter2hunter2@x"}, "REDIS_URL"},
		"redis url with a word": {[]string{"status", "--redis-url", "redis://u:hunter2hunter2@host:port/0"}, "REDIS_URL"},
		"namespace":             {[]string{"status", "--namespace", "a{b}"}, "USHER_NAMESPACE"},
		"retry nothing":         {[]string{"dead-letter", "retry"}, "--all"},
		"delete nothing":        {[]string{"dead-letter", "delete", "--yes"}, "--all"},
		"list status":           {[]string{"invitations", "--status", "gone"}, "gone"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stdin := "email\nnot-an-address\n"
			got := s.run(stdin, "enqueue", nil, c.args...)
			if got.Exit != 2 || !strings.Contains(got.Stderr, c.says) || got.Stdout != "" {
				t.Errorf("exit %d, want 2 and %q in the message\nstdout: %s\nstderr: %s", got.Exit, c.says, got.Stdout, got.Stderr)
			}
			if strings.Contains(got.Stderr, "hunter2") {
				t.Errorf("the message holds a password: %s", got.Stderr)
			}
			asJSON := s.run(stdin, "enqueue", nil, append(c.args, "--json")...)
			var failure struct {
				Code, Message string
				Rows          []struct {
					Line          int
					Field, Reason string
				}
			}
			if err := json.Unmarshal([]byte(asJSON.Stderr), &failure); err != nil || asJSON.Exit != 2 || failure.Code == "" || failure.Message == "" || failure.Rows == nil {
				t.Errorf("with --json: exit %d, %v: %s", asJSON.Exit, err, asJSON.Stderr)
			}
			if name == "bad rows" && (len(failure.Rows) != 2 || failure.Rows[0].Line != 3 || failure.Rows[1].Line != 4) {
				t.Errorf("rows: %+v", failure.Rows)
			}
		})
	}
	if left := s.dump(); len(left) != 0 {
		t.Errorf("bad input left keys in Redis: %v", left)
	}
}

func TestAWrongRedisPasswordIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.rdb.ConfigSet(t.Context(), "requirepass", "sesame")
	for _, password := range []string{"", ":hunter2@"} {
		got := s.run("", "enqueue", []string{"REDIS_URL=redis://" + password + s.redis.Addr + "/0"}, "status")
		if got.Exit != 1 || !strings.Contains(got.Stderr, "refuses the user or the password") || strings.Contains(got.Stderr, "hunter2") {
			t.Errorf("exit %d, %s", got.Exit, got.Stderr)
		}
	}
}

func TestAnUnknownTimeZoneIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	got := s.run("", "enqueue", []string{"TZ=Nowhere/Foo"}, "invite", "ada@example.com", "--at", "2099-01-01 09:00")
	if got.Exit != 2 || !strings.Contains(got.Stderr, "Nowhere/Foo") {
		t.Errorf("%+v", got)
	}
}

func TestSkipInvalidSetsBadRowsAside(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	file := s.write("people.csv", "email,plan\nada@example.com,a\nbad,b\nADA@example.com,c\n")
	got := s.ok("bulk-invite", file, "--skip-invalid", "--ignore-columns")
	want(t, got, map[string]any{"added": 1, "invalid": 1, "duplicates": 1, "state": "pending"})
	aside, err := os.ReadFile(file + ".invalid.csv")
	if err != nil || !strings.Contains(string(aside), "bad") || strings.Contains(string(aside), "ada@") {
		t.Errorf("%v: %s", err, aside)
	}
	if again := s.enqueue("bulk-invite", file, "--skip-invalid", "--ignore-columns"); again.Exit != 2 {
		t.Errorf("overwriting the file of bad rows: exit %d, want 2", again.Exit)
	}
	dry := s.ok("bulk-invite", s.write("fine.csv", "email\nbob@example.com\n"), "--dry-run", "--campaign", "dry")
	want(t, dry, map[string]any{"campaign": "dry", "recipients": 1, "dry_run": true})
	if campaigns, _ := s.ok("status")["campaigns"].([]any); len(campaigns) != 1 {
		t.Errorf("a dry run enqueued: %v", campaigns)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	first := s.ok("invite", "ada@example.com", "--id", "signup-1")
	want(t, first, map[string]any{"task_id": "signup-1", "exists": false, "state": "pending"})
	want(t, s.ok("invite", "ada@example.com", "--id", "signup-1"), map[string]any{"exists": true, "task_id": "signup-1"})
	for _, other := range [][]string{{"invite", "bob@example.com"}, {"sync-list"}, {"bulk-invite", s.write("p.csv", "email\nada@example.com\n")}} {
		if got := s.enqueue(append(other, "--id", "signup-1")...); got.Exit != 2 {
			t.Errorf("%v with a used id: exit %d, want 2: %s", other, got.Exit, got.Stdout)
		}
	}
	s.worker()
	testkit.Eventually(t, "it is done", func() bool { return s.state("signup-1") == tasks.StateDone })
	want(t, s.ok("invite", "ada@example.com", "--id", "signup-1", "--wait"), map[string]any{"state": "done", "task_id": "signup-1"})
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations, want 1", n)
	}
}

func TestScheduledTasksWait(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	s.worker()
	later := s.ok("invite", "ada@example.com", "--in", "2d")
	want(t, later, map[string]any{"state": "scheduled"})
	bulk := s.ok("bulk-invite", s.write("p.csv", "email\nbob@example.com\n"), "--campaign", "later", "--at", "2099-12-01 09:00")
	want(t, bulk, map[string]any{"state": "scheduled", "scheduled_at": "2099-12-01T09:00:00Z"})
	soon := s.ok("invite", "eve@example.com", "--in", "1s", "--wait")
	want(t, soon, map[string]any{"state": "done"})
	if n := len(s.clerk.Ledger()); n != 1 {
		t.Errorf("%d invitations, want 1", n)
	}
	if got := s.enqueue("invite", "zoe@example.com", "--in", "1h", "--wait", "--wait-timeout", "100ms"); got.Exit != 4 {
		t.Errorf("--wait-timeout: exit %d, want 4: %s", got.Exit, fmt.Sprint(got))
	}
	if got := s.enqueue("status", "no-such-task"); got.Exit != 1 {
		t.Errorf("status of an unknown task: exit %d, want 1", got.Exit)
	}
}
