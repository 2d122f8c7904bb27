package peoplefile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// The names of the request's fields: Clerk's, and the last two ours.
const (
	fieldEmail          = "email_address"
	fieldMetadata       = "public_metadata"
	fieldRedirect       = "redirect_url"
	fieldNotify         = "notify"
	fieldIgnoreExisting = "ignore_existing"
	fieldExpires        = "expires_in_days"
	fieldTemplate       = "template_slug"
	fieldOnDuplicate    = "on_duplicate"
	fieldOnExistingUser = "on_existing_user"
)

// fields finds a field by the folded name of a column.
var fields = map[string]string{
	"email": fieldEmail, "emailaddress": fieldEmail, "publicmetadata": fieldMetadata, "redirecturl": fieldRedirect,
	"notify": fieldNotify, "ignoreexisting": fieldIgnoreExisting, "expiresindays": fieldExpires,
	"templateslug": fieldTemplate, "onduplicate": fieldOnDuplicate, "onexistinguser": fieldOnExistingUser,
}

// column is what a column, or a key of a JSON object, sets.
type column struct {
	field string // "" for a column that is passed over
	key   string // of the metadata, for public_metadata.KEY
}

func (c column) String() string {
	if c.key != "" {
		return c.field + "." + c.key
	}
	return c.field
}

// columnOf finds the column that has the name of a field.
func columnOf(name string) (column, bool) {
	if head, key, dotted := strings.Cut(name, "."); dotted {
		key = strings.TrimSpace(key)
		return column{field: fieldMetadata, key: key}, fields[foldName(head)] == fieldMetadata && key != ""
	}
	field := fields[foldName(name)]
	return column{field: field}, field != ""
}

// meaning finds the column of a heading. asked tells that a flag names it.
func (o Options) meaning(name string) (c column, known, asked bool) {
	c, known = columnOf(name)
	for _, asked := range o.byFlag() {
		if sameHeading(name, asked.heading) {
			return asked.column, true, true
		}
		known = known && c != asked.column // another column is named for it
	}
	if !known {
		c = column{}
	}
	return c, known, false
}

func (o Options) column(name string) (column, bool) {
	c, known, _ := o.meaning(name)
	return c, known
}

// flagged is a column that a flag names.
type flagged struct {
	column
	heading string
}

// byFlag are the columns that flags name, in the order of their fields.
func (o Options) byFlag() (all []flagged) {
	if o.EmailColumn != "" {
		all = append(all, flagged{column{field: fieldEmail}, o.EmailColumn})
	}
	for _, field := range slices.Sorted(maps.Keys(o.Map)) {
		if c, known := columnOf(field); known && (c.field != fieldEmail || o.EmailColumn == "") {
			all = append(all, flagged{c, o.Map[field]})
		}
	}
	return all
}

func (o Options) emailHeading() string { return cmp.Or(o.EmailColumn, o.Map[fieldEmail]) }

// sameHeading tells whether a heading is the one that a flag names. One with its field in brackets, as Entra writes
// them, has also the name in front of them, and the one within.
func sameHeading(heading, asked string) bool {
	asked = foldName(asked)
	if foldName(heading) == asked {
		return true
	}
	before, rest, found := strings.Cut(heading, "[")
	inside, _, closed := strings.Cut(rest, "]")
	return found && closed && (foldName(before) == asked || foldName(inside) == asked)
}

// ParseMap reads FIELD=COLUMN, as --map takes it.
func ParseMap(text string) (field, heading string, err error) {
	field, heading, found := strings.Cut(text, "=")
	c, known := columnOf(field)
	switch {
	case !found || strings.TrimSpace(heading) == "":
		return "", "", fmt.Errorf("%s is not FIELD=COLUMN, such as redirect_url=\"Redirection url\"", show(text))
	case !known:
		return "", "", fmt.Errorf("%s is no field: known are %s", show(field), knownFields(fieldEmail))
	}
	return c.String(), heading, nil
}

// foldName drops what two spellings of a column's name may differ in.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// known lists the columns for a message.
func (o Options) known() string {
	if o.emailHeading() != "" {
		return knownFields(show(o.emailHeading()))
	}
	return knownFields("email_address (or email)")
}

func knownFields(email string) string {
	return strings.Join([]string{email, fieldMetadata, fieldMetadata + ".KEY", fieldRedirect, fieldNotify,
		fieldIgnoreExisting, fieldExpires, fieldTemplate, fieldOnDuplicate, fieldOnExistingUser}, ", ")
}
