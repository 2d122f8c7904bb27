package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/internal/visible"
	"example.com/usher/tasks"
)

// asUTF8 says to LibreOffice how to read a file: the separator, the quote, the encoding, the first line.
const asUTF8 = "--infilter=CSV:44,34,76,1"

// resaved opens a CSV file in LibreOffice, saves it again, and gives its path.
func (s *stage) resaved(path string, options ...string) string {
	s.t.Helper()
	office, err := exec.LookPath("soffice")
	if err != nil {
		s.t.Skip("needs LibreOffice (soffice), as in: apt-get install libreoffice-calc")
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	out := filepath.Join(s.dir, "resaved")
	cmd := exec.CommandContext(ctx, office, append(options, "--headless", "-env:UserInstallation=file://"+s.dir+"/profile",
		"--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76,1", "--outdir", out, path)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, said)
	}
	return filepath.Join(out, filepath.Base(path))
}

// TestCellsComeBackFromASpreadsheet: what was written as CSV, opened and saved in LibreOffice, and read, is the same.
func TestCellsComeBackFromASpreadsheet(t *testing.T) {
	t.Parallel()
	s := setup(t)
	notes := []string{"=1+1", "'=1+1", "''=1+1", "'tHart", "'", "''", "-x", "+x", "@x", "\t=x", "\r=x", "=\"x\"", "plain"}
	// Without digits: a spreadsheet writes numbers and dates in its own way.
	cell := rapid.StringOfN(rapid.SampledFrom([]rune("=+-@'\"x,;ä \n\t\r")), 1, 8, -1)
	for i := range 500 {
		notes = append(notes, strings.ReplaceAll(cell.Example(i), "\r", "\n")) // the csv package reads CR LF as LF
	}
	path := s.write("notes.csv", "")
	file, err := os.Create(path)
	testkit.NoError(t, err)
	err = rawFlag{}.csv(file, []string{"email_address", "public_metadata.note"}, func(write func(view) error) error {
		for i, note := range notes {
			row := view{"email_address": fmt.Sprintf("+x%dx@example.com", i), "public_metadata.note": note}
			if err := write(row); err != nil {
				return err
			}
		}
		return file.Sync()
	})
	testkit.NoError(t, err)
	testkit.NoError(t, file.Close())
	for _, path := range []string{path, s.resaved(path, asUTF8)} {
		read, err := peoplefile.ReadFile(path, peoplefile.Options{})
		if testkit.NoError(t, err); len(read.Rows) != len(notes) {
			t.Fatalf("%s: %d rows, want %d; %v", path, len(read.Rows), len(notes), read.Invalid)
		}
		for i, row := range read.Rows {
			want := strings.TrimSpace(notes[i]) // as cells are read
			got, _ := row.Recipient().PublicMetadata["note"].(string)
			if got != want || row.Recipient().EmailAddress != fmt.Sprintf("+x%dx@example.com", i) {
				t.Errorf("%s: %q came back as %q, of %s", path, notes[i], got, row.Recipient().EmailAddress)
			}
		}
	}
}

// dangerous writes a dead letter whose cells a spreadsheet would take for formulas.
func (s *stage) dangerous(id, address string) {
	s.t.Helper()
	failure := refusal("-code")
	failure.Message, failure.TraceID = "=HYPERLINK(\"http://x\")", "@trace"
	payload, err := json.Marshal(map[string]any{"v": 1, "email_address": address, "redirect_url": "/x"})
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, s.letters.Put(s.t.Context(), deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: address,
		Failure: failure, FailedAt: time.Now().UTC(), Payload: payload,
	}))
}

// TestNoExportHoldsAFormula: and what is written comes back unchanged, through LibreOffice too.
func TestNoExportHoldsAFormula(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for id, address := range map[string]string{
		"-5": "=a@example.com", "-x": "+b@example.com", "c": "'-c@example.com", "d": "d@example.com",
	} {
		s.dangerous(id, address)
	}
	s.ok("bulk-invite", s.write("p.csv", "email\n=1@example.com\n-2@example.com\n"), "--campaign=-c")
	at := time.Now()
	s.synced(clerkclient.Invitation{ID: "inv_1", EmailAddress: "=1@example.com", Status: "pending", CreatedAt: at})
	for _, command := range []string{"dead-letter export", "campaign export -- -c", "invitations --csv"} {
		flags := strings.Fields(command)
		rows, err := csv.NewReader(strings.NewReader(s.enqueue(flags...).stdout)).ReadAll()
		if err != nil || len(rows) < 2 {
			t.Fatalf("%s: %v, %v", command, rows, err)
		}
		for i, row := range rows {
			if last := row[len(row)-1]; i == 0 && last != "usher_format" || i > 0 && last != "1" {
				t.Errorf("%s: %q marks nothing", command, row)
			}
			for _, cell := range row {
				if cell != "" && strings.Contains("=+-@\t\r", cell[:1]) {
					t.Errorf("%s: %q is a formula", command, cell)
				}
			}
		}
		raw := s.enqueue(append([]string{flags[0], flags[1], "--raw"}, flags[2:]...)...).stdout
		if strings.Contains(raw, "'=") || !strings.Contains(raw, "=") || strings.Contains(raw, "usher_format") {
			t.Errorf("%s --raw: %s", command, raw)
		}
	}
	file := filepath.Join(s.dir, "letters.csv")
	s.enqueue("dead-letter", "export", "-o", file)
	want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"unchanged": 4, "retried": 0})
	want(t, s.ok("dead-letter", "retry", "--from", s.resaved(file, asUTF8)), map[string]any{"unchanged": 4, "retried": 0})
}

// TestAFileBeginsWithTheMark: a CSV in a file of its own begins with the mark of UTF-8, so that a spreadsheet reads it
// as it is. What goes to another program or behind something else does not. Both come back.
func TestAFileBeginsWithTheMark(t *testing.T) {
	t.Parallel()
	const mark = "\ufeff"
	s := setup(t)
	s.dangerous("one", "zoë@example.com")
	s.ok("bulk-invite", s.write("p.csv", "email\nada@example.com\n"), "--campaign=spring")
	s.synced(clerkclient.Invitation{ID: "inv_1", EmailAddress: "ada@example.com", Status: "pending", CreatedAt: time.Now()})
	for _, command := range []string{
		"dead-letter export", "campaign export spring", "invitations --csv", "dead-letter export --raw",
		"dead-letter list", "campaign list", "task list", "invitations", "schedule list",
	} {
		args := append([]string{"--redis-url", s.url}, strings.Fields(command)...)
		path := filepath.Join(s.dir, command+".csv")
		want := mark
		if strings.Contains(command, "--raw") {
			want = ""
		}
		if a := s.enqueue(append(args, "-o", path)...); a.exit != 0 || beginning(t, path) != want {
			t.Errorf("%s -o: %+v, it begins with %q", command, a, beginning(t, path))
		}
		if !strings.Contains(command, "export") && !strings.Contains(command, "--csv") {
			continue // a table
		}
		redirected, err := os.Create(path + ".redirected")
		testkit.NoError(t, err)
		for range 2 { // the second one adds to what is there
			if exit := run(t.Context(), args, strings.NewReader(""), redirected, io.Discard); exit != 0 {
				t.Errorf("%s: exit %d", command, exit)
			}
		}
		testkit.NoError(t, redirected.Close())
		all, err := os.ReadFile(redirected.Name())
		testkit.NoError(t, err)
		if beginning(t, redirected.Name()) != want || strings.Count(string(all), mark) != len(want)/len(mark) {
			t.Errorf("%s > a file: %q", command, all)
		}
		if a := s.enqueue(args...); a.exit != 0 || strings.Contains(a.stdout, mark) {
			t.Errorf("%s | another program: %+v", command, a)
		}
	}
	file := filepath.Join(s.dir, "dead-letter export.csv")
	bare := s.write("bare.csv", s.enqueue("dead-letter", "export").stdout)
	for _, path := range []string{file, bare} {
		want(t, s.ok("dead-letter", "retry", "--from", path), map[string]any{"unchanged": 1, "retried": 0})
		content, err := os.ReadFile(path)
		testkit.NoError(t, err)
		a := s.run(t.Context(), strings.NewReader(string(content)), "dead-letter", "retry", "--from", "-", "--json")
		want(t, s.object(a), map[string]any{"unchanged": 1, "retried": 0})
	}
}

// TestWhatASpreadsheetMisreadIsRefused: nobody is sent what LibreOffice has made of a file whose encoding nobody told
// it.
func TestWhatASpreadsheetMisreadIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.dangerous("one", "zoë@example.com")
	file := filepath.Join(s.dir, "letters.csv")
	s.enqueue("dead-letter", "export", "-o", file)
	resaved := s.resaved(file)
	if read, err := os.ReadFile(resaved); err != nil || strings.Contains(string(read), "zoë@") {
		t.Skipf("this LibreOffice finds the encoding by itself: %v, %s", err, read)
	}
	if a := s.enqueue("dead-letter", "retry", "--from", resaved); a.exit != 2 || !strings.Contains(a.stderr, "ï»¿") {
		t.Errorf("%+v", a)
	}
}

// beginning is the mark that a file begins with; "" if there is none.
func beginning(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	testkit.NoError(t, err)
	if strings.HasPrefix(string(content), "\ufeff") {
		return "\ufeff"
	}
	return ""
}

// TestNothingHidesOnATerminal: whoever wrote it.
func TestNothingHidesOnATerminal(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const evil = "\x1b[2J\u202Egnp\u200B\u2066\u0085\u00AD\u009b31m\r\U000E0041\u3164\uFE0F"
	failure := refusal("code" + evil)
	failure.Message, failure.TraceID = "message"+evil, "trace"+evil
	testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
		ID: "one", TaskID: "one" + evil, Type: tasks.TypeInvite, EmailAddress: "a" + evil, Failure: failure,
		FailedAt: time.Now(), Payload: []byte("{\"v\":1,\"email_address\":\"a\u202e@example.com\"}"),
	}))
	steps()["schedule"](s, "a", "@daily", "sync-list", "last_error", "error"+evil, "kept_by", "file"+evil)
	s.synced(clerkclient.Invitation{ID: "inv_1", EmailAddress: "a" + evil, Status: "pending"})
	file := s.write("p.csv", "email"+evil+",x\na"+evil+"@example.com,\n")
	for _, args := range [][]string{
		{"dead-letter", "list"}, {"dead-letter", "show", "one"}, {"dead-letter", "retry", "one", "--dry-run"},
		{"dead-letter", "export", "--json"}, {"dead-letter", "show", "one", "--json"}, {"schedule", "list"},
		{"invitations"}, {"invitations", "--json"}, {"bulk-invite", file, "--dry-run"}, {"bulk-invite", file, "--json"},
		{"status", "x" + evil}, {"find", "x" + evil}, {"campaign", "status", "x" + evil}, {"invite", "a" + evil},
		{"dead-letter", "list", "--code", "x" + evil}, {"--x" + evil}, {"schedule", "check", s.dir + "/x" + evil},
		{"dead-letter", "show", evil},
	} {
		a := s.enqueue(args...)
		for _, r := range a.stdout + a.stderr {
			if r != '\n' && (unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector) || r == '\u3164') {
				t.Errorf("%q writes %q: %q %q", args, r, a.stdout, a.stderr)
				break
			}
		}
	}
	var screen screen
	if exit := run(t.Context(), []string{"--redis-url", s.url, "dead-letter", "export"}, strings.NewReader(""), &screen,
		&screen); exit != 0 || visible.Text(screen.String()) != screen.String() {
		t.Errorf("an export to a terminal: exit %d, %q", exit, screen.String())
	}
	if a := s.enqueue("dead-letter", "export"); !strings.Contains(a.stdout, evil) {
		t.Errorf("a file has not what was written: %q", a.stdout)
	}
}

// TestAPayloadIsShownAsJSON: to a program as an object; what is none is kept byte for byte.
func TestAPayloadIsShownAsJSON(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.dangerous("one", "ada@example.com")
	testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
		ID: "two", Type: tasks.TypeInvite, Failure: refusal("x"), FailedAt: time.Now(), Payload: []byte("{\xff"),
	}))
	got := s.ok("dead-letter", "show", "one")
	want(t, got["payload"].(map[string]any), map[string]any{"v": 1, "email_address": "ada@example.com"})
	if a := s.enqueue("dead-letter", "show", "one"); !strings.Contains(a.stdout, `"email_address": "ada@example.com"`) {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("dead-letter", "show", "two"), map[string]any{"payload": nil, "payload_base64": "e/8="})
}
