package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	optionPattern = regexp.MustCompile(`^[a-z_]{1,40}$`)
)

var errNoOption = errors.New("is no option of an invitation")

// entry is one schedule on its way from the file.
type entry struct {
	*reader
	Schedule
	line    int
	before  int            // how many faults the file had before it
	lines   map[string]int // of its keys; those of options as options.KEY
	address string
}

func (e *entry) bad(field, format string, args ...any) {
	line := e.line
	for _, key := range []string{field, "options." + field, "options"} {
		if at, ok := e.lines[key]; ok {
			line = at
			break
		}
	}
	e.fault(line, format, args...).Field = field
}

// entry reads a schedule.
func (rd *reader) entry(node ast.Node) {
	e := &entry{reader: rd, line: lineOf(node), before: len(rd.faults), lines: map[string]int{}}
	e.TimeZone = "UTC"
	title := fmt.Sprint(len(rd.schedules) + 1)
	if pairs, ok := rd.pairs(node); !ok {
		e.bad("", "is %s, not a mapping with the key name", kindOf(node))
	} else {
		if len(pairs) > 0 {
			e.line = lineOf(pairs[0].Key)
		}
		for _, pair := range pairs {
			e.lines[keyOf(pair)] = lineOf(pair.Key)
			e.set(keyOf(pair), pair.Value)
		}
		if e.checkName() {
			title = strconv.Quote(e.Name)
		}
		e.finish()
	}
	for _, fault := range rd.faults[e.before:] {
		fault.Schedule = title
	}
	rd.schedules = append(rd.schedules, e.Schedule) // a faulty one counts too
}

// checkName tells whether the schedule can be told by its name.
func (e *entry) checkName() bool {
	if _, given := e.lines["name"]; !given {
		e.bad("name", "is missing")
	}
	if e.Name == "" {
		return false
	}
	if !namePattern.MatchString(e.Name) {
		e.bad("name", "%s is not 1 to 64 letters, digits, dots, underscores and hyphens", show(e.Name))
		return false
	}
	if first, twice := e.names[e.Name]; twice {
		e.bad("name", "is that of the schedule in line %d", first)
		return true
	}
	e.names[e.Name] = e.lines["name"]
	return true
}

func (e *entry) set(key string, value ast.Node) {
	fields := map[string]any{
		"name": &e.Name, "cron": &e.Cron, "timezone": &e.TimeZone, "task": &e.Task, "email_address": &e.address,
		"file": &e.list.file, "campaign": &e.list.campaign, "email_column": &e.list.emailColumn,
		"ignore_columns": &e.list.ignoreColumns, "skip_invalid": &e.list.skipInvalid,
		"sheet": &e.list.more.Sheet, "encoding": &e.list.more.Encoding, "no_header": &e.list.more.NoHeader,
		"split": &e.list.more.Split, "include_opted_out": &e.list.more.IncludeOptedOut,
	}
	switch field := fields[key].(type) {
	case *string:
		*field = e.text(key, value)
	case *bool:
		b, ok := value.(*ast.BoolNode)
		if !ok {
			e.bad(key, "is %s, not true or false", kindOf(value))
			return
		}
		*field = b.Value
	default:
		switch key {
		case "options":
			e.options(value)
		case "map":
			e.columns(value)
		default:
			known := append(slices.Sorted(maps.Keys(fields)), "options", "map")
			e.bad(key, "is no key of a schedule%s", meant(key, known))
		}
	}
}

// meant asks whether a known name is meant by another, if one is near.
func meant(name string, known []string) string {
	if near := settings.Nearest(name, known); near != "" {
		return "; do you mean " + near + "?"
	}
	return ""
}

// columns reads which columns of the list set which fields.
func (e *entry) columns(node ast.Node) {
	pairs, ok := e.pairs(node)
	if !ok {
		e.bad("map", "is %s, not a mapping", kindOf(node))
		return
	}
	e.list.more.Map = map[string]string{}
	for _, pair := range pairs {
		field := keyOf(pair)
		e.lines["map."+field] = lineOf(pair.Key)
		column := e.text("map."+field, pair.Value)
		if column == "" {
			continue
		}
		known, _, err := peoplefile.ParseMap(field + "=" + column)
		if err != nil {
			e.bad("map."+field, "%v", err)
			continue
		}
		e.list.more.Map[known] = column
	}
}

// text reads a value that is text; what is not is a fault, and gives "".
func (e *entry) text(key string, node ast.Node) (text string) {
	switch node := node.(type) {
	case *ast.StringNode:
		text = strings.TrimSpace(node.Value)
	case *ast.LiteralNode:
		text = strings.TrimSpace(node.Value.Value)
	default:
		e.bad(key, "is %s, not text; put it in quotes if it is meant to be", kindOf(node))
		return ""
	}
	if text == "" {
		e.bad(key, "is empty")
	}
	return text
}

// options reads the options of an invitation, each by itself so that a fault has its line. They are what
// tasks.Recipient has.
func (e *entry) options(node ast.Node) {
	pairs, ok := e.pairs(node)
	if !ok {
		e.bad("options", "is %s, not a mapping", kindOf(node))
	}
	for _, pair := range pairs {
		key := keyOf(pair)
		e.lines["options."+key] = lineOf(pair.Key)
		ast.Walk(misread(func(line int, text string, number any) {
			e.fault(line, "%s is read as the number %v; write %[2]v, or %[3]s if it is text", text, number, show(text)).
				Field = "options." + key
		}), pair.Value)
		var value any
		err := yaml.NodeToValue(pair.Value, &value)
		if err == nil {
			err = decodeOption(&e.recipient, key, value)
		}
		switch {
		case key == "email_address":
			e.bad("options."+key, "is no option")
		case value == nil:
			e.bad("options."+key, "is nothing")
		case key == "expires_in_days" && fmt.Sprint(value) == "0":
			e.bad("options."+key, "0 is not between 1 and %d", tasks.MaxExpiresInDays)
		case errors.Is(err, errNoOption):
			e.bad("options."+key, "%v%s", err, meant(key, optionNames()))
		case err != nil:
			e.bad("options."+key, "%v", err)
		}
	}
}

// misread is told each number that is written in no way that JSON knows, such as 01067, which YAML reads as 567. It may
// be meant as text: YAML takes 08067 as that.
type misread func(line int, text string, number any)

// Visit is called by ast.Walk.
func (m misread) Visit(node ast.Node) ast.Visitor {
	switch number := node.(type) {
	case *ast.IntegerNode:
		m.check(node, number.Value)
	case *ast.FloatNode:
		m.check(node, number.Value)
	}
	return m
}

func (m misread) check(node ast.Node, number any) {
	if text := node.GetToken().Value; !json.Valid([]byte(text)) {
		m(lineOf(node), text, number)
	}
}

// optionNames are the names of what decodeOption sets.
func optionNames() (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[tasks.Recipient]()) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "email_address" {
			names = append(names, name)
		}
	}
	return names
}

// decodeOption sets one field of a recipient by the name that it has in JSON.
func decodeOption(into *tasks.Recipient, key string, value any) error {
	if !optionPattern.MatchString(key) { // the decoder would take other spellings too
		return errNoOption
	}
	data, err := json.Marshal(map[string]any{key: value})
	if err != nil {
		return errors.New("cannot be written as JSON")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	err = decoder.Decode(into)
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("is %s, not %s", mistyped.Value, mistyped.Type.Kind())
	}
	if err != nil {
		return errNoOption
	}
	return nil
}

// finish checks what the keys are together, and reads the list.
func (e *entry) finish() {
	e.checkTimes()
	e.checkKeys()
	e.recipient.EmailAddress = e.address
	if e.Task == tasks.TypeBulkInvite {
		e.recipient.EmailAddress = "someone@example.com" // so that the options can be checked
		if e.list.campaign == "" {
			e.list.campaign = e.Name
		} else {
			e.invalid(tasks.ValidateCampaign(e.list.campaign))
		}
		if e.list.path = e.list.file; !filepath.IsAbs(e.list.path) {
			e.list.path = filepath.Join(e.folder, e.list.path)
		}
	}
	e.recipient = e.recipient.Normalize()
	if e.recipient.EmailAddress != "" {
		e.invalid(e.recipient.Validate())
	}
	if len(e.faults) > e.before {
		return
	}
	if e.Task == tasks.TypeBulkInvite {
		e.recipient.EmailAddress = ""
		if _, err := e.list.read(e.recipient); err != nil {
			e.bad("file", "%v", err)
		}
	}
	var err error
	if e.digest, err = digest(e.Schedule); err != nil {
		e.bad("options", "%v", err)
	}
}

// checkTimes reads the time zone and the cron expression.
func (e *entry) checkTimes() {
	zone, err := time.LoadLocation(e.TimeZone)
	if err != nil || e.TimeZone == "Local" || len(e.TimeZone) > 64 { // the machine's own would be another on each
		e.bad("timezone", "%s is no time zone; want a name such as UTC or Europe/Berlin", show(e.TimeZone))
		zone = time.UTC // for the other faults
	}
	if _, given := e.lines["cron"]; !given {
		e.bad("cron", "is missing")
	}
	if e.Cron != "" {
		if e.times, err = parseCron(e.Cron, zone); err != nil {
			e.bad("cron", "%s: %v", show(e.Cron), err)
		}
	}
}

// checkKeys tells whether the keys are those of the task.
func (e *entry) checkKeys() {
	const known = "want invite, bulk-invite or sync-list"
	keys := map[string][]string{ // besides those of every schedule; the first one is required
		tasks.TypeInvite: {"email_address", "options"},
		tasks.TypeBulkInvite: {"file", "campaign", "email_column", "map", "no_header", "sheet", "encoding",
			"ignore_columns", "split", "include_opted_out", "skip_invalid", "options"},
		tasks.TypeSyncList: {},
	}
	own, ok := keys[e.Task]
	if _, given := e.lines["task"]; !given {
		e.bad("task", "is missing; "+known)
	} else if !ok && e.Task != "" {
		e.bad("task", "%s is no task that repeats; "+known, show(e.Task))
	}
	if !ok {
		return
	}
	if len(own) > 0 && e.lines[own[0]] == 0 {
		e.bad(own[0], "is missing, and %s needs it", e.Task)
	}
	for _, key := range append(keys[tasks.TypeBulkInvite], "email_address") {
		if e.lines[key] > 0 && !slices.Contains(own, key) {
			e.bad(key, "is no key of %s", e.Task)
		}
	}
}

// invalid takes what is wrong with a recipient or a name, joined.
func (e *entry) invalid(err error) {
	for _, fault := range tasks.Faults(err) {
		e.bad(fault.Field, "%s", fault.Reason)
	}
}
