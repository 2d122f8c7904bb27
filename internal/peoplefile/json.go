package peoplefile

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
)

// jsonArray reads a list of objects.
func (rd *reader) jsonArray(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return rd.fault(1, "%v", notJSON(err))
	}
	line, counted := 1, 0
	for element := 1; decoder.More(); element++ {
		start := int(decoder.InputOffset())
		for start < len(text) && strings.IndexByte(", \t\r\n", text[start]) >= 0 {
			start++
		}
		line, counted = line+bytes.Count(text[counted:start], []byte("\n")), start
		at := Place{Line: line, Element: element}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return rd.fault(line, "in element %d the list %v", element, notJSON(err))
		}
		if err := rd.jsonRow(at, value); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return rd.fault(lineOf(text, int(decoder.InputOffset())), "the list %v", notJSON(err))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return rd.fault(lineOf(text, int(decoder.InputOffset())), "has something after the end of the list")
	}
	return nil
}

// jsonLines reads an object from every line.
func (rd *reader) jsonLines(text []byte) error {
	if err := rd.checkLines(text); err != nil {
		return err
	}
	number, whole := 0, false
	for line := range bytes.Lines(text) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var value json.RawMessage
		err := json.Unmarshal(line, &value)
		switch {
		case err == nil:
			whole = true
			err = rd.jsonRow(Place{Line: number}, value)
		case !whole:
			return rd.fault(number, "is not a whole JSON object: give one on every line, or a list of them in [ ]")
		default:
			if fault := rd.count(Place{Line: number}); fault != nil {
				return fault
			}
			rd.reject(Place{Line: number}, []string{string(line)}, "%v", notJSON(err))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// jsonRow reads an object, which is known to be valid JSON, key by key: a map would hide a key that is given twice.
func (rd *reader) jsonRow(at Place, value json.RawMessage) error {
	if err := rd.count(at); err != nil {
		return err
	}
	raw := func() []string { return []string{string(value)} }
	if kind := kindOf(value); kind != "an object" {
		rd.reject(at, raw(), "is %s, not an object", kind)
		return nil
	}
	d := newDraft(rd.opts.Defaults)
	seen := map[column]bool{}
	decoder := json.NewDecoder(bytes.NewReader(value))
	if _, err := decoder.Token(); err != nil {
		return rd.fault(at.Line, "%v", notJSON(err))
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return rd.fault(at.Line, "%v", notJSON(err))
		}
		var v json.RawMessage
		if err := decoder.Decode(&v); err != nil {
			return rd.fault(at.Line, "%v", notJSON(err))
		}
		name, _ := key.(string)
		c, known := rd.opts.column(name)
		switch {
		case !known:
			rd.addUnknown(name)
		case seen[c]:
			d.bad(c.String(), "is given twice")
		default:
			seen[c] = true
			d.setJSON(c, v)
		}
	}
	rd.add(at, d, raw)
	return nil
}
