package peoplefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// jsonArray reads a list of objects.
func (rd *reader) jsonArray(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if _, err := decoder.Token(); err != nil {
		return rd.fault(1, "%v", notJSON(err))
	}
	line, counted := 1, 0
	for element := 1; decoder.More(); element++ {
		start := len(text) - len(bytes.TrimLeft(text[decoder.InputOffset():], ", \t\r\n"))
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
		at := Place{Line: number}
		var value json.RawMessage
		err := json.Unmarshal(line, &value)
		switch {
		case err == nil:
			whole = true
			err = rd.jsonRow(at, value)
		case !whole:
			err = rd.fault(number, "is not a whole JSON object: give one on every line, or a list of them in [ ]")
		default:
			err = rd.reject(at, []string{string(line)}, notJSON(err).Error())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// jsonRow reads valid JSON key by key: a map would hide a key that is given twice.
func (rd *reader) jsonRow(at Place, value json.RawMessage) error {
	raw := func() []string { return []string{string(value)} }
	if value[0] != '{' {
		var other any
		_ = json.Unmarshal(value, &other) // it is valid
		return rd.reject(at, raw(), "is "+kindOf(other)+", not an object")
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	d := &draft{recipient: rd.opts.Defaults}
	seen := map[column]bool{}
	_, err := decoder.Token()
	for err == nil && decoder.More() {
		var key json.Token
		var v any
		key, err = decoder.Token()
		err = errors.Join(err, decoder.Decode(&v))
		name, _ := key.(string)
		c, known := rd.opts.column(name)
		switch {
		case !known:
			rd.addUnknown(name)
		case seen[c]:
			d.bad(c.String(), "is given twice")
		default:
			seen[c] = true
			d.set(c, v)
		}
	}
	if err != nil {
		return rd.fault(at.Line, "%v", notJSON(err))
	}
	return rd.add(at, d, raw)
}
