package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"example.com/usher/internal/testkit"
)

// unreadable makes two of four dead letters garbage, one of them of a wrong type.
func (s *stage) unreadable() {
	s.t.Helper()
	for _, id := range []string{"one", "two", "text", "type"} {
		s.ok("invite", id+"@example.com", "--id", id)
		s.dies(id, id+"@example.com", s.queued("usher:interactive", id))
	}
	s.mini.HSet("usher:{once}:d:e:text", "entry", "{garbage")
	s.mini.Del("usher:{once}:d:e:type")
	testkit.NoError(s.t, s.mini.Set("usher:{once}:d:e:type", "garbage"))
}

// TestADeadLetterThatCannotBeReadHidesNoOther: it is named, and the exit code says that something is missing.
func TestADeadLetterThatCannotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.unreadable()
	file := s.dir + "/out.csv"
	for _, args := range [][]string{
		{"list"}, {"list", "--limit", "1"}, {"list", "one", "text", "type"}, {"export"}, {"export", "-o", file},
		{"delete", "--all", "--dry-run"}, {"retry", "--all", "--dry-run"}, {"retry", "--all", "--set", "notify=no"},
	} {
		a := s.enqueue(append([]string{"dead-letter"}, args...)...)
		written, _ := os.ReadFile(file)
		if a.exit != 1 || !strings.Contains(a.stdout+string(written), "one") && args[0] != "retry" {
			t.Errorf("%q: exit %d\n%s", args, a.exit, a.stdout)
		}
		for _, id := range []string{"text", "type"} {
			if !strings.Contains(a.stderr, "dead letter "+id+": what Redis holds is garbage") {
				t.Errorf("%q: %s is not named:\n%s", args, id, a.stderr)
			}
		}
	}
	a := s.enqueue("dead-letter", "delete", "--all", "--dry-run")
	if !strings.Contains(a.stdout, "0 dead letters") {
		t.Errorf("not all others were retried:\n%s", a.stdout)
	}
	a = s.enqueue("dead-letter", "retry", "--from", file, "--unchanged")
	if a.exit != 0 || !strings.Contains(a.stdout, "2 rows retried already") {
		t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
	}
	row := s.write("row.csv", "id,failed_at,notify\ntext,2026-11-28T06:34:20Z,no\n")
	if a = s.enqueue("dead-letter", "retry", "--from", row); !strings.Contains(a.stderr, "line 2: id: the dead letter c") {
		t.Errorf("a row of one that cannot be read:\n%s", a.stderr)
	}
	a = s.enqueue("dead-letter", "delete", "text", "type", "--yes")
	if a.exit != 0 || !strings.Contains(a.stdout, "2 dead") {
		t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
	}
	if a = s.enqueue("dead-letter", "list"); a.exit != 0 || a.stdout != "No dead letters.\n" {
		t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
	}
	want(t, s.ok("invite", "text@example.com", "--id", "text"), map[string]any{"exists": false}) // the id is free again
}

// TestWhatCannotBeReadIsNamedThoughAListIsCut, and stops nothing that is about others.
func TestWhatCannotBeReadIsNamedThoughAListIsCut(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i, name := range []string{"spring", "summer", "autumn"} {
		s.ok("bulk-invite", s.write(name+".csv", people(name, 1)), "--campaign", name)
		s.ok("invite", name+"@example.com", "--id", "t-"+name, "--in", fmt.Sprintf("%dh", i+1))
	}
	s.mini.HSet("usher:{once}:c:summer:meta", "sent", "many")
	s.mini.Del("usher:{once}:c:autumn:meta")
	testkit.NoError(t, s.mini.Set("usher:{once}:c:autumn:meta", "garbage"))
	s.mini.HSet("asynq:{usher:interactive}:t:t-summer", "msg", "garbage")
	for _, command := range [][]string{{"campaign", "list"}, {"task", "list"}} {
		for _, args := range [][]string{{"--limit", "1"}, {"--all"}} {
			a := s.enqueue(append(command, args...)...)
			if a.exit != 1 || !strings.Contains(a.stderr, "summer") || !strings.Contains(a.stdout, "spring") {
				t.Errorf("%q %q: exit %d\n%s%s", command, args, a.exit, a.stdout, a.stderr)
			}
		}
	}
	for _, args := range [][]string{
		{"revoke", "--email", "spring@example.com", "--and-scheduled", "--yes"}, {"task", "cancel", "--scheduled", "--yes"},
	} {
		a := s.enqueue(args...)
		if a.exit != 0 || !strings.Contains(a.stdout, "1 task cancelled") || !strings.Contains(a.stderr, "t-summer") {
			t.Errorf("%q: exit %d\n%s%s", args, a.exit, a.stdout, a.stderr)
		}
	}
}
