package peoplefile

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"example.com/usher/internal/address"
	"example.com/usher/tasks"
)

// Options of a fuzzed reading.
const (
	fuzzIgnore = 1 << iota
	fuzzSplit
	fuzzNoHeader
	fuzzOptedOut
)

func fuzzOptions(flags byte) Options {
	return Options{
		Name: "f", IgnoreColumns: flags&fuzzIgnore != 0, Split: flags&fuzzSplit != 0,
		NoHeader: flags&fuzzNoHeader != 0, IncludeOptedOut: flags&fuzzOptedOut != 0,
		Defaults: tasks.Recipient{PublicMetadata: map[string]any{"a": "b"}},
	}
}

// FuzzRead checks that every row of any text comes out valid and once, or is reported with its place and reason.
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
		"{\"users\": [{\"localId\": \"a\", \"email\": \"a@example.com\", \"disabled\": true}]}",
		"a@example.com,b\nc@example.com,d", "x\n\nemail\na <a@example.com>;b@example.com\n\nend\n",
	} {
		f.Add([]byte(seed), byte(0))
		f.Add([]byte(seed), byte(fuzzIgnore|fuzzSplit))
	}
	samples, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range samples {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if !IsWorkbook(data) {
			f.Add(data, byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, flags byte) {
		opts := fuzzOptions(flags)
		file, err := Read(bytes.NewReader(data), opts)
		if err != nil {
			checkError(t, err)
			return
		}
		checkFile(t, file, opts, len(data)+1)
		checkNobodyIsInvented(t, file, data)
		checkInvalid(t, file, opts)
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*Error](err); !ok || len(err.Error()) > 4<<10 ||
		strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Fatalf("error %q of type %T", err, err)
	}
}

// checkFile checks that rows are valid, that each place is in one list only, and that the lists are in order.
func checkFile(t *testing.T, file File, opts Options, maxLine int) {
	t.Helper()
	used, addresses := map[Place]bool{}, map[string]bool{}
	last := Place{}
	use := func(p Place, again bool) {
		if p.Line < 1 || p.Line > maxLine || p.Line < last.Line || p.Element < last.Element || used[p] &&
			!opts.Split && !(again && p == last) {
			t.Fatalf("place %+v after %+v", p, last)
		}
		used[p], last = true, p
	}
	for _, row := range file.Rows {
		use(row.Place, false)
		if err := row.Recipient().Validate(); err != nil {
			t.Fatalf("%s: %v", row.Place, err)
		}
		folded := tasks.FoldAddress(row.Recipient().EmailAddress)
		if addresses[folded] || row.Recipient().EmailAddress != address.Trim(row.Recipient().EmailAddress) {
			t.Fatalf("%s: %q", row.Place, row.Recipient().EmailAddress)
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
	last = Place{}
	for _, l := range file.LeftOut {
		use(l.Place, false)
		if l.Why == OptedOut && opts.IncludeOptedOut {
			t.Fatalf("%+v", l)
		}
	}
}

// checkNobodyIsInvented checks that each address stands in a table, but for invisible characters.
func checkNobodyIsInvented(t *testing.T, file File, data []byte) {
	t.Helper()
	if file.Understood.Form != formCSV || !utf8.Valid(data) {
		return
	}
	text := strings.Map(func(r rune) rune {
		if r == '\u200B' || r == '\uFEFF' || r == '\u00AD' {
			return -1
		}
		return r
	}, string(data))
	for _, row := range file.Rows {
		if !strings.Contains(text, strings.ReplaceAll(row.Recipient().EmailAddress, `"`, `""`)) &&
			!strings.Contains(text, row.Recipient().EmailAddress) {
			t.Fatalf("%q is invited, and stands nowhere", row.Recipient().EmailAddress)
		}
	}
}

// checkInvalid checks that bad rows that are written and read again do not pass.
func checkInvalid(t *testing.T, file File, opts Options) {
	t.Helper()
	var out bytes.Buffer
	if err := WriteInvalid(&out, file); err != nil {
		t.Fatal(err)
	}
	if file.Columns == nil {
		return
	}
	for _, i := range file.Invalid {
		if strings.Contains(i.Reason, "once it is cleaned") || strings.Contains(i.Reason, "wrong number of cells") {
			return // only in its own file is it a fault
		}
	}
	opts.NoHeader = false
	again, err := Read(&out, opts)
	if err != nil {
		return
	}
	if len(again.Rows) > 0 && len(again.Guesses) == 0 {
		t.Fatalf("%d bad rows become %d good ones: %q", len(file.Invalid), len(again.Rows), out.String())
	}
}

// FuzzObjects reads anything that begins like a list in JSON, and like JSON lines.
func FuzzObjects(f *testing.F) {
	for _, seed := range []string{
		"{\"email\": \"a@example.com\", \"public_metadata.x\": [1]},\n 7, {\"email\": null}]",
		"\"email\": \"a@example.com\", \"notify\": false}\n{\"E_mail\": \"b@example.com\", \"email\": \"\"}\n{",
		"\"users\": [{\"localId\": \"a\", \"email\": \"a@example.com\", \"disabled\": true}, {\"localId\": 1}]}",
		"\"email\": \"a@example.com\", \"email_verified\": true, \"blocked\": \"no\", \"secret\": {\"x\": {}}}\n",
	} {
		f.Add([]byte(seed), byte(0))
		f.Add([]byte(seed), byte(fuzzIgnore|fuzzSplit))
	}
	f.Fuzz(func(t *testing.T, data []byte, flags byte) {
		opts := fuzzOptions(flags)
		for _, begin := range []string{"[", "{"} {
			file, err := Read(bytes.NewReader(append([]byte(begin), data...)), opts)
			if err != nil {
				checkError(t, err)
				continue
			}
			checkFile(t, file, opts, len(data)+1)
		}
	})
}

// FuzzCorrections corrects a request as any text says: what comes out is valid, and a row that names no field changes
// nothing.
func FuzzCorrections(f *testing.F) {
	for _, seed := range []string{
		"id,failed_at,email_address,notify\n1,now,b@example.com,no\n2,now,,maybe\n,,x\n",
		"id;failed_at;public_metadata;public_metadata.a;usher_format\n1;now;\"{\"\"b\"\": 1}\";'=1;1\n",
		"[{\"id\": \"1\", \"failed_at\": \"now\", \"public_metadata\": {\"a\": [1.50]}, \"redirect_url\": null}, 7]",
		"{\"id\": \"1\", \"failed_at\": \"now\", \"expires_in_days\": 7, \"Expires in days\": 8}\n{\n",
		"id,failed_at,code,other\n1,now,x,y\n",
	} {
		f.Add([]byte(seed), byte(0))
		f.Add([]byte(seed), byte(fuzzIgnore))
	}
	f.Add(zipped(f, map[string]string{"xl/worksheets/sheet1.xml": `<worksheet><sheetData><row><c t="str"><v>id</v></c>` +
		`<c t="str"><v>failed_at</v></c><c t="str"><v>email</v></c></row><row><c><v>1</v></c><c s="1"><v>45000</v></c>` +
		`<c t="str"><v>b@example.com</v></c></row></sheetData></worksheet>`}), byte(0))
	request := tasks.Recipient{EmailAddress: "a@example.com", PublicMetadata: map[string]any{"a": "b"}, NoNotify: true}
	f.Fuzz(func(t *testing.T, data []byte, flags byte) {
		corrections, err := ReadCorrections(bytes.NewReader(data), fuzzOptions(flags), []string{"id", "failed_at"},
			[]string{"code"})
		if err != nil {
			checkError(t, err)
			return
		}
		last := Place{}
		for _, c := range corrections {
			if c.compare(last) <= 0 {
				t.Fatalf("place %+v after %+v", c.Place, last)
			}
			last = c.Place
			corrected, faults := c.Apply(request)
			switch err := corrected.Validate(); {
			case err != nil:
				t.Fatalf("%s: %v", c.Place, err)
			case len(c.Faults) > 0 && len(faults) == 0:
				t.Fatalf("%s: %v is applied", c.Place, c.Faults)
			case (len(faults) > 0 || len(c.given) == 0) && !reflect.DeepEqual(corrected, request):
				t.Fatalf("%s: %+v, though %v", c.Place, corrected, faults)
			}
			if len(faults) == 0 && (c.Keys["id"] == "" || c.Keys["failed_at"] == "") {
				t.Fatalf("%s: %v says of nobody", c.Place, c.Keys)
			}
		}
		if request.PublicMetadata["a"] != "b" || len(request.PublicMetadata) != 1 {
			t.Fatalf("the request was changed: %v", request)
		}
	})
}

// FuzzWorkbook puts any XML where the sheet of a workbook is, and the texts that its cells share.
func FuzzWorkbook(f *testing.F) {
	f.Add(`<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2" hidden="1"><c t="str">`+
		`<f>1+1</f><v>a@example.com</v></c><c s="1"><v>45000.5</v></c></row></sheetData><mergeCells><mergeCell `+
		`ref="A1:A2"/>`+
		`</mergeCells><hyperlinks><hyperlink ref="A2" id="rId1"/></hyperlinks></worksheet>`,
		`<sst><si><t>email</t></si><si><r><rPr><strike/></rPr><t>b@example.com</t></r></si></sst>`, byte(0))
	f.Add(`<worksheet><sheetData><row><c><f>B1</f></c></row></sheetData></worksheet>`, `<sst/>`, byte(0))
	f.Add(`<x:worksheet xmlns:x="y"><cols><col min="1" max="2" hidden="1"/></cols><x:sheetData><x:row><x:c `+
		`t="inlineStr">`+
		`<is><t>a@example.com</t></is></x:c></x:row></x:sheetData></x:worksheet>`, `<sst/>`, byte(fuzzNoHeader))
	f.Fuzz(func(t *testing.T, sheet, texts string, flags byte) {
		opts := fuzzOptions(flags)
		data := zipped(t, map[string]string{"xl/worksheets/sheet1.xml": sheet, "xl/sharedStrings.xml": texts})
		file, err := Read(bytes.NewReader(data), opts)
		if err != nil {
			checkError(t, err)
			return
		}
		checkFile(t, file, opts, 1<<20+1)
		checkInvalid(t, file, opts)
	})
}

// FuzzArchive reads anything that begins like an archive.
func FuzzArchive(f *testing.F) {
	f.Add(zipped(f, nil)[4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		opts := fuzzOptions(fuzzIgnore)
		file, err := Read(bytes.NewReader(append([]byte("PK\x03\x04"), data...)), opts)
		if err != nil {
			checkError(t, err)
			return
		}
		checkFile(t, file, opts, 1<<20+1)
	})
}

// zipped makes a workbook of one sheet; parts stand in place of its own.
func zipped(t testing.TB, parts map[string]string) []byte {
	t.Helper()
	const (
		relations = `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`
		kind      = `http://schemas.openxmlformats.org/officeDocument/2006/relationships/`
		main      = `http://schemas.openxmlformats.org/spreadsheetml/2006/main`
	)
	all := map[string]string{
		"[Content_Types].xml": `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>`,
		"_rels/.rels": relations + `<Relationship Id="r1" Type="` + kind +
			`officeDocument" Target="xl/workbook.xml"/></Relationships>`,
		"xl/workbook.xml": `<workbook xmlns="` + main + `" xmlns:r="` + kind[:len(kind)-1] + `"><sheets>` +
			`<sheet name="People" sheetId="1" r:id="r1"/></sheets></workbook>`,
		"xl/_rels/workbook.xml.rels": relations +
			`<Relationship Id="r1" Type="` + kind + `worksheet" Target="worksheets/sheet1.xml"/>` +
			`<Relationship Id="r2" Type="` + kind + `sharedStrings" Target="sharedStrings.xml"/>` +
			`<Relationship Id="r3" Type="` + kind + `styles" Target="styles.xml"/></Relationships>`,
		"xl/styles.xml": `<styleSheet xmlns="` + main +
			`"><numFmts count="1"><numFmt numFmtId="164" formatCode="00000"/>` +
			`</numFmts><fonts count="2"><font/><font><strike/></font></fonts><fills count="1"><fill/></fills>` +
			`<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="4">` +
			`<xf/><xf numFmtId="14" applyNumberFormat="1"/><xf numFmtId="164" applyNumberFormat="1"/>` +
			`<xf fontId="1" applyFont="1"/></cellXfs></styleSheet>`,
		"xl/sharedStrings.xml":     `<sst xmlns="` + main + `"/>`,
		"xl/worksheets/sheet1.xml": `<worksheet xmlns="` + main + `"><sheetData/></worksheet>`,
		"xl/worksheets/_rels/sheet1.xml.rels": relations +
			`<Relationship Id="rId1" Type="` + kind +
			`hyperlink" Target="mailto:b@example.com" TargetMode="External"/>` +
			`</Relationships>`,
	}
	for name, content := range parts {
		all[name] = content
	}
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(all)) { // the same archive each time
		w, err := archive.Create(name)
		if err == nil {
			_, err = io.WriteString(w, all[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// FuzzCell takes any cell apart into addresses.
func FuzzCell(f *testing.F) {
	for _, seed := range []string{
		"a@example.com ::: b@example.com", `"B, A" <a@example.com>; b@example.com|c@example.com`,
		"a@example.com <b@example.com>", "a\u00ADb@example.com", "mailto:a@example.com?cc=b@example.com", "@@;,<>\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cell string) {
		one, fault := peopleOf(cell, false)
		if fault == "" && len(one) > 1 {
			t.Fatalf("%q gives %+v", cell, one)
		}
		several, _ := peopleOf(cell, true)
		for _, p := range several {
			for part := range strings.FieldsFuncSeq(p.address, func(r rune) bool { return r > unicode.MaxASCII }) {
				if !strings.Contains(cell, part) && p.removed == "" {
					t.Fatalf("%q gives %+v", cell, p)
				}
			}
		}
	})
}
