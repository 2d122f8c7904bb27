// Package peoplefile reads files of people to invite: CSV, a JSON array or JSON lines.
package peoplefile

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"example.com/usher/tasks"
)

// Defaults of the bounds in Options.
const (
	DefaultMaxBytes = 64 << 20
	DefaultMaxRows  = 1_000_000
)

// Options say how to read a file.
type Options struct {
	Name        string          // of the file, for messages
	Defaults    tasks.Recipient // for what a row does not say; the address in it is not used
	EmailColumn string          // the column of the address, instead of email_address or email

	IgnoreColumns bool // ignore unknown columns
	MaxBytes      int  // 0 means DefaultMaxBytes
	MaxRows       int  // 0 means DefaultMaxRows; blank rows do not count
}

// File is the content of a file. Every row that is not blank is in exactly one of Rows, Invalid and Duplicates.
type File struct {
	Rows       []Row
	Invalid    []Invalid   // every reason of every bad row, in the order of the file
	Duplicates []Duplicate // rows with the address of an earlier valid row
	Columns    []string    // the header as written; nil for JSON

	comma rune // between the cells of CSV; 0 for JSON
	bom   bool // the file began with a byte order mark
}

// Place is where a row starts in the file.
type Place struct {
	Line    int // from 1, which is the header in most files
	Element int // number in a JSON array, from 1; 0 in other files
}

func (p Place) String() string {
	if p.Element > 0 {
		return fmt.Sprintf("line %d (element %d)", p.Line, p.Element)
	}
	return fmt.Sprintf("line %d", p.Line)
}

// Row is a valid recipient. Do not change its metadata: rows that take it from Options.Defaults share one map.
type Row struct {
	Place
	Recipient tasks.Recipient
}

// Invalid is one reason why a row is refused.
type Invalid struct {
	Place
	Field  string // of the request, such as email_address; "" if the reason is about the row
	Reason string
	Raw    []string // the cells of the row, or its JSON
}

func (i Invalid) String() string { return i.Place.String() + ": " + i.sentence() }

func (i Invalid) sentence() string {
	if i.Field == "" {
		return i.Reason
	}
	return i.Field + ": " + i.Reason
}

// Duplicate is a row whose address is in an earlier row, First.
type Duplicate struct {
	Place
	First Place
}

// Error says why the file as a whole cannot be used.
type Error struct {
	Name   string // as in Options
	Line   int    // 0 if the reason is about no line
	Reason string // what is wrong, and what to do
}

func (e *Error) Error() string {
	name := cmp.Or(e.Name, "the file")
	if e.Line > 0 {
		name = fmt.Sprintf("%s, line %d", name, e.Line)
	}
	return name + ": " + e.Reason
}

// Read reads all of r. The File says what is wrong with single rows. An *Error means that the file cannot be used at
// all, any other error that r could not be read.
//
// The content decides the form: [ begins a JSON array, { JSON lines, anything else CSV. The columns of CSV and the
// keys of JSON are the fields of Clerk's request: email_address (or email), public_metadata, redirect_url, notify,
// ignore_existing, expires_in_days and template_slug; and on_duplicate. Case, spaces, - and _ in their names do not
// matter. Cells are trimmed. An empty cell, and null in JSON, leaves the default.
//
// A column public_metadata.KEY sets one key of the metadata: the key is what follows the first dot, and its case
// matters. It is added to the row's public_metadata or, if the row has none, to the default's. In CSV its value is
// always a string, so that 007 stays 007. In JSON it keeps its type.
func Read(r io.Reader, opts Options) (File, error) {
	rd := &reader{opts: opts, seen: map[string]Place{}}
	rd.opts.Defaults.EmailAddress = ""
	rd.opts.MaxBytes = cmp.Or(opts.MaxBytes, DefaultMaxBytes)
	rd.opts.MaxRows = cmp.Or(opts.MaxRows, DefaultMaxRows)
	data, err := io.ReadAll(io.LimitReader(r, int64(rd.opts.MaxBytes)+1))
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", cmp.Or(opts.Name, "the file"), err)
	}
	if len(data) > rd.opts.MaxBytes {
		return File{}, rd.fault(0, "is larger than %d bytes: split it", rd.opts.MaxBytes)
	}
	text, err := rd.decode(data)
	if err != nil {
		return File{}, err
	}
	switch bytes.TrimSpace(text)[0] {
	case '[':
		err = rd.jsonArray(text)
	case '{':
		err = rd.jsonLines(text)
	default:
		err = rd.csv(text)
	}
	if err == nil {
		err = rd.unknownFault()
	}
	if err != nil {
		return File{}, err
	}
	return rd.file, nil
}

// ReadFile reads the file at a path. One that cannot be opened is an *fs.PathError.
func ReadFile(path string, opts Options) (File, error) {
	file, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	return Read(file, opts)
}

// Recipients returns the recipients of the valid rows.
func (f File) Recipients() []tasks.Recipient {
	recipients := make([]tasks.Recipient, len(f.Rows))
	for i, row := range f.Rows {
		recipients[i] = row.Recipient
	}
	return recipients
}

// BadRows counts the rows in Invalid: a row may be there for several reasons.
func (f File) BadRows() int {
	same := func(a, b Invalid) bool { return a.Place == b.Place }
	return len(slices.CompactFunc(slices.Clone(f.Invalid), same))
}

// reader gathers a File.
type reader struct {
	opts Options
	file File
	rows int
	seen map[string]Place // folded addresses of the valid rows

	cells   int      // in every row of CSV, as the header says
	columns []column // of CSV, without the two that WriteInvalid adds
	unknown []string // names of columns, each once; one more than are shown, if there are so many
}

// How much of the file a message quotes.
const (
	maxNames = 20 // names of columns
	maxShown = 40 // bytes of one text
)

func (rd *reader) fault(line int, format string, args ...any) error {
	return &Error{Name: rd.opts.Name, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// count counts a row. It is an error if there are too many.
func (rd *reader) count(at Place) error {
	if rd.rows++; rd.rows > rd.opts.MaxRows {
		return rd.fault(at.Line, "is beyond %d rows: split the file", rd.opts.MaxRows)
	}
	return nil
}

// add takes a row that has been read. It calls raw only if the row is bad. It is an error if there are too many rows.
func (rd *reader) add(at Place, d *draft, raw func() []string) error {
	recipient := d.finish()
	folded := tasks.FoldAddress(recipient.EmailAddress)
	switch first, found := rd.seen[folded]; {
	case len(d.faults) > 0:
		cells := raw()
		for _, f := range d.faults {
			f.Place, f.Raw = at, cells
			rd.file.Invalid = append(rd.file.Invalid, f)
		}
	case found:
		rd.file.Duplicates = append(rd.file.Duplicates, Duplicate{Place: at, First: first})
	default:
		rd.seen[folded] = at
		rd.file.Rows = append(rd.file.Rows, Row{Place: at, Recipient: recipient})
	}
	return rd.count(at)
}

// reject takes a row that could not be read. It is an error if there are too many rows.
func (rd *reader) reject(at Place, raw []string, reason string) error {
	rd.file.Invalid = append(rd.file.Invalid, Invalid{Place: at, Reason: reason, Raw: raw})
	return rd.count(at)
}

// addUnknown notes the name of an unknown column.
func (rd *reader) addUnknown(name string) {
	name = show(name)
	if !rd.opts.IgnoreColumns && len(rd.unknown) <= maxNames && !slices.Contains(rd.unknown, name) {
		rd.unknown = append(rd.unknown, name)
	}
}

func (rd *reader) unknownFault() error {
	if len(rd.unknown) == 0 {
		return nil
	}
	names := strings.Join(rd.unknown[:min(maxNames, len(rd.unknown))], ", ")
	if len(rd.unknown) > maxNames {
		names += " and more"
	}
	const format = "has unknown columns: %s; known are %s; --ignore-columns passes over the others"
	return rd.fault(0, format, names, rd.opts.known())
}

// show quotes something from the file for a message.
func show(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}
