package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/visible"
	"example.com/usher/tasks"
)

// output writes what a command has to say: sentences and tables for a person, or JSON for a program.
type output struct {
	stdout, stderr io.Writer
	json           bool
	sandbox        bool // it is asked
	work           *work
	failed         error // what writing to stdout met first

	// into is the file that a list goes into, as CSV or JSON lines; nil if it goes to stdout. What is said beside it
	// goes to stderr then. told is that JSON was not asked for but by the file's name: people are told in words.
	into  io.Writer
	told  bool
	given int // rows of the list
}

// say writes a line for a person; with --json, nothing.
func (o *output) say(format string, args ...any) {
	if !o.json {
		_, err := fmt.Fprintln(o.stdout, visible.Text(fmt.Sprintf(format, args...)))
		o.failed = cmp.Or(o.failed, err)
	}
}

// sayIf is say, if something holds.
func (o *output) sayIf(holds bool, format string, args ...any) {
	if holds {
		o.say(format, args...)
	}
}

// note writes a line about the way there, which is no part of the answer.
func (o *output) note(format string, args ...any) {
	if !o.json || o.told {
		fmt.Fprintln(o.stderr, visible.Text(fmt.Sprintf(format, args...)))
	}
}

// view is what is shown of something, by field.
type view = map[string]any

// views gives the views of a list.
func views[T any](list []T, viewOf func(T) view) []view {
	all := make([]view, 0, len(list))
	for _, one := range list {
		all = append(all, viewOf(one))
	}
	return all
}

// table writes some fields of all rows for a person, or a sentence if there are no rows.
func (o *output) table(none, fields string, rows []view) {
	if len(rows) == 0 && none != "" {
		o.say("%s", none)
	}
	if len(rows) == 0 || o.json {
		return
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	columns, header, configs := strings.Split(fields, ","), table.Row{}, []table.ColumnConfig{}
	widths := make([]int, len(columns))
	for i, column := range columns {
		name := strings.ReplaceAll(column, "_", " ")
		header, widths[i] = append(header, name), text.StringWidth(name)
	}
	t.AppendHeader(header)
	for _, row := range rows {
		var cells table.Row
		for i, column := range columns {
			cell := shown(row[column], "-", local)
			if text, isText := cell.(string); isText {
				cell = visible.Text(text)
			}
			cells, widths[i] = append(cells, cell), max(widths[i], text.LongestLineLen(fmt.Sprint(cell)))
		}
		t.AppendRow(cells)
	}
	fit, space := fitting(widths, o.width())
	if !space {
		t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", ""
	}
	for i, width := range fit {
		enforce := text.WrapSoft
		if width < widths[i] && width < widestCell {
			enforce = text.WrapText // a word may be too long
		}
		configs = append(configs, table.ColumnConfig{Number: i + 1, WidthMax: width, WidthMaxEnforcer: enforce})
	}
	t.SetColumnConfigs(configs)
	o.say("%s", t.Render())
}

const (
	widestCell   = 48 // what is wider is wrapped
	narrowestFit = 8  // no column is made narrower so that the table fits
)

// fitting narrows the widest columns of a table until it is no wider than the terminal, if it can; 0: there is none.
// If it cannot, the cells have no space beside their lines either.
func fitting(widths []int, terminal int) (fit []int, space bool) {
	const line, spaces = 1, 2
	fit, width := narrowed(widths, line+spaces, terminal)
	if terminal == 0 || width <= terminal {
		return fit, true
	}
	fit, _ = narrowed(widths, line, terminal)
	return fit, false
}

// narrowed narrows columns, each of which takes some more, and gives the width of the table.
func narrowed(widths []int, more, terminal int) (fit []int, sum int) {
	fit, sum = make([]int, len(widths)), 1
	for i, width := range widths {
		fit[i] = min(width, widestCell)
		sum += fit[i] + more
	}
	for terminal > 0 && sum > terminal {
		widest := slices.Index(fit, slices.Max(fit))
		if fit[widest] <= narrowestFit {
			break
		}
		fit[widest]--
		sum--
	}
	return fit, sum
}

// width is that of the terminal to which the answer goes; 0 if it goes elsewhere.
func (o *output) width() int {
	to := o.stdout
	if s, ok := to.(*stream); ok {
		to = s.to
	}
	if played, ok := to.(interface{ Width() int }); ok {
		return played.Width() // in tests
	}
	if file, ok := to.(*os.File); ok && terminal(file) {
		width, _, _ := term.GetSize(int(file.Fd()))
		return width
	}
	return 0
}

// object writes one JSON object for a program; without --json, nothing.
func (o *output) object(v view) {
	if o.json {
		o.failed = cmp.Or(o.failed, encode(o.to(), v))
	}
}

// to is where rows and objects go.
func (o *output) to() io.Writer {
	if o.into != nil {
		return o.into
	}
	return o.stdout
}

func encode(w io.Writer, v view) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, visible.Text(b.String())) // \u202e is the same JSON
	return err
}

// known is what a program is shown of a value that may be unknown, which is null then.
func known(v any) any {
	value := reflect.Indirect(reflect.ValueOf(v))
	if !value.IsValid() || value.IsZero() {
		return nil
	}
	if t, isTime := value.Interface().(time.Time); isTime {
		return t.UTC()
	}
	return value.Interface()
}

// viewOf shows the fields of a struct by their names in JSON. A text, a time and a pointer may be unknown.
func viewOf[T any](v T) view {
	shown, value := view{}, reflect.ValueOf(v)
	for _, field := range reflect.VisibleFields(value.Type()) {
		if !field.IsExported() {
			continue
		}
		one := value.FieldByIndex(field.Index).Interface()
		switch field.Type.Kind() {
		case reflect.String, reflect.Struct, reflect.Pointer:
			one = known(one)
		}
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" && !field.Anonymous {
			shown[name] = one
		}
	}
	return shown
}

// shown is a value in a cell of a table or of CSV.
func shown(v any, none string, instant func(time.Time) string) any {
	switch v := v.(type) {
	case nil:
		return none
	case time.Time:
		return instant(v)
	case json.RawMessage:
		return string(v)
	case view: // of a standstill
		return v["message"]
	case map[string]int: // how many of each kind
		return counted("", v, "")
	}
	return v
}

// rawFlag says that cells are written as they are.
type rawFlag struct {
	Raw bool `help:"Write cells as they are, though a spreadsheet may take them for formulas."`
}

// outputFlag says where an export goes.
type outputFlag struct {
	Output string `short:"o" placeholder:"PATH" help:"Write to this new file, not to standard output."`
	rawFlag
}

// export writes rows as CSV with some columns or, with --json or into a file of such a name, as JSON lines.
func (f outputFlag) export(o *output, columns string, each rows) (err error) {
	into := o.to()
	if f.Output != "" {
		file, createErr := create(f.Output)
		if createErr != nil {
			return createErr
		}
		o.work.makes(f.Output)
		rows, list := 0, each
		each = func(write func(view) error) error {
			return list(func(row view) error {
				rows++
				return write(row)
			})
		}
		defer func() {
			partial, other := store.SplitPartial(err)
			if rows == 0 {
				partial, other = nil, err
			}
			if err = o.work.wrote(file, other); err == nil {
				o.note("%s written to %s.", plural(rows, "row"), f.Output)
				err = partial
			}
		}()
		into = file
	}
	if o.json || asJSON(f.Output) {
		buffered := bufio.NewWriter(into)
		return errors.Join(each(func(row view) error { return encode(buffered, row) }), buffered.Flush())
	}
	return f.csv(into, strings.Split(columns, ","), each)
}

// csv writes rows as CSV that a spreadsheet can open: no cell is a formula, and a column says so to whoever reads it
// back. A file begins with the mark of UTF-8. A terminal gets nothing that hides or misleads.
func (f rawFlag) csv(into io.Writer, header []string, each rows) error {
	utc := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	cell := func(v any) string {
		text := fmt.Sprint(shown(v, "", utc))
		if terminal(into) {
			text = visible.Text(text)
		}
		if !f.Raw {
			text = peoplefile.Harmless(text)
		}
		return text
	}
	w, mark := csv.NewWriter(into), []string{peoplefile.ColumnFormat}
	switch {
	case f.Raw:
		mark = nil
	case newFile(into):
		w = peoplefile.NewCSV(into)
	}
	_ = w.Write(slices.Concat(header, mark)) // an error stays until the end
	if !f.Raw {
		mark = []string{peoplefile.FormatHarmless}
	}
	err := each(func(row view) error {
		cells := make([]string, len(header), len(header)+len(mark))
		for i, column := range header {
			cells[i] = cell(row[column])
		}
		return w.Write(append(cells, mark...))
	})
	w.Flush()
	return errors.Join(err, w.Error())
}

// newFile tells whether a stream goes into a file of its own: -o or > makes one. What is written to a pipe or added to
// a file goes on behind something else, and must not begin as a file does.
func newFile(stream io.Writer) bool {
	if around, ok := stream.(interface{ newFile() bool }); ok {
		return around.newFile()
	}
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// create makes a file that must not exist.
func create(path string) (*os.File, error) {
	if path == "-" {
		return nil, usage("- is no file: give a path (without -o, lists go to standard output)")
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, usage("%s exists already and is not overwritten: move it away, or choose another path", path)
	case err != nil:
		return nil, &usageError{error: err}
	}
	return file, nil
}

// fail tells an error and gives the exit code that belongs to it.
func (o *output) fail(err error) int {
	if err = cmp.Or(err, o.failed); err == nil {
		return settings.ExitDone
	}
	exit, code, message := verdict(err)
	if o.sandbox { // whose address is not set
		message = strings.Replace(message, desk.AsksForRedis, "does worker --sandbox run?", 1)
	}
	rows := []badRow{}
	more := view{}
	if usage, ok := errors.AsType[*usageError](err); ok {
		rows = append(rows, usage.rows...)
		maps.Copy(more, usage.more)
	}
	if interrupted, ok := errors.AsType[*interruptedError](err); ok {
		more["outcome"] = interrupted.outcome
	}
	if broken, ok := errors.AsType[*brokenOffError](err); ok {
		more["outcome"] = broken.outcome
	}
	if o.json && !o.told {
		o.failure(code, message, rows, more)
		return exit
	}
	for _, row := range rows {
		fmt.Fprintln(o.stderr, visible.Text(fmt.Sprintf("line %d: %s: %s", row.Line, row.Field, row.Reason)))
	}
	fmt.Fprintln(o.stderr, "enqueue:", visible.Text(message))
	return exit
}

// failure tells a program what went wrong.
func (o *output) failure(code, message string, rows []badRow, more view) {
	answer := view{"code": code, "message": message, "rows": rows}
	maps.Copy(answer, more)
	_ = encode(o.stderr, answer)
}

// Exit codes beside those of settings.
const (
	exitDead        = 3
	exitTimeout     = 4
	exitInterrupted = 130
)

var errTimeout = errors.New("--wait-timeout passed; the task goes on")

// endedError means that what was waited for is dead, or was cancelled.
type endedError string

func (e endedError) Error() string { return string(e) }

func ended(format string, args ...any) error { return endedError(fmt.Sprintf(format, args...)) }

func isEnded(err error) bool {
	_, is := errors.AsType[endedError](err)
	return is
}

// usageError is bad usage or bad input: nothing was enqueued.
type usageError struct {
	error
	rows []badRow // what is wrong with the rows of a file
	more view     // what else a program is told
}

// badRow is what is wrong with one row of a file.
type badRow struct {
	Line   int    `json:"line"`
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (e *usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return &usageError{error: fmt.Errorf(format, args...)} }

// verdict turns an error into an exit code, a word for programs and a line for people.
func verdict(err error) (exit int, code, message string) {
	kind, message := desk.Explain(err)
	if broken, ok := errors.AsType[*brokenOffError](err); ok {
		message += "; " + broken.told
	}
	switch {
	case errors.Is(err, errNotRehearsed):
		return settings.ExitFailed, "unknown", message
	case isEnded(err):
		return exitDead, "dead", message
	case errors.Is(err, errTimeout):
		return exitTimeout, "timeout", message
	case errors.Is(err, context.Canceled):
		return exitInterrupted, "interrupted", message
	}
	if bad, isUsage := errors.AsType[*usageError](err); isUsage {
		switch {
		case slices.Contains([]desk.Kind{
			desk.Changed, desk.Unsure, desk.FullRedis, desk.Held, desk.Conflict, desk.Forgotten, desk.Setting, desk.Invalid,
		}, kind):
		case len(bad.rows) > 0:
			kind = desk.Invalid
		default:
			kind = desk.Usage
		}
	}
	switch kind {
	case desk.Conflict, desk.Forgotten, desk.Setting, desk.Invalid, desk.Usage:
		return settings.ExitUsage, string(kind), message
	}
	return settings.ExitFailed, string(kind), message
}

// local shows a time as the person's clock has it, with its offset.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -07:00") }

// clockTime shows a time as short as can be: without the day if it is today.
func clockTime(t time.Time) string {
	layout := time.DateTime
	if t = t.Local(); t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		layout = time.TimeOnly
	}
	return t.Format(layout)
}

// plural gives a count with its noun.
func plural(n int, noun string) string { return settings.Plural(n, noun) }

// sentence makes one of a text that is not empty.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

// counted is how many there are of each cause, the most frequent first, between two texts; nothing if there are none.
func counted(before string, causes map[string]int, after string) string {
	var parts []string
	for _, code := range slices.SortedFunc(maps.Keys(causes), func(a, b string) int {
		return cmp.Or(cmp.Compare(causes[b], causes[a]), cmp.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%d %s", causes[code], codeOr(code)))
	}
	if len(parts) == 0 {
		return ""
	}
	return before + strings.Join(parts, ", ") + after
}

// cause is a failure in a few words.
func cause(f *tasks.Failure) string {
	switch {
	case f == nil:
		return "no cause is known"
	case f.Reason == "": // of an attempt that failed, and is not the end
		return "an attempt failed: " + f.Message
	}
	said := fate.Failure{HTTPStatus: f.HTTPStatus, Code: f.Code, Message: f.Message}
	return strings.TrimRight(f.Reason+": "+said.Words(), ": .")
}

// codeOr is a code, or says that there is none.
func codeOr(code string) string { return cmp.Or(code, "without a code") }
