package peoplefile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Columns that WriteInvalid adds at the end and Read passes over there, so that a corrected file can be given again.
const (
	columnLine   = "line"
	columnReason = "reason"
)

var sepPattern = regexp.MustCompile(`(?i)^"?sep=(.)"?\r?\n`)

// table is the state of reading CSV.
type table struct {
	header  []string
	columns []column
	trailer bool // the last two columns are from WriteInvalid
}

func (rd *reader) csv(text []byte) error {
	if !bytes.Contains(text, []byte("\n")) {
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n")) // as spreadsheets on old Macs ended lines
	}
	if err := rd.checkLines(text); err != nil {
		return err
	}
	comma, before, text, err := rd.separator(text)
	if err != nil {
		return err
	}
	rd.file.comma = comma
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma, r.FieldsPerRecord, r.ReuseRecord = comma, -1, true
	var t table
	for {
		cells, err := r.Read()
		switch {
		case err == io.EOF && t.header == nil:
			return rd.fault(0, "has no header: the first line must name the columns, such as email_address")
		case err == io.EOF:
			return nil
		case err != nil:
			return rd.quoteFault(err, before)
		case isBlank(cells):
			continue
		}
		line, _ := r.FieldPos(0)
		line += before
		if t.header == nil {
			t, err = rd.header(slices.Clone(cells), line)
		} else {
			err = rd.csvRow(t, Place{Line: line}, cells)
		}
		if err != nil {
			return err
		}
	}
}

// separator finds what stands between cells: sep= in the first line says it, else the header has most of it. before counts the
// lines that are cut off.
func (rd *reader) separator(text []byte) (comma rune, before int, rest []byte, err error) {
	const separators = ",;\t" // when in doubt, the first
	if match := sepPattern.FindSubmatch(text); match != nil {
		comma, _ := utf8.DecodeRune(match[1])
		if !strings.ContainsRune(separators, comma) {
			return 0, 0, nil, rd.fault(1, "%s is not a separator that is known: use a comma, a semicolon or a tab", show(string(match[1])))
		}
		return comma, 1, text[len(match[0]):], nil
	}
	var counts [len(separators)]int
	quoted, content := false, false
	for _, b := range text {
		switch i := strings.IndexByte(separators, b); {
		case b == '"':
			quoted = !quoted
		case quoted:
		case i >= 0:
			counts[i]++
		case b == '\n' && content:
			return best(separators, counts[:]), 0, text, nil
		case b == '\n': // a blank line
		case b != ' ' && b != '\r':
			content = true
		}
	}
	return best(separators, counts[:]), 0, text, nil
}

func best(separators string, counts []int) rune {
	return rune(separators[slices.Index(counts, slices.Max(counts))])
}

// quoteFault is about the whole file: where a quote is wrong, nobody can tell where rows begin and end, and text from inside a
// cell must not be taken for people to invite.
func (rd *reader) quoteFault(err error, before int) error {
	parse, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case !ok:
		return rd.fault(0, "cannot be read as CSV: %v", err)
	case errors.Is(parse.Err, csv.ErrBareQuote):
		return rd.fault(parse.Line+before, `has a quote inside a cell that does not begin with one (nor may a space stand before it): `+
			`put the whole cell in quotes and double those inside, as in "{""plan"": ""pro""}"`)
	case errors.Is(parse.Err, csv.ErrQuote):
		return rd.fault(parse.StartLine+before, `has a cell in quotes that is never closed or goes on after its closing quote: `+
			`double the quotes inside it, as in "{""plan"": ""pro""}"`)
	}
	return rd.fault(parse.StartLine+before, "cannot be read as CSV: %v", parse.Err)
}

// header finds out what the columns mean.
func (rd *reader) header(names []string, line int) (table, error) {
	t := table{header: names, columns: make([]column, len(names))}
	if n := len(names); n >= 2 && names[n-2] == columnLine && names[n-1] == columnReason {
		t.trailer = true
	}
	rd.file.Columns = names[:t.width()]
	if slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "@") }) {
		return t, rd.fault(line, "looks like people already: the first line must name the columns, such as email_address")
	}
	byColumn := map[column]string{}
	for i, name := range rd.file.Columns {
		c, known := rd.opts.column(name)
		switch other, twice := byColumn[c]; {
		case strings.TrimSpace(name) == "": // spreadsheets leave such columns; csvRow sees to it that they are empty
		case !known:
			rd.addUnknown(name)
		case twice:
			return t, rd.fault(line, "has two columns for %s: %s and %s", c, show(other), show(name))
		default:
			byColumn[c], t.columns[i] = name, c
		}
	}
	if _, found := byColumn[column{field: fieldEmail}]; !found {
		return t, rd.noEmailFault(line)
	}
	return t, nil
}

func (rd *reader) noEmailFault(line int) error {
	var shown []string
	for _, name := range rd.file.Columns[:min(maxNames, len(rd.file.Columns))] {
		shown = append(shown, show(name))
	}
	found := strings.Join(shown, ", ")
	if rd.opts.EmailColumn != "" {
		return rd.fault(line, "has no column %s, as --email-column asks; it names %s", show(rd.opts.EmailColumn), found)
	}
	return rd.fault(line, "has no column email_address (or email; --email-column says another); it names %s", found)
}

// width is the number of columns without the trailer.
func (t table) width() int {
	if t.trailer {
		return len(t.header) - 2
	}
	return len(t.header)
}

func (rd *reader) csvRow(t table, at Place, cells []string) error {
	if err := rd.count(at); err != nil {
		return err
	}
	if len(cells) != len(t.header) {
		rd.reject(at, slices.Clone(cells), "has a wrong number of cells: %d, where the header has %d", len(cells), len(t.header))
		return nil
	}
	d := newDraft(rd.opts.Defaults)
	for i, cell := range cells[:t.width()] {
		if strings.TrimSpace(t.header[i]) == "" && strings.TrimSpace(cell) != "" && !rd.opts.IgnoreColumns {
			d.bad("", "has something in column %d, which has no name", i+1)
		}
		d.setCell(t.columns[i], cell)
	}
	rd.add(at, d, func() []string { return slices.Clone(cells[:t.width()]) })
	return nil
}

func isBlank(cells []string) bool {
	return !slices.ContainsFunc(cells, func(cell string) bool { return strings.TrimSpace(cell) != "" })
}
