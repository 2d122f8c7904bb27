package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

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
	title   string         // for messages: its name in quotes, or its number
	lines   map[string]int // of its keys; those of options as options.KEY
	address string
	faulty  bool
}

func (e *entry) bad(field, format string, args ...any) {
	line := e.line
	for _, key := range []string{field, "options." + field, "options"} {
		if at, ok := e.lines[key]; ok {
			line = at
			break
		}
	}
	e.faulty = true
	e.faults = append(e.faults, &Fault{
		File: e.name, Line: line, Schedule: e.title, Field: field, Reason: fmt.Sprintf(format, args...),
	})
}

// entry reads a schedule; a faulty one is reported and left out.
func (rd *reader) entry(node ast.Node) {
	e := &entry{reader: rd, line: lineOf(node), title: fmt.Sprint(len(rd.schedules) + 1), lines: map[string]int{}}
	e.TimeZone = "UTC"
	pairs, ok := rd.pairs(node)
	if !ok {
		e.bad("", "is %s, not a mapping with the key name", kindOf(node))
		rd.schedules = append(rd.schedules, e.Schedule) // it counts
		return
	}
	if len(pairs) > 0 {
		e.line = lineOf(pairs[0].Key)
	}
	e.findName(pairs)
	for _, pair := range pairs {
		e.lines[keyOf(pair)] = lineOf(pair.Key)
		e.set(keyOf(pair), pair.Value)
	}
	e.finish()
	rd.schedules = append(rd.schedules, e.Schedule)
}

// findName looks for the name first, so that every fault can tell it.
func (e *entry) findName(pairs []*ast.MappingValueNode) {
	for _, pair := range pairs {
		if keyOf(pair) == "name" {
			e.lines["name"] = lineOf(pair.Key)
			e.Name = e.text("name", pair.Value)
		}
	}
	first, twice := e.names[e.Name]
	switch {
	case e.Name == "" && !e.faulty:
		e.bad("name", "is missing")
	case e.Name == "":
	case !namePattern.MatchString(e.Name):
		e.bad("name", "%s is not 1 to 64 letters, digits, dots, underscores and hyphens", show(e.Name))
	default:
		e.title = fmt.Sprintf("%q", e.Name)
		if twice {
			e.bad("name", "is that of the schedule in line %d", first)
			return
		}
		e.names[e.Name] = e.lines["name"]
	}
}

func (e *entry) set(key string, value ast.Node) {
	texts := map[string]*string{
		"cron": &e.Cron, "timezone": &e.TimeZone, "task": &e.Task, "email_address": &e.address, "file": &e.list.file,
		"campaign": &e.list.campaign, "email_column": &e.list.emailColumn,
	}
	flags := map[string]*bool{"ignore_columns": &e.list.ignoreColumns, "skip_invalid": &e.list.skipInvalid}
	switch text, flag := texts[key], flags[key]; {
	case text != nil:
		*text = e.text(key, value)
	case flag != nil:
		*flag = e.flag(key, value)
	case key == "options":
		e.options(value)
	case key != "name":
		e.bad(key, "is no key of a schedule")
	}
}

// text reads a value that is text; what is not is a fault, and gives "".
func (e *entry) text(key string, node ast.Node) string {
	var text string
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

func (e *entry) flag(key string, node ast.Node) bool {
	b, ok := node.(*ast.BoolNode)
	if !ok {
		e.bad(key, "is %s, not true or false", kindOf(node))
		return false
	}
	return b.Value
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
		case err != nil:
			e.bad("options."+key, "%v", err)
		}
	}
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
	if e.faulty {
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
		tasks.TypeInvite:     {"email_address", "options"},
		tasks.TypeBulkInvite: {"file", "campaign", "email_column", "ignore_columns", "skip_invalid", "options"},
		tasks.TypeSyncList:   {},
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
