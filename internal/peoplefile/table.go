package peoplefile

import (
	"strings"
)

// Bounds of what a file may unfold to.
const (
	maxCells     = 20_000_000
	maxTextBytes = 256 << 20
	maxLeading   = 20 // lines in front of the header, and at the end
)

// table holds the rows of CSV or of a sheet that are not blank, in little memory.
type table struct {
	text strings.Builder // the cells, one after the other
	ends []uint32        // where each ends
	rows []tableRow

	undo  bool  // the file is marked, so that Harmless is undone
	blank bool  // the last row that was read is
	cut   bool  // the last line has no end
	sheet sheet // of a workbook, what its cells are besides text
}

type tableRow struct {
	line       int
	first      uint32 // number of its first cell
	cells      uint32
	afterBlank bool
	hidden     bool // or filtered
	struck     bool // a cell of it is struck through
}

// add takes a row. It reports false if there is too much of it all.
func (t *table) add(row tableRow, cells []string) bool {
	row.first, row.cells = uint32(len(t.ends)), uint32(len(cells))
	size := t.text.Len()
	for _, cell := range cells {
		size += len(cell)
	}
	if len(t.ends)+len(cells) > maxCells || size > maxTextBytes {
		return false
	}
	for _, cell := range cells {
		t.text.WriteString(cell)
		t.ends = append(t.ends, uint32(t.text.Len()))
	}
	t.rows = append(t.rows, row)
	return true
}

// cells gives the cells of a row in a slice that is used again.
func (t *table) cells(number int, into []string) []string {
	into = t.raw(number, into)
	if t.undo {
		for i, cell := range into {
			into[i] = asWritten(cell)
		}
	}
	return into
}

// raw is cells as they stand in the file.
func (t *table) raw(number int, into []string) []string {
	row, text := t.rows[number], t.text.String()
	into = into[:0]
	start := uint32(0)
	if row.first > 0 {
		start = t.ends[row.first-1]
	}
	for _, end := range t.ends[row.first : row.first+row.cells] {
		into = append(into, text[start:end])
		start = end
	}
	return into
}

// each calls for every row that is seen, from one to before another, until it returns false.
func (t *table) each(from, to int, use func(number int, cells []string) bool) {
	var cells []string
	for i := from; i < to; i++ {
		if t.rows[i].hidden {
			continue
		}
		if cells = t.cells(i, cells); !use(i, cells) {
			return
		}
	}
}

// one tells whether the only cell of a row that holds something is the first.
func one(cells []string) bool {
	return len(cells) > 0 && strings.TrimSpace(cells[0]) != "" && blank(cells[1:])
}

func blank(cells []string) bool {
	for _, cell := range cells {
		if strings.TrimSpace(cell) != "" {
			return false
		}
	}
	return true
}
