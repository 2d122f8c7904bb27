package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// letters writes n dead letters, each a second after the one before, but for the last two of any ten: they failed
// together.
func (s *stage) manyLetters(n int) {
	s.t.Helper()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		if i%10 == 9 {
			at = at.Add(-time.Second)
		}
		id := fmt.Sprintf("letter-%04d", i)
		testkit.NoError(s.t, s.letters.Put(s.t.Context(), deadletter.Entry{
			ID: id, TaskID: id, Type: tasks.TypeInvite, EmailAddress: fmt.Sprintf("p%d@example.com", i),
			Failure: refusal([]string{"duplicate_record", "form_identifier_exists"}[i%2]), FailedAt: at,
			Payload: []byte(`{"v":1}`),
		}))
	}
}

// lists are the commands that list, each with 60 things to list, and what tells one of them from the others.
func (s *stage) lists() map[string][]string {
	s.t.Helper()
	const n = 60
	s.manyLetters(n)
	var rows []clerkclient.Invitation
	for i := range n {
		at := time.Date(2026, 3, 1, 12, 0, 60-i, 0, time.UTC)
		row := clerkclient.Invitation{
			ID: fmt.Sprintf("inv_%02d", i), EmailAddress: fmt.Sprintf("p%d@example.com", i), Status: "pending",
			PublicMetadata: json.RawMessage(`{}`), CreatedAt: at, UpdatedAt: at,
		}
		rows = append(rows, row)
		s.ok("bulk-invite", s.write("p.csv", people("p", 1)), "--campaign", fmt.Sprintf("campaign-%02d", i))
		steps()["schedule"](s, fmt.Sprintf("schedule-%02d", i), "@daily", "sync-list")
	}
	s.synced(rows...)
	return map[string][]string{
		"letter-": {"dead-letter", "list"}, "campaign-": {"campaign", "list"}, "inv_": {"invitations"},
		"schedule-": {"schedule", "list"},
	}
}

// TestListsAreCutOnlyWhereTheySaySo: a person is shown 50 and told so, a program all.
func TestListsAreCutOnlyWhereTheySaySo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for mark, command := range s.lists() {
		run := func(more ...string) (answer, int) {
			a := s.enqueue(append(command, more...)...)
			rows := 0
			for line := range strings.Lines(a.stdout) {
				if strings.Contains(line, mark) {
					rows++
				}
			}
			return a, rows
		}
		const told = "Only the first 50 are shown: --limit N shows more, --all shows all."
		if a, rows := run(); a.exit != 0 || rows != 50 || !strings.Contains(a.stderr, told) {
			t.Errorf("%v: %d rows, %+v", command, rows, a)
		}
		for flags, want := range map[string]int{
			"--all": 60, "--json": 60, "--limit 60": 60,
		} {
			if a, rows := run(strings.Fields(flags)...); a.exit != 0 || rows != want || a.stderr != "" {
				t.Errorf("%v %s: %d rows, %+v", command, flags, rows, a)
			}
		}
		if a, _ := run("--limit", "1"); !strings.Contains(a.stderr, "Only the first one is shown: ") {
			t.Errorf("%v: %+v", command, a)
		}
		for flags, want := range map[string]int{"--limit 7": 7, "--json --limit 7": 7} {
			a, rows := run(strings.Fields(flags)...)
			told := strings.Contains(a.stderr, "Only the first 7 are shown")
			if a.exit != 0 || rows != want || told == strings.Contains(flags, "json") {
				t.Errorf("%v %s: %d rows, %+v", command, flags, rows, a)
			}
		}
		for _, flags := range []string{"--limit 0", "--limit -1", "--limit 5 --all"} {
			if a, _ := run(strings.Fields(flags)...); a.exit != 2 {
				t.Errorf("%v %s: %+v", command, flags, a)
			}
		}
	}
	if got := s.ok("status")["campaigns"].([]any); len(got) != 60 {
		t.Errorf("status --json has %d campaigns", len(got))
	}
	if got := s.ok("status", "--limit", "3")["campaigns"].([]any); len(got) != 3 {
		t.Errorf("status --json --limit 3 has %d campaigns", len(got))
	}
	if a := s.enqueue("status"); !strings.Contains(a.stderr, "Only the first 50 are shown") ||
		strings.Count(a.stdout, "campaign-") != 50 {
		t.Errorf("%+v", a)
	}
	for flags, want := range map[string]int{"--limit 0": 2, "x --limit 3": 2, "x --all": 2} {
		if a := s.enqueue(append([]string{"status"}, strings.Fields(flags)...)...); a.exit != want {
			t.Errorf("status %s: %+v", flags, a)
		}
	}
	csv := s.enqueue("invitations", "--csv").stdout
	if all := strings.Count(csv, "inv_"); all != 60 {
		t.Errorf("%d invitations as CSV", all)
	}
	if some := strings.Count(s.enqueue("invitations", "--csv", "--limit", "4").stdout, "inv_"); some != 4 {
		t.Errorf("%d of 4 invitations as CSV", some)
	}
}

// TestListsHaveAnOrderThatStays: also where many have the same instant, and over many pages.
func TestListsHaveAnOrderThatStays(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.manyLetters(1200)
	testkit.NoError(t, s.rdb.ZAdd(t.Context(), store.Keys(tasks.DefaultNamespace).Letters(), // nobody has this one
		redis.Z{Score: 1, Member: "gone"}).Err())
	seen := map[string]bool{}
	last, lastID := "", ""
	for _, row := range s.list("dead-letter", "list") {
		at, id := row["failed_at"].(string), row["id"].(string)
		if seen[id] || at < last || at == last && id < lastID {
			t.Fatalf("%s at %s comes after %s at %s", id, at, lastID, last)
		}
		seen[id], last, lastID = true, at, id
	}
	if len(seen) != 1200 {
		t.Errorf("%d of 1200", len(seen))
	}
	before := s.mini.CommandCount()
	s.enqueue("dead-letter", "list")
	if n := s.mini.CommandCount() - before; n > 300 {
		t.Errorf("%d commands to show 50 of 1200: more than a page was read", n)
	}
	if all := strings.Count(s.enqueue("dead-letter", "list", "--all").stdout, "letter-"); all != 1200 {
		t.Errorf("%d of 1200 in tables", all)
	}
	if all := strings.Count(s.enqueue("dead-letter", "export").stdout, "\nletter-"); all != 1200 {
		t.Errorf("%d of 1200 exported", all)
	}
}

// TestWhatIsNotThereIsNamed: a campaign or an id is a failure, a code names those that are there.
func TestWhatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.manyLetters(5)
	s.ok("bulk-invite", s.write("p.csv", people("p", 1)), "--campaign", "empty")
	for _, command := range []string{
		"campaign status nobody", "campaign watch nobody", "campaign pause nobody", "campaign resume nobody",
		"campaign cancel nobody --yes", "campaign export nobody", "campaign delete nobody --yes", "status nobody",
		"revoke --campaign nobody --yes", "revoke --campaign nobody --dry-run", "dead-letter list --campaign nobody",
		"dead-letter export --campaign nobody", "dead-letter retry --campaign nobody",
		"dead-letter delete --campaign nobody --yes", "dead-letter list nobody", "dead-letter show nobody",
		"dead-letter retry nobody", "dead-letter delete nobody --yes", "dead-letter export nobody", "find nobody",
	} {
		for _, json := range []string{"", " --json"} {
			a := s.enqueue(strings.Fields(command + json)...)
			if a.exit != 1 || !strings.Contains(a.stderr, "nobody") ||
				json != "" && !strings.Contains(a.stderr, `"code":"not_found"`) {
				t.Errorf("%s%s: %+v", command, json, a)
			}
		}
	}
	const named = "no dead letter has the code gone; those that are there: 3 duplicate_record, 2 form_identifier_exists"
	for _, command := range []string{"list", "export", "retry", "retry --dry-run", "delete --yes"} {
		a := s.enqueue(strings.Fields("dead-letter " + command + " --code gone")...)
		if a.exit != 0 || !strings.Contains(a.stderr, named[1:]) {
			t.Errorf("%s: %+v", command, a)
		}
		a = s.enqueue(strings.Fields("dead-letter " + command + " --code gone --json")...)
		if a.exit != 0 || !strings.Contains(a.stderr, named) || !strings.Contains(a.stderr, `"no_match"`) {
			t.Errorf("%s --json: %+v", command, a)
		}
	}
	if a := s.enqueue("dead-letter", "list", "--campaign", "empty"); a.exit != 0 || a.stderr != "" ||
		!strings.Contains(a.stdout, "No dead letters.") {
		t.Errorf("%+v", a)
	}
	if got := len(s.list("dead-letter", "list", "--reason", "rejected")); got != 5 {
		t.Errorf("%d were rejected", got)
	}
	if got := len(s.list("dead-letter", "list", "--reason", "exhausted")); got != 0 {
		t.Errorf("%d are exhausted", got)
	}
	if a := s.enqueue("dead-letter", "list", "--reason", "x"); a.exit != 2 {
		t.Errorf("%+v", a)
	}
}

// TestOneThatCannotBeReadHidesNoOthers: it is named, and the others are listed.
func TestOneThatCannotBeReadHidesNoOthers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.manyLetters(3)
	key := store.Keys(tasks.DefaultNamespace)
	testkit.NoError(t, s.rdb.HSet(t.Context(), key.Letter("letter-0001"), "entry", "{").Err())
	for _, name := range []string{"a", "b", "c"} {
		s.ok("bulk-invite", s.write("p.csv", people("p", 1)), "--campaign", name)
	}
	testkit.NoError(t, s.rdb.HSet(t.Context(), key.Ledger("b", "meta"), "recipients", "x").Err())
	for _, c := range []struct{ command, bad, good string }{
		{"dead-letter list", "letter-0001", "letter-0002"}, {"dead-letter export", "letter-0001", "letter-0002"},
		{"campaign list", "campaign b", "│ a "}, {"status", "campaign b", "│ a "},
	} {
		a := s.enqueue(strings.Fields(c.command)...)
		if a.exit != 1 || !strings.Contains(a.stderr, c.bad) || !strings.Contains(a.stdout, c.good) {
			t.Errorf("%s: %+v", c.command, a)
		}
	}
}

// TestExportsHaveTheOrderOfTheFile: whatever has become of whom, and with the message beside the code.
func TestExportsHaveTheOrderOfTheFile(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const n = 1300 // more than are read at once
	s.ok("bulk-invite", s.write("p.csv", people("z", n)), "--campaign", "c")
	s.ok("forget", "z7@example.com", "--yes")
	s.ok("bulk-invite", s.write("q.csv", people("a", 3)), "--campaign", "c")
	s.dead("c", 2, "form_identifier_exists") // z0 and z1
	s.sent("c", 3)
	var letter string
	for _, row := range s.list("dead-letter", "list") {
		if row["email_address"] == "z1@example.com" {
			letter = row["id"].(string)
		}
	}
	s.ok("dead-letter", "retry", letter, "--set", "email_address=mended@example.com")
	wanted := []string{}
	for i := range n {
		if i != 7 {
			wanted = append(wanted, fmt.Sprintf("z%d@example.com", i))
		}
	}
	wanted[1] = "mended@example.com"
	wanted = append(wanted, "a0@example.com", "a1@example.com", "a2@example.com")
	rows := s.list("campaign", "export", "c")
	for i, row := range rows {
		if row["email_address"] != wanted[i] {
			t.Fatalf("row %d is %v, want %s", i+1, row, wanted[i])
		}
	}
	if len(rows) != len(wanted) {
		t.Errorf("%d rows, want %d", len(rows), len(wanted))
	}
	want(t, rows[0], map[string]any{"outcome": "dead", "cause": "form_identifier_exists",
		"message": "Clerk says form_identifier_exists"})
	want(t, rows[1], map[string]any{"outcome": "open", "mended_from": "z1@example.com", "message": nil})
	if csv := s.enqueue("campaign", "export", "c").stdout; !strings.Contains(csv,
		",form_identifier_exists,Clerk says form_identifier_exists,") {
		t.Errorf("%.300s", csv)
	}
}
