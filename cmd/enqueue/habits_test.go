package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/jedib0t/go-pretty/v6/text"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

func TestHelpOfACommand(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, command := range []string{"", "invite", "campaign pause", "dead-letter"} {
		a := s.run(t.Context(), strings.NewReader(""), append(strings.Fields(command), "--help")...)
		var b bytes.Buffer
		exit := run(t.Context(), append([]string{"help"}, strings.Fields(command)...), strings.NewReader(""), &b, &b)
		if exit != 0 || b.String() != a.stdout || a.exit != 0 {
			t.Errorf("help %s: exit %d\n%s", command, exit, b.String())
		}
	}
	var b bytes.Buffer
	if exit := run(t.Context(), []string{"help", "dance"}, strings.NewReader(""), &b, &b); exit != 2 {
		t.Errorf("exit %d: %s", exit, b.String())
	}
	help := s.enqueue("invite", "--help").stdout
	own, everywhere := strings.Index(help, "--on-existing-user"), strings.Index(help, "--redis-url")
	if own < 0 || everywhere < own || !strings.Contains(help, "Flags of every command:") {
		t.Errorf("the flags of every command are not last:\n%s", help)
	}
}

// TestAListGoesIntoAFile that must be new, and is whole.
func TestAListGoesIntoAFile(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("p", 3)), "--campaign", "spring")
	s.dead("spring", 1, "duplicate_record")
	s.synced(pendingOf("inv_1", "pending"))
	for i, command := range []string{
		"campaign ls --json", "campaign export spring", "dead-letter ls --json", "dead-letter export", "invitations --csv",
	} {
		path := filepath.Join(s.dir, "list"+strings.Repeat("x", i))
		args := strings.Fields(command)
		direct := s.enqueue(args...)
		a := s.enqueue(append(args, "-o", path)...)
		written, err := os.ReadFile(path)
		if err != nil || a.exit != 0 || a.stdout != "" || strings.TrimPrefix(string(written), "\ufeff") != direct.stdout {
			t.Errorf("%s: %+v, %v\n%s\nwant\n%s", command, a, err, written, direct.stdout)
		}
		if !strings.Contains(command, "--json") && !strings.Contains(a.stderr, path) {
			t.Errorf("%s: the file is not named: %s", command, a.stderr)
		}
		if a := s.enqueue(append(args, "-o", path)...); a.exit != 2 || !strings.Contains(a.stderr, path+" exists already") {
			t.Errorf("%s: it is overwritten: %+v", command, a)
		}
	}
	missing := filepath.Join(s.dir, "missing")
	if a := s.enqueue("dead-letter", "export", "nobody", "-o", missing); a.exit != 1 ||
		!strings.Contains(a.stderr, missing+" was not written") {
		t.Errorf("%+v", a)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a file that is not whole stays")
	}
}

// screen is a terminal of some columns.
type screen struct {
	bytes.Buffer
	columns int
}

func (*screen) Terminal() bool { return true }
func (s *screen) Width() int   { return s.columns }

func TestTablesFitTheTerminal(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("somebody-with-a-long-name-", 3)), "--campaign", "spring")
	s.dead("spring", 3, "duplicate_record")
	for _, columns := range []int{60, 80, 100, 200} {
		out := &screen{columns: columns}
		run(t.Context(), []string{"--redis-url", s.url, "dead-letter", "list"}, strings.NewReader(""), out, out)
		if widest := text.LongestLineLen(out.String()); widest > columns || widest < min(columns, 100)-2 {
			t.Errorf("%d columns: the table has %d\n%s", columns, widest, out.String())
		}
	}
	if got, space := fitting([]int{4, 60, 5}, 0); !slices.Equal(got, []int{4, 48, 5}) || !space {
		t.Errorf("without a terminal: %v", got)
	}
	if got, space := fitting([]int{60, 60, 60}, 10); !slices.Equal(got, []int{8, 8, 8}) || space {
		t.Errorf("too narrow: %v", got)
	}
}

// TestEveryTableFitsAnUsualTerminal of 80 columns, whatever stands in it.
func TestEveryTableFitsAnUsualTerminal(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("somebody-with-a-long-name-", 3)), "--campaign", "a-campaign-with-a-long-name")
	s.dead("a-campaign-with-a-long-name", 1, "duplicate_record")
	s.ok("campaign", "pause", "a-campaign-with-a-long-name")
	s.ok("bulk-invite", s.write("q.csv", people("q", 3)))
	s.ok("invite", "somebody-with-a-long-name@example.com", "--in", "2h")
	s.synced(pendingOf("inv_UsMUz9ASCv5bWNJiJirsdbH8Q1Z", "pending"))
	steps()["schedule"](s, "a", "@daily", "sync-list", "last_error", "an error")
	for _, command := range []string{
		"campaign list", "dead-letter list", "task list", "invitations", "schedule list", "status",
		"find a-campaign-with-a-long-name", "find somebody-with-a-long-name@example.com", "revoke --email ada@example.com --dry-run",
	} {
		out := &screen{columns: 80}
		run(t.Context(), append([]string{"--redis-url", s.url}, strings.Fields(command)...), strings.NewReader(""), out, out)
		for line := range strings.Lines(out.String()) {
			if strings.ContainsAny(line, "│┌") && text.LongestLineLen(line) > 80 {
				t.Errorf("%s: a line of %d columns:\n%s", command, text.LongestLineLen(line), out.String())
				break
			}
		}
	}
}

// TestTheScriptForEachShell: what they do is theirs.
func TestTheScriptForEachShell(t *testing.T) {
	t.Parallel()
	s := setup(t)
	path, err := os.Executable()
	testkit.NoError(t, err)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if a := s.enqueue("completion", shell); a.exit != 0 || !strings.Contains(a.stdout, "'"+path+"'") {
			t.Errorf("%s: %+v", shell, a)
		}
	}
	if a := s.enqueue("completion", "csh"); a.exit != 2 {
		t.Errorf("%+v", a)
	}
}

// TestEveryVariableIsKnown: none that a flag reads is warned of.
func TestEveryVariableIsKnown(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&grammar{}, kong.Vars{"version": "", "clerk_key": ""})
	testkit.NoError(t, err)
	for _, leaf := range parser.Model.Leaves(false) {
		for _, flags := range leaf.AllFlags(false) {
			for _, flag := range flags {
				if warnings := settings.UnknownVariables(flag.Envs); len(warnings) > 0 {
					t.Errorf("%s: %s", flag.Name, warnings)
				}
			}
		}
	}
}

// TestWhatIsEmptyIsRefused as an argument, one of several, or a flag; only what may be left out is said to be.
func TestWhatIsEmptyIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for want, args := range map[string][]string{
		"<address-or-id> is empty: give it a value\n":            {"find", ""},
		"<address> is empty: give it a value\n":                  {"invite", " "},
		"<id> is empty: give it a value, or leave it out":        {"task", "cancel", "one", ""},
		"<id> is empty: give it a value, or leave it out\n":      {"dead-letter", "retry", ""},
		"<invitation-id> is empty: give it a value, or leave it": {"revoke", ""},
		"--code is empty: give it a value, or leave it out":      {"dead-letter", "list", "--code", ""},
		"--set is empty: give it a value, or leave it out":       {"dead-letter", "retry", "one", "--set", ""},
	} {
		if a := s.enqueue(args...); a.exit != 2 || !strings.Contains(a.stderr, want) {
			t.Errorf("%q: exit %d, %s", args, a.exit, a.stderr)
		}
	}
}

// TestAFileThatCannotBeReadIsNamedOnce in each message about one.
func TestAFileThatCannotBeReadIsNamedOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	none := s.dir + "/none"
	for _, path := range []string{none, s.dir} {
		for _, args := range [][]string{
			{"bulk-invite", path}, {"dead-letter", "retry", "--from", path}, {"schedule", "check", path},
		} {
			a := s.enqueue(args...)
			if a.exit != 2 || strings.Count(a.stderr, path) != 1 || strings.Contains(a.stderr, ": "+filepath.Base(path)) {
				t.Errorf("%q: exit %d, %s", args, a.exit, a.stderr)
			}
		}
	}
}

// TestAnIdThatIsGivenTwiceIsMeantOnce.
func TestAnIdThatIsGivenTwiceIsMeantOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"one", "two", "later"} {
		s.ok("invite", id+"@example.com", "--id", id, "--in", "1h")
	}
	for _, id := range []string{"three", "four"} {
		s.ok("invite", id+"@example.com", "--id", id)
		s.dies(id, id+"@example.com", s.queued("usher:interactive", id))
	}
	for _, name := range []string{"c", "b", "a"} {
		s.ok("bulk-invite", s.write(name, people(name, 1)), "--campaign", name, "--in", "1h")
	}
	a := s.enqueue("task", "cancel", "--scheduled", "--dry-run")
	if !strings.Contains(a.stdout, "3 tasks would be cancelled") ||
		!strings.Contains(a.stderr, "Campaigns that are scheduled stay (enqueue campaign cancel NAME): a, b, c.") {
		t.Errorf("%+v", a)
	}
	for want, args := range map[string][]string{
		"1 task cancelled.\n":      {"task", "cancel", "one", "one", "--yes"},
		"1 dead letter retried.\n": {"dead-letter", "retry", "three", "three"},
		"1 dead letter deleted.\n": {"dead-letter", "delete", "four", "four", "--yes"},
	} {
		if a := s.enqueue(args...); a.exit != 0 || !strings.Contains(a.stdout, want) {
			t.Errorf("%q: exit %d\n%s%s", args, a.exit, a.stdout, a.stderr)
		}
	}
}

// TestAListInAFileIsForPrograms: CSV or, by the file's name, JSON lines; whole, and never a drawn table.
func TestAListInAFileIsForPrograms(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for i := range 60 {
		name := fmt.Sprintf("c%02d", i)
		s.ok("bulk-invite", s.write("p.csv", people(name, 1)), "--campaign", name)
		s.ok("invite", name+"@example.com", "--id", name)
		s.dies(name, name+"@example.com", s.queued("usher:interactive", name))
		s.ok("invite", "more-"+name+"@example.com", "--id", "t"+name)
	}
	s.synced(pendingOf("inv_1", "pending"))
	for command, want := range map[string]struct {
		header string
		rows   int
	}{
		"campaign list":    {"campaign,state,recipients,", 60},
		"dead-letter list": {"id,for,cause,failed_at,", 60},
		"task list":        {"task_id,type,for,state,", 120},
		"invitations":      {"id,email_address,status,", 1},
		"schedule list":    {"name,state,cron,", 0},
	} {
		for _, ending := range []string{"csv", "txt", "jsonl", "JSON"} {
			path := filepath.Join(s.dir, command+"."+ending)
			a := s.enqueue(append(strings.Fields(command), "-o", path)...)
			data, err := os.ReadFile(path)
			if err != nil || a.exit != 0 || a.stdout != "" || bytes.ContainsRune(data, '│') ||
				!strings.Contains(a.stderr, settings.Plural(want.rows, "row")+" written to "+path) {
				t.Fatalf("%s into %s: %+v, %v", command, ending, a, err)
			}
			rows := bytes.Count(data, []byte("\n"))
			if strings.EqualFold(ending, "csv") || ending == "txt" {
				read, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
				if rows = len(read) - 1; err != nil || !strings.HasPrefix(string(data), "\ufeff"+want.header) {
					t.Errorf("%s into %s: %v\n%.200s", command, ending, err, data)
				}
			} else if rows > 0 && data[0] != '{' {
				t.Errorf("%s into %s:\n%.200s", command, ending, data)
			}
			if rows != want.rows {
				t.Errorf("%s into %s: %d rows, want %d", command, ending, rows, want.rows)
			}
		}
	}
	lines := filepath.Join(s.dir, "export.jsonl")
	s.enqueue("dead-letter", "export", "-o", lines)
	if data, err := os.ReadFile(lines); err != nil || data[0] != '{' || bytes.Count(data, []byte("\n")) != 60 {
		t.Errorf("%v\n%.200s", err, data)
	}
	few := filepath.Join(s.dir, "few.csv")
	s.enqueue("campaign", "list", "--limit", "2", "-o", few)
	if data, err := os.ReadFile(few); err != nil || bytes.Count(data, []byte("\n")) != 3 {
		t.Errorf("%v\n%s", err, data)
	}
}

// TestHelpOfNoCommandSaysSo.
func TestHelpOfNoCommandSaysSo(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"help nope":          "enqueue: there is no command nope (enqueue help lists them)\n",
		"help campaign nope": "enqueue: there is no command campaign nope (enqueue help campaign lists them)\n",
	} {
		var stdout, stderr bytes.Buffer
		exit := run(t.Context(), strings.Fields(args), strings.NewReader(""), &stdout, &stderr)
		if exit != 2 || stderr.String() != says {
			t.Errorf("%s: exit %d\n%s%s", args, exit, stdout.String(), stderr.String())
		}
	}
}
