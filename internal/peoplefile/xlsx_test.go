package peoplefile

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// book is a workbook that excelize writes.
func newBook(t *testing.T, fill func(b *excelize.File)) string {
	t.Helper()
	b := excelize.NewFile()
	fill(b)
	data, err := b.WriteToBuffer()
	if err != nil {
		t.Fatal(err)
	}
	return data.String()
}

func rows(t *testing.T, b *excelize.File, sheet string, rows ...[]any) {
	t.Helper()
	for i, row := range rows {
		must(t, b.SetSheetRow(sheet, fmt.Sprintf("A%d", i+1), &row))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// LibreOffice 7.4 and openpyxl 3.0 wrote these, with links, dates, leading zeros, hidden, filtered and struck-through
// rows, formulas, two or three sheets and 1,000 rows that have nothing but a format.
func TestWorkbooksOfOtherPrograms(t *testing.T) {
	t.Parallel()
	libre, err := ReadFile("testdata/libreoffice.xlsx", Options{})
	must(t, err)
	want(t, describe(libre),
		`line 2: {"email_address":"ada@example.com","public_metadata":{"number":"00042","since":"2026-03-01"},`+
			`"no_notify":true}`,
		`line 6: {"email_address":"bob@example.com"}`,
		`out line 3: is hidden`, `out line 4: is hidden`, `out line 5: is struck through`)
	if libre.Understood.Sheet != "People" {
		t.Errorf("%+v", libre.Understood)
	}
	python, err := ReadFile("testdata/openpyxl.xlsx", Options{})
	must(t, err)
	want(t, describe(python),
		`line 2: {"email_address":"ada@example.com","public_metadata":{"number":"00042","since":"2026-03-01"},`+
			`"ignore_existing":true}`,
		`line 5: {"email_address":"bob@example.com"}`,
		`bad line 6: email_address: is one address, and the link behind it leads to another`,
		`bad line 7: email_address: is merged over the lines 7 to 8, and only the first of them has the value`,
		`bad line 9: email_address: has a link to several addresses behind a text that is none`,
		`bad line 10: email_address: is one address, and the link behind it leads to another`,
		`bad line 11: email_address: has a formula without a stored value: open the file in a spreadsheet and `+
			`save it`,
		`out line 3: is hidden`, `out line 4: is struck through`,
		`guess 5: the address is taken from the link behind a text that is none []`)
	split, err := ReadFile("testdata/openpyxl.xlsx", Options{Split: true})
	must(t, err)
	if len(split.Rows) != 2 {
		t.Errorf("several addresses of a link are split: %s", describe(split))
	}
	old, err := ReadFile("testdata/libreoffice.xlsx", Options{Sheet: "Old"}) // named, so that it is certain
	must(t, err)
	want(t, describe(old), `line 2: {"email_address":"stranger@example.com"}`)
}

func TestSheetsThatMayBeMeant(t *testing.T) {
	t.Parallel()
	two := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"Email"}, []any{"ada@example.com"})
		_, err := b.NewSheet("Second's")
		must(t, err)
		rows(t, b, "Second's", []any{"Email"}, []any{"bob@example.com"})
	})
	_, err := Read(strings.NewReader(two), Options{Name: "f"})
	want(t, fmt.Sprint(err), `f: has addresses in several sheets: "Sheet1", "Second's": say which one is meant, `+
		`such as `+
		`--sheet Sheet1`)
	want(t, describe(read(t, two, Options{Sheet: "Second's"})), `line 2: {"email_address":"bob@example.com"}`)
	_, err = Read(strings.NewReader(two), Options{Name: "f", Sheet: "Third"})
	want(t, fmt.Sprint(err), `f: has no sheet "Third"; it has "Sheet1", "Second's"`)
	_, err = Read(strings.NewReader("email\n"), Options{Name: "f", Sheet: "Third"})
	want(t, fmt.Sprint(err), `f: is no workbook, so it has no sheet "Third"`)
}

func TestWhatIsHiddenIsNotInvited(t *testing.T) {
	t.Parallel()
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"Name", "Email"}, []any{"Ada", "ada@example.com"}, []any{"Bob", "bob@example.com"},
			[]any{"Ada", "ADA@example.com"}, []any{"Cy", "cy@example.com"})
		must(t, b.SetRowVisible("Sheet1", 3, false))
		must(t, b.SetRowVisible("Sheet1", 4, false))
		must(t, b.SetColVisible("Sheet1", "B", false))
		must(t, b.SetCellRichText("Sheet1", "B5", []excelize.RichTextRun{
			{Text: "cy@", Font: &excelize.Font{Strike: true}}, {Text: "example.com",
				Font: &excelize.Font{Strike: true}},
		}))
	})
	want(t, describe(read(t, text, Options{IgnoreColumns: true})),
		`line 2: {"email_address":"ada@example.com"}`,
		`out line 3: is hidden`, `out line 4: is hidden`, `out line 5: is struck through`,
		`note line 2: stands also in line 4, which is left out`,
		`guess 0: the column "Email" is hidden, and taken for the addresses all the same [--email-column Email]`)
	want(t, describe(read(t, text, Options{IgnoreColumns: true, EmailColumn: "Email"})),
		`line 2: {"email_address":"ada@example.com"}`,
		`out line 3: is hidden`, `out line 4: is hidden`, `out line 5: is struck through`,
		`note line 2: stands also in line 4, which is left out`)
}

func TestLinksToSeveralAddressesAreFaults(t *testing.T) {
	t.Parallel()
	const (
		behind  = "email_address: has a link to several addresses behind a text that is none"
		another = "email_address: is one address, and the link behind it leads to another"
	)
	for _, link := range []string{
		"mailto:ada@example.com,bob@example.com", "mailto:ada@example.com;bob@example.com",
		"mailto:ada@example.com%2Cbob@example.com", "mailto:ada@example.com?cc=bob@example.com",
		"MAILTO:ada@example.com?subject=x&BCC=bob%40example.com", "mailto:?to=ada@example.com&to=bob@example.com",
	} {
		text := newBook(t, func(b *excelize.File) {
			rows(t, b, "Sheet1", []any{"email"}, []any{"Ada"}, []any{"ada@example.com"})
			must(t, b.SetCellHyperLink("Sheet1", "A2", link, "External"))
			must(t, b.SetCellHyperLink("Sheet1", "A3", link, "External"))
		})
		for _, split := range []bool{false, true} {
			want(t, describe(read(t, text, Options{Split: split})), "bad line 2: "+behind, "bad line 3: "+another)
		}
	}
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"email"}, []any{"ada@example.com; bob@example.com"})
		must(t, b.SetCellHyperLink("Sheet1", "A2", "mailto:ada@example.com", "External"))
	})
	want(t, describe(read(t, text, Options{Split: true})), "bad line 2: "+another)
}

func TestCellsAreReadAsTheyShow(t *testing.T) {
	t.Parallel()
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"email", "public_metadata.a", "public_metadata.b", "public_metadata.c", "notify",
			"expires_in_days", "public_metadata.d"},
			[]any{"ada@example.com", time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), 7, 0.5, false, 30, 123456789012},
			[]any{"mailto:bob@example.com", nil, "x_x000D_y", math.Pi, true, nil, "<&>"})
		style := func(code string) int {
			id, err := b.NewStyle(&excelize.Style{CustomNumFmt: &code})
			must(t, err)
			return id
		}
		must(t, b.SetCellStyle("Sheet1", "B2", "B2", style("yyyy-mm-dd")))
		must(t, b.SetCellStyle("Sheet1", "C2", "C2", style("000")))
		must(t, b.SetCellStyle("Sheet1", "D2", "D2", style("0%")))
		must(t, b.SetCellHyperLink("Sheet1", "A3", "mailto:Bob@example.com?subject=Hello", "External"))
	})
	want(t, describe(read(t, text, Options{})),
		`line 2: {"email_address":"ada@example.com","public_metadata":{"a":"2026-03-01","b":"007","c":"50%",`+
			`"d":"123456789012"},"no_notify":true,"expires_in_days":30}`,
		`line 3: {"email_address":"bob@example.com","public_metadata":{"b":"x\ry","c":"3.14159265358979",`+
			`"d":"\u003c\u0026\u003e"}}`)
}

// Japanese workbooks keep how a text is read beside it, and SheetJS writes dates as text.
func TestWhatFewProgramsWriteIsReadAsItShows(t *testing.T) {
	t.Parallel()
	const (
		tanaka = `<t>田中</t><rPh sb="0" eb="2"><t>タナカ</t></rPh>`
		sheet  = `<worksheet><sheetData>` +
			`<row r="1"><c r="A1" t="inlineStr"><is><t>email</t></is></c>` +
			`<c r="B1" t="inlineStr"><is><t>public_metadata.a</t></is></c>` +
			`<c r="C1" t="inlineStr"><is><t>public_metadata.b</t></is></c></row>` +
			`<row r="2"><c r="A2" t="inlineStr"><is><r><t>ada@</t></r><r><t>example.com</t></r></is></c>` +
			`<c r="B2" t="inlineStr"><is>` + tanaka + `</is></c><c r="C2" t="d" s="1"><v>2026-03-04T00:00:00Z</v></c></row>` +
			`<row r="3"><c r="A3" t="str"><v>bob@example.com</v></c>` +
			`<c r="B3" t="s"><v>0</v></c><c r="C3" t="d"><v>2026-03-04</v></c></row></sheetData></worksheet>`
		texts = `<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si>` + tanaka + `</si></sst>`
	)
	parts := map[string]string{"xl/worksheets/sheet1.xml": sheet, "xl/sharedStrings.xml": texts}
	people := []string{
		`line 2: {"email_address":"ada@example.com","public_metadata":{"a":"田中","b":"03-04-26"}}`,
		`line 3: {"email_address":"bob@example.com","public_metadata":{"a":"田中","b":"2026-03-04"}}`,
	}
	want(t, describe(read(t, string(zipped(t, parts)), Options{})), people...)
	parts["xl/workbook.xml"] = `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" ` +
		`xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><workbookPr date1904="1"/>` +
		`<sheets><sheet name="People" sheetId="1" r:id="r1"/></sheets></workbook>`
	want(t, describe(read(t, string(zipped(t, parts)), Options{})), people...)
}

// A spreadsheet that took UTF-8 for another encoding has changed other characters, too.
func TestWhatASpreadsheetMisreadIsRefused(t *testing.T) {
	t.Parallel()
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"ï»¿email", "id"}, []any{"jos\u00C3\u00A9@example.com", "1"})
	})
	const fault = `f, line 1: begins with "ï»¿": a spreadsheet took UTF-8 for another encoding`
	_, err := Read(strings.NewReader(text), Options{Name: "f", IgnoreColumns: true})
	_, corrections := ReadCorrections(strings.NewReader(text), Options{Name: "f"}, []string{"id"}, nil)
	for _, err := range []error{err, corrections} {
		if !strings.HasPrefix(fmt.Sprint(err), fault) {
			t.Error(err)
		}
	}
}

// What is said of a broken workbook is text, whatever the workbook holds.
func TestFaultsOfAWorkbookAreText(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sy\x8bs", "s\u202ey;", strings.Repeat("z", 9_000) + "\x8b"} {
		text := zipped(t, map[string]string{"xl/sharedStrings.xml": "<" + name + "*"})
		_, err := Read(bytes.NewReader(text), Options{Name: "f"})
		if said := fmt.Sprint(err); !utf8.ValidString(said) || strings.Contains(said, "\u202e") || len(said) > 1_200 ||
			!strings.HasPrefix(said, "f: is a broken .xlsx") {
			t.Errorf("%q", said)
		}
	}
}

// The first row may hold nothing but a formula without a value.
func TestAWorkbookMayBeginWithAFormulaThatHasNoValue(t *testing.T) {
	t.Parallel()
	text := sheetOf(t, `<worksheet><sheetData><row r="1"><c r="A1"><f>B1</f></c></row><row r="2"><c t="str"><v>email</v></c>`+
		`</row><row r="3"><c t="str"><v>ada@example.com</v></c></row></sheetData></worksheet>`)
	_, err := Read(strings.NewReader(text), Options{Name: "f"})
	if !strings.HasPrefix(fmt.Sprint(err), "f, line 1: has no column email_address") {
		t.Error(err)
	}
}

// Archives that are not what they seem: refused quickly, in little memory.
func TestHostileArchivesAreRefused(t *testing.T) {
	t.Parallel()
	const sheet = "xl/worksheets/sheet1.xml"
	good := string(zipped(t, nil))
	bomb := deflated(t, 64<<20)
	cell := `<worksheet><sheetData><row r="1"><c t="inlineStr"><is><t>email</t></is></c></row><row r="2">` +
		`<c t="inlineStr"><is><t>a@example.com</t></is></c></row>`
	const end = "</sheetData></worksheet>"
	whole := sheetOf(t, bomUTF8+`<?xml version="1.0" encoding="UTF-8"?>`+cell+end+"\n<!-- x -->\n")
	want(t, describe(read(t, whole, Options{})), `line 2: {"email_address":"a@example.com"}`)
	for name, c := range map[string]struct{ content, want string }{
		"gigabytes":            {packed(t, sheet, bomb, 5<<30), "unpacks to more than is taken"},
		"a large sheet":        {packed(t, sheet, bomb, 200<<20), "is a broken .xlsx"},
		"one that hides it":    {packed(t, sheet, bomb, 1000), "is a broken .xlsx"},
		"one of its size":      {packed(t, sheet, bomb, 64<<20), "is a broken .xlsx"},
		"a part nobody reads":  {packed(t, "a.png", bomb[:len(bomb)/2], 64<<20), "is a broken .xlsx"},
		"a styles part":        {packed(t, "xl/styles.xml", bomb, 64<<20), "unpacks to more than is taken"},
		"shared texts":         {packed(t, "xl/sharedStrings.xml", bomb, 200<<20), "is a broken .xlsx"},
		"cut off":              {good[:len(good)/2], "is a broken .xlsx"},
		"a changed byte":       {changed(t, cell+end), "is a broken .xlsx"},
		"XML that breaks off":  {sheetOf(t, cell), "is a broken .xlsx"},
		"XML with a wrong end": {sheetOf(t, cell+"</sheetData></x>"), "is a broken .xlsx"},
		"a document type":      {sheetOf(t, `<!DOCTYPE x>`+cell+end), "is a broken .xlsx"},
		"an unknown entity":    {sheetOf(t, cell+"&nbsp;"+end), "is a broken .xlsx"},
		"another encoding":     {sheetOf(t, `<?xml version="1.0" encoding="x"?>`+cell+end), "is a broken .xlsx"},
		"a wrong character":    {sheetOf(t, cell+"\uFFFE"+end), "is a broken .xlsx"},
		"no XML":               {sheetOf(t, "<!-- -->\n"), "is a broken .xlsx"},
		"two documents":        {sheetOf(t, cell+end+"<x/>"), "is a broken .xlsx"},
		"text after the end":   {sheetOf(t, cell+end+"x"), "is a broken .xlsx"},
		"a long text":          {sheetOf(t, cell+strings.Repeat("x", 2<<20)+end), "a text that is too long"},
		"tags in tags":         {sheetOf(t, strings.Repeat("<x>", 200)+strings.Repeat("</x>", 200)), "not well formed"},
		"rows out of order":    {sheetOf(t, cell+`<row r="1"/></sheetData></worksheet>`), "is a broken .xlsx"},
		"cells out of order": {sheetOf(t,
			`<worksheet><sheetData><row><c r="B1"/><c r="A1"/></row></sheetData></worksheet>`),
			"is a broken .xlsx"},
		"a text that is not there": {sheetOf(t, `<worksheet><sheetData><row><c t="s"><v>7</v></c></row></sheetData>`+
			`</worksheet>`), "is a broken .xlsx"},
		"a far cell in many rows": {sheetOf(t,
			"<worksheet><sheetData>"+strings.Repeat(`<row><c/><c t="str"><v>x</v></c>`+
				`<c t="str"><v>y</v></c></row>`, 3)+
				`<row r="1048577"/></sheetData></worksheet>`), "is a broken .xlsx"},
		"more cells than a row has": {sheetOf(t, `<worksheet><sheetData><row>`+strings.Repeat("<c/>", excelize.MaxColumns)+
			`<c t="str"><v>x</v></c></row></sheetData></worksheet>`), "row 1 has more than 16384 cells"},
		"parts that are large together": {declared(t, 200<<20, 200<<20), "unpacks to more than is taken"},

		"no workbook":  {zipOf(t, map[string]string{"a.txt": "email\n"}), "is a zip archive and no .xlsx"},
		"an empty one": {"PK\x05\x06" + strings.Repeat("\x00", 18), "is a zip archive and no .xlsx"},
		"ods": {zipOf(t, map[string]string{"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}),
			"is an .ods spreadsheet: save it as .xlsx"},
		"xlsb": {zipOf(t, map[string]string{"xl/workbook.bin": ""}), "is an .xlsb spreadsheet: save it as .xlsx"},
		"Numbers": {zipOf(t, map[string]string{"Index/Document.iwa": ""}), "is a document of Numbers, Pages or Keynote: " +
			"save it as .xlsx"},
		"Word": {zipOf(t, map[string]string{"word/document.xml": ""}), "is a text document: save it as .xlsx"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Read(strings.NewReader(c.content), Options{Name: "f"})
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if made := (after.TotalAlloc - before.TotalAlloc) >> 20; made > 60 {
				t.Errorf("%d MiB were allocated", made)
			}
		})
	}
}

func sheetOf(t *testing.T, sheet string) string {
	t.Helper()
	return string(zipped(t, map[string]string{"xl/worksheets/sheet1.xml": sheet}))
}

func zipOf(t *testing.T, parts map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for name, content := range parts {
		w, err := archive.Create(name)
		must(t, err)
		_, err = io.WriteString(w, content)
		must(t, err)
	}
	must(t, archive.Close())
	return out.String()
}

// deflated is a stream of so many zeros.
func deflated(t *testing.T, size int64) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	must(t, err)
	_, err = io.CopyN(w, zeros{}, size)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// packed is a workbook of which one part is a deflated stream, said to have a size.
func packed(t *testing.T, part string, stream []byte, size uint64) string {
	t.Helper()
	old, err := reopened(t)
	must(t, err)
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, file := range old.File {
		if file.Name != part {
			must(t, archive.Copy(file))
		}
	}
	w, err := archive.CreateRaw(&zip.FileHeader{
		Name: part, Method: zip.Deflate, CompressedSize64: uint64(len(stream)), UncompressedSize64: size,
	})
	must(t, err)
	_, err = w.Write(stream)
	must(t, err)
	must(t, archive.Close())
	return out.String()
}

// changed is a workbook whose sheet was written without compression, and changed afterwards.
func changed(t *testing.T, sheet string) string {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	old, err := reopened(t)
	must(t, err)
	for _, file := range old.File {
		if file.Name != "xl/worksheets/sheet1.xml" {
			must(t, archive.Copy(file))
		}
	}
	w, err := archive.CreateHeader(&zip.FileHeader{Name: "xl/worksheets/sheet1.xml", Method: zip.Store})
	must(t, err)
	_, err = io.WriteString(w, sheet)
	must(t, err)
	must(t, archive.Close())
	return strings.Replace(out.String(), "a@example.com", "b@example.com", 1)
}

func reopened(t *testing.T) (*zip.Reader, error) {
	t.Helper()
	data := zipped(t, nil)
	return zip.NewReader(bytes.NewReader(data), int64(len(data)))
}

// 20,000 rows of a workbook take no temporary files, and all that is allocated for them, most of it only for a moment,
// has a bound: 90 MiB, and up to 98 with the race detector, under which pools lose what they hold.
func TestWorkbooksStayInMemory(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	text := newBook(t, func(b *excelize.File) {
		w, err := b.NewStreamWriter("Sheet1")
		must(t, err)
		must(t, w.SetRow("A1", []any{"email", "public_metadata.plan"}))
		for i := range 20_000 {
			must(t, w.SetRow(fmt.Sprintf("A%d", i+2), []any{fmt.Sprintf("person%d@example.com", i), "pro"}))
		}
		must(t, w.Flush())
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	file := read(t, text, Options{})
	runtime.ReadMemStats(&after)
	if made := (after.TotalAlloc - before.TotalAlloc) >> 20; len(file.Rows) != 20_000 || made > 120 {
		t.Errorf("%d rows, %d MiB allocated", len(file.Rows), made)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// A formula may lead anywhere: the first address in it counts.
func TestFormulasThatLeadElsewhereAreFaults(t *testing.T) {
	t.Parallel()
	for _, formula := range []string{
		`HYPERLINK("mailto:eve@example.com","ada@example.com")`,
		`HYPERLINK("mailto:"&"eve@example.com","ada@example.com")`,
		`IF(TRUE,HYPERLINK("MAILTO:eve@example.com?subject=a/b","ada@example.com"),"")`,
	} {
		want(t, describe(withFormula(t, formula)),
			"bad line 2: email_address: is one address, and the link behind it leads to another")
	}
	for _, formula := range []string{
		`HYPERLINK("mailto:"&B2,"ada@example.com")`, `HYPERLINK("https://example.com/@eve","ada@example.com")`,
		`HYPERLINK("mailto:ada@example.com")`,
	} {
		want(t, describe(withFormula(t, formula)), `line 2: {"email_address":"ada@example.com"}`)
	}
}

func withFormula(t *testing.T, formula string) File {
	t.Helper()
	var escaped strings.Builder
	must(t, xml.EscapeText(&escaped, []byte(formula)))
	return read(t, sheetOf(t, `<worksheet><sheetData><row><c t="inlineStr"><is><t>email</t></is></c></row><row>`+
		`<c t="str"><f>`+escaped.String()+`</f><v>ada@example.com</v></c></row></sheetData></worksheet>`), Options{})
}

// A program writes mail links as places in the workbook.
func TestMailLinksAreReadWhereverTheyStand(t *testing.T) {
	t.Parallel()
	text := sheetOf(t, `<worksheet><sheetData><row><c t="str"><v>email</v></c></row><row><c t="str"><v>Ada</v></c></row>`+
		`<row><c t="str"><v>bob@example.com</v></c></row></sheetData><hyperlinks>`+
		`<hyperlink ref="A2" location="mailto:ada@example.com"/>`+
		`<hyperlink ref="A3" location="mailto:eve@example.com"/></hyperlinks></worksheet>`)
	want(t, describe(read(t, text, Options{})), `line 2: {"email_address":"ada@example.com"}`,
		`bad line 3: email_address: is one address, and the link behind it leads to another`,
		`guess 2: the address is taken from the link behind a text that is none []`)
}

// A link to a web page makes no list of a sheet.
func TestOnlyMailLinksAreAddresses(t *testing.T) {
	t.Parallel()
	for link, fault := range map[string]string{
		"https://example.com":    "",
		"mailto:eve@example.com": "several sheets",
	} {
		_, err := Read(strings.NewReader(newBook(t, func(b *excelize.File) {
			rows(t, b, "Sheet1", []any{"email"}, []any{"ada@example.com"})
			_, err := b.NewSheet("Notes")
			must(t, err)
			rows(t, b, "Notes", []any{"see there"})
			must(t, b.SetCellHyperLink("Notes", "A1", link, "External"))
		})), Options{})
		if got := fmt.Sprint(err); (err != nil) != (fault != "") || !strings.Contains(got, fault) && fault != "" {
			t.Errorf("%s: %v", link, err)
		}
	}
}

// What is struck through in part is no longer what was written.
func TestWhatIsStruckInPartIsLeftOut(t *testing.T) {
	t.Parallel()
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"email"}, []any{"ada@example.com"}, []any{""})
		must(t, b.SetCellRichText("Sheet1", "A3", []excelize.RichTextRun{
			{Text: "old", Font: &excelize.Font{Strike: true}}, {Text: "bob@example.com"},
		}))
	})
	want(t, describe(read(t, text, Options{})), `line 2: {"email_address":"ada@example.com"}`,
		`out line 3: is struck through`)
}

// A number that its format hides is still there.
func TestAFormatHidesNoOptOut(t *testing.T) {
	t.Parallel()
	text := newBook(t, func(b *excelize.File) {
		rows(t, b, "Sheet1", []any{"email", "unsubscribed"}, []any{"ada@example.com", 0}, []any{"bob@example.com", 1})
		code := ";;;"
		hiding, err := b.NewStyle(&excelize.Style{CustomNumFmt: &code})
		must(t, err)
		must(t, b.SetCellStyle("Sheet1", "B2", "B3", hiding))
	})
	want(t, describe(read(t, text, Options{})), `line 2: {"email_address":"ada@example.com"}`,
		`out line 3: must not be written to, as the column "unsubscribed" says`)
}

// declared is an archive of parts that are said to have a size.
func declared(t *testing.T, sizes ...uint64) string {
	t.Helper()
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for i, size := range sizes {
		header := &zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Deflate, UncompressedSize64: size}
		_, err := archive.CreateRaw(header)
		must(t, err)
	}
	must(t, archive.Close())
	return out.String()
}

// inSheet is a workbook of one sheet: an address in each row, with attributes of the row and what else is in the sheet.
func inSheet(t *testing.T, before, after string, rows ...string) string {
	t.Helper()
	cells := `<row><c t="str"><v>email</v></c><c t="str"><v>note</v></c></row>`
	for i, row := range rows {
		if row == "" || row[0] != '<' {
			row = fmt.Sprintf(`<row %s><c t="str"><v>p%d@example.com</v></c><c t="str"><v>x</v></c></row>`, row, i)
		}
		cells += row
	}
	return sheetOf(t, "<worksheet>"+before+"<sheetData>"+cells+"</sheetData>"+after+"</worksheet>")
}

// TestWhatASheetHides in other ways than spreadsheets usually do.
func TestWhatASheetHides(t *testing.T) {
	t.Parallel()
	struck := `<row><c t="inlineStr"><is><r><rPr><strike/></rPr><t>s@example.com</t></r></is></c></row>`
	want(t, describe(read(t, inSheet(t, "", "", "", `ht="0"`, struck, `hidden="true"`), Options{IgnoreColumns: true})),
		`line 2: {"email_address":"p0@example.com"}`, `out line 3: is hidden`, `out line 4: is struck through`,
		`out line 5: is hidden`)
	const narrow = `<cols><col min="1" max="1" width="0"/></cols>`
	want(t, describe(read(t, inSheet(t, narrow, "", ""), Options{IgnoreColumns: true})),
		`line 2: {"email_address":"p0@example.com"}`,
		`guess 0: the column "email" is hidden, and taken for the addresses all the same [--email-column email]`)
	for _, state := range []string{"hidden", "veryHidden"} {
		text := string(zipped(t, map[string]string{
			"xl/workbook.xml": `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="r">` +
				`<sheets><sheet name="Old" sheetId="1" state="` + state + `" r:id="r1"/></sheets></workbook>`,
			"xl/worksheets/sheet1.xml": `<worksheet><sheetData><row><c t="str"><v>email</v></c></row><row><c t="str">` +
				`<v>stranger@example.com</v></c></row></sheetData></worksheet>`,
		}))
		_, err := Read(strings.NewReader(text), Options{Name: "f"})
		want(t, fmt.Sprint(err), "f: has no sheet that is seen and holds anything")
	}
}

// TestMergedCellsAreFaultsOverRowsOfWhatIsUsed, and nowhere else.
func TestMergedCellsAreFaultsOverRowsOfWhatIsUsed(t *testing.T) {
	t.Parallel()
	merged := func(area string) string { return `<mergeCells><mergeCell ref="` + area + `"/></mergeCells>` }
	for area, bad := range map[string]int{"A2:B2": 0, "B2:B3": 0, "A2:A3": 2, "A3:B4": 1} {
		file := read(t, inSheet(t, "", merged(area), "", ""), Options{IgnoreColumns: true})
		if file.BadRows() != bad || len(file.Rows) != 2-bad {
			t.Errorf("%s: %s", area, describe(file))
		}
	}
}

// TestTheTimeForAWorkbookIsBounded.
func TestTheTimeForAWorkbookIsBounded(t *testing.T) {
	t.Parallel()
	data := zipped(t, nil)
	b, err := openBook(data)
	must(t, err)
	defer b.close()
	b.begun = time.Now().Add(-maxReading)
	if _, err := b.read(newReader(Options{}), b.sheets[0]); !errors.Is(err, errSlow) {
		t.Errorf("%v", err)
	}
}

// TestATableIsBounded in cells and in text, whatever it is read from.
func TestATableIsBounded(t *testing.T) {
	t.Parallel()
	full := &table{ends: make([]uint32, maxCells-1, maxCells)}
	if !full.add(tableRow{}, []string{"a"}) || full.add(tableRow{}, []string{"b"}) {
		t.Errorf("%d cells", len(full.ends))
	}
	long := strings.Repeat("x", maxTextBytes/8)
	if (&table{}).add(tableRow{}, append(slices.Repeat([]string{long}, 8), "x")) {
		t.Error("more text is taken than has a bound")
	}
}
