package peoplefile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"example.com/usher/tasks"
)

// The forms of files.
const (
	formCSV      = "CSV"
	formJSON     = "JSON"
	formLines    = "JSON lines"
	formWorkbook = ".xlsx"
)

// Understood says how a file was read.
type Understood struct {
	Form       string // CSV, JSON, JSON lines or .xlsx
	Export     string // the known program that wrote it, with the year; "" if it is none
	Encoding   string // as Options.Encoding asked; "" otherwise
	Sheet      string // of a workbook
	Header     int    // its line; 0 if there is none
	Rows       int    // of people, the bad ones and those left out among them
	Recipients int
	Columns    []Use    // those that count
	PassedOver []string // headings of the others; what stands under them is never shown
	Options    []Use    // headings that look like options of an invitation; only Options.Map takes them
	Preamble   []int    // lines in front of the header that were passed over
	Footer     []int    // lines at the end that were
	Further    int      // people who have more addresses than the one that counts
	Warnings   []string // what cannot be known
}

// Use is a column and the field that it sets.
type Use struct {
	Column string
	Field  string
}

// Why says why a person was left out.
type Why string

// The reasons to leave somebody out.
const (
	OptedOut  Why = "opted_out"  // a column says not to write to the person
	NoAddress Why = "no_address" // as is usual in this export
	Hidden    Why = "hidden"     // the row is hidden or filtered
	Struck    Why = "struck"     // a cell of the row is struck through
)

// LeftOut is a row that is no recipient, and no fault.
type LeftOut struct {
	Place
	Why    Why
	Reason string
}

// Note is something to know about a row.
type Note struct {
	Place
	Text string
}

// Guess is a part of the reading that may be wrong. Flags make it certain; without any, only the sender can tell.
type Guess struct {
	Line  int // 0 if it is about no line
	What  string
	Flags []Flag
}

// String says what was guessed, and in which line.
func (g Guess) String() string {
	if g.Line > 0 {
		return fmt.Sprintf("in line %d %s", g.Line, g.What)
	}
	return g.What
}

// Flag is an option of the command, or a key of a schedule, that settles a guess. A value of "" is a plain switch.
type Flag struct {
	Name  string
	Value string
}

// String writes the flag for a shell.
func (f Flag) String() string {
	value := shortened(f.Value)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r)
	}
	name := "--" + f.Name + " "
	if strings.HasPrefix(value, "-") {
		name = "--" + f.Name + "=" // or it would be taken for another flag
	}
	switch {
	case f.Value == "":
		return "--" + f.Name
	case !strings.ContainsFunc(value, func(r rune) bool { return !plain(r) }):
		return name + value
	case strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		quoted := strconv.Quote(value) // as in Bash, such as $'two\nlines'
		quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
		return name + "$'" + strings.ReplaceAll(quoted, "'", `\'`) + "'"
	}
	return name + "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// Key writes the flag as a key of a schedule.
func (f Flag) Key() string {
	value := "true"
	if f.Value != "" {
		value = strconv.Quote(shortened(f.Value))
	}
	return strings.ReplaceAll(f.Name, "-", "_") + ": " + value
}

// shortened is a text of the file as long as a message can bear.
func shortened(text string) string {
	const most = 1_000
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func flagsOf(flags []Flag) string {
	texts := make([]string, len(flags))
	for i, flag := range flags {
		texts[i] = flag.String()
	}
	return strings.Join(texts, " ")
}

// Certain are the flags that settle the guesses, each once; all tells whether they settle every one.
func Certain(guesses []Guess) (flags []Flag, all bool) {
	all = true
	for _, guess := range guesses {
		all = all && len(guess.Flags) > 0
		for _, flag := range guess.Flags {
			if !slices.Contains(flags, flag) {
				flags = append(flags, flag)
			}
		}
	}
	return flags, all
}

// Sample is the first few recipients.
func (f File) Sample() []tasks.Recipient { return f.Brief().Recipients() }

// Brief gives the file with no more rows than Sample shows: the others can be freed.
func (f File) Brief() File {
	const most = 3
	f.Rows = slices.Clone(f.Rows[:min(most, len(f.Rows))])
	return f
}

// understood tells how the columns were read.
func (rd *reader) understood(l *layout) {
	u := &rd.file.Understood
	for i, h := range l.columns {
		name := h.name
		if l.header < 0 && u.Form != formJSON && u.Form != formLines {
			name = strconv.Itoa(i + 1)
		}
		switch {
		case h.used():
			u.Columns = append(u.Columns, Use{name, h.column.String()})
		case h.forbids != never:
			u.Columns = append(u.Columns, Use{name, h.forbids.String()})
		case strings.TrimSpace(h.name) == "", isFormat(h.name):
		case l.export != nil && l.export.option(h.name) != "":
			u.Options = append(u.Options, Use{name, l.export.option(h.name)})
		default:
			u.PassedOver = append(u.PassedOver, name)
		}
	}
	if l.export != nil {
		u.Export = l.export.String()
	}
}

// option is the field that a heading of the export looks like.
func (e export) option(heading string) string {
	for field, name := range e.options {
		if name == foldHeading(heading) {
			return field
		}
	}
	return ""
}
