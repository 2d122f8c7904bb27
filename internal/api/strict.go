package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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
	value, err := strictly(decoder, 0)
	if err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the end of the JSON")
	}
	*into.(*any) = value
	return nil
}

// strictly reads one value as [json.Unmarshal] would into an any, but refuses an object that has a key twice, of which
// one would be lost.
func strictly(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, unreadable(err)
	}
	open, isDelim := token.(json.Delim)
	if !isDelim {
		return token, nil
	}
	if depth == mostDepth {
		return nil, fmt.Errorf("the JSON is nested more than %d deep", mostDepth)
	}
	object, list := map[string]any{}, []any{}
	for decoder.More() {
		key := ""
		if open == '{' {
			if key, err = newKey(decoder, object); err != nil {
				return nil, err
			}
		}
		value, err := strictly(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			object[key] = value
		} else {
			list = append(list, value)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, unreadable(err)
	}
	if open == '{' {
		return object, nil
	}
	return list, nil
}

// newKey reads a key that an object does not have yet.
func newKey(decoder *json.Decoder, object map[string]any) (string, error) {
	token, err := decoder.Token()
	key, isText := token.(string)
	if err != nil || !isText {
		return "", unreadable(err)
	}
	if _, has := object[key]; has {
		return "", fmt.Errorf("the key %.60q is given twice", key)
	}
	return key, nil
}

// unreadable tells what is wrong with JSON that cannot be read.
func unreadable(err error) error {
	if wrong, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		return fmt.Errorf("the number %.60s is too large", strings.TrimPrefix(wrong.Value, "number "))
	}
	return errors.New("the body is no whole JSON")
}
