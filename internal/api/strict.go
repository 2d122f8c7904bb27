package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"example.com/usher/internal/peoplefile"
)

// mostDepth is how deep JSON may be nested.
const mostDepth = 64

// decode reads the JSON of a body. huma first reads it into an any, to compare it with the schema.
func decode(data []byte, into any) error {
	if _, first := into.(*any); !first {
		return peoplefile.DecodeJSON(data, into)
	}
	if !utf8.Valid(data) {
		return errors.New("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := unique(decoder, 0); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end of the JSON")
	}
	return json.Unmarshal(data, into)
}

// unique reads one value. It refuses an object that has a key twice, of which one would be lost.
func unique(decoder *json.Decoder, depth int) error {
	token, err := decoder.Token()
	if err != nil {
		return errors.New("the body is no whole JSON")
	}
	open, isDelim := token.(json.Delim)
	if !isDelim {
		return nil
	}
	if depth == mostDepth {
		return fmt.Errorf("the JSON is nested more than %d deep", mostDepth)
	}
	keys := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			token, err := decoder.Token()
			key, isText := token.(string)
			switch {
			case err != nil || !isText:
				return errors.New("the body is no whole JSON")
			case keys[key]:
				return fmt.Errorf("the key %.60q is given twice", key)
			}
			keys[key] = true
		}
		if err := unique(decoder, depth+1); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errors.New("the body is no whole JSON")
	}
	return nil
}
