package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"example.com/usher/tasks"
)

// Correction is what a row says of a request that exists already: the fields to change. A field that it does not
// name stays, and one that it leaves empty is cleared.
type Correction struct {
	Place
	Keys   map[string]string // the cells of the columns by which the request is found
	Faults []Invalid         // why the row cannot be read

	rd    *reader
	given []given
}

// given is a field as a row has it.
type given struct {
	column
	cell  string // of a table
	value any    // of JSON, if the row is an object
	json  bool
}

func (g given) empty() bool {
	text, isText := g.value.(string)
	switch {
	case !g.json:
		return strings.TrimSpace(g.cell) == ""
	case isText:
		return strings.TrimSpace(text) == ""
	}
	return g.value == nil
}

// corrections gathers the rows of a file of corrections.
type corrections struct {
	keys, passedOver []string
	rows             []Correction
}

// ReadCorrections reads a file of corrections, in any form that Read reads: a column for each field, columns that
// say which request is meant, which each row must fill in, and columns that are passed over.
func ReadCorrections(r io.Reader, opts Options, keys, passedOver []string) ([]Correction, error) {
	rd := newReader(opts)
	rd.corrects = &corrections{keys: keys, passedOver: passedOver}
	data, err := io.ReadAll(io.LimitReader(r, int64(rd.opts.MaxBytes)+1))
	switch {
	case err != nil:
		return nil, unread(opts, err)
	case len(data) > rd.opts.MaxBytes:
		return nil, rd.fault(0, "is larger than %d bytes: split it", rd.opts.MaxBytes)
	}
	if err = rd.read(data); err == nil {
		err = rd.unknownFault()
	}
	return rd.corrects.rows, err
}

// ReadCorrectionsFile is ReadCorrections of the file at a path.
func ReadCorrectionsFile(path string, opts Options, keys, passedOver []string) ([]Correction, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return ReadCorrections(file, opts, keys, passedOver)
}

// ParseCorrection reads fields to change as a person types them: FIELD=VALUE.
func ParseCorrection(texts []string) (Correction, error) {
	c := Correction{rd: newReader(Options{})}
	for _, text := range texts {
		name, value, found := strings.Cut(text, "=")
		column, known := columnOf(name)
		switch {
		case !found:
			return c, fmt.Errorf("%s is not FIELD=VALUE, such as public_metadata.plan=pro", show(text))
		case !known:
			return c, fmt.Errorf("%s is no field: known are %s", show(name), knownFields(fieldEmail))
		case c.names(column):
			return c, fmt.Errorf("%s is given twice", column)
		}
		c.given = append(c.given, given{column: column, cell: value})
	}
	return c, nil
}

func (c *Correction) names(column column) bool {
	return slices.ContainsFunc(c.given, func(g given) bool { return g.column == column })
}

// Email tells whether the correction names the address.
func (c *Correction) Email() bool { return c.names(column{field: fieldEmail}) }

// Apply gives the request as it is corrected, checked as Read checks it, or what is wrong with it.
func (c *Correction) Apply(request tasks.Recipient) (tasks.Recipient, []Invalid) {
	d := c.rd.draft()
	d.recipient, d.cell = request, request.EmailAddress
	d.recipient.EmailAddress = ""
	d.recipient.PublicMetadata = maps.Clone(request.PublicMetadata)
	for _, g := range c.given {
		d.clear(g.column)
	}
	for _, g := range c.given {
		switch {
		case g.empty():
		case g.json:
			d.set(g.column, g.value)
		default:
			d.setCell(c.rd, heading{column: g.column}, g.cell)
		}
	}
	d.rawKeys = "" // the metadata is made of the request's too
	recipients := d.finish(c.rd, d.people(c.rd))
	faults := slices.Concat(c.Faults, d.faults)
	for i := range faults {
		faults[i].Place = c.Place
	}
	if len(faults) > 0 || len(recipients) != 1 {
		return request, faults
	}
	return recipients[0], nil
}

// clear takes a field back to Clerk's default.
func (d *draft) clear(c column) {
	r := &d.recipient
	switch {
	case c.key != "":
		delete(r.PublicMetadata, c.key)
	case c.field == fieldEmail:
		d.cell = ""
	case c.field == fieldMetadata:
		r.PublicMetadata = nil
	case c.field == fieldRedirect:
		r.RedirectURL = ""
	case c.field == fieldNotify:
		r.NoNotify = false
	case c.field == fieldIgnoreExisting:
		r.IgnoreExisting = false
	case c.field == fieldExpires:
		r.ExpiresInDays = 0
	case c.field == fieldTemplate:
		r.TemplateSlug = ""
	case c.field == fieldOnDuplicate:
		r.OnDuplicate = ""
	case c.field == fieldOnExistingUser:
		r.OnExistingUser = ""
	}
}

// correctionColumn tells what a column is: one that says which request is meant, a field, or neither.
func (rd *reader) correctionColumn(name string) (key string, field column) {
	named := func(other string) bool { return foldName(other) == foldName(name) }
	if i := slices.IndexFunc(rd.corrects.keys, named); i >= 0 {
		return rd.corrects.keys[i], column{}
	}
	field, known := columnOf(name)
	if known {
		return "", field
	}
	if strings.TrimSpace(name) != "" && !isFormat(name) && !slices.ContainsFunc(rd.corrects.passedOver, named) {
		rd.addUnknown(name)
	}
	return "", column{}
}

// correctTable takes the corrections of a table, whose first row has the headings.
func (rd *reader) correctTable(t *table) error {
	if len(t.rows) == 0 {
		return rd.fault(0, "is empty")
	}
	names := slices.Clone(t.cells(0, nil))
	at := Place{Line: t.rows[0].line}
	if err := rd.checkCorrections(names, at); err != nil {
		return err
	}
	var cells []string
	for i := 1; i < len(t.rows); i++ {
		cells = t.cells(i, cells)
		c := rd.correction(Place{Line: t.rows[i].line})
		for rd.file.comma == 0 && len(cells) < len(names) { // a workbook leaves out empty cells at the end
			cells = append(cells, "")
		}
		if len(cells) < len(names) || !blank(cells[len(names):]) {
			c.bad("has a wrong number of cells: %d, where the header has %d", len(cells), len(names))
		}
		for j, name := range names {
			if j < len(cells) {
				c.take(name, strings.Clone(cells[j]), nil, false)
			}
		}
		if err := rd.keepCorrection(c); err != nil {
			return err
		}
	}
	return nil
}

// correctObjects takes the corrections of JSON.
func (o *objects) correctObjects() error {
	rd := o.reader
	if err := rd.checkCorrections(o.names, Place{}); err != nil {
		return err
	}
	for _, row := range o.rows {
		c := rd.correction(row.Place)
		if row.reason != "" {
			c.bad("%s", row.reason)
		} else if err := eachKey(row.text, func(name string, text json.RawMessage) {
			var value any
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.UseNumber()
			_ = decoder.Decode(&value) // it is valid
			cell, _ := value.(string)
			c.take(name, cell, value, true)
		}); err != nil {
			return rd.fault(row.Line, "%v", notJSON(err))
		}
		if err := rd.keepCorrection(c); err != nil {
			return err
		}
	}
	return nil
}

// checkCorrections refuses columns that cannot be told apart, and a file without those that say what is meant.
func (rd *reader) checkCorrections(names []string, at Place) error {
	seen := map[string]bool{}
	for _, name := range names {
		key, field := rd.correctionColumn(name)
		what := cmp.Or(key, field.String())
		if seen[what] && what != "" && at.Line > 0 {
			return rd.fault(at.Line, "has two columns for %s", what)
		}
		seen[what] = true
	}
	for _, key := range rd.corrects.keys {
		if !seen[key] {
			return rd.fault(at.Line, "has no column %s: correct a file that was exported", key)
		}
	}
	return nil
}

func (rd *reader) correction(at Place) Correction {
	return Correction{Place: at, Keys: map[string]string{}, rd: rd}
}

func (c *Correction) bad(format string, args ...any) {
	c.Faults = append(c.Faults, Invalid{Place: c.Place, Reason: fmt.Sprintf(format, args...)})
}

// take takes a cell, or a value of JSON.
func (c *Correction) take(name, cell string, value any, isJSON bool) {
	key, field := c.rd.correctionColumn(name)
	switch {
	case key != "":
		c.Keys[key] = strings.TrimSpace(cell)
	case field.field == "":
	case c.names(field):
		c.Faults = append(c.Faults, Invalid{Place: c.Place, Field: field.String(), Reason: "is given twice"})
	default:
		c.given = append(c.given, given{field, cell, value, isJSON})
	}
}

// keepCorrection takes a row. It is an error if there are too many.
func (rd *reader) keepCorrection(c Correction) error {
	for _, key := range rd.corrects.keys {
		if c.Keys[key] == "" {
			c.Faults = append(c.Faults, Invalid{Place: c.Place, Field: key, Reason: "is empty"})
		}
	}
	rd.corrects.rows = append(rd.corrects.rows, c)
	return rd.count(c.Place)
}
