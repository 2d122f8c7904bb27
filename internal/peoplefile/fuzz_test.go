package peoplefile

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"example.com/usher/tasks"
)

// FuzzRead checks that every row of any file comes out valid and once, or is reported with its place and reason.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"email,notify\na@example.com,no\nb,maybe\n",
		"sep=;\r\nemail;public_metadata\r\na@example.com;\"{\"\"x\"\": 1}\"\r\n",
		"\xFF\xFEe\x00m\x00a\x00i\x00l\x00\n\x00", bomUTF8 + "E-Mail\tx\n\t\n", "email,line,reason\na,1,x\n",
		"email\r\"a\rb\",\r",
		"[{\"email\": \"a@example.com\", \"public_metadata.x\": [1]},\n 7, {\"email\": null}]",
		"{\"email\": \"a@example.com\"}\n{\n",
		"[{\"expires_in_days\": 1e9, \"EMAIL\": \"a@example.com\", \"email\": \"\"}",
		"email,public_metadata.a,public_metadata\nx@example.com,1,{}\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, ignore bool) {
		opts := Options{Name: "f", IgnoreColumns: ignore,
			Defaults: tasks.Recipient{PublicMetadata: map[string]any{"a": "b"}}}
		file, err := Read(bytes.NewReader(data), opts)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok || len(err.Error()) > 4<<10 ||
				strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("error %q of type %T", err, err)
			}
			return
		}
		checkFile(t, file, len(data)+1)
		checkInvalid(t, file, opts)
	})
}

// checkFile checks that rows are valid, that each place is in one list only, and that the lists are in order.
func checkFile(t *testing.T, file File, maxLine int) {
	used, addresses := map[Place]bool{}, map[string]bool{}
	last := Place{}
	use := func(p Place, again bool) {
		if p.Line < 1 || p.Line > maxLine || p.Line < last.Line || p.Element < last.Element || used[p] &&
			!(again && p == last) {
			t.Fatalf("place %+v after %+v", p, last)
		}
		used[p], last = true, p
	}
	for _, row := range file.Rows {
		use(row.Place, false)
		if err := row.Recipient.Validate(); err != nil {
			t.Fatalf("%s: %v", row.Place, err)
		}
		folded := tasks.FoldAddress(row.Recipient.EmailAddress)
		if addresses[folded] || row.Recipient.EmailAddress != strings.TrimSpace(row.Recipient.EmailAddress) {
			t.Fatalf("%s: %q", row.Place, row.Recipient.EmailAddress)
		}
		addresses[folded] = true
	}
	last = Place{}
	for _, i := range file.Invalid {
		use(i.Place, true)
		if i.Reason == "" || len(i.Raw) == 0 {
			t.Fatalf("%+v", i)
		}
	}
	last = Place{}
	for _, d := range file.Duplicates {
		use(d.Place, false)
		if !used[d.First] || d.First.Line > d.Line {
			t.Fatalf("%+v", d)
		}
	}
}

// checkInvalid checks that bad rows that are written and read again are as many bad rows.
func checkInvalid(t *testing.T, file File, opts Options) {
	var out bytes.Buffer
	if err := WriteInvalid(&out, file); err != nil {
		t.Fatal(err)
	}
	if file.Columns == nil || !strings.HasPrefix(strings.ToLower(file.Columns[0]), "e") {
		return // JSON, or a name that makes the file look like something else
	}
	if rest, found := strings.CutPrefix(file.Columns[len(file.Columns)-1], columnReason); found && rest == "" {
		return // a second pair of our columns
	}
	again, err := Read(&out, opts)
	if err != nil {
		t.Fatalf("%v: %q", err, out.String())
	}
	places := map[Place]bool{}
	for _, i := range file.Invalid {
		places[i.Place] = true
	}
	placesAgain := map[Place]bool{}
	for _, i := range again.Invalid {
		placesAgain[i.Place] = true
	}
	if len(again.Rows) > 0 || len(again.Duplicates) > 0 || len(places) != len(placesAgain) {
		t.Fatalf("%d bad rows become %d, and %d good ones", len(places), len(placesAgain), len(again.Rows))
	}
}
