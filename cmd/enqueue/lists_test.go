package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"

	"example.com/usher/internal/testkit"
)

const hubspot = "Record ID,First Name,Last Name,Email,"

// strangers are lists in which stranger@example.net stands, whom nobody asked to invite. With exit 2 nothing is
// enqueued; with exit 0 the others are. Those that guess can be rehearsed.
var strangers = map[string]struct {
	file  string
	exit  int
	says  string
	guess bool
}{
	"another column holds addresses": {"Email,Manager Email\na@example.com,stranger@example.net\n", 2,
		`"Email" and "Manager Email"`, false},
	"one cell of another column does": {"email,note\nstranger@example.net,\na@example.com,b@example.com\n", 2,
		`"email" and "note"`, false},
	"a heading that is not ours": {"Contact\nstranger@example.net\n", 2, "--email-column Contact", true},
	"a heading that has ours in it": {"Email of the manager,Name\nstranger@example.net,Ada\n", 2,
		"--email-column 'Email of the manager' --ignore-columns", true},
	"no header":              {"1,stranger@example.net\n", 2, "--no-header --email-column 2", true},
	"no header, two of them": {"a@example.com,stranger@example.net\n", 2, "--no-header --email-column 1", false},
	"a key of JSON":          {`[{"contact": "stranger@example.net"}]`, 2, "--email-column contact", true},
	"two keys of JSON": {`[{"email": "a@example.com", "owner": "stranger@example.net"}]`, 2,
		`"email" and "owner"`, false},
	"several in a cell":      {"email\na@example.com; stranger@example.net\n", 2, "holds 2 addresses", false},
	"several in lines":       {"email\n\"a@example.com\nstranger@example.net\"\n", 2, "holds 2 addresses", false},
	"several with bars":      {"email\na@example.com|stranger@example.net\n", 2, "holds 2 addresses", false},
	"several of Google":      {"email\na@example.com ::: stranger@example.net\n", 2, "holds 2 addresses", false},
	"a name that is another": {"email\na@example.com <stranger@example.net>\n", 2, "holds another address", false},
	"a soft hyphen":          {"email\nstran\u00ADger@example.net\n", 2, "--accept-guesses", true},
	"a zero-width space":     {"email\nstranger\u200B@example.net\n", 2, "--accept-guesses", true},
	"one in the domain":      {"email\nstranger@example\u200B.net\n", 2, "in its domain", false},
	"a direction change":     {"email\nstranger\u202E@example.net\n", 2, "right-to-left override (U+202E)", false},
	"a file that was cut":    {"email,public_metadata.x\na@example.com,1\nstranger@example.net", 2, "cut off", false},
	"a surplus cell":         {"email\na@example.com\nstranger@example.net,x\n", 2, "wrong number of cells", false},
	"a preamble with one": {"stranger@example.net\n\nid,first_name,last_name,username,primary_email_address," +
		"verified_email_addresses,unverified_email_addresses\n1,A,B,,a@example.com,,\n", 0, "", false},
	"a preamble in the column": {"list of stranger@example.net\n\nemail\na@example.com\n", 2,
		"in front of the header", false},
	"a footer with one": {"email\na@example.com\n\nWritten by stranger@example.net\n", 2, "line 4", false},
	"an opt-out": {"email,Unsubscribed\na@example.com,\nstranger@example.net,yes\n", 0,
		"not to be written to", false},
	"an opt-out with a date": {"email,opted_out_at\na@example.com,0\nstranger@example.net,2026-01-01\n", 0,
		"line 3", false},
	"an opt-out, columns ignored": {"email,Do Not Contact\na@example.com,no\nstranger@example.net,x\n", 0,
		"line 3", false},
	"an opt-out in another row": {"email,bounced\nstranger@example.net,\na@example.com,\nSTRANGER@example.net,1\n", 0,
		"line 2 is left out, as line 4 says", false},
	"an opt-out in JSON": {`[{"email": "a@example.com"}, {"email": "stranger@example.net", "banned": {"x": 1}}]`,
		0, "line 1", false},
	"a status": {hubspot +
		"Status\n1,,,a@example.com,Subscribed\n2,,,stranger@example.net,Unsubscribed\n", 0, "line 3", false},
	"an owner in HubSpot": {hubspot + "Contact owner\n1,,,a@example.com,stranger@example.net\n", 0,
		"Contact owner", false},
	"a cleaned file": {"Email Address,CLEAN_TIME\nstranger@example.net,2026-01-01\n", 2,
		"has cleaned them out", false},
	"another encoding": {"email,public_metadata.n\nstranger@example.net,Zo\xEB\n", 2, "--encoding", false},
	"two rows of one, and other options": {"email,redirect_url\nb@example.com,/a\nmailto:b@example.com,/b\n" +
		"stranger@example.net,/c\n", 2, "with other options", false},
	"a hidden row": {workbook(func(b *excelize.File) error { return b.SetRowVisible("Sheet1", 3, false) }), 0,
		"line 3 is hidden", false},
	"a hidden column": {workbook(func(b *excelize.File) error { return b.SetColVisible("Sheet1", "A", false) }), 2,
		"--email-column Email", true},
	"a struck-through row": {workbook(func(b *excelize.File) error {
		struck, err := b.NewStyle(&excelize.Style{Font: &excelize.Font{Strike: true}})
		if err != nil {
			return err
		}
		return b.SetCellStyle("Sheet1", "A3", "A3", struck)
	}), 0, "line 3 is struck through", false},
	"a second sheet": {workbook(func(b *excelize.File) error {
		if _, err := b.NewSheet("Old"); err != nil {
			return err
		}
		return b.SetCellStr("Old", "A1", "old@example.com")
	}), 2, "--sheet Sheet1", false},
	"a link behind a name": {workbook(func(b *excelize.File) error {
		if err := b.SetCellStr("Sheet1", "A3", "Ada"); err != nil {
			return err
		}
		return b.SetCellHyperLink("Sheet1", "A3", "mailto:stranger@example.net", "External")
	}), 2, "--accept-guesses", true},
	"a link to another": {workbook(func(b *excelize.File) error {
		return b.SetCellHyperLink("Sheet1", "A3", "mailto:b@example.com", "External")
	}), 2, "the link behind it leads to another", false},
	"a merged cell": {workbook(func(b *excelize.File) error { return b.MergeCell("Sheet1", "A3", "A4") }), 2,
		"is merged", false},
}

// workbook is a list of two, the second of whom is a stranger.
func workbook(change func(*excelize.File) error) string {
	b := excelize.NewFile()
	for cell, text := range map[string]string{"A1": "Email", "A2": "a@example.com", "A3": "stranger@example.net"} {
		if err := b.SetCellStr("Sheet1", cell, text); err != nil {
			panic(err)
		}
	}
	if err := change(b); err != nil {
		panic(err)
	}
	data, err := b.WriteToBuffer()
	if err != nil {
		panic(err)
	}
	return data.String()
}

// TestNoStrangerIsInvited gives each way to invite somebody nobody named to the command as a script does: off a
// terminal and without a flag.
func TestNoStrangerIsInvited(t *testing.T) {
	t.Parallel()
	for name, c := range strangers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			file := s.write("list", c.file)
			args := []string{"bulk-invite", file, "--campaign", "c"}
			if strings.Contains(name, "columns ignored") {
				args = append(args, "--ignore-columns")
			}
			a := s.enqueue(args...)
			if a.exit != c.exit || !strings.Contains(a.stderr, c.says) {
				t.Errorf("%+v, want exit %d and %q", a, c.exit, c.says)
			}
			if c.exit == 2 && len(s.keys()) > 0 {
				t.Errorf("something was enqueued: %v", s.keys())
			}
			exported := s.enqueue("campaign", "export", "c").stdout
			if strings.Contains(strings.ToLower(exported), "stranger") || c.exit == 0 &&
				!strings.Contains(exported, "a@example.com") {
				t.Errorf("invited are: %s", exported)
			}
			dry := s.enqueue(append(args, "--dry-run")...)
			if guesses := strings.Contains(dry.stdout, "Guess: "); (dry.exit == 0) != (c.exit == 0 || c.guess) ||
				guesses != c.guess {
				t.Errorf("rehearsed: %+v", dry)
			}
			s.guessed(file, c.guess)
		})
	}
}

// guessed checks who may go on with a guess: a person who says so, and a flag.
func (s *stage) guessed(file string, guess bool) {
	s.t.Helper()
	if !guess {
		return
	}
	const question = "Is that how the file is meant? [y/N]"
	a := s.asked(s.t.Context(), "n\n", "bulk-invite", file)
	if a.exit != 1 || !strings.Contains(a.stderr, question) || len(s.keys()) > 0 {
		s.t.Errorf("asked and denied: %+v", a)
	}
	a = s.asked(s.t.Context(), "y\n", "bulk-invite", file, "--json")
	if a.exit != 2 || len(s.keys()) > 0 {
		s.t.Errorf("a program was asked: %+v", a)
	}
	list, err := os.ReadFile(file)
	testkit.NoError(s.t, err)
	a = s.asked(s.t.Context(), string(list), "bulk-invite", "-") // nobody can answer where the list was typed
	if a.exit != 2 || strings.Contains(a.stderr, question) || len(s.keys()) > 0 {
		s.t.Errorf("asked on standard input: %+v", a)
	}
	if a = s.asked(s.t.Context(), "y\n", "bulk-invite", file); a.exit != 0 {
		s.t.Errorf("asked and told: %+v", a)
	}
	if got := s.ok("bulk-invite", file, "--accept-guesses", "--campaign", "accepted"); got["added"] == 0.0 {
		s.t.Errorf("with the flag: %v", got)
	}
}

// TestFlagsMakeAReadingCertain: those that the message names.
func TestFlagsMakeAReadingCertain(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for name, c := range map[string]struct {
		file  string
		flags []string
		want  int
	}{
		"a column": {"Contact,Name\na@example.com,Ada\n", []string{"--email-column", "Contact",
			"--ignore-columns"}, 1},
		"by its field": {"Contact\na@example.com\n", []string{"--map", "email_address=Contact"}, 1},
		"no header":    {"1,a@example.com\n2,b@example.com\n", []string{"--no-header", "--email-column", "2"}, 2},
		"split":        {"email\na@example.com; B <b@example.com>\n", []string{"--split"}, 2},
		"two columns": {"Email,Owner\na@example.com,b@example.com\n", []string{"--email-column", "Email",
			"--ignore-columns"}, 1},
		"the opted-out": {"email,unsubscribed\na@example.com,1\n", []string{"--include-opted-out"}, 1},
		"an encoding": {"email,public_metadata.n\na@example.com,Zo\xEB\n", []string{"--encoding",
			"Windows-1252"}, 1},
		"a sheet": {workbook(func(b *excelize.File) error {
			_, err := b.NewSheet("Old")
			return err
		}), []string{"--sheet", "Sheet1"}, 2},
	} {
		got := s.ok(append([]string{"bulk-invite", s.write("list", c.file), "--campaign", strings.ReplaceAll(name,
			" ", "")},
			c.flags...)...)
		want(t, got, map[string]any{"added": c.want})
	}
	entra, err := os.ReadFile("../../internal/peoplefile/testdata/entra-bulk-invite.csv")
	testkit.NoError(t, err)
	got := s.ok("bulk-invite", s.write("entra.csv", string(entra)), "--dry-run", "--map",
		"redirect_url=Redirection url",
		"--map", "notify=sendEmail")
	if text := got["understood"].(map[string]any)["sample"].([]any)[1].(map[string]any); text["no_notify"] != true ||
		text["redirect_url"] != "https://myapps.example.com" {
		t.Errorf("%v", text)
	}
	for _, flags := range [][]string{
		{"--map", "x=y"}, {"--map", "notify"}, {"--map", "notify=A", "--map", "notify=B"}, {"--encoding", "ebcdic"},
		{"--map", "email=A", "--email-column", "B"}, {"--map", "notify=Nowhere"}, {"--no-header", "--email-column",
			"5"},
	} {
		a := s.enqueue(append([]string{"bulk-invite", s.write("l.csv", "email\na@example.com\n"), "--dry-run"},
			flags...)...)
		if a.exit != 2 {
			t.Errorf("%v: %+v", flags, a)
		}
	}
}

// TestSamplesAreRehearsedWithoutFlags: the exports of known programs.
func TestSamplesAreRehearsedWithoutFlags(t *testing.T) {
	t.Parallel()
	s := setup(t)
	samples, err := filepath.Glob("../../internal/peoplefile/testdata/*.*")
	testkit.NoError(t, err)
	refused := map[string]bool{ // faults, and two readings
		"cut-off.csv": true, "google-contacts-old.csv": true, "invisible.csv": true,
		"mailchimp-unsubscribed.csv": true,
		"two-address-columns.csv":    true, "openpyxl.xlsx": true,
	}
	for _, path := range samples {
		a := s.enqueue("bulk-invite", path, "--dry-run")
		if want := map[bool]int{true: 2}[refused[filepath.Base(path)]]; a.exit != want {
			t.Errorf("%s: %+v", path, a)
		}
	}
	if len(samples) < 20 {
		t.Errorf("there are %d samples", len(samples))
	}
}

// TestWhatWasUnderstoodIsTold: all of it, to a person and to a program.
func TestWhatWasUnderstoodIsTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sheets := workbook(func(b *excelize.File) error {
		_, err := b.NewSheet("Empty")
		return errors.Join(err, b.SetCellStr("Sheet1", "A3", "A@example.com"), b.SetRowVisible("Sheet1", 3, false),
			b.SetCellStr("Sheet1", "A4", "b\u00ADob@example.com"))
	})
	none := ",true" + strings.Repeat(",", 26) // of the other cells of Firebase's
	for name, c := range map[string]struct {
		file  string
		flags []string
		says  string
		json  string // of what is understood, some fields of which are named
	}{
		"users.csv": {"# Users\nid,first_name,last_name,username,primary_email_address,verified_email_addresses," +
			"unverified_email_addresses,banned\n1,,,,ada@example.com,ada@example.com|countess@example.com,,\n" +
			"2,,,,mailto:bob@example.com,,,\n3,,,,bob@example.com,,,\n4,,,,eve@example.com,,,yes\n5,,,,,,,\n6,,,,,,,\n" +
			"\nThe end\n",
			nil, `: CSV, Clerk dashboard (2026), 6 rows, header in line 2. Columns: "primary_email_address" is ` +
				`email_address, "banned" is who must not be written to.
Passed over: columns "id", "first_name", "last_name", "username", "verified_email_addresses", ` +
				`"unverified_email_addresses".
Passed over: lines 1, 10.
Left out: 2 without an address, 1 not to be written to.
line 6 must not be written to, as the column "banned" says
line 5 is the address of line 4, once it is cleaned: counted once
People with further addresses, which are not used: 1.
Addresses that were cleaned: 1.
The first: ada@example.com, bob@example.com.
`, `{"form":"CSV","export":"Clerk dashboard (2026)","encoding":null,"sheet":null,"header_line":2,"rows":6,` +
				`"recipients":2,"columns":[{"column":"primary_email_address","field":"email_address"},` +
				`{"column":"banned","field":"who must not be written to"}],"not_mapped":[],"passed_over":["id","first_name",` +
				`"last_name","username","verified_email_addresses","unverified_email_addresses"],"preamble_lines":[1],` +
				`"footer_lines":[10],"left_out":{"hidden":0,"no_address":2,"opted_out":1,"struck":0},"left_out_rows":[` +
				`{"line":6,"why":"opted_out","reason":"must not be written to, as the column \"banned\" says"},` +
				`{"line":7,"why":"no_address","reason":"has no address"},` +
				`{"line":8,"why":"no_address","reason":"has no address"}],` +
				`"duplicate_rows":[{"line":5,"first_line":4,"cleaned":true}],"further_addresses":1,"cleaned_lines":[4],` +
				`"notes":[],"warnings":[],"guesses":[],` +
				`"sample":[{"email_address":"ada@example.com"},{"email_address":"bob@example.com"}]}`},
		"people.xlsx": {sheets, nil, `: .xlsx, sheet "Sheet1", 3 rows. Columns: "Email" is email_address.
Left out: 1 hidden or filtered.
line 3 is hidden
line 2 stands also in line 3, which is left out
Addresses that were cleaned: 1.
Guess: in line 4 a soft hyphen (U+00AD) after "b" is taken out of the address
To be certain, correct the lines, or say --accept-guesses.
The first: a@example.com, bob@example.com.
`, `{"form":".xlsx","sheet":"Sheet1","left_out":{"hidden":1,"no_address":0,"opted_out":0,"struck":0},` +
			`"notes":[{"line":2,"text":"stands also in line 3, which is left out"}],"guesses":[{"line":4,` +
			`"guess":"a soft hyphen (U+00AD) after \"b\" is taken out of the address","flags":[]}]}`},
		"names.csv": {"email,public_metadata.n\na@example.com,Zo\xEB\n", []string{"--encoding", "windows-1252"},
			`: CSV, windows-1252, 1 row. Columns: "email" is email_address, "public_metadata.n" is public_metadata.n.
The first: a@example.com.
`, `{"encoding":"windows-1252","sample":[{"email_address":"a@example.com","public_metadata":{"n":"Zoë"}}]}`},
		"entra.csv": {"version:v1.0\nEmail address to invite [inviteeEmail] Required,Redirection url [inviteRedirectURL] " +
			"Required\na@example.com,https://x.example.com\n", nil, `: CSV, Entra bulk invite (2026), 1 row, header in ` +
			`line 2. Columns: "Email address to invite [inviteeEmail] Required" is email_address.
Not taken unless --map says so: "Redirection url [inviteRedirectURL] Required" is redirect_url.
Passed over: line 1.
The first: a@example.com.
`, `{"not_mapped":[{"column":"Redirection url [inviteRedirectURL] Required","field":"redirect_url"}],` +
			`"passed_over":[]}`},
		"firebase.csv": {"u1,a@example.com" + none + "\n", nil, `: CSV, Firebase (2026), 1 row. Columns: "2" is email_address.
Note: column 27 may say who is disabled, but has no heading to be sure by.
Guess: in line 1 there is no header, and column 2 is taken for the addresses
To be certain, say --no-header --email-column 2, or --accept-guesses.
The first: a@example.com.
`, `{"header_line":null,"warnings":["column 27 may say who is disabled, but has no heading to be sure by"],` +
			`"guesses":[{"line":1,"guess":"there is no header, and column 2 is taken for the addresses",` +
			`"flags":["--no-header","--email-column 2"]}]}`},
	} {
		path := s.write(name, c.file)
		args := append([]string{"bulk-invite", path, "--dry-run", "--campaign", "c"}, c.flags...)
		if a := s.enqueue(args...); !strings.HasPrefix(a.stdout, path+c.says+path+": ") {
			t.Errorf("%s\n got %s\nwant %s", a.stderr, a.stdout, c.says)
		}
		var fields map[string]any
		testkit.NoError(t, json.Unmarshal([]byte(c.json), &fields))
		want(t, s.ok(args...)["understood"].(map[string]any), fields)
	}
}

// TestAddressesAreCleanedEverywhere: the same address, as it comes out of a web page.
func TestAddressesAreCleanedEverywhere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const pasted = "\u00A0mailto:ada@example.com\u200B\uFEFF "
	s.ok("invite", pasted, "--id", "one")
	want(t, s.ok("invite", "ada@example.com", "--id", "one"), map[string]any{"exists": true})
	s.ok("bulk-invite", s.write("p.csv", "email\nada@example.com\n"), "--campaign", "c")
	forgotten := s.ok("forget", pasted, "--yes")
	want(t, forgotten["removed"].(map[string]any), map[string]any{"campaigns": 1})
	s.ok("revoke", "--email", pasted, "--yes", "--id", "two")
	want(t, s.ok("revoke", "--email", "ada@example.com", "--yes", "--id", "two"), map[string]any{"exists": true})
	want(t, s.ok("revoke", "--email", pasted, "--dry-run"), map[string]any{"email_address": "ada@example.com"})
	want(t, s.ok("delete", "--email", pasted, "--dry-run"), map[string]any{"email_address": "ada@example.com"})
	want(t, s.ok("find", pasted), map[string]any{"email_address": "ada@example.com"})
	want(t, s.ok("forget", pasted, "--lift"), map[string]any{"lifted": true})
	if a := s.enqueue("invite", "da\u00ADvid@example.com"); a.exit != 2 || !strings.Contains(a.stderr,
		`(U+00AD) after "da"`) {
		t.Errorf("%+v", a)
	}
}

// TestDuplicatesAreNamedByLine: the first line decides, whatever else the others say.
func TestDuplicatesAreNamedByLine(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("p.csv", "email,public_metadata.plan\na@example.com,pro\nA@example.com,free\nb@example.com,x\n")
	if a := s.enqueue("bulk-invite", file, "--dry-run"); a.exit != 0 ||
		!strings.Contains(a.stdout, "Duplicates, of which the first line counts: line 3 (of line 2).\n") {
		t.Errorf("%+v", a)
	}
}
