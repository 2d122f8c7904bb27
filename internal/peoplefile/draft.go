package peoplefile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/usher/tasks"
)

// draft is a row on its way to a recipient.
type draft struct {
	recipient tasks.Recipient // begins as the defaults, without an address
	own       map[string]any  // the row's own public_metadata; nil leaves the default's
	keys      map[string]any  // of public_metadata.KEY
	faults    []Invalid       // without their place and raw text
}

func (d *draft) bad(field, format string, args ...any) {
	d.faults = append(d.faults, Invalid{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// flags are the words of CSV for true and false.
var flags = map[string]bool{"true": true, "1": true, "yes": true, "false": false, "0": false, "no": false}

// setCell takes a cell of CSV.
func (d *draft) setCell(c column, cell string) {
	cell = strings.Clone(strings.TrimSpace(cell)) // without the clone, the cell would keep its whole row in memory
	if cell == "" || c.field == "" {
		return
	}
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
	case c.field == fieldNotify, c.field == fieldIgnoreExisting:
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
		text(&r.EmailAddress)
	case c.field == fieldRedirect:
		text(&r.RedirectURL)
	case c.field == fieldTemplate:
		text(&r.TemplateSlug)
	case c.field == fieldOnDuplicate:
		text((*string)(&r.OnDuplicate))
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

// finish puts the metadata together and checks the recipient.
func (d *draft) finish() tasks.Recipient {
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
	d.recipient.PublicMetadata = metadata
	d.recipient = d.recipient.Normalize()
	if strings.ContainsRune(d.recipient.EmailAddress, utf8.RuneError) {
		d.bad(fieldEmail, "has a character that was lost when the file was converted (U+FFFD)")
	}
	known := len(d.faults) // faults that tasks finds are added only for other fields
	for _, invalid := range tasks.Faults(d.recipient.Validate()) {
		if !slices.ContainsFunc(d.faults[:known], func(f Invalid) bool { return f.Field == invalid.Field }) {
			d.bad(invalid.Field, "%s", invalid.Reason)
		}
	}
	return d.recipient
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
