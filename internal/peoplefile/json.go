package peoplefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// object is a row of JSON on its way.
type object struct {
	Place
	text   json.RawMessage
	reason string // why it cannot be read
}

// objects gathers the rows of JSON, so that all of them are seen before any is understood.
type objects struct {
	*reader
	rows  []object
	names []string
	index map[string]int
	seen  survey
}

func (rd *reader) objects(form string) *objects {
	rd.file.Understood.Form = form
	return &objects{reader: rd, index: map[string]int{}}
}

// jsonArray reads a list of objects.
func (rd *reader) jsonArray(text []byte) error {
	o := rd.objects(formJSON)
	if err := o.list(text, 0, len(text)); err != nil {
		return err
	}
	return o.take()
}

// list reads the list of objects that a part of the text is.
func (o *objects) list(text []byte, from, to int) error {
	rd, list := o.reader, text[from:to]
	decoder := json.NewDecoder(bytes.NewReader(list))
	if _, err := decoder.Token(); err != nil {
		return rd.fault(lineOf(text, from), "%v", notJSON(err))
	}
	line, counted := lineOf(text, from), 0
	for element := 1; decoder.More(); element++ {
		start := len(list) - len(bytes.TrimLeft(list[decoder.InputOffset():], ", \t\r\n"))
		line, counted = line+bytes.Count(list[counted:start], []byte("\n")), start
		at := Place{Line: line, Element: element}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return rd.fault(line, "in element %d the list %v", element, notJSON(err))
		}
		end := int(decoder.InputOffset())
		if err := o.add(at, list[end-len(value):end]); err != nil {
			return err
		}
	}
	end := func() int { return lineOf(text, from+int(decoder.InputOffset())) }
	if _, err := decoder.Token(); err != nil {
		return rd.fault(end(), "the list %v", notJSON(err))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return rd.fault(end(), "has something after the end of the list")
	}
	return nil
}

// jsonObjects reads an object from every line, or the one object that Firebase writes.
func (rd *reader) jsonObjects(text []byte) error {
	if from, to, found := usersOf(text); found {
		o := rd.objects(formJSON)
		if err := o.list(text, from, to); err != nil {
			return err
		}
		if exportOf(o.names, true, signs{}) != nil {
			return o.take()
		}
	}
	o := rd.objects(formLines)
	if err := o.lines(text); err != nil {
		return err
	}
	return o.take()
}

// usersOf finds the list of an object that has nothing but users.
func usersOf(text []byte) (from, to int, found bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for _, want := range []json.Token{json.Delim('{'), "users"} {
		if token, err := decoder.Token(); err != nil || token != want {
			return 0, 0, false
		}
	}
	var list json.RawMessage
	if decoder.Decode(&list) != nil || list[0] != '[' {
		return 0, 0, false
	}
	to = int(decoder.InputOffset())
	if token, err := decoder.Token(); err != nil || token != json.Delim('}') {
		return 0, 0, false
	}
	_, err := decoder.Token()
	return to - len(list), to, err == io.EOF
}

func (o *objects) lines(text []byte) error {
	if err := o.checkLines(text); err != nil {
		return err
	}
	number, whole := 0, false
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		at := Place{Line: number}
		var value json.RawMessage
		err := json.Unmarshal(line, &value)
		switch {
		case err == nil:
			whole = true
			err = o.add(at, line)
		case !whole:
			err = o.fault(number, "is not a whole JSON object: give one on every line, or a list of them in [ ]")
		default:
			err = o.keep(object{at, line, notJSON(err).Error()})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *objects) keep(row object) error {
	if o.rows = append(o.rows, row); len(o.rows) > o.opts.MaxRows {
		return o.reader.fault(row.Line, "is beyond %d rows: split the file", o.opts.MaxRows)
	}
	return nil
}

// add takes valid JSON, and notes its keys.
func (o *objects) add(at Place, text json.RawMessage) error {
	if text[0] != '{' {
		var other any
		_ = json.Unmarshal(text, &other) // it is valid
		return o.keep(object{at, text, "is " + kindOf(other) + ", not an object"})
	}
	err := eachKey(text, func(name string, value json.RawMessage) {
		number, known := o.index[name]
		if !known {
			number = len(o.names)
			o.index[name], o.names = number, append(o.names, name)
		}
		var cell string
		if value[0] == '"' && bytes.ContainsAny(value, `@\`) && json.Unmarshal(value, &cell) == nil {
			o.seen.see(number, cell)
		}
	})
	if err != nil {
		return o.reader.fault(at.Line, "%v", notJSON(err))
	}
	if len(o.names) > maxKeys {
		return o.reader.fault(at.Line, "is where more than %d different keys are reached", maxKeys)
	}
	return o.keep(object{Place: at, text: text})
}

// maxKeys bounds the different keys of all objects.
const maxKeys = 10_000

// eachKey reads an object key by key: a map would hide a key that is given twice.
func eachKey(text json.RawMessage, use func(name string, value json.RawMessage)) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	_, err := decoder.Token()
	for err == nil && decoder.More() {
		var key json.Token
		var value json.RawMessage
		key, err = decoder.Token()
		if err = errors.Join(err, decoder.Decode(&value)); err == nil {
			name, _ := key.(string)
			use(name, value)
		}
	}
	return err
}

// take understands the rows.
func (o *objects) take() error {
	rd := o.reader
	if rd.corrects != nil {
		return o.correctObjects()
	}
	if rd.opts.NoHeader {
		return rd.fault(0, "is JSON, whose keys name the columns: --no-header is for lists without")
	}
	l := &layout{header: -1, export: exportOf(o.names, true, signs{})}
	if err := rd.assign(l, o.names, &o.seen, Place{}); err != nil {
		return err
	}
	rd.export = l.export
	rd.understood(l)
	for _, row := range o.rows {
		var err error
		if row.reason != "" {
			err = rd.reject(row.Place, o.raw(l, row)(), row.reason)
		} else {
			err = o.person(l, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// person takes one object.
func (o *objects) person(l *layout, row object) error {
	rd, d := o.reader, o.draft()
	given := map[column]bool{}
	err := eachKey(row.text, func(name string, value json.RawMessage) {
		h := l.columns[o.index[name]]
		if h.forbids.byJSON(value) && !rd.opts.IncludeOptedOut {
			d.forbidden(h)
		}
		switch {
		case !h.used():
		case given[h.column]:
			d.bad(h.column.String(), "is given twice")
		default:
			given[h.column] = true
			if h.column.field == fieldMetadata {
				d.rawKeys += strconv.Quote(h.column.key) + string(value)
			}
			var decoded any
			decoder := json.NewDecoder(bytes.NewReader(value))
			decoder.UseNumber()
			_ = decoder.Decode(&decoded) // it is valid
			d.set(h.column, decoded)
		}
	})
	if err != nil {
		return rd.fault(row.Line, "%v", notJSON(err))
	}
	return rd.add(row.Place, d, o.raw(l, row))
}

// raw is the text of a bad row. Of a known export only the keys that count are told.
func (o *objects) raw(l *layout, row object) func() []string {
	return func() []string {
		if l.export == nil {
			return []string{string(row.text)}
		}
		var kept []string
		_ = eachKey(row.text, func(name string, value json.RawMessage) {
			if h := l.columns[o.index[name]]; h.used() || h.forbids != never {
				key, _ := json.Marshal(name)
				kept = append(kept, string(slices.Concat(key, []byte(":"), value)))
			}
		})
		return []string{"{" + strings.Join(kept, ",") + "}"}
	}
}
