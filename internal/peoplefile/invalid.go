package peoplefile

import (
	"cmp"
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
)

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
