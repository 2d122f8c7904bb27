package peoplefile

import (
	"bufio"
	"encoding/csv"
	"io"
	"slices"
	"strings"
)

// ColumnFormat is a column that marks a file whose cells Harmless has made. Reading such a file undoes it.
const ColumnFormat = "usher_format"

// FormatHarmless is what stands in the column.
const FormatHarmless = "1"

// NewCSV gives a writer of a CSV file. The file begins with a byte order mark: without it, spreadsheets read é as Ã©,
// and what they save is changed.
func NewCSV(w io.Writer) *csv.Writer {
	buffered := bufio.NewWriter(w)
	_, _ = buffered.WriteString(bomUTF8) // an error stays until the end
	return csv.NewWriter(buffered)       // which uses this buffer as its own
}

// formulaSigns are what a cell begins with that spreadsheets take for a formula, or drop and then do.
const formulaSigns = "=+-@\t\r\n"

// Harmless gives a cell that no spreadsheet takes for a formula: one that it would gets an apostrophe in front. So does
// one that begins with apostrophes and then a sign of a formula, or reading could not tell the two apart.
func Harmless(cell string) string {
	if formula(strings.TrimLeft(cell, "'")) {
		return "'" + cell
	}
	return cell
}

// asWritten undoes Harmless.
func asWritten(cell string) string {
	if strings.HasPrefix(cell, "'") && formula(strings.TrimLeft(cell, "'")) {
		return cell[1:]
	}
	return cell
}

func formula(cell string) bool { return cell != "" && strings.IndexByte(formulaSigns, cell[0]) >= 0 }

func isFormat(name string) bool { return foldName(name) == foldName(ColumnFormat) }

// marked tells whether the first row names the column that marks a file.
func (t *table) marked() bool {
	return len(t.rows) > 0 && slices.ContainsFunc(t.raw(0, nil), isFormat)
}
