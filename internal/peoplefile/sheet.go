package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"example.com/usher/internal/address"
	"github.com/xuri/excelize/v2"
)

var (
	escaped     = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)
	linkFormula = regexp.MustCompile(`(?is)HYPERLINK\(.*?"(?:mailto:)?([^":]*@[^"]*)"`) // its first address
)

// sheet is what the cells of a sheet are besides text.
type sheet struct {
	hidden  []span            // columns that nobody sees
	merged  []area            // over several rows
	spans   map[int][]span    // the rows of merged cells, by column
	links   map[cellAt]string // where cells lead to
	wide    []wideLink        // and areas of them
	unknown map[cellAt]bool   // formulas without a stored value
}

type (
	span     struct{ from, to int }
	cellAt   struct{ row, column int }
	area     struct{ from, to cellAt }
	wideLink struct {
		area
		target string
	}
)

// How much of it is kept.
const (
	maxAreas = 1_000_000 // merged cells, and links
	maxWide  = 1_000     // links of more than a cell
)

func (a area) holds(c cellAt) bool {
	return a.from.row <= c.row && c.row <= a.to.row && a.from.column <= c.column && c.column <= a.to.column
}

func (s *sheet) hiddenColumn(column int) bool {
	return slices.ContainsFunc(s.hidden, func(of span) bool { return of.from <= column && column <= of.to })
}

// judge finds what makes a cell doubtful that is used.
func (s *sheet) judge(d *draft, h heading, row, column int) {
	if m, found := s.mergedRows(row, column); found {
		d.unsound = true
		d.bad(h.field, "is merged over the lines %d to %d, and only the first of them has the value", m.from, m.to)
	}
	if s.unknown[cellAt{row, column}] {
		d.bad(h.field, "has a formula without a stored value: open the file in a spreadsheet and save it")
	}
}

// mergedRows are the rows that a cell is merged over.
func (s *sheet) mergedRows(row, column int) (span, bool) {
	if len(s.merged) == 0 {
		return span{}, false
	}
	spans, known := s.spans[column]
	if !known {
		for _, m := range s.merged {
			if m.from.column <= column && column <= m.to.column {
				spans = append(spans, span{m.from.row, m.to.row})
			}
		}
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		s.spans[column] = spans
	}
	after := sort.Search(len(spans), func(i int) bool { return spans[i].from > row })
	if after == 0 || spans[after-1].to < row {
		return span{}, false
	}
	return spans[after-1], true
}

// mailLink is where a cell leads to, if that is an address. Several addresses are given as they are.
func (s *sheet) mailLink(row, column int) string {
	at := cellAt{row, column}
	target := s.links[at]
	if target == "" {
		if i := slices.IndexFunc(s.wide, func(w wideLink) bool { return w.holds(at) }); i >= 0 {
			target = s.wide[i].target
		}
	}
	if trimmed := strings.TrimSpace(target); len(trimmed) < 7 || !strings.EqualFold(trimmed[:7], "mailto:") {
		return ""
	}
	link, query, _ := strings.Cut(address.Trim(target), "?")
	if plain, err := url.PathUnescape(link); err == nil {
		link = plain
	}
	if values, err := url.ParseQuery(query); err == nil {
		for _, name := range []string{"to", "cc", "bcc"} {
			for key, more := range values {
				if strings.EqualFold(key, name) {
					link = strings.Join(append([]string{link}, more...), ",")
				}
			}
		}
	}
	return link
}

// read reads a sheet.
func (b *book) read(rd *reader, of bookSheet) (*table, error) {
	relations, err := b.relations(of.path)
	if err != nil {
		return nil, err
	}
	t := &table{sheet: sheet{
		spans: map[int][]span{}, links: map[cellAt]string{}, unknown: map[cellAt]bool{},
	}}
	s := &sheetReader{book: b, rd: rd, table: t, relations: relations}
	if err := b.tokens(of.path, s.see); err != nil {
		return nil, err
	}
	return t, nil
}

// sheetReader takes a sheet as its tags come.
type sheetReader struct {
	*book
	rd        *reader
	table     *table
	relations relations

	row     tableRow
	unknown bool // a formula of the row has no stored value
	last    int  // the number of the last row
	cells   []string

	cell    cell
	run     run
	in      string // v or f
	texts   bytes.Buffer
	formula bytes.Buffer
}

type cell struct {
	column int
	style  int
	kind   string
	found  bool // there is a value
	struck bool
}

func (s *sheetReader) see(token xml.Token) error {
	s.run.see(token)
	switch token := token.(type) {
	case xml.StartElement:
		return s.open(token)
	case xml.EndElement:
		return s.close(token)
	case xml.CharData:
		s.text(token)
	}
	return nil
}

func (s *sheetReader) text(text xml.CharData) {
	switch {
	case s.in == "v", s.run.inText() && s.cell.kind == "inlineStr":
		s.texts.Write(text)
		s.cell.found = true
		s.cell.struck = s.cell.struck || s.run.struck && s.run.inText()
	case s.in == "f":
		s.formula.Write(text)
	}
}

func (s *sheetReader) open(tag xml.StartElement) error {
	switch tag.Name.Local {
	case "col":
		from, _ := strconv.Atoi(attribute(tag, "min"))
		to, _ := strconv.Atoi(attribute(tag, "max"))
		if truth(attribute(tag, "hidden")) || isZero(attribute(tag, "width")) {
			s.table.sheet.hidden = append(s.table.sheet.hidden, span{from, to})
		}
	case "row":
		return s.openRow(tag)
	case "c":
		return s.openCell(tag)
	case "v":
		s.in = "v"
	case "f":
		s.in = "f"
	case "mergeCell":
		return s.area(attribute(tag, "ref"), func(a area) {
			if a.from.row < a.to.row {
				s.table.sheet.merged = append(s.table.sheet.merged, a)
			}
		})
	case "hyperlink":
		// tealeg/xlsx 3.3.13 writes a mail link as a place in the workbook.
		target := cmp.Or(s.relations[attribute(tag, "id")].target, attribute(tag, "location"))
		return s.area(attribute(tag, "ref"), func(a area) { s.link(a, target) })
	}
	return nil
}

func isZero(number string) bool {
	value, err := strconv.ParseFloat(number, 64)
	return err == nil && value == 0
}

func (s *sheetReader) openRow(tag xml.StartElement) error {
	line := s.last + 1
	if number := attribute(tag, "r"); number != "" {
		var err error
		if line, err = strconv.Atoi(number); err != nil || line <= s.last {
			return fmt.Errorf("%w: after row %d comes row %s", errBroken, s.last, show(number))
		}
	}
	if line > excelize.TotalRows {
		return fmt.Errorf("%w: it has more than %d rows", errBroken, excelize.TotalRows)
	}
	hidden := truth(attribute(tag, "hidden")) || isZero(attribute(tag, "ht"))
	s.row = tableRow{line: line, afterBlank: line > s.last+1, hidden: hidden}
	s.last, s.cells, s.unknown = line, s.cells[:0], false
	s.cell.column = 0
	return nil
}

func (s *sheetReader) openCell(tag xml.StartElement) error {
	next := cell{column: s.cell.column + 1, kind: attribute(tag, "t")}
	if name := attribute(tag, "r"); name != "" {
		column, line, err := excelize.CellNameToCoordinates(name)
		if err != nil || column < next.column || line != s.row.line {
			return fmt.Errorf("%w: row %d has a cell %s", errBroken, s.row.line, show(name))
		}
		next.column = column
	}
	if next.column > excelize.MaxColumns {
		return fmt.Errorf("%w: row %d has more than %d cells", errBroken, s.row.line, excelize.MaxColumns)
	}
	next.style, _ = strconv.Atoi(attribute(tag, "s"))
	s.cell = next
	s.texts.Reset()
	s.formula.Reset()
	return nil
}

func (s *sheetReader) close(tag xml.EndElement) error {
	switch tag.Name.Local {
	case "v", "f":
		s.in = ""
	case "c":
		return s.closeCell()
	case "row":
		if blank(s.cells) && !s.unknown {
			s.table.blank = true
			return nil
		}
		return s.rd.tableRow(s.table, s.row, s.cells)
	}
	return nil
}

func (s *sheetReader) closeCell() error {
	text, err := s.value()
	if err != nil {
		return err
	}
	at := cellAt{s.row.line, s.cell.column}
	if formula := s.formula.String(); formula != "" {
		if match := linkFormula.FindStringSubmatch(formula); match != nil {
			s.link(area{at, at}, "mailto:"+match[1])
		}
		if !s.cell.found && len(s.table.sheet.unknown) < maxAreas {
			s.table.sheet.unknown[at], s.unknown = true, true
		}
	}
	if text == "" {
		return nil
	}
	for len(s.cells) < s.cell.column-1 {
		s.cells = append(s.cells, "")
	}
	s.cells = append(s.cells, text)
	if strings.TrimSpace(text) != "" && (s.cell.struck || s.formats.struck(s.cell.style)) {
		s.row.struck = true
	}
	return nil
}

// value is what the cell shows.
func (s *sheetReader) value() (string, error) {
	text := s.texts.String()
	switch s.cell.kind {
	case "s":
		number, err := strconv.Atoi(strings.TrimSpace(text))
		if text == "" {
			return "", nil
		}
		if err != nil || number < 0 || number >= len(s.book.texts) {
			return "", fmt.Errorf("%w: row %d has a cell with a text that is not there", errBroken, s.row.line)
		}
		s.cell.struck = s.book.struck[number]
		return s.book.texts[number], nil
	case "str", "inlineStr":
		return unescape(text), nil
	case "b":
		if text == "" {
			return "", nil
		}
		return strings.ToUpper(strconv.FormatBool(truth(text))), nil
	case "e":
		return text, nil
	case "d":
		return s.formats.showDate(s.cell.style, strings.TrimSpace(text))
	}
	return s.formats.show(s.cell.style, strings.TrimSpace(text))
}

// area reads a reference such as A2:B3.
func (s *sheetReader) area(ref string, use func(area)) error {
	first, last, found := strings.Cut(ref, ":")
	if !found {
		last = first
	}
	var a area
	var errs [2]error
	a.from.column, a.from.row, errs[0] = excelize.CellNameToCoordinates(first)
	a.to.column, a.to.row, errs[1] = excelize.CellNameToCoordinates(last)
	sheet := &s.table.sheet
	if errs[0] != nil || errs[1] != nil || len(sheet.merged)+len(sheet.links) > maxAreas || len(sheet.wide) > maxWide {
		return fmt.Errorf("%w: it has an area %s", errBroken, show(ref))
	}
	use(a)
	return nil
}

func (s *sheetReader) link(a area, target string) {
	if target == "" {
		return
	}
	if a.from == a.to {
		s.table.sheet.links[a.from] = target
		return
	}
	s.table.sheet.wide = append(s.table.sheet.wide, wideLink{a, target})
}
