package peoplefile

import (
	"cmp"
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
)

// WriteInvalid writes the bad rows as CSV, as they were, with the columns line and reason added at the end; of JSON there is a
// column row with the text of each. Read passes over the two columns, so that a corrected file can be given as it is.
//
// A cell that a spreadsheet would take for a formula is left alone: these are the user's own rows, to be corrected and given
// again, and an apostrophe put before a cell would come back as data. A row with too many or too few cells gets its two
// after the last it has, and so does not pass for a whole one.
func WriteInvalid(w io.Writer, f File) error {
	header := f.Columns
	if f.comma == 0 {
		header = []string{"row"}
	}
	if f.bom { // without it the spreadsheet that wrote it would read é as Ã©
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
		n := 1
		for n < len(rest) && rest[n].Place == row.Place {
			n++
		}
		var reasons []string
		for _, i := range rest[:n] {
			reasons = append(reasons, i.sentence())
		}
		rest = rest[n:]
		if err := out.Write(append(slices.Clone(row.Raw), strconv.Itoa(row.Line), strings.Join(reasons, "; "))); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
