package schedule

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"example.com/usher/internal/settings"
)

// Bounds of a file.
const (
	maxBytes     = 64 << 10
	maxSchedules = 100
	maxFaults    = 100 // that are told
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File     string // its name without folders
	Line     int    // from 1; 0 when it is about no line
	Schedule string // a name in quotes, or a number; empty when it is about no schedule
	Field    string // a key, or empty
	Reason   string
}

func (f *Fault) Error() string {
	text := f.File
	if f.Line > 0 {
		text += fmt.Sprintf(":%d", f.Line)
	}
	if f.Schedule != "" {
		text += ": schedule " + f.Schedule
	}
	if f.Field != "" {
		text += ": " + shorten(f.Field)
	}
	return oneLine(text + ": " + f.Reason)
}

// oneLine drops line breaks and whatever else a terminal might obey or not show.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// Read reads a file of schedules, and the lists that they name. Everything that is wrong with it is a *Fault,
// joined, in the order of its lines.
func Read(path string) ([]Schedule, error) {
	name := filepath.Base(path)
	data, err := settings.ReadUpTo(path, maxBytes+1)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err // whoever tells the fault knows the path
	}
	if err != nil {
		return nil, &Fault{File: name, Reason: fmt.Sprintf("cannot be read: %v", err)}
	}
	schedules, err := parse(data, name, filepath.Dir(path))
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	for i := range schedules {
		schedules[i].path = path
	}
	return schedules, err
}

// parse reads the content of a file. The lists' files are relative to its folder.
func parse(data []byte, name, folder string) ([]Schedule, error) {
	rd := &reader{name: name, folder: folder, names: map[string]int{}}
	for _, node := range rd.items(data) {
		rd.entry(node)
	}
	if len(rd.faults) == 0 {
		return rd.schedules, nil
	}
	slices.SortStableFunc(rd.faults, func(a, b *Fault) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for _, fault := range rd.faults[:min(len(rd.faults), maxFaults)] {
		errs = append(errs, fault)
	}
	if more := len(rd.faults) - maxFaults; more > 0 {
		errs = append(errs, &Fault{File: name, Reason: fmt.Sprintf("has %d faults more", more)})
	}
	return nil, errors.Join(errs...)
}

// reader gathers schedules and faults.
type reader struct {
	name, folder string
	names        map[string]int // lines of the schedules by their names
	schedules    []Schedule
	faults       []*Fault
}

func (rd *reader) fault(line int, format string, args ...any) *Fault {
	fault := &Fault{File: rd.name, Line: line, Reason: fmt.Sprintf(format, args...)}
	rd.faults = append(rd.faults, fault)
	return fault
}

// items gives the nodes of the list that the file is; none after a fault about the whole.
func (rd *reader) items(data []byte) []ast.Node {
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	switch {
	case len(data) > maxBytes:
		rd.fault(0, "is larger than %d bytes", maxBytes)
		return nil
	case !utf8.Valid(data):
		rd.fault(0, "is not UTF-8")
		return nil
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		rd.syntaxFault(err)
		return nil
	}
	docs := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc.Body == nil })
	for _, doc := range docs {
		ast.Walk(rd, doc.Body)
	}
	switch {
	case len(docs) != 1:
		rd.fault(0, "has %d documents, not one with the key schedules", len(docs))
		return nil
	case len(rd.faults) > 0:
		return nil
	}
	return rd.nodes(docs[0].Body)
}

// syntaxFault is about the first thing that is not YAML.
func (rd *reader) syntaxFault(err error) {
	syntax, ok := errors.AsType[*yaml.SyntaxError](err)
	if !ok || syntax.Token == nil {
		rd.fault(0, "is not YAML: %v", err)
		return
	}
	hint := ""
	about := func(word string) bool { return strings.Contains(syntax.Message, word) }
	if about("reserved") || about("alias") || about("context") {
		hint = `; what begins with *, @ or another sign needs quotes, as in cron: "@daily"`
	}
	rd.fault(syntax.Token.Position.Line, "is not YAML: %s%s", syntax.Message, hint)
}

// Visit is called by ast.Walk, and refuses what makes a value mean more than it says.
func (rd *reader) Visit(node ast.Node) ast.Visitor {
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		rd.fault(lineOf(node), "has an anchor, an alias or a tag of YAML (&, *, !): none is taken; "+
			"put a value that begins so in quotes")
		return nil
	}
	return rd
}

// nodes gives what stands under schedules:, the only key.
func (rd *reader) nodes(body ast.Node) (items []ast.Node) {
	pairs, ok := rd.pairs(body)
	switch {
	case !ok:
		rd.fault(lineOf(body), "is %s, not the key schedules with a list", kindOf(body))
	case len(pairs) == 0:
		rd.fault(0, "has no key schedules")
	}
	for _, pair := range pairs {
		sequence, isList := pair.Value.(*ast.SequenceNode)
		switch {
		case keyOf(pair) != "schedules":
			rd.fault(lineOf(pair.Key), "has an unknown key %s; known is schedules", show(keyOf(pair)))
		case !isList:
			rd.fault(lineOf(pair.Key), "schedules: is %s, not a list", kindOf(pair.Value))
		default:
			items = sequence.Values
		}
	}
	if len(items) > maxSchedules {
		rd.fault(lineOf(items[maxSchedules]), "has %d schedules, at most %d are taken", len(items), maxSchedules)
		return nil
	}
	return items
}

// pairs are the keys of a mapping with their values.
func (*reader) pairs(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch node := node.(type) {
	case *ast.MappingNode:
		return node.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, true
	}
	return nil, false
}

func keyOf(pair *ast.MappingValueNode) string {
	if token := pair.Key.GetToken(); token != nil {
		return token.Value
	}
	return ""
}

func lineOf(node ast.Node) int {
	if node != nil {
		if token := node.GetToken(); token != nil && token.Position != nil {
			return token.Position.Line
		}
	}
	return 0
}

func kindOf(node ast.Node) string {
	switch node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode, nil:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "no plain value"
}

// shorten bounds what is repeated of the file in a message.
func shorten(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// show quotes something from the file for a message.
func show(text string) string { return strconv.Quote(shorten(text)) }
