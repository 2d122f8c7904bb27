package page

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

// listOrder is what a person asks for with a list.
type listOrder struct {
	File     string            `json:"file"` // its name at the person's
	Campaign string            `json:"campaign"`
	Fields   map[string]string `json:"fields"` // of the form, but for the above
}

// listForm is the form with which a list is uploaded.
type listForm struct {
	Campaign                  string
	Options, Reading, Sending []field
	Fault                     string
	Waiting                   bool // this browser has uploaded one that waits
}

// form gives the form as it was filled in.
func (o listOrder) form(fault string) listForm {
	f := listForm{
		Campaign: o.Campaign, Options: fieldsOf(tasks.Recipient{})[1:], Reading: readingFields(),
		Sending: sendingFields(), Fault: fault,
	}
	for _, fields := range [][]field{f.Options, f.Reading, f.Sending} {
		for i := range fields {
			if value, given := o.Fields[fields[i].Name]; given {
				fields[i].Value = value
			}
		}
	}
	return f
}

// readingFields are the options of [peoplefile.Options], under the names of the command's flags.
func readingFields() []field {
	yes := []string{"no", "yes"}
	return []field{
		{Name: "email-column", Label: "Column of the addresses", Hint: "Its heading, or its number without a header"},
		{Name: "map", Label: "Fields from columns", Hint: "FIELD=COLUMN, several apart by semicolons"},
		{Name: "sheet", Label: "Sheet of the workbook"},
		{Name: "encoding", Label: "Encoding if not UTF-8", Hint: "Such as windows-1252"},
		{Name: "no-header", Label: "The first line is a person", Choices: yes, Value: "no"},
		{Name: "ignore-columns", Label: "Ignore unknown columns", Choices: yes, Value: "no"},
		{Name: "split", Label: "Invite each address of a cell that holds several", Choices: yes, Value: "no"},
		{
			Name: "include-opted-out", Label: "Invite also people marked as not to be written to", Choices: yes, Value: "no",
		},
	}
}

// sendingFields are what bulk-invite takes beside how the list is read, under the names of its flags.
func sendingFields() []field {
	return []field{
		{Name: "at", Label: "Start", Hint: "2026-12-01 09:00 in UTC, or 2026-12-01T09:00:00+01:00; empty for at once"},
		{
			Name: "retry-dead", Label: "Retry those of the list who are dead in the campaign",
			Choices: []string{"no", "yes"}, Value: "no",
		},
	}
}

// start is when the campaign shall start; zero for at once. The error is for the person.
func (o listOrder) start() (time.Time, error) {
	if o.Fields["at"] == "" {
		return time.Time{}, nil
	}
	return settings.Instant(o.Fields["at"], time.Now(), time.UTC)
}

// RetriesDead tells whether those of the list who are dead in the campaign are sent again.
func (o listOrder) RetriesDead() bool { return o.Fields["retry-dead"] == "yes" }

// options gives the order as the reader takes it. The error is for the person.
func (o listOrder) options() (peoplefile.Options, error) {
	is := func(name string) bool { return o.Fields[name] == "yes" }
	opts := peoplefile.Options{
		Name: "the list", EmailColumn: o.Fields["email-column"], Map: map[string]string{}, Sheet: o.Fields["sheet"],
		Encoding: o.Fields["encoding"], NoHeader: is("no-header"), IgnoreColumns: is("ignore-columns"),
		Split: is("split"), IncludeOptedOut: is("include-opted-out"), MaxBytes: mostList, MaxRows: tasks.MaxRecipients,
	}
	for text := range strings.SplitSeq(o.Fields["map"], ";") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		name, column, err := peoplefile.ParseMap(text)
		if err != nil {
			return opts, err
		}
		opts.Map[name] = column
	}
	if opts.Encoding != "" {
		if err := peoplefile.CheckEncoding(opts.Encoding); err != nil {
			return opts, err
		}
	}
	var given []string
	for _, f := range fieldsOf(tasks.Recipient{})[1:] {
		given = append(given, f.Name+"="+o.Fields[f.Name])
	}
	said, err := peoplefile.ParseCorrection(given)
	if err != nil {
		return opts, err
	}
	sound := tasks.Recipient{EmailAddress: "someone@example.com"} // the options are checked once, not for every row
	defaults, faults := said.Apply(sound)
	for _, fault := range faults {
		err = errors.Join(err, fmt.Errorf("%s: %s", fault.Field, fault.Reason))
	}
	opts.Defaults = defaults
	return opts, err
}

// read reads a list as it was ordered.
func (o listOrder) read(data []byte) (peoplefile.File, error) {
	opts, err := o.options()
	if err != nil {
		return peoplefile.File{}, err
	}
	return peoplefile.Read(bytes.NewReader(data), opts)
}

// inForm gives a text that was written for users of the command with the labels of the form instead of flags.
func inForm(text string) string {
	return settings.ReplaceFlags(text, func(flag string) string {
		for _, f := range slices.Concat(readingFields(), sendingFields(), fieldsOf(tasks.Recipient{})) {
			if f.Name == flag || strings.ReplaceAll(f.Name, "_", "-") == flag {
				return "“" + f.Label + "”"
			}
		}
		return strings.ReplaceAll(flag, "-", " ")
	})
}
