// Package peoplefile reads files of people to invite: CSV, JSON, JSON lines and .xlsx, as people and programs write
// them.
//
// Nobody is invited whom the sender would not have named. So each reading is certain, or says what it guesses: it is
// certain where an option names a column, or where the headings are ours or exactly those of a known export.
package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"reflect"
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
	Name     string          // of the file, for messages
	Defaults tasks.Recipient // for what a row does not say; the address in it is not used

	EmailColumn     string            // the column of the address; without a header its number
	Map             map[string]string // columns by the fields that they set
	NoHeader        bool              // the first row is a person
	Sheet           string            // of a workbook
	Encoding        string            // of a text that is not UTF-8, such as windows-1252
	Split           bool              // make a recipient of each address in a cell
	IncludeOptedOut bool              // keep people who are marked not to be written to
	IgnoreColumns   bool              // ignore unknown columns
	MaxBytes        int               // 0 means DefaultMaxBytes
	MaxRows         int               // 0 means DefaultMaxRows; blank rows do not count
}

// File is the content of a file. Every row of people that is not blank is in exactly one of Rows, Invalid, Duplicates
// and LeftOut; one that was split may be in several.
type File struct {
	Rows       []Row
	Invalid    []Invalid   // every reason of every bad row, in the order of the file
	Duplicates []Duplicate // rows with the address of an earlier valid row
	LeftOut    []LeftOut   // rows that are no recipients, in the order of the file
	Guesses    []Guess     // what may be wrong with this reading: ask before it is used
	Cleaned    []Place     // rows whose address did not stand there as it is used
	Notes      []Note      // what else to know about rows
	Columns    []string    // the header as written; nil for JSON
	Understood Understood

	comma rune // between the cells of CSV; 0 for JSON
}

// Place is where a row starts in the file.
type Place struct {
	Line    int // from 1, which is the header in most files; of a sheet, the number of the row
	Element int // number in a JSON array, from 1; 0 in other files
}

func (p Place) String() string {
	if p.Element > 0 {
		return fmt.Sprintf("line %d (element %d)", p.Line, p.Element)
	}
	return fmt.Sprintf("line %d", p.Line)
}

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Line, q.Line), cmp.Compare(p.Element, q.Element))
}

// Row is a valid recipient. There may be 200,000, so rows that say the same share it.
type Row struct {
	Place
	address  string
	redirect string
	packed   string           // metadata that no other row shares: as JSON it takes a tenth of the memory of a map
	options  *tasks.Recipient // all else
	cleaned  bool
}

// Recipient is the row as it is enqueued. Do not change its metadata: rows share one map.
func (r Row) Recipient() tasks.Recipient {
	recipient := *r.options
	recipient.EmailAddress, recipient.RedirectURL = r.address, r.redirect
	if r.packed != "" {
		if err := DecodeJSON([]byte(r.packed), &recipient.PublicMetadata); err != nil {
			panic("peoplefile: packed metadata cannot be read: " + err.Error())
		}
	}
	return recipient
}

// Invalid is one reason why a row is refused.
type Invalid struct {
	Place
	Field  string // of the request, such as email_address; "" if the reason is about the row
	Reason string
	Raw    []string // the cells of the row, or its JSON; of a known export without what was passed over
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
	First   Place
	Cleaned bool // only cleaning made the two addresses one
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
// The content decides the form: a workbook is .xlsx, [ begins a JSON array, { JSON lines, anything else is CSV. The
// columns, and the keys of JSON, are the fields of Clerk's request: email_address (or email), public_metadata,
// redirect_url, notify, ignore_existing, expires_in_days and template_slug; on_duplicate and on_existing_user. Case,
// spaces, - and _ in their names do not matter. Of a known export only the primary address counts. Cells are trimmed.
// An empty cell, and null in JSON, leaves the default.
//
// A column public_metadata.KEY sets one key of the metadata: the key is what follows the first dot, and its case
// matters. It is added to the row's public_metadata or, if the row has none, to the default's. In a table its value is
// always a string, so that 007 stays 007. In JSON it keeps its type.
func Read(r io.Reader, opts Options) (File, error) {
	rd := newReader(opts)
	data, err := io.ReadAll(io.LimitReader(r, int64(rd.opts.MaxBytes)+1))
	if err != nil {
		return File{}, unread(opts, err)
	}
	if len(data) > rd.opts.MaxBytes {
		return File{}, rd.fault(0, "is larger than %d bytes: split it", rd.opts.MaxBytes)
	}
	if err = rd.read(data); err == nil {
		err = rd.unknownFault()
	}
	if err != nil {
		return File{}, err
	}
	rd.settle()
	return rd.file, nil
}

// read finds out the form of the content, and reads it.
func (rd *reader) read(data []byte) error {
	if IsWorkbook(data) {
		return rd.workbook(data)
	}
	if rd.opts.Sheet != "" {
		return rd.fault(0, "is no workbook, so it has no sheet %s", show(rd.opts.Sheet))
	}
	text, err := rd.decode(data)
	if err != nil {
		return err
	}
	lines := bytes.Count(text, []byte("\n")) + 1
	rd.file.Rows = make([]Row, 0, min(lines, tasks.MaxRecipients)) // one that grows is there twice for a moment
	switch bytes.TrimSpace(text)[0] {
	case '[':
		return rd.jsonArray(text)
	case '{':
		return rd.jsonObjects(text)
	}
	return rd.csv(text)
}

// ReadFile reads the file at a path. One that cannot be opened is an *fs.PathError.
func ReadFile(path string, opts Options) (File, error) {
	file, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	rd := newReader(opts)
	info, err := file.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() > int64(rd.opts.MaxBytes) {
		return File{}, rd.fault(0, "is larger than %d bytes: split it", rd.opts.MaxBytes)
	}
	return Read(file, opts)
}

// Each goes through the recipients of the valid rows. They are not in memory together.
func (f File) Each() iter.Seq[tasks.Recipient] {
	return func(yield func(tasks.Recipient) bool) {
		for _, row := range f.Rows {
			if !yield(row.Recipient()) {
				return
			}
		}
	}
}

// Recipients returns the recipients of the valid rows.
func (f File) Recipients() []tasks.Recipient {
	recipients := make([]tasks.Recipient, len(f.Rows))
	for i, row := range f.Rows {
		recipients[i] = row.Recipient()
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
	opts   Options
	file   File
	rows   int
	export *export

	corrects *corrections // if the file is one of corrections

	seen   map[string]int   // numbers in file.Rows, by folded address
	barred map[string]Place // folded addresses that must not be written to
	unseen map[string]Place // those of rows that are hidden or struck through
	// doubtful are folded addresses in rows that are refused, and that may say that they must not be written to.
	doubtful map[string]Place
	refused  map[Place][]string // addresses in rows that are refused
	shared   map[string]map[string]any
	last     *tasks.Recipient // the options of the last row
	texts    map[string]string

	unknown []string // names of columns, each once; one more than are shown, if there are so many
}

func newReader(opts Options) *reader {
	rd := &reader{
		opts: opts, seen: map[string]int{}, barred: map[string]Place{}, unseen: map[string]Place{},
		doubtful: map[string]Place{}, refused: map[Place][]string{}, shared: map[string]map[string]any{},
		texts: map[string]string{},
	}
	rd.opts.Defaults.EmailAddress = ""
	rd.opts.MaxBytes = cmp.Or(opts.MaxBytes, DefaultMaxBytes)
	rd.opts.MaxRows = cmp.Or(opts.MaxRows, DefaultMaxRows)
	return rd
}

// How much of the file a message quotes.
const (
	maxNames = 20 // names of columns
	maxShown = 40 // bytes of one text
)

func (rd *reader) fault(line int, format string, args ...any) error {
	return &Error{Name: rd.opts.Name, Line: line, Reason: fmt.Sprintf(format, args...)}
}

func (rd *reader) guess(g Guess) { rd.file.Guesses = append(rd.file.Guesses, g) }

// count counts a row. It is an error if there are too many.
func (rd *reader) count(at Place) error {
	if rd.rows++; rd.rows > rd.opts.MaxRows {
		return rd.fault(at.Line, "is beyond %d rows: split the file", rd.opts.MaxRows)
	}
	return nil
}

// add takes a row that has been read. It calls raw only if the row is bad. It is an error if there are too many rows.
func (rd *reader) add(at Place, d *draft, raw func() []string) error {
	people := d.people(rd)
	switch {
	case d.aside != "":
		rd.leaveOut(at, d, people)
		return rd.count(at)
	case len(d.faults) == 0 && len(people) == 0 && rd.export != nil && rd.export.sparse:
		d.aside, d.because = NoAddress, "has no address"
		rd.leaveOut(at, d, nil)
		return rd.count(at)
	}
	recipients := d.finish(rd, people)
	if len(d.faults) == 0 {
		d.conflicts(rd, recipients, people)
	}
	if len(d.faults) > 0 {
		rd.refused[at] = mentioned(d.cell)
		cells := raw()
		for _, f := range d.faults {
			f.Place, f.Raw = at, cells
			rd.file.Invalid = append(rd.file.Invalid, f)
		}
		return rd.count(at)
	}
	for i, recipient := range recipients {
		rd.keep(at, recipient, people[i], d.shared)
	}
	return rd.count(at)
}

// keep takes a recipient, whose metadata other rows may share.
func (rd *reader) keep(at Place, recipient tasks.Recipient, p person, shared bool) {
	if p.cleaned {
		rd.file.Cleaned = append(rd.file.Cleaned, at)
	}
	if p.removed != "" {
		rd.guess(Guess{Line: at.Line, What: p.removed + " is taken out of the address"})
	}
	if p.linked {
		rd.guess(Guess{Line: at.Line, What: "the address is taken from the link behind a text that is none"})
	}
	folded := tasks.FoldAddress(recipient.EmailAddress)
	if number, found := rd.seen[folded]; found {
		first := rd.file.Rows[number]
		rd.file.Duplicates = append(rd.file.Duplicates,
			Duplicate{Place: at, First: first.Place, Cleaned: first.cleaned || p.cleaned})
		return
	}
	rd.seen[folded] = len(rd.file.Rows)
	row := Row{Place: at, address: recipient.EmailAddress, redirect: recipient.RedirectURL, cleaned: p.cleaned}
	if !shared {
		if packed, err := json.Marshal(recipient.PublicMetadata); err == nil { // it has come from JSON or is text
			row.packed, recipient.PublicMetadata = string(packed), nil
		}
	}
	row.options = rd.options(recipient)
	rd.file.Rows = append(rd.file.Rows, row)
}

// options gives what a recipient says besides its address and redirect URL, and what a row packs: mostly the same as
// the row before, or one of a few.
func (rd *reader) options(recipient tasks.Recipient) *tasks.Recipient {
	recipient.EmailAddress, recipient.RedirectURL = "", ""
	if rd.last == nil || !reflect.DeepEqual(*rd.last, recipient) {
		rd.last = &recipient
	}
	return rd.last
}

// leaveOut takes a row that is no recipient, and notes every address in it: of one with several nobody knows which
// its opt-out is about.
func (rd *reader) leaveOut(at Place, d *draft, people []person) {
	rd.file.LeftOut = append(rd.file.LeftOut, LeftOut{at, d.aside, d.because})
	into := rd.unseen
	if d.aside == OptedOut {
		into = rd.barred
	}
	for _, p := range people {
		into[tasks.FoldAddress(p.address)] = at
	}
	for _, other := range mentioned(d.cell + " " + d.link + " " + d.others) {
		into[tasks.FoldAddress(other)] = at
	}
}

// barRefused leaves out rows that are refused, too, if another row says that their person must not be written to: who
// corrects them and gives them alone does not give that row.
func (rd *reader) barRefused() {
	f, last := &rd.file, Place{}
	f.Invalid = slices.DeleteFunc(f.Invalid, func(i Invalid) bool {
		for _, address := range rd.refused[i.Place] {
			at, barred := rd.barred[tasks.FoldAddress(address)]
			if barred && i.Place != last { // which has several reasons
				f.LeftOut = append(f.LeftOut, leftOutBy(i.Place, at))
				last = i.Place
			}
			if barred {
				return true
			}
		}
		return false
	})
}

func leftOutBy(row, other Place) LeftOut {
	return LeftOut{row, OptedOut, "is left out, as " + other.String() + " says"}
}

// settle leaves out people of whom another row says that they must not be written to, and names those who are in a
// row that is hidden too.
func (rd *reader) settle() {
	f := &rd.file
	f.Understood.Rows = rd.rows
	read, kept := len(f.Rows), f.Rows[:0]
	for _, row := range f.Rows {
		folded := tasks.FoldAddress(row.address)
		if at, barred := rd.barred[folded]; barred {
			f.LeftOut = append(f.LeftOut, leftOutBy(row.Place, at))
			continue
		}
		if at, doubtful := rd.doubtful[folded]; doubtful {
			because := "is left out, as " + at.String() + " is refused and may say that it must not be written to"
			f.LeftOut = append(f.LeftOut, LeftOut{row.Place, OptedOut, because})
			continue
		}
		if at, unseen := rd.unseen[folded]; unseen {
			f.Notes = append(f.Notes, Note{row.Place, "stands also in " + at.String() + ", which is left out"})
		}
		kept = append(kept, row)
	}
	f.Rows, f.Understood.Recipients = kept, len(kept)
	rd.barRefused()
	if len(kept) < read {
		f.Duplicates = slices.DeleteFunc(f.Duplicates, func(d Duplicate) bool {
			_, found := slices.BinarySearchFunc(f.Rows, d.First, func(r Row, p Place) int { return r.compare(p) })
			if !found {
				f.LeftOut = append(f.LeftOut, LeftOut{d.Place, OptedOut, "has the address of " + d.First.String()})
			}
			return !found
		})
	}
	slices.SortStableFunc(f.LeftOut, func(a, b LeftOut) int { return a.compare(b.Place) })
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
	const format = "has unknown columns: %s; known are %s; --ignore-columns passes over the others%s"
	keep := ", and --map public_metadata.KEY=COLUMN keeps one"
	if rd.corrects != nil { // which have no such flag
		keep = ""
	}
	return rd.fault(0, format, names, rd.opts.known(), keep)
}

// show quotes something from the file for a message.
func show(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return fmt.Sprintf("%q", text)
}

// interned gives one copy of texts that stand in many rows.
func (rd *reader) interned(text string) string {
	const most = 4096
	if kept, found := rd.texts[text]; found {
		return kept
	}
	text = strings.Clone(text) // without the clone, a cell would keep the whole file in memory
	if len(rd.texts) < most {
		rd.texts[text] = text
	}
	return text
}

// unread is the error of a file that cannot be read. It names the file once: a *fs.PathError does so itself.
func unread(opts Options, err error) error {
	if _, named := errors.AsType[*fs.PathError](err); named {
		return err
	}
	return fmt.Errorf("%s: %w", cmp.Or(opts.Name, "the file"), err)
}
