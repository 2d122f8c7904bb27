package peoplefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/text/encoding/unicode"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

func read(t *testing.T, content string, opts Options) File {
	t.Helper()
	file, err := Read(strings.NewReader(content), opts)
	if err != nil {
		t.Fatalf("Read(%q): %v", content, err)
	}
	return file
}

// describe writes a File the way the tests expect it: a line for every row.
func describe(f File) string {
	var b strings.Builder
	for _, row := range f.Rows {
		encoded, _ := json.Marshal(row.Recipient())
		fmt.Fprintf(&b, "%s: %s\n", row.Place, encoded)
	}
	for _, i := range f.Invalid {
		fmt.Fprintf(&b, "bad %s\n", i)
	}
	for _, d := range f.Duplicates {
		cleaned := ""
		if d.Cleaned {
			cleaned = ", once it is cleaned"
		}
		fmt.Fprintf(&b, "twice %s: has the address of %s%s\n", d.Place, d.First, cleaned)
	}
	for _, l := range f.LeftOut {
		fmt.Fprintf(&b, "out %s: %s\n", l.Place, l.Reason)
	}
	for _, n := range f.Notes {
		fmt.Fprintf(&b, "note %s: %s\n", n.Place, n.Text)
	}
	for _, g := range f.Guesses {
		fmt.Fprintf(&b, "guess %d: %s [%s]\n", g.Line, g.What, flagsOf(g.Flags))
	}
	return b.String()
}

func want(t *testing.T, got string, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n"); strings.TrimSuffix(got, "\n") != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func utf16(t *testing.T, text string, order unicode.Endianness) string {
	t.Helper()
	encoded, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// The same people in every form.
func TestReadForms(t *testing.T) {
	t.Parallel()
	const (
		comma = "email_address,public_metadata.name,notify\na@example.com,Zoë,no\n\nb@example.com,,\n"
		array = "[\n{\"email_address\": \"a@example.com\", \"public_metadata\": {\"name\": \"Zoë\"}, \"notify\": " +
			"false},\n\n" +
			"{\"email_address\": \"b@example.com\"}\n]\n"
		lines = "{\"email_address\": \"a@example.com\", \"public_metadata.name\": \"Zoë\", \"notify\": " +
			"false}\n\n\n{" +
			"\"email_address\": \"b@example.com\"}\n"
		a = `{"email_address":"a@example.com","public_metadata":{"name":"Zoë"},"no_notify":true}`
		b = `{"email_address":"b@example.com"}`
	)
	swap := func(to string) string { return strings.ReplaceAll(comma, ",", to) }
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	for _, test := range []struct {
		name, content string
		lines         [2]int
	}{
		{"comma", comma, [2]int{2, 4}},
		{"no line break at the end", strings.TrimSuffix(comma, "\n"), [2]int{2, 4}},
		{"semicolon", swap(";"), [2]int{2, 4}},
		{"tab", swap("\t"), [2]int{2, 4}},
		{"sep=;", "sep=;\n" + swap(";"), [2]int{3, 5}},
		{"sep=, in quotes", "\"SEP=,\"\r\n" + comma, [2]int{3, 5}},
		{"sep=tab", "sep=\t\n" + swap("\t"), [2]int{3, 5}},
		{"CRLF", crlf(comma), [2]int{2, 4}},
		{"CR", strings.ReplaceAll(comma, "\n", "\r"), [2]int{2, 4}},
		{"quotes", "\"email_address\",\"public_metadata.name\",\"notify\"\n\"a@example.com\",\"Zoë\",\"no\"\n" +
			"\"b@example.com\",\"\",\"\"\n", [2]int{2, 3}},
		{"blank rows", "\n , ,\n" + comma + ",,\n \n", [2]int{4, 6}},
		{"blank rows with semicolons", ";;;;\n" + swap(";"), [2]int{3, 5}},
		{"BOM", bomUTF8 + comma, [2]int{2, 4}},
		{"BOM and sep", bomUTF8 + "sep=;\r\n" + crlf(swap(";")), [2]int{3, 5}},
		{"UTF-16 LE", utf16(t, crlf(swap("\t")), unicode.LittleEndian), [2]int{2, 4}},
		{"UTF-16 BE", utf16(t, comma, unicode.BigEndian), [2]int{2, 4}},
		{"array", array, [2]int{2, 4}},
		{"array CRLF", crlf(array), [2]int{2, 4}},
		{"array with BOM after blank lines", bomUTF8 + "\n\n" + array, [2]int{4, 6}},
		{"array UTF-16", utf16(t, array, unicode.LittleEndian), [2]int{2, 4}},
		{"lines", lines, [2]int{1, 4}},
		{"lines CRLF", crlf(lines), [2]int{1, 4}},
		{"lines UTF-16", utf16(t, lines, unicode.BigEndian), [2]int{1, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			place := [2]Place{{Line: test.lines[0]}, {Line: test.lines[1]}}
			if strings.HasPrefix(test.name, "array") {
				place[0].Element, place[1].Element = 1, 2
			}
			want(t, describe(read(t, test.content, Options{})), fmt.Sprintf("%s: %s", place[0], a),
				fmt.Sprintf("%s: %s", place[1], b))
		})
	}
}

func TestReadFields(t *testing.T) {
	t.Parallel()
	got := describe(read(t, strings.Join([]string{
		"E-Mail Address,Redirect URL,NOTIFY,ignore-existing,Expires In Days,templateSlug,public metadata.Plan," +
			"Public_Metadata.a.b",
		" a@example.com , https://example.com/x ,No,YES,7,waitlist_invitation,007, x ",
		"b@example.com,/path,1,0,,,,",
		"c@example.com,,TRUE,False,,,,",
	}, "\n"), Options{}))
	want(t, got,
		`line 2: {"email_address":"a@example.com","public_metadata":{"Plan":"007","a.b":"x"},`+
			`"redirect_url":"https://example.com/x","no_notify":true,"ignore_existing":true,"expires_in_days":7,`+
			`"template_slug":"waitlist_invitation"}`,
		`line 3: {"email_address":"b@example.com","redirect_url":"/path"}`,
		`line 4: {"email_address":"c@example.com"}`)

	got = describe(read(t,
		`[{"E-Mail": "a@example.com", "redirectURL": "/x", "Notify": false, "ignore_existing": true, `+
			`"expires-in-days": 7,
		"template_slug": "invitation", "public_metadata": {"n": 12345678901234567890, "deep": {"x": [1.50]}}, `+
			`"public_metadata.t": 1.0},
		{"email": "b@example.com", "redirect_url": null, "notify": null, "expires_in_days": null, `+
			`"template_slug": "", "public_metadata": null, "public_metadata.t": null}]`, Options{}))
	want(t, got,
		`line 1 (element 1): {"email_address":"a@example.com","public_metadata":{"deep":{"x":[1.50]},`+
			`"n":12345678901234567890,"t":1.0},"redirect_url":"/x","no_notify":true,"ignore_existing":true,`+
			`"expires_in_days":7,"template_slug":"invitation"}`,
		`line 3 (element 2): {"email_address":"b@example.com"}`)
}

func TestReadQuotedCells(t *testing.T) {
	t.Parallel()
	got := describe(read(t, "email,public_metadata,public_metadata.note\n"+
		"a@example.com,\"{\"\"plan\"\": \"\"pro\"\",\n\"\"n\"\": 1.0}\",\"two\nlines, \"\"quoted\"\"\"\n"+
		"b@example.com,{},\n", Options{}))
	want(t, got,
		`line 2: {"email_address":"a@example.com","public_metadata":{"n":1.0,"note":"two\nlines, \"quoted\"",`+
			`"plan":"pro"}}`,
		`line 5: {"email_address":"b@example.com"}`)
}

func TestReadDefaults(t *testing.T) {
	t.Parallel()
	defaults := tasks.Recipient{
		EmailAddress: "never@example.com", PublicMetadata: map[string]any{"plan": "free", "team": "a"},
		RedirectURL: "/default", NoNotify: true,
		IgnoreExisting: true, ExpiresInDays: 9, TemplateSlug: "invitation",
	}
	all := func(metadata string) string {
		return `"public_metadata":` + metadata +
			`,"redirect_url":"/default","no_notify":true,"ignore_existing":true,"expires_in_days":9,` +
			`"template_slug":"invitation"}`
	}
	got := describe(read(t,
		"email,redirect_url,notify,ignore_existing,expires_in_days,template_slug,public_metadata,"+
			"public_metadata.plan\n"+
			"a@example.com,,,,,,,\n"+
			"b@example.com,/own,yes,no,3,waitlist_invitation,\"{\"\"x\"\":1}\",\n"+
			"c@example.com,,,,,,,pro\n"+
			"d@example.com,,,,,,\"{\"\"x\"\":1}\",pro\n"+
			"e@example.com,,,,,,{},\n"+
			",,,,,,,pro\n", Options{Defaults: defaults}))
	want(t, got,
		`line 2: {"email_address":"a@example.com",`+all(`{"plan":"free","team":"a"}`),
		`line 3: {"email_address":"b@example.com","public_metadata":{"x":1},"redirect_url":"/own",`+
			`"expires_in_days":3,"template_slug":"waitlist_invitation"}`,
		`line 4: {"email_address":"c@example.com",`+all(`{"plan":"pro","team":"a"}`),
		`line 5: {"email_address":"d@example.com",`+all(`{"plan":"pro","x":1}`),
		`line 6: {"email_address":"e@example.com","redirect_url":"/default","no_notify":true,"ignore_existing":true,`+
			`"expires_in_days":9,"template_slug":"invitation"}`,
		`bad line 7: email_address: is missing`)
	if !reflect.DeepEqual(defaults.PublicMetadata, map[string]any{"plan": "free", "team": "a"}) {
		t.Errorf("the defaults were changed: %v", defaults.PublicMetadata)
	}
}

func TestReadColumns(t *testing.T) {
	t.Parallel()
	const content = "Work Mail,email,age\na@example.com,x,7\n"
	want(t, describe(read(t, content, Options{EmailColumn: "work-mail", IgnoreColumns: true})),
		`line 2: {"email_address":"a@example.com"}`)
	want(t, describe(read(t, `{"Work Mail": "a@example.com", "email": "x", "age": {}}`,
		Options{EmailColumn: "workmail", IgnoreColumns: true})),
		`line 1: {"email_address":"a@example.com"}`)
	want(t, describe(read(t, "\"a, b, c, d\";\"email\"\nx;a@example.com\n", Options{IgnoreColumns: true})),
		`line 2: {"email_address":"a@example.com"}`)
	// A column without a name may be there as long as it is empty.
	want(t, describe(read(t, "email,,\na@example.com,,\nb@example.com,,x\n", Options{})),
		`line 2: {"email_address":"a@example.com"}`, `bad line 3: has something in column 3, which has no name`)
	want(t, describe(read(t, "email,,\nb@example.com,,x\n", Options{IgnoreColumns: true})),
		`line 2: {"email_address":"b@example.com"}`)
	// A file without rows has no fault.
	for _, content := range []string{"email\n", "[]", " [ ] "} {
		want(t, describe(read(t, content, Options{})), "")
	}
}

// TestWhoIsInARowThatMustNotBeWrittenToIsLeftOut: in other rows too, whichever address the row has of the person, and
// where the row is refused so that nobody knows what it says.
func TestWhoIsInARowThatMustNotBeWrittenToIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"the address": "email,unsubscribed\nada@example.com,yes\nADA@example.com,\n",
		"a further address": "First Name,Last Name,E-mail Address,E-mail 2 Address,Unsubscribed\n" +
			"Ada,Lovelace,lovelace@example.com,ada@example.com,yes\nAda,Lovelace,ada@example.com,,\n",
		"a surplus cell": "email,unsubscribed\nada@example.com,,yes\nada@example.com,\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, err := Read(strings.NewReader(content), Options{})
			testkit.NoError(t, err)
			last := file.LeftOut[len(file.LeftOut)-1]
			if len(file.Rows) != 0 || last.Line != 3 || last.Why != OptedOut {
				t.Errorf("rows %v, left out %v; want line 3 left out", file.Rows, file.LeftOut)
			}
			file, err = Read(strings.NewReader(content), Options{IncludeOptedOut: true})
			testkit.NoError(t, err)
			if len(file.Rows) == 0 {
				t.Error("with IncludeOptedOut nobody is a recipient")
			}
		})
	}
}

func TestReadDuplicates(t *testing.T) {
	t.Parallel()
	want(t, describe(read(t,
		"email,redirect_url\nA@example.com,\nb@example.com,bad\na@EXAMPLE.com,/x\nb@example.com,\n a@example.com,\n",
		Options{})),
		`line 2: {"email_address":"A@example.com"}`,
		`line 5: {"email_address":"b@example.com"}`,
		`bad line 3: redirect_url: is neither an absolute URL nor a path that starts with a slash`,
		`twice line 4: has the address of line 2`,
		`twice line 6: has the address of line 2`)
	want(t, describe(read(t, `[{"email":"a@example.com"},{"email":"A@example.com"}]`, Options{})),
		`line 1 (element 1): {"email_address":"a@example.com"}`,
		`twice line 1 (element 2): has the address of line 1 (element 1)`)
}

// Every reason of every bad row, in the words that people read.
func TestReadInvalidCSV(t *testing.T) {
	t.Parallel()
	const long = "a-value-that-is-much-longer-than-what-fits-into-a-message"
	want(t, describe(read(t, strings.Join([]string{
		"email,public_metadata,public_metadata.plan,redirect_url,notify,ignore_existing,expires_in_days,template_slug",
		"nobody,,,ftp,maybe,2,soon,letter",
		"a@example.com,[1],,,,,0,",
		"b@example.com,\"{\"\"plan\"\": 1}\",pro,,,,366,",
		"c@example.com,{x},,,,,1.5,",
		"d@example.com,\"{\"\"x\"\": \",,,,,99999999999999999999,",
		"e@example.com,\"{} {}\",,,,,,",
		"f@example.com,null,,," + long + ",,-1,",
		"g@example.com",
		"h@example.com,,,,,,,,",
		"Name <i@example.com>,,,,,,,",
		"j\uFFFD@example.com,,,,,,,",
		"k@localhost,,,,,,,",
	}, "\n"), Options{})),
		`line 9: {"email_address":"g@example.com"}`,
		`line 11: {"email_address":"i@example.com"}`,
		`bad line 2: notify: "maybe" is none of true, 1, yes, false, 0, no`,
		`bad line 2: ignore_existing: "2" is none of true, 1, yes, false, 0, no`,
		`bad line 2: expires_in_days: "soon" is not a whole number`,
		`bad line 2: email_address: is not an e-mail address`,
		`bad line 2: redirect_url: is neither an absolute URL nor a path that starts with a slash`,
		`bad line 2: template_slug: "letter" is not one of invitation, waitlist_invitation`,
		`bad line 3: public_metadata: is not a JSON object such as {"plan": "pro"}`,
		`bad line 3: expires_in_days: 0 is not between 1 and 365`,
		`bad line 4: public_metadata: "plan" is given twice, within and in a column of its own`,
		`bad line 4: expires_in_days: 366 is not between 1 and 365`,
		`bad line 5: public_metadata: is not valid JSON: invalid character 'x' looking for beginning of object `+
			`key string`,
		`bad line 5: expires_in_days: "1.5" is not a whole number`,
		`bad line 6: public_metadata: is not valid JSON: it ends in the middle`,
		`bad line 6: expires_in_days: "99999999999999999999" is not a whole number`,
		`bad line 7: public_metadata: is not valid JSON: something follows its end`,
		`bad line 8: public_metadata: is not a JSON object such as {"plan": "pro"}`,
		`bad line 8: notify: "a-value-that-is-much-longer-than-what-fi…" is none of true, 1, yes, false, 0, no`,
		`bad line 8: expires_in_days: -1 is not between 1 and 365`,
		`bad line 10: has a wrong number of cells: 9, where the header has 8`,
		`bad line 12: email_address: has a character that was lost when the file was converted (U+FFFD)`,
		`bad line 13: email_address: has a domain without a dot`)
}

func TestReadInvalidJSON(t *testing.T) {
	t.Parallel()
	want(t, describe(read(t, `{"email": "a@example.com"}
{"email": 7, "redirect_url": {}, "notify": "yes", "ignore_existing": 1, "expires_in_days": "7", `+
		`"template_slug": [], "public_metadata": "x"}
"b@example.com"
{"email": "c@example.com", "email": "d@example.com", "E_mail": null}
{"email": "e@example.com", "public_metadata": {"plan": 1}, "public_metadata.plan": "x", "public_metadata.plan": "y"}
{"email": "f@example.com"
{"expires_in_days": 1.0, "notify": true}
{"email": "g@example.com"} {}
null
{"email": "h@example.com", "expires_in_days": 0}
`, Options{})),
		`line 1: {"email_address":"a@example.com"}`,
		`bad line 2: email_address: is a number, not a string`,
		`bad line 2: redirect_url: is an object, not a string`,
		`bad line 2: notify: is a string, not true or false`,
		`bad line 2: ignore_existing: is a number, not true or false`,
		`bad line 2: expires_in_days: is a string, not a number`,
		`bad line 2: template_slug: is a list, not a string`,
		`bad line 2: public_metadata: is not a JSON object such as {"plan": "pro"}`,
		`bad line 3: is a string, not an object`,
		`bad line 4: email_address: is given twice`,
		`bad line 4: email_address: is given twice`,
		`bad line 5: public_metadata.plan: is given twice`,
		`bad line 5: public_metadata: "plan" is given twice, within and in a column of its own`,
		`bad line 6: is not valid JSON: it ends in the middle`,
		`bad line 7: expires_in_days: "1.0" is not a whole number`,
		`bad line 7: email_address: is missing`,
		`bad line 8: is not valid JSON: invalid character '{' after top-level value`,
		`bad line 9: is null, not an object`,
		`bad line 10: expires_in_days: 0 is not between 1 and 365`)
	want(t, describe(read(t, `["a@example.com", [], true, 7]`, Options{})),
		`bad line 1 (element 1): is a string, not an object`,
		`bad line 1 (element 2): is a list, not an object`,
		`bad line 1 (element 3): is a boolean, not an object`,
		`bad line 1 (element 4): is a number, not an object`)
}

func TestReadFaults(t *testing.T) {
	t.Parallel()
	const (
		known = `known are email_address (or email), public_metadata, public_metadata.KEY, redirect_url, notify, ` +
			`ignore_existing, expires_in_days, template_slug, on_duplicate, on_existing_user; ` +
			`--ignore-columns passes over the others, and --map public_metadata.KEY=COLUMN keeps one`
		save = `save it as “CSV UTF-8” (in a spreadsheet: File, Save as) and give that file`
		anew = `a spreadsheet took UTF-8 for another encoding, so other characters are wrong too. Open the file ` +
			`from before again, say there that it is Unicode (UTF-8), and save it anew`
		say   = save + `, or say what it is, such as --encoding windows-1252`
		quote = `double the quotes inside it, as in "{""plan"": ""pro""}"`
	)
	for _, test := range []struct {
		name, content, want string
		opts                Options
	}{
		{name: "empty", content: "", want: `people.csv: is empty`},
		{name: "blank", content: bomUTF8 + " \r\n\n", want: `people.csv: is empty`},
		{name: "only separators", content: ",,,\n,,\n",
			want: `people.csv: has no header: the first line must name the columns, such as email_address`},
		{name: "xlsx", content: "PK\x03\x04...",
			want: `people.csv: is a broken .xlsx: zip: not a valid zip file`},
		{name: "xls", content: "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1...",
			want: `people.csv: is an old .xls spreadsheet, or one with a password, not a list: ` + save},
		{name: "gzip", content: "\x1F\x8B\x08", want: `people.csv: is compressed with gzip, not a list: ` + save},
		{name: "pdf", content: "%PDF-1.7", want: `people.csv: is a PDF, not a list: ` + save},
		{name: "vCards", content: "BEGIN:VCARD\r\nEMAIL:a@example.com\r\nEND:VCARD\r\n",
			want: `people.csv: is a file of vCards, not a list: ` + save},
		{name: "a web page", content: "\n<!DOCTYPE html><td>email\na@example.com",
			want: `people.csv: is a web page or XML, not a list: ` + save},
		{name: "XML", content: bomUTF8 + "<?xml version=\"1.0\"?>\n<Workbook/>",
			want: `people.csv: is a web page or XML, not a list: ` + save},
		{name: "latin 1", content: "email,public_metadata.name\na@example.com,x\nb@example.com,Zo\xEB\n",
			want: `people.csv, line 3: is not UTF-8 (byte 0xEB): ` + say},
		{name: "latin 1 in JSON", content: "[\n{\"email\": \"\xEB\"}]",
			want: `people.csv, line 2: is not UTF-8 (byte 0xEB): ` + say},
		{name: "taken for Latin-1", content: "\"ï»¿email\",\"x\"\n\"a@example.com\",\"ZoÃ«\"\n",
			want: `people.csv, line 1: begins with "ï»¿": ` + anew},
		{name: "taken for Windows-1251", content: "п»їemail\na@example.com\n",
			want: `people.csv, line 1: begins with "п»ї": ` + anew},
		{name: "UTF-16 without BOM", content: "e\x00m\x00",
			want: `people.csv, line 1: has a zero byte, as files that are not text do, and UTF-16 without a byte ` +
				`order mark: ` + save},
		{name: "UTF-32", content: "\xFF\xFE\x00\x00e\x00\x00\x00",
			want: `people.csv, line 1: has a zero byte, as files that are not text do, and UTF-16 without a byte ` +
				`order mark: ` + save},
		{name: "UTF-16 cut short", content: "\xFF\xFEe\x00m",
			want: `people.csv: begins like UTF-16 and is damaged: ` + save},
		{name: "UTF-16 half a pair", content: "\xFF\xFE\x00\xD8e\x00",
			want: `people.csv: begins like UTF-16 and is damaged: ` + save},
		{name: "unknown", content: "email,Age,First Name,public_metadata.,notify.x,Age\na@example.com,1,2,3,4,5\n",
			want: `people.csv: has unknown columns: "Age", "First Name", "public_metadata.", "notify.x"; ` + known},
		{name: "unknown in JSON", content: "{\"email\": \"a@example.com\", \"no_notify\": true}\n{\"age\": 1}",
			want: `people.csv: has unknown columns: "no_notify", "age"; ` + known},
		{name: "many unknown", content: "email" + strings.Repeat(",x", 1) +
			",a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u\n",
			want: `people.csv: has unknown columns: "x", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", ` +
				`"l",` +
				` "m", "n", "o", "p", "q", "r", "s" and more; ` + known},
		{name: "unknown with a column for the address", content: "mail,email\n", opts: Options{EmailColumn: "Mail"},
			want: `people.csv: has unknown columns: "email"; ` + strings.Replace(known,
				"email_address (or email)", `"Mail"`, 1)},
		{name: "no address", content: "\nname;plan\n",
			want: `people.csv, line 2: has no column email_address (or email; --email-column says another); it ` +
				`names "name", "plan"`},
		{name: "not the column asked for", content: "email,plan\n", opts: Options{EmailColumn: "Work Mail"},
			want: `people.csv, line 1: has no column "Work Mail", as --email-column asks; it names "email", "plan"`},
		{name: "no header, and not an address in each row", content: "a@example.com,pro\nb,pro\n",
			want: `people.csv, line 1: looks like people already: the first line must name the columns, such as ` +
				`email_address; for a list without a header say --no-header --email-column N`},
		{name: "no header, and two columns", content: "a@example.com,b@example.com\n",
			want: `people.csv, line 1: looks like people already, and column 1 and column 2 hold addresses: say ` +
				`which counts with --no-header --email-column 1`},
		{name: "two addresses", content: "email,E-Mail Address\n",
			want: `people.csv, line 1: has two columns for email_address: "email" and "E-Mail Address"`},
		{name: "two of a key", content: "email,public_metadata.plan,PublicMetadata.plan\n",
			want: `people.csv, line 1: has two columns for public_metadata.plan: "public_metadata.plan" and ` +
				`"PublicMetadata.plan"`},
		{name: "sep", content: "sep=|\nemail|x\n",
			want: `people.csv, line 1: "|" is not a separator that is known: use a comma, a semicolon or a tab`},
		{name: "open quote", content: "sep=,\nemail,notify\na@example.com,\"no\nb@example.com,no\n",
			want: `people.csv, line 3: has a cell in quotes that is never closed or goes on after its ` +
				`closing quote: ` + quote},
		{name: "text after quote", content: "email,notify\n\"a@example.com\"x,no\n",
			want: `people.csv, line 2: has a cell in quotes that is never closed or goes on after its ` +
				`closing quote: ` + quote},
		{name: "bare quote", content: "email,public_metadata\na@example.com,{\"plan\":1}\n",
			want: `people.csv, line 2: has a quote inside a cell that does not begin with one (nor may a space ` +
				`stand before it): ` +
				`put the whole cell in quotes and double those inside, as in "{""plan"": ""pro""}"`},
		{name: "array not closed", content: "[\n{\"email\": \"a@example.com\"}\n",
			want: `people.csv, line 2: the list is not valid JSON: it ends in the middle`},
		{name: "array with a fault", content: "[\n{\"email\": \"a@example.com\"},\n{\"email\" \"b@example.com\"}]",
			want: `people.csv, line 3: in element 2 the list is not valid JSON: invalid character '"' after ` +
				`object key`},
		{name: "array and more", content: "[]\n[]",
			want: `people.csv, line 2: has something after the end of the list`},
		{name: "array broken at once", content: "[}",
			want: `people.csv, line 1: the list is not valid JSON: invalid character '}' looking for beginning ` +
				`of value`},
		{name: "an object over lines", content: "{\n\"email\": \"a@example.com\"\n}",
			want: `people.csv, line 1: is not a whole JSON object: give one on every line, or a list of them in [ ]`},
		{name: "too large", content: "email\na@example.com\n", opts: Options{MaxBytes: 19},
			want: `people.csv: is larger than 19 bytes: split it`},
		{name: "too many rows", content: "email\na@example.com\n\nb@example.com\n", opts: Options{MaxRows: 1},
			want: `people.csv, line 4: is beyond 1 rows: split the file`},
		{name: "too many elements", content: "[{},\n{},{}]", opts: Options{MaxRows: 2},
			want: `people.csv, line 2: is beyond 2 rows: split the file`},
		{name: "too many lines", content: "{}\n{\n{}", opts: Options{MaxRows: 2},
			want: `people.csv, line 3: is beyond 2 rows: split the file`},
		{name: "long line", content: "email\n" + strings.Repeat(",", maxLineBytes) + "\n",
			want: `people.csv, line 2: is longer than 1048576 bytes`},
		{name: "long line of JSON", content: "{}\n" + strings.Repeat("[", maxLineBytes) + "\n",
			want: `people.csv, line 2: is longer than 1048576 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.opts.Name = "people.csv"
			file, err := Read(strings.NewReader(test.content), test.opts)
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("got %v of type %T and %s", err, err, describe(file))
			}
			want(t, err.Error(), test.want)
			if !reflect.DeepEqual(file, File{}) {
				t.Errorf("there is a file besides the error: %s", describe(file))
			}
		})
	}
}

func TestReadBounds(t *testing.T) {
	t.Parallel()
	const content = "email\na@example.com\n"
	want(t, describe(read(t, content, Options{MaxBytes: len(content), MaxRows: 1})),
		`line 2: {"email_address":"a@example.com"}`)
	_, err := Read(strings.NewReader("x,\n"), Options{})
	want(t, fmt.Sprint(err),
		`the file, line 1: has no column email_address (or email; --email-column says another); it names "x", ""`)
}

func TestReadFailure(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	_, err := Read(io.MultiReader(strings.NewReader("email\na@example.com\n"), iotest.ErrReader(broken)),
		Options{Name: "people.csv"})
	if _, isError := errors.AsType[*Error](err); isError || !errors.Is(err, broken) ||
		err.Error() != "people.csv: broken" {
		t.Errorf("got %v of type %T", err, err)
	}
}

func TestWriteInvalid(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, content, want string }{
		{"csv", "email,note,notify\na@example.com,fine,\n=bad,\"two\nlines\",maybe\nb,,\n",
			"email,note,notify,line,reason\n=bad,\"two\nlines\",maybe,3,\"notify: \"\"maybe\"\" is none of " +
				"true, 1, " +
				"yes, false, 0, no; email_address: is not an e-mail address\"\nb,,,5,email_address: is not an " +
				"e-mail address\n"},
		{"semicolon and BOM", bomUTF8 + "email;x\nb;\n",
			"email;x;line;reason\nb;;2;email_address: is not an e-mail address\n"},
		{"wrong width", "email,x\na@example.com,1,2\nb@example.co",
			"email,x,line,reason\na@example.com,1,2,2,\"has a wrong number of cells: 3, where the header has 2\"\n" +
				"b@example.co,3,\"has 1 cells, where the header has 2, and no line end: the file may have been " +
				"cut off " +
				"here\"\n"},
		{"no bad rows", "email\na@example.com\n", "email,line,reason\n"},
		{"corrected once already", "email,x,line,reason\nb,,7,old\n",
			"email,x,line,reason\nb,,2,email_address: is not an e-mail address\n"},
		{"array", "[{\"email\": \"b\"},\n{\"notify\": 1}]",
			"row,line,reason\n\"{\"\"email\"\": \"\"b\"\"}\",1,email_address: is not an e-mail address\n" +
				"\"{\"\"notify\"\": 1}\",2,\"notify: is a number, not true or false; email_address: is missing\"\n"},
		{"lines", "{}\n{\n",
			"row,line,reason\n{},1,email_address: is missing\n{,2,is not valid JSON: it ends in the middle\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := WriteInvalid(&out, read(t, test.content, Options{IgnoreColumns: true})); err != nil {
				t.Fatal(err)
			}
			if test.want = bomUTF8 + test.want; out.String() != test.want {
				t.Errorf("\n got %q\nwant %q", out.String(), test.want)
			}
		})
	}
}

// The file of the bad rows can be corrected and given again as it is.
func TestWriteInvalidCorrected(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := WriteInvalid(&out, read(t, "email;notify\na@example.com;no\nb@;no\nc@example.com;perhaps\n",
		Options{})); err != nil {
		t.Fatal(err)
	}
	corrected := strings.NewReplacer("b@;", "b@example.com;", ";perhaps;", ";yes;").Replace(out.String())
	want(t, describe(read(t, corrected, Options{})),
		`line 2: {"email_address":"b@example.com","no_notify":true}`,
		`line 3: {"email_address":"c@example.com"}`)
}

type failingWriter struct{ after int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteInvalidFails(t *testing.T) {
	t.Parallel()
	file := read(t, bomUTF8+"email\n"+strings.Repeat("b\n", 10_000), Options{})
	for _, after := range []int{0, 10, 10_000} {
		if err := WriteInvalid(&failingWriter{after}, file); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
}

// Rows of JSON share their metadata with those alone that say the same.
func TestJSONRowsKeepTheirMetadata(t *testing.T) {
	t.Parallel()
	rows := []string{
		`"public_metadata": {"n": 1}`, `"public_metadata": {"n": "1"}`, `"public_metadata.n": 1`, `"public_metadata.n": "1"`,
		`"public_metadata.m": 1`, `"public_metadata": {"n": 1}`, `"public_metadata": null`,
		`"public_metadata": {"n": 1}, "public_metadata.m": 1`,
	}
	var content strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&content, "{\"email\": \"person%d@example.com\", %s}\n", i, row)
	}
	var got []string
	for _, recipient := range read(t, content.String(), Options{}).Recipients() {
		metadata, err := json.Marshal(recipient.PublicMetadata)
		testkit.NoError(t, err)
		got = append(got, string(metadata))
	}
	want := []string{`{"n":1}`, `{"n":"1"}`, `{"n":1}`, `{"n":"1"}`, `{"m":1}`, `{"n":1}`, "null", `{"m":1,"n":1}`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// 10,000 rows keep less than 3 MiB: those that say the same share it.
func TestReadMemory(t *testing.T) {
	var csv, lines strings.Builder
	csv.WriteString("email_address,redirect_url,public_metadata.plan\n")
	for i := range 10_000 {
		fmt.Fprintf(&csv, "person%d@example.com,https://example.com/welcome,pro\n", i)
		fmt.Fprintf(&lines, `{"email_address": "person%d@example.com", "redirect_url": "https://example.com/welcome", `+
			`"public_metadata": {"plan": "pro", "seats": 5}}`+"\n", i)
	}
	for name, content := range map[string]string{"csv": csv.String(), "lines": lines.String(),
		"array": "[" + strings.ReplaceAll(strings.TrimSpace(lines.String()), "\n", ",") + "]"} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		file := read(t, content, Options{})
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept, made := (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20, (after.TotalAlloc-before.TotalAlloc)>>20
		t.Logf("%s of %d MiB: %d MiB kept, %d MiB allocated in all", name, len(content)>>20, kept, made)
		if len(file.Rows) != 10_000 || kept > 2 {
			t.Errorf("%s: %d rows, %d MiB", name, len(file.Rows), kept)
		}
		runtime.KeepAlive(file)
	}
}

// Ignored cells must not stay in memory.
func TestReadMemoryOfIgnoredColumns(t *testing.T) {
	var content strings.Builder
	content.WriteString("email,essay\n")
	essay := strings.Repeat("x", 4<<10)
	for i := range 5_000 {
		fmt.Fprintf(&content, "person%d@example.com,%s\n", i, essay)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	file := read(t, content.String(), Options{IgnoreColumns: true})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 8<<20 || len(file.Rows) != 5_000 {
		t.Errorf("%d rows keep %d bytes", len(file.Rows), kept)
	}
	runtime.KeepAlive(file)
	runtime.KeepAlive(content)
}
