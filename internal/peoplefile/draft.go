package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/usher/internal/address"
	"example.com/usher/tasks"
)

// draft is a row on its way to recipients.
type draft struct {
	recipient tasks.Recipient // begins as the defaults, without an address
	cell      string          // the address as it stands in the row
	link      string          // an address that the cell leads to
	others    string          // what columns with further addresses of the person hold
	own       map[string]any  // the row's own public_metadata; nil leaves the default's
	keys      map[string]any  // of public_metadata.KEY
	rawKeys   string          // what metadata was made of; "" if it is not known
	shared    bool            // other rows have the same metadata
	faults    []Invalid       // without their place and raw text

	unsound bool // its faults do not show in its cells

	aside   Why // it is left out
	because string
}

func (rd *reader) draft() *draft { return &draft{recipient: rd.opts.Defaults} }

func (d *draft) bad(field, format string, args ...any) {
	d.faults = append(d.faults, Invalid{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// leaveOut leaves the row out, unless it is left out already.
func (d *draft) leaveOut(why Why, because string) {
	if d.aside == "" {
		d.aside, d.because = why, because
	}
}

// forbidden leaves the row out as its column says, which counts more than that the row is hidden.
func (d *draft) forbidden(h heading) {
	if d.aside != OptedOut {
		d.aside, d.because = OptedOut, "must not be written to, as the column "+show(h.name)+" says"
	}
}

// flags are the words of CSV for true and false.
var flags = map[string]bool{
	"true": true, "1": true, "yes": true, "checked": true, "false": false, "0": false, "no": false,
}

// setCell takes a cell of a table.
func (d *draft) setCell(rd *reader, h heading, cell string) {
	c := h.column
	isFlag := c.field == fieldNotify || c.field == fieldIgnoreExisting
	if cell = strings.TrimSpace(cell); cell == "" && isFlag && h.ticked {
		cell = "false" // an empty box
	}
	switch {
	case cell == "" || c.field == "":
		return
	case c.field == fieldEmail:
		d.cell = cell
		return
	case c.field == fieldMetadata:
		d.rawKeys += c.key + "\x00" + cell + "\x00"
	}
	cell = rd.interned(cell)
	var value any = cell
	switch {
	case c.key != "": // always a string
	case c.field == fieldMetadata && cell[0] == '{':
		var own map[string]any
		if err := DecodeJSON([]byte(cell), &own); err != nil {
			d.bad(fieldMetadata, "%v", err)
			return
		}
		value = own
	case isFlag:
		flag, known := flags[strings.ToLower(cell)]
		if !known {
			d.bad(c.field, "%s is none of true, 1, yes, false, 0, no", show(cell))
			return
		}
		value = flag
	case c.field == fieldExpires:
		value = json.Number(cell)
	}
	d.set(c, value)
}

// set takes a value, decoded from JSON. null leaves the default.
func (d *draft) set(c column, value any) {
	r := &d.recipient
	text := func(field *string) {
		take(d, c, value, "a string", func(text string) { *field = cmp.Or(strings.TrimSpace(text), *field) })
	}
	switch {
	case value == nil:
	case c.key != "":
		if d.keys == nil {
			d.keys = map[string]any{}
		}
		d.keys[c.key] = value
	case c.field == fieldMetadata:
		var ok bool
		if d.own, ok = value.(map[string]any); !ok {
			d.bad(c.field, `is not a JSON object such as {"plan": "pro"}`)
		}
	case c.field == fieldNotify:
		take(d, c, value, "true or false", func(notify bool) { r.NoNotify = !notify })
	case c.field == fieldIgnoreExisting:
		take(d, c, value, "true or false", func(ignore bool) { r.IgnoreExisting = ignore })
	case c.field == fieldExpires:
		take(d, c, value, "a number", d.setDays)
	case c.field == fieldEmail:
		text(&d.cell)
	case c.field == fieldRedirect:
		text(&r.RedirectURL)
	case c.field == fieldTemplate:
		text(&r.TemplateSlug)
	case c.field == fieldOnDuplicate:
		text((*string)(&r.OnDuplicate))
	case c.field == fieldOnExistingUser:
		text((*string)(&r.OnExistingUser))
	}
}

// take uses the value if it is a T. Otherwise that is a fault, which says what the value must be.
func take[T any](d *draft, c column, value any, mustBe string, use func(T)) {
	if v, ok := value.(T); ok {
		use(v)
	} else {
		d.bad(c.field, "is %s, not %s", kindOf(value), mustBe)
	}
}

// setDays refuses 0: in a Recipient that would mean Clerk's default, and not what the row says.
func (d *draft) setDays(days json.Number) {
	n, err := strconv.Atoi(string(days))
	switch {
	case err != nil:
		d.bad(fieldExpires, "%s is not a whole number", show(string(days)))
	case n == 0:
		d.bad(fieldExpires, "0 is not between 1 and %d", tasks.MaxExpiresInDays)
	default:
		d.recipient.ExpiresInDays = n
	}
}

// people finds the addresses of the row, or what is wrong with them.
func (d *draft) people(rd *reader) []person {
	cell, linked := d.cell, d.link != "" && !holdsAddress(d.cell)
	if linked {
		cell = d.link
	}
	if address.Trim(cell) == "" {
		return nil
	}
	people, fault := peopleOf(cell, rd.opts.Split && !linked)
	if linked && strings.Count(cell, "@") > 1 {
		fault = "has a link to several addresses behind a text that is none"
	}
	switch {
	case fault != "":
		d.unsound = d.unsound || linked
		d.bad(fieldEmail, "%s", fault)
		return nil
	case d.link == "":
	case linked:
		people[0].linked, people[0].cleaned = true, true
	case len(people) > 1 || tasks.FoldAddress(people[0].address) != tasks.FoldAddress(d.link):
		d.unsound = true
		d.bad(fieldEmail, "is one address, and the link behind it leads to another")
	}
	return people
}

// finish puts the metadata together and checks the recipients, one for each person.
func (d *draft) finish(rd *reader, people []person) (recipients []tasks.Recipient) {
	d.recipient.PublicMetadata = d.metadata(rd)
	known := len(d.faults) // faults that tasks finds are added only for other fields
	if len(people) == 0 {
		d.check(d.recipient, known)
	}
	for _, p := range people {
		recipient := d.recipient
		recipient.EmailAddress = p.address
		recipient = recipient.Normalize()
		if strings.ContainsRune(p.address, utf8.RuneError) {
			d.bad(fieldEmail, "has a character that was lost when the file was converted (U+FFFD)")
			known = len(d.faults)
		}
		d.check(recipient, known)
		recipients = append(recipients, recipient)
	}
	return recipients
}

// check takes the faults that tasks finds, each once.
func (d *draft) check(recipient tasks.Recipient, known int) {
	for _, invalid := range tasks.Faults(recipient.Validate()) {
		same := func(f Invalid) bool { return f.Field == invalid.Field && f.Reason == invalid.Reason }
		if slices.ContainsFunc(d.faults[:known], func(f Invalid) bool { return f.Field == invalid.Field }) ||
			slices.ContainsFunc(d.faults, same) {
			continue
		}
		d.bad(invalid.Field, "%s", invalid.Reason)
	}
}

// conflicts refuses a row whose address is that of an earlier one only since it was cleaned, with other options:
// nobody can tell which were meant.
func (d *draft) conflicts(rd *reader, recipients []tasks.Recipient, people []person) {
	for i, recipient := range recipients {
		number, found := rd.seen[tasks.FoldAddress(recipient.EmailAddress)]
		if !found {
			continue
		}
		first := rd.file.Rows[number]
		recipient.EmailAddress = first.address
		if (first.cleaned || people[i].cleaned) && !reflect.DeepEqual(first.Recipient(), recipient) {
			d.bad(fieldEmail, "is the address of %s, once it is cleaned, with other options", first.Place)
		}
	}
}

// metadata is the public metadata of the row. Rows that say the same share one map.
func (d *draft) metadata(rd *reader) map[string]any {
	d.shared = true
	if shared, found := rd.shared[d.rawKeys]; found && d.rawKeys != "" {
		return shared
	}
	faults := len(d.faults)
	metadata := d.recipient.PublicMetadata
	if d.own != nil {
		metadata = d.own
	}
	if len(d.keys) > 0 {
		merged := make(map[string]any, len(metadata)+len(d.keys))
		maps.Copy(merged, metadata)
		for _, key := range slices.Sorted(maps.Keys(d.keys)) {
			if _, twice := d.own[key]; twice {
				d.bad(fieldMetadata, "%s is given twice, within and in a column of its own", show(key))
			}
			merged[key] = d.keys[key]
		}
		metadata = merged
	}
	if len(metadata) == 0 {
		metadata = nil
	}
	const most = 4096
	if d.rawKeys != "" && len(d.faults) == 0 && faults == 0 && len(rd.shared) < most {
		rd.shared[d.rawKeys] = metadata
	} else {
		d.shared = metadata == nil || d.own == nil && len(d.keys) == 0
	}
	return metadata
}

// DecodeJSON reads exactly one value; numbers keep their digits.
func DecodeJSON(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return notJSON(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("is not valid JSON: something follows its end")
	}
	return nil
}

// notJSON says what is wrong with JSON. A text that ends too early has several errors in Go, and one here.
func notJSON(err error) error {
	cut := strings.Contains(err.Error(), "unexpected end") // of Unmarshal; the others are a Decoder's
	if cut || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is not valid JSON: it ends in the middle")
	}
	return fmt.Errorf("is not valid JSON: %w", err)
}

// kindOf names the kind of a decoded JSON value.
func kindOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case nil:
		return "null"
	}
	return "a number"
}
