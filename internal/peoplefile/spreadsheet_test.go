package peoplefile

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// cells are those in which apostrophes and formulas meet, and any others.
func cells() *rapid.Generator[string] {
	signs := rapid.SampledFrom([]rune("=+-@\t\r\n'\"x, "))
	return rapid.OneOf(rapid.StringOf(signs), rapid.String())
}

// TestHarmlessCellsComeBackAsTheyWere: none of them is a formula, and exactly one apostrophe is taken away.
func TestHarmlessCellsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cell := cells().Draw(t, "cell")
		safe := Harmless(cell)
		if safe != "" && strings.ContainsRune("=+-@\t\r", []rune(safe)[0]) {
			t.Errorf("%q is a formula", safe)
		}
		if back := asWritten(safe); back != cell {
			t.Errorf("%q comes back as %q", cell, back)
		}
	})
}

// TestOnlyMarkedFilesAreUndone: in any other file an apostrophe is the user's own. Bad rows stay as they were.
func TestOnlyMarkedFilesAreUndone(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"", ",usher_format", ",Usher Format"} {
		file := "email,public_metadata.note" + mark + "\n" +
			"'+ada@example.com,'=1" + strings.Repeat(",1", min(1, len(mark))) + "\n" +
			"bad,''-2" + strings.Repeat(",1", min(1, len(mark))) + "\n"
		read, err := Read(strings.NewReader(file), Options{})
		if err != nil || len(read.Rows) != 1 || len(read.Invalid) != 1 {
			t.Fatalf("%q: %+v, %v", mark, read, err)
		}
		address, note := "'+ada@example.com", "'=1"
		if mark != "" {
			address, note = "+ada@example.com", "=1"
		}
		r := read.Rows[0].Recipient()
		if r.EmailAddress != address || r.PublicMetadata["note"] != note {
			t.Errorf("%q: %+v", mark, r)
		}
		var aside bytes.Buffer
		if err := WriteInvalid(&aside, read); err != nil {
			t.Fatal(err)
		}
		corrected := strings.ReplaceAll(aside.String(), "bad,", "good@example.com,")
		rows, err := csv.NewReader(&aside).ReadAll()
		if err != nil || len(rows) != 2 || rows[1][1] != "''-2" {
			t.Errorf("%q: %q, %v", mark, rows, err)
		}
		note = "''-2"
		if mark != "" {
			note = "'-2"
		}
		again, err := Read(strings.NewReader(corrected), Options{})
		if err != nil || len(again.Rows) != 1 || again.Rows[0].Recipient().PublicMetadata["note"] != note {
			t.Errorf("%q: the bad row, corrected: %+v, %v", mark, again, err)
		}
	}
}
