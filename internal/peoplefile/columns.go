package peoplefile

import (
	"strings"
	"unicode"
)

// The names of the request's fields: Clerk's, and the last one ours.
const (
	fieldEmail          = "email_address"
	fieldMetadata       = "public_metadata"
	fieldRedirect       = "redirect_url"
	fieldNotify         = "notify"
	fieldIgnoreExisting = "ignore_existing"
	fieldExpires        = "expires_in_days"
	fieldTemplate       = "template_slug"
	fieldOnDuplicate    = "on_duplicate"
)

// fields finds a field by the folded name of a column.
var fields = map[string]string{
	"email": fieldEmail, "emailaddress": fieldEmail, "publicmetadata": fieldMetadata, "redirecturl": fieldRedirect,
	"notify": fieldNotify, "ignoreexisting": fieldIgnoreExisting, "expiresindays": fieldExpires,
	"templateslug": fieldTemplate, "onduplicate": fieldOnDuplicate,
}

// column is what a column, or a key of a JSON object, sets.
type column struct {
	field string // "" for a column that is ignored
	key   string // of the metadata, for public_metadata.KEY
}

func (c column) String() string {
	if c.key != "" {
		return c.field + "." + c.key
	}
	return c.field
}

// column finds the column of a name. It reports false if there is none.
func (o Options) column(name string) (column, bool) {
	folded := foldName(name)
	if o.EmailColumn != "" && folded == foldName(o.EmailColumn) {
		return column{field: fieldEmail}, true
	}
	if head, key, dotted := strings.Cut(name, "."); dotted {
		key = strings.TrimSpace(key)
		return column{field: fieldMetadata, key: key}, fields[foldName(head)] == fieldMetadata && key != ""
	}
	field := fields[folded]
	return column{field: field}, field != "" && (field != fieldEmail || o.EmailColumn == "")
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
	email := "email_address (or email)"
	if o.EmailColumn != "" {
		email = show(o.EmailColumn)
	}
	return strings.Join([]string{email, fieldMetadata, fieldMetadata + ".KEY", fieldRedirect, fieldNotify,
		fieldIgnoreExisting, fieldExpires, fieldTemplate, fieldOnDuplicate}, ", ")
}
