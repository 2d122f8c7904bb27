package main

import (
	"fmt"
	"slices"
	"strings"

	"example.com/usher/internal/peoplefile"
)

// ListFlags say how a file of recipients is to be read. kong calls AfterApply when it has read them.
type ListFlags struct {
	EmailColumn     string   `placeholder:"C" help:"Name of the column that holds the addresses."`
	Map             []string `sep:"none" placeholder:"FIELD=C" help:"Take a field from the column C. Repeatable."`
	NoHeader        bool     `help:"The first line is a person; columns have numbers, as in --email-column 2."`
	Sheet           string   `placeholder:"NAME" help:"The sheet of a workbook."`
	Encoding        string   `placeholder:"E" help:"What the file is written in if not UTF-8, such as windows-1252."`
	IgnoreColumns   bool     `help:"Ignore columns that are no option of an invitation."`
	Split           bool     `help:"Invite each address of a cell that holds several."`
	IncludeOptedOut bool     `help:"Invite also people whom the file marks as not to be written to."`
	AcceptGuesses   bool     `help:"Go on though the file can be read in more than one way."`

	columns map[string]string // by field
}

// AfterApply reads the flags.
func (f *ListFlags) AfterApply() error {
	f.columns = map[string]string{}
	for _, text := range f.Map {
		field, column, err := peoplefile.ParseMap(text)
		if err != nil {
			return usage("--map: %v", err)
		}
		if _, twice := f.columns[field]; twice || field == "email_address" && f.EmailColumn != "" {
			return usage("--map: two columns are named for %s", field)
		}
		f.columns[field] = column
	}
	if f.Encoding != "" {
		if err := peoplefile.CheckEncoding(f.Encoding); err != nil {
			return usage("--encoding: %v", err)
		}
	}
	return nil
}

func (f *ListFlags) readOptions() peoplefile.Options {
	return peoplefile.Options{
		EmailColumn: f.EmailColumn, Map: f.columns, NoHeader: f.NoHeader, Sheet: f.Sheet, Encoding: f.Encoding,
		IgnoreColumns: f.IgnoreColumns, Split: f.Split, IncludeOptedOut: f.IncludeOptedOut,
	}
}

// judgeGuesses stops where a reading may be wrong, unless somebody says that it is right.
func (c *bulkCommand) judgeGuesses(a *app, file peoplefile.File) error {
	switch {
	case len(file.Guesses) == 0 || c.AcceptGuesses || c.DryRun:
		return nil
	case terminal(a.stdin) && !a.out.json && c.File != "-":
		return a.confirm(false, "Is that how the file is meant?")
	}
	return &usageError{
		error: fmt.Errorf("%s: read with a guess, so nothing was enqueued: %s", c.name, settle(file.Guesses)),
		more:  view{"understood": understoodView(file)},
	}
}

// settle says what makes guesses certain.
func settle(guesses []peoplefile.Guess) string {
	flags, all := peoplefile.Certain(guesses)
	var texts []string
	for _, flag := range flags {
		texts = append(texts, flag.String())
	}
	certain := strings.Join(texts, " ")
	switch {
	case all:
		return "say " + certain + ", or --accept-guesses"
	case certain != "":
		return "say " + certain + ", and correct the lines or say --accept-guesses"
	}
	return "correct the lines, or say --accept-guesses"
}

// mostLines is how many lines of a kind a person is shown.
const mostLines = 10

// understood tells a person how a file was read.
func understood(f peoplefile.File, name string, tell func(format string, args ...any)) {
	u := f.Understood
	form, header := u.Form, ""
	if u.Sheet != "" {
		form += fmt.Sprintf(", sheet %q", u.Sheet)
	}
	if u.Export != "" {
		form += ", " + u.Export
	}
	if u.Encoding != "" {
		form += ", " + u.Encoding
	}
	if u.Header > 1 {
		header = fmt.Sprintf(", header in line %d", u.Header)
	}
	tell("%s: %s, %s%s. Columns: %s.", name, form, plural(u.Rows, "row"), header, uses(u.Columns))
	if len(u.PassedOver) > 0 {
		tell("Passed over: %s.", quoted(u.PassedOver))
	}
	if len(u.Options) > 0 {
		tell("Not taken unless --map says so: %s.", uses(u.Options))
	}
	if lines := slices.Concat(u.Preamble, u.Footer); len(lines) > 0 {
		tell("Passed over: %s.", numbers(lines))
	}
	if len(f.LeftOut) > 0 {
		tell("Left out: %s.", reasons(f))
	}
	lines(f.LeftOut, tell, func(l peoplefile.LeftOut) string {
		if l.Why == peoplefile.NoAddress {
			return ""
		}
		return fmt.Sprintf("%s %s", l.Place, l.Reason)
	})
	lines(f.Duplicates, tell, func(d peoplefile.Duplicate) string {
		if !d.Cleaned {
			return ""
		}
		return fmt.Sprintf("%s is the address of %s, once it is cleaned: counted once", d.Place, d.First)
	})
	plain := slices.DeleteFunc(slices.Clone(f.Duplicates), func(d peoplefile.Duplicate) bool { return d.Cleaned })
	if len(plain) > 0 {
		tell("Duplicates, of which the first line counts: %s.", first(plain, mostLines, func(d peoplefile.Duplicate) string {
			return fmt.Sprintf("%s (of %s)", d.Place, d.First)
		}))
	}
	lines(f.Notes, tell, func(n peoplefile.Note) string { return fmt.Sprintf("%s %s", n.Place, n.Text) })
	if u.Further > 0 {
		tell("People with further addresses, which are not used: %d.", u.Further)
	}
	if len(f.Cleaned) > 0 {
		tell("Addresses that were cleaned: %d.", len(f.Cleaned))
	}
	for _, warning := range u.Warnings {
		tell("Note: %s.", warning)
	}
	lines(f.Guesses, tell, func(g peoplefile.Guess) string { return "Guess: " + g.String() })
	if len(f.Guesses) > 0 {
		tell("To be certain, %s.", settle(f.Guesses))
	}
	var sample []string
	for _, r := range f.Sample() {
		sample = append(sample, r.EmailAddress)
	}
	if len(sample) > 0 {
		tell("The first: %s.", strings.Join(sample, ", "))
	}
}

// lines tells the first lines of a list that have something to say.
func lines[T any](list []T, tell func(format string, args ...any), text func(T) string) {
	told, more := 0, 0
	for _, one := range list {
		switch line := text(one); {
		case line == "":
		case told < mostLines:
			told++
			tell("%s", line)
		default:
			more++
		}
	}
	if more > 0 {
		tell("… and %s more (--json shows all).", plural(more, "line"))
	}
}

// reasons counts who was left out, and why.
func reasons(f peoplefile.File) string {
	words := map[peoplefile.Why]string{
		peoplefile.OptedOut: "not to be written to", peoplefile.NoAddress: "without an address",
		peoplefile.Hidden: "hidden or filtered", peoplefile.Struck: "struck through",
	}
	counts := map[string]int{}
	for why, n := range leftOut(f) {
		counts[words[why]] = n
	}
	return counted("", counts, "")
}

// leftOut counts who was left out.
func leftOut(f peoplefile.File) map[peoplefile.Why]int {
	counts := map[peoplefile.Why]int{}
	for _, l := range f.LeftOut {
		counts[l.Why]++
	}
	return counts
}

func uses(columns []peoplefile.Use) string {
	use := func(c peoplefile.Use) string { return fmt.Sprintf("%q is %s", c.Column, c.Field) }
	return first(columns, 2*mostLines, use)
}

func quoted(names []string) string {
	return "columns " + first(names, mostLines, func(name string) string { return fmt.Sprintf("%.60q", name) })
}

// first lists the first ones, and says how many there are more.
func first[T any](list []T, most int, text func(T) string) string {
	var texts []string
	for _, one := range list[:min(len(list), most)] {
		texts = append(texts, text(one))
	}
	if more := len(list) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

func numbers(lines []int) string {
	texts := make([]string, len(lines))
	for i, line := range lines {
		texts[i] = fmt.Sprint(line)
	}
	if len(lines) == 1 {
		return "line " + texts[0]
	}
	return "lines " + strings.Join(texts, ", ")
}

// understoodView is what a program is told of how a file was read.
func understoodView(f peoplefile.File) view {
	u := f.Understood
	use := func(c peoplefile.Use) view { return view{"column": c.Column, "field": c.Field} }
	left, counts := leftOut(f), view{}
	for _, why := range []peoplefile.Why{
		peoplefile.OptedOut, peoplefile.NoAddress, peoplefile.Hidden, peoplefile.Struck,
	} {
		counts[string(why)] = left[why]
	}
	flags := func(g peoplefile.Guess) []string {
		texts := []string{}
		for _, flag := range g.Flags {
			texts = append(texts, flag.String())
		}
		return texts
	}
	return view{
		"form": u.Form, "export": known(u.Export), "encoding": known(u.Encoding), "sheet": known(u.Sheet),
		"header_line": known(u.Header), "columns": views(u.Columns, use), "not_mapped": views(u.Options, use),
		"passed_over":    append([]string{}, u.PassedOver...),
		"preamble_lines": append([]int{}, u.Preamble...), "footer_lines": append([]int{}, u.Footer...),
		"rows": u.Rows, "recipients": u.Recipients, "left_out": counts, "further_addresses": u.Further,
		"left_out_rows": views(f.LeftOut, func(l peoplefile.LeftOut) view {
			return view{"line": l.Line, "why": l.Why, "reason": l.Reason}
		}),
		"duplicate_rows": views(f.Duplicates, func(d peoplefile.Duplicate) view {
			return view{"line": d.Line, "first_line": d.First.Line, "cleaned": d.Cleaned}
		}),
		"cleaned_lines": placed(f.Cleaned),
		"notes":         views(f.Notes, func(n peoplefile.Note) view { return view{"line": n.Line, "text": n.Text} }),
		"warnings":      append([]string{}, u.Warnings...),
		"guesses": views(f.Guesses, func(g peoplefile.Guess) view {
			return view{"line": known(g.Line), "guess": g.What, "flags": flags(g)}
		}),
		"sample": f.Sample(),
	}
}

func placed(places []peoplefile.Place) []int {
	lines := make([]int, len(places))
	for i, p := range places {
		lines[i] = p.Line
	}
	return lines
}
