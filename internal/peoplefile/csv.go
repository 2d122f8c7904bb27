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
)

// The columns that WriteInvalid adds at the end. Read ignores them there, so a corrected file can be given again.
const (
	columnLine   = "line"
	columnReason = "reason"
)

var sepPattern = regexp.MustCompile(`(?i)^"?sep=(.)"?\r?\n`)

func (rd *reader) csv(text []byte) error {
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
	rows := newRows(text, comma)
	for {
		cells, err := nextRow(rows)
		switch {
		case err == io.EOF && rd.columns == nil:
			return rd.fault(0, "has no header: the first line must name the columns, such as email_address")
		case err == io.EOF:
			return nil
		case err != nil:
			return rd.quoteFault(err)
		}
		line, _ := rows.FieldPos(0)
		if rd.columns == nil {
			err = rd.header(slices.Clone(cells), line)
		} else {
			err = rd.csvRow(Place{Line: line}, cells)
		}
		if err != nil {
			return err
		}
	}
}

// newRows reads rows of any number of cells.
func newRows(text []byte, comma rune) *csv.Reader {
	rows := csv.NewReader(bytes.NewReader(text))
	rows.Comma, rows.FieldsPerRecord, rows.ReuseRecord = comma, -1, true
	return rows
}

// nextRow returns the next row that is not blank. Its cells are good until the next call.
func nextRow(rows *csv.Reader) ([]string, error) {
	written := func(cell string) bool { return strings.TrimSpace(cell) != "" }
	for {
		cells, err := rows.Read()
		if err != nil || slices.ContainsFunc(cells, written) {
			return cells, err
		}
	}
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
		switch cells, err := nextRow(newRows(text, candidate)); {
		case err == io.EOF: // there is nothing but this separator
			return candidate, text, nil
		case err == nil && len(cells) > most:
			comma, most = candidate, len(cells)
		}
	}
	return cmp.Or(comma, ','), text, nil
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

// header finds out what the columns mean.
func (rd *reader) header(names []string, line int) error {
	cells := len(names)
	if cells >= 2 && names[cells-2] == columnLine && names[cells-1] == columnReason {
		names = names[:cells-2]
	}
	rd.file.Columns, rd.cells, rd.columns = names, cells, make([]column, len(names))
	if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "@") }) {
		return rd.fault(line, "looks like people already: the first line must name the columns, "+
			"such as email_address")
	}
	byColumn := map[column]string{}
	for i, name := range names {
		c, known := rd.opts.column(name)
		switch other, twice := byColumn[c]; {
		case strings.TrimSpace(name) == "": // spreadsheets leave such columns; csvRow checks that they are empty
		case !known:
			rd.addUnknown(name)
		case twice:
			return rd.fault(line, "has two columns for %s: %s and %s", c, show(other), show(name))
		default:
			byColumn[c], rd.columns[i] = name, c
		}
	}
	if _, found := byColumn[column{field: fieldEmail}]; found {
		return nil
	}
	email := "email_address (or email; --email-column says another)"
	if rd.opts.EmailColumn != "" {
		email = show(rd.opts.EmailColumn) + ", as --email-column asks"
	}
	var shown []string
	for _, name := range names[:min(maxNames, len(names))] {
		shown = append(shown, show(name))
	}
	return rd.fault(line, "has no column %s; it names %s", email, strings.Join(shown, ", "))
}

func (rd *reader) csvRow(at Place, cells []string) error {
	if len(cells) != rd.cells {
		reason := fmt.Sprintf("has a wrong number of cells: %d, where the header has %d", len(cells), rd.cells)
		return rd.reject(at, slices.Clone(cells), reason)
	}
	d := &draft{recipient: rd.opts.Defaults}
	cells = cells[:len(rd.columns)]
	for i, cell := range cells {
		nameless := strings.TrimSpace(rd.file.Columns[i]) == ""
		if nameless && strings.TrimSpace(cell) != "" && !rd.opts.IgnoreColumns {
			d.bad("", "has something in column %d, which has no name", i+1)
		}
		d.setCell(rd.columns[i], cell)
	}
	return rd.add(at, d, func() []string { return slices.Clone(cells) })
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
	if f.comma == 0 {
		header = []string{"row"}
	}
	if f.bom { // without it, the spreadsheet that wrote the file would read é as Ã©
		if _, err := io.WriteString(w, bomUTF8); err != nil {
			return err
		}
	}
	out := csv.NewWriter(w)
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
