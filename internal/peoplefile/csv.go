package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/usher/tasks"
)

// The columns that WriteInvalid adds at the end. Read ignores them there, so a corrected file can be given again.
const (
	columnLine   = "line"
	columnReason = "reason"
)

var sepPattern = regexp.MustCompile(`(?i)^"?sep=(.)"?\r?\n`)

func (rd *reader) csv(text []byte) error {
	rd.file.Understood.Form = formCSV
	if !bytes.Contains(text, []byte("\n")) {
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n")) // as spreadsheets on old Macs ended lines
	}
	if err := rd.checkLines(text); err != nil {
		return err
	}
	comma, text, err := rd.separator(text)
	if err != nil {
		return err
	}
	rd.file.comma = comma
	t := &table{cut: !bytes.HasSuffix(text, []byte("\n"))}
	t.text.Grow(len(text)) // what grows is there twice for a moment
	t.rows = make([]tableRow, 0, bytes.Count(text, []byte("\n"))+1)
	rows, line, end := newRows(text, comma), 1, 0
	for {
		cells, err := rows.Read()
		if err == io.EOF {
			return rd.table(t)
		}
		if err != nil {
			return rd.quoteFault(err)
		}
		begins, _ := rows.FieldPos(0)
		apart := begins > line // blank lines are skipped by the reader
		line += bytes.Count(text[end:rows.InputOffset()], []byte("\n"))
		end = int(rows.InputOffset())
		if blank(cells) {
			t.blank = true
			continue
		}
		if err := rd.tableRow(t, tableRow{line: begins, afterBlank: apart}, cells); err != nil {
			return err
		}
	}
}

// tableRow takes a row that is not blank.
func (rd *reader) tableRow(t *table, row tableRow, cells []string) error {
	row.afterBlank, t.blank = row.afterBlank || t.blank, false
	if len(t.rows) > rd.opts.MaxRows+2*maxLeading {
		return rd.fault(row.line, "is beyond %d rows: split the file", rd.opts.MaxRows)
	}
	if !t.add(row, cells) {
		return rd.fault(row.line, "is beyond %d cells or %d bytes of text: split the file", maxCells, maxTextBytes)
	}
	return nil
}

// table takes the people of a table.
func (rd *reader) table(t *table) error {
	t.undo = t.marked()
	if rd.corrects != nil {
		return rd.correctTable(t)
	}
	l, err := rd.layout(t)
	if err != nil {
		return err
	}
	rd.export = l.export
	rd.understood(l)
	if l.header >= 0 {
		rd.file.Understood.Header = t.rows[l.header].line
	}
	var cells []string
	for i := l.from; i < l.to; i++ {
		cells = t.cells(i, cells)
		if err := rd.person(t, l, i, cells); err != nil {
			return err
		}
	}
	return nil
}

// person takes one row of a table.
func (rd *reader) person(t *table, l *layout, number int, cells []string) error {
	row, raw := t.rows[number], t.raw(number, nil)
	at := Place{Line: row.line}
	if t.cut && number == len(t.rows)-1 && len(cells) < l.width {
		const format = "has %d cells, where the header has %d, and no line end: the file may have been cut off here"
		return rd.misfit(at, l, raw, fmt.Sprintf(format, len(cells), l.width))
	}
	if len(cells) > l.width && (l.header >= 0 || !blank(cells[l.width:])) || len(cells) < l.width && l.exact {
		reason := fmt.Sprintf("has a wrong number of cells: %d, where the header has %d", len(cells), l.width)
		return rd.misfit(at, l, raw, reason)
	}
	cells = l.fit(cells)
	d := rd.draft()
	switch {
	case row.hidden:
		d.leaveOut(Hidden, "is hidden")
	case row.struck:
		d.leaveOut(Struck, "is struck through")
	}
	further := false
	for i, cell := range cells {
		h := l.columns[i]
		d.setCell(rd, h, cell)
		nameless := l.header >= 0 && strings.TrimSpace(h.name) == ""
		if nameless && l.export == nil && strings.TrimSpace(cell) != "" && !rd.opts.IgnoreColumns {
			d.bad("", "has something in column %d, which has no name", i+1)
		}
		if h.bars(cell) && !rd.opts.IncludeOptedOut {
			d.forbidden(h)
		}
		if h.used() || h.forbids != never {
			t.sheet.judge(d, h, row.line, i+1)
		}
		if h.further {
			d.others += " " + cell
			further = further || another(cell, cells[l.address])
		}
	}
	if further && d.aside == "" {
		rd.file.Understood.Further++
	}
	d.link = t.sheet.mailLink(row.line, l.address+1)
	return rd.add(at, d, func() []string {
		raw = l.fit(raw)
		if d.unsound && l.address >= 0 {
			raw[l.address] = "" // so that the row does not pass when it is given again as CSV
		}
		return l.raw(raw)
	})
}

// misfit refuses a row whose cells are not under the headings that they belong to. If a column tells who must not be
// written to, nobody knows whether the row says so.
func (rd *reader) misfit(at Place, l *layout, raw []string, reason string) error {
	forbids := func(h heading) bool { return h.forbids != never }
	if slices.ContainsFunc(l.columns, forbids) && !rd.opts.IncludeOptedOut {
		for _, found := range mentioned(strings.Join(raw, " ")) {
			rd.doubtful[tasks.FoldAddress(found)] = at
		}
	}
	return rd.reject(at, l.raw(raw), reason)
}

// fit gives a row as many cells as there are columns.
func (l *layout) fit(cells []string) []string {
	for len(cells) < len(l.columns) {
		cells = append(cells, "")
	}
	return cells[:len(l.columns)]
}

// another tells whether a cell holds an address besides the one that counts.
func another(cell, primary string) bool {
	for _, found := range addressPattern.FindAllString(cell, -1) {
		if !strings.EqualFold(found, strings.TrimSpace(primary)) {
			return true
		}
	}
	return false
}

// raw are the cells of a bad row. Of a known export those that were passed over stay out.
func (l *layout) raw(cells []string) []string {
	cells = slices.Clone(cells)
	for i, cell := range cells {
		cells[i] = strings.Clone(cell)
		if l.export != nil && (i >= len(l.columns) || !l.columns[i].used() && l.columns[i].forbids == never) {
			cells[i] = ""
		}
	}
	return cells
}

// newRows reads rows of any number of cells.
func newRows(text []byte, comma rune) *csv.Reader {
	rows := csv.NewReader(bytes.NewReader(text))
	rows.Comma, rows.FieldsPerRecord, rows.ReuseRecord = comma, -1, true
	return rows
}

// leadingRows are the first rows that are not blank, for a separator. It gives none if the text cannot be read so.
func leadingRows(text []byte, comma rune) (leading [][]string, err error) {
	rows := newRows(text, comma)
	for len(leading) < maxLeading {
		cells, err := rows.Read()
		if err == io.EOF {
			return leading, nil
		}
		if err != nil && len(leading) == 0 {
			return nil, err
		}
		if err != nil {
			return leading, nil
		}
		if !blank(cells) {
			leading = append(leading, slices.Clone(cells))
		}
	}
	return leading, nil
}

// separator finds what stands between cells. A first line with sep= says it. Otherwise it is the one that makes most
// cells of the header. rest is the text in which that first line is blank.
func (rd *reader) separator(text []byte) (comma rune, rest []byte, err error) {
	const separators = ",;\t" // if two make as many, the first
	if match := sepPattern.FindSubmatch(text); match != nil {
		comma, _ := utf8.DecodeRune(match[1])
		if !strings.ContainsRune(separators, comma) {
			return 0, nil, rd.fault(1, "%s is not a separator that is known: use a comma, a semicolon or a tab",
				show(string(match[1])))
		}
		return comma, text[len(match[0])-len("\n"):], nil
	}
	most := -1
	for _, candidate := range separators {
		leading, err := leadingRows(text, candidate)
		if err != nil {
			continue
		}
		if len(leading) == 0 { // there is nothing but this separator
			return candidate, text, nil
		}
		if n := headerCells(leading); n > most {
			comma, most = candidate, n
		}
	}
	return cmp.Or(comma, ','), text, nil
}

// headerCells counts the cells of the header: the first row, or the one of a known export further down.
func headerCells(leading [][]string) int {
	for _, cells := range leading {
		if e := exportOf(cells, false, signs{}); e != nil {
			return len(cells)
		}
	}
	return len(leading[0])
}

// quoteFault is about the whole file. Where a quote is wrong, nobody can tell where rows begin and end, and text
// inside a cell must not be taken for people to invite.
func (rd *reader) quoteFault(err error) error {
	parse, _ := errors.AsType[*csv.ParseError](err)
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		return rd.fault(parse.Line, "has a quote inside a cell that does not begin with one "+
			"(nor may a space stand before it): put the whole cell in quotes and double those inside, "+
			`as in "{""plan"": ""pro""}"`)
	case errors.Is(err, csv.ErrQuote):
		return rd.fault(parse.StartLine, "has a cell in quotes that is never closed or goes on after its "+
			`closing quote: double the quotes inside it, as in "{""plan"": ""pro""}"`)
	}
	return rd.fault(0, "cannot be read as CSV: %v", err)
}

// WriteInvalid writes the bad rows as CSV, as they were, and adds the columns line and reason at the end. Rows of
// JSON are written as their text, in a column called row. Read ignores the two columns, so a corrected file can be
// given as it is.
//
// A cell stays as it is even if a spreadsheet would take it for a formula: people correct these rows and give them
// again, and an apostrophe before a cell would come back as data. A row with too many or too few cells gets the two
// columns after its last cell, so it cannot pass for a complete one.
func WriteInvalid(w io.Writer, f File) error {
	header := f.Columns
	if header == nil {
		header = []string{"row"}
	}
	out := NewCSV(w)
	out.Comma = cmp.Or(f.comma, ',')
	if err := out.Write(append(slices.Clone(header), columnLine, columnReason)); err != nil {
		return err
	}
	for rest := f.Invalid; len(rest) > 0; {
		row := rest[0]
		var reasons []string
		for len(rest) > 0 && rest[0].Place == row.Place {
			reasons, rest = append(reasons, rest[0].sentence()), rest[1:]
		}
		cells := append(slices.Clone(row.Raw), strconv.Itoa(row.Line), strings.Join(reasons, "; "))
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
