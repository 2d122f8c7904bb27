package peoplefile

import (
	"bytes"
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
	recipient tasks.Recipient // begins as the defaults
	own       map[string]any  // the row's own public_metadata; nil leaves the default's
	keys      map[string]any  // of public_metadata.KEY
	faults    []fault
}

type fault struct{ field, reason string }

func newDraft(defaults tasks.Recipient) *draft {
	d := &draft{recipient: defaults}
	d.recipient.EmailAddress = ""
	return d
}

func (d *draft) bad(field, format string, args ...any) {
	d.faults = append(d.faults, fault{field, fmt.Sprintf(format, args...)})
}

// setCell takes a cell of CSV.
func (d *draft) setCell(c column, cell string) {
	cell = strings.Clone(strings.TrimSpace(cell)) // the cell is a piece of its whole row
	if cell == "" || c.field == "" {
		return
	}
	if c.key != "" {
		d.setKey(c.key, cell)
		return
	}
	switch c.field {
	case fieldMetadata:
		d.setMetadata([]byte(cell))
	case fieldNotify, fieldIgnoreExisting:
		switch strings.ToLower(cell) {
		case "true", "1", "yes":
			d.setFlag(c.field, true)
		case "false", "0", "no":
			d.setFlag(c.field, false)
		default:
			d.bad(c.field, "%s is none of true, 1, yes, false, 0, no", show(cell))
		}
	case fieldExpires:
		d.setDays(cell)
	default:
		d.setText(c.field, cell)
	}
}

// setJSON takes the value of a key.
func (d *draft) setJSON(c column, value json.RawMessage) {
	if value[0] == 'n' { // null
		return
	}
	if c.key != "" {
		var v any
		if err := decodeJSON(value, &v); err != nil {
			d.bad(c.String(), "%v", err)
			return
		}
		d.setKey(c.key, v)
		return
	}
	switch c.field {
	case fieldMetadata:
		d.setMetadata(value)
	case fieldNotify, fieldIgnoreExisting:
		if value[0] != 't' && value[0] != 'f' {
			d.bad(c.field, "is %s, not true or false", kindOf(value))
			return
		}
		d.setFlag(c.field, value[0] == 't')
	case fieldExpires:
		if kindOf(value) != kindNumber {
			d.bad(c.field, "is %s, not a number", kindOf(value))
			return
		}
		d.setDays(string(value))
	default:
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			d.bad(c.field, "is %s, not a string", kindOf(value))
			return
		}
		if text = strings.TrimSpace(text); text != "" {
			d.setText(c.field, text)
		}
	}
}

func (d *draft) setText(field, text string) {
	switch field {
	case fieldEmail:
		d.recipient.EmailAddress = text
	case fieldRedirect:
		d.recipient.RedirectURL = text
	case fieldTemplate:
		d.recipient.TemplateSlug = text
	case fieldOnDuplicate:
		d.recipient.OnDuplicate = tasks.OnDuplicate(text)
	}
}

func (d *draft) setFlag(field string, value bool) {
	if field == fieldNotify {
		d.recipient.NoNotify = !value
		return
	}
	d.recipient.IgnoreExisting = value
}

// setDays refuses a 0, which in a Recipient would mean Clerk's default and not what the row says.
func (d *draft) setDays(text string) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		d.bad(fieldExpires, "%s is not a whole number", show(text))
	case n == 0:
		d.bad(fieldExpires, "0 is not between 1 and %d", tasks.MaxExpiresInDays)
	default:
		d.recipient.ExpiresInDays = n
	}
}

func (d *draft) setKey(key string, value any) {
	if d.keys == nil {
		d.keys = map[string]any{}
	}
	d.keys[key] = value
}

func (d *draft) setMetadata(text []byte) {
	if text[0] != '{' {
		d.bad(fieldMetadata, "is not a JSON object such as {\"plan\": \"pro\"}")
		return
	}
	own := map[string]any{}
	if err := decodeJSON(text, &own); err != nil {
		d.bad(fieldMetadata, "%v", err)
		return
	}
	d.own = own
}

// finish puts the metadata together and checks everything.
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
	d.validate()
	return d.recipient
}

// validate adds what tasks finds wrong, except about fields that are known to be bad already.
func (d *draft) validate() {
	if strings.ContainsRune(d.recipient.EmailAddress, utf8.RuneError) {
		d.bad(fieldEmail, "has a character that was lost when the file was converted (U+FFFD)")
	}
	known := len(d.faults)
	for _, invalid := range tasks.Faults(d.recipient.Validate()) {
		if !slices.ContainsFunc(d.faults[:known], func(f fault) bool { return f.field == invalid.Field }) {
			d.bad(invalid.Field, "%s", invalid.Reason)
		}
	}
}

// decodeJSON reads exactly one value; numbers keep their digits.
func decodeJSON(text []byte, into any) error {
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

// notJSON words a syntax error without the words of Go.
func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "unexpected end") {
		return errors.New("is not valid JSON: it ends in the middle")
	}
	return fmt.Errorf("is not valid JSON: %w", err)
}

const kindNumber = "a number"

// kindOf names the kind of a valid JSON value by its first byte.
func kindOf(value json.RawMessage) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return kindNumber
}
