// Package peoplefile reads the file of a bulk: people to invite, as CSV, as a JSON array or as JSON lines.
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

// Options of Read.
type Options struct {
	Name        string          // of the file, for messages
	Defaults    tasks.Recipient // what a row does not say; its address is not used
	EmailColumn string          // the column of the address, instead of email_address or email
	// IgnoreColumns passes over columns that are unknown.
	IgnoreColumns bool
	MaxBytes      int // 0 is DefaultMaxBytes
	MaxRows       int // 0 is DefaultMaxRows; blank rows do not count
}

// File is what was in it. Every row that is not blank is in exactly one of Rows, Invalid and Duplicates.
type File struct {
	Rows       []Row
	Invalid    []Invalid   // every reason of every bad row, in the order of the file
	Duplicates []Duplicate // rows whose address stood in a valid row before
	Columns    []string    // the header as written; nil for JSON

	comma rune // of the CSV, 0 for JSON
	bom   bool // the file began with one
}

// Place is where a row starts in the file.
type Place struct {
	Line    int // from 1, which in most files is the header
	Element int // place in a JSON array, from 1; 0 in other files
}

func (p Place) String() string {
	if p.Element > 0 {
		return fmt.Sprintf("line %d (element %d)", p.Line, p.Element)
	}
	return fmt.Sprintf("line %d", p.Line)
}

// Row is a valid recipient. Rows that leave the metadata to Options.Defaults share its map: do not write to it.
type Row struct {
	Place
	Recipient tasks.Recipient
}

// Invalid is one reason why a row cannot be accepted.
type Invalid struct {
	Place
	Field  string // of the request, as in email_address; "" when it is the row as such
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

// Duplicate is a row whose address stood before, in First.
type Duplicate struct {
	Place
	First Place
}

func (d Duplicate) String() string {
	return fmt.Sprintf("%s: has the address of %s", d.Place, d.First)
}

// Error says why the file as a whole cannot be used.
type Error struct {
	Name   string // as in Options
	Line   int    // 0 when it is about no line
	Reason string // what is wrong, and what to do
}

func (e *Error) Error() string {
	name := cmp.Or(e.Name, "the file")
	if e.Line > 0 {
		name = fmt.Sprintf("%s, line %d", name, e.Line)
	}
	return name + ": " + e.Reason
}

// Read reads all of r. What is wrong with single rows is in the File; an *Error means that the file cannot be used at all, any
// other error that r could not be read.
//
// The form goes by the content: [ begins a JSON array, { JSON lines, anything else CSV. Names of columns and of JSON keys
// ignore case, spaces, - and _. They are Clerk's request fields: email_address (or email), public_metadata, redirect_url,
// notify, ignore_existing, expires_in_days and template_slug, and public_metadata.KEY for one key of the metadata, whose case
// counts; whatever stands after the first dot is the key. Cells are trimmed, and an empty one (in JSON also null) leaves the
// default. A cell of public_metadata.KEY is always a string, so that 007 stays 007 and no program's idea of numbers gets in;
// in JSON it is what it is. It sets its key on top of the row's public_metadata or, if that is empty, of the default's.
func Read(r io.Reader, opts Options) (File, error) {
	rd := &reader{opts: opts, seen: map[string]Place{}}
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

// Recipients are those of the valid rows.
func (f File) Recipients() []tasks.Recipient {
	recipients := make([]tasks.Recipient, len(f.Rows))
	for i, row := range f.Rows {
		recipients[i] = row.Recipient
	}
	return recipients
}

// BadRows counts the rows in Invalid: one may be there for several reasons.
func (f File) BadRows() int {
	places := map[Place]bool{}
	for _, bad := range f.Invalid {
		places[bad.Place] = true
	}
	return len(places)
}

// reader gathers a File.
type reader struct {
	opts Options
	file File
	rows int
	seen map[string]Place // folded addresses of the valid rows

	unknown     []string // names of columns, each once
	moreUnknown bool
}

// Names in messages are bounded in number and, in bytes, in length.
const (
	maxNames = 20
	maxShown = 40
)

func (rd *reader) fault(line int, format string, args ...any) error {
	return &Error{Name: rd.opts.Name, Line: line, Reason: fmt.Sprintf(format, args...)}
}

// count bounds the rows.
func (rd *reader) count(at Place) error {
	if rd.rows++; rd.rows > rd.opts.MaxRows {
		return rd.fault(at.Line, "is beyond %d rows: split the file", rd.opts.MaxRows)
	}
	return nil
}

// add takes a row that has been read. raw is asked for only when the row is bad.
func (rd *reader) add(at Place, d *draft, raw func() []string) {
	recipient := d.finish()
	if len(d.faults) > 0 {
		cells := raw()
		for _, f := range d.faults {
			rd.file.Invalid = append(rd.file.Invalid, Invalid{Place: at, Field: f.field, Reason: f.reason, Raw: cells})
		}
		return
	}
	folded := tasks.FoldAddress(recipient.EmailAddress)
	if first, found := rd.seen[folded]; found {
		rd.file.Duplicates = append(rd.file.Duplicates, Duplicate{Place: at, First: first})
		return
	}
	rd.seen[folded] = at
	rd.file.Rows = append(rd.file.Rows, Row{Place: at, Recipient: recipient})
}

// reject takes a row that could not even be read.
func (rd *reader) reject(at Place, raw []string, format string, args ...any) {
	rd.file.Invalid = append(rd.file.Invalid, Invalid{Place: at, Reason: fmt.Sprintf(format, args...), Raw: raw})
}

// addUnknown notes the name of a column that there is none of.
func (rd *reader) addUnknown(name string) {
	switch name = show(name); {
	case rd.opts.IgnoreColumns:
	case len(rd.unknown) == maxNames:
		rd.moreUnknown = rd.moreUnknown || !slices.Contains(rd.unknown, name)
	case !slices.Contains(rd.unknown, name):
		rd.unknown = append(rd.unknown, name)
	}
}

func (rd *reader) unknownFault() error {
	if len(rd.unknown) == 0 {
		return nil
	}
	names := strings.Join(rd.unknown, ", ")
	if rd.moreUnknown {
		names += " and more"
	}
	return rd.fault(0, "has unknown columns: %s; known are %s; --ignore-columns passes over the others", names, rd.opts.known())
}

// show quotes something from the file for a message.
func show(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}
