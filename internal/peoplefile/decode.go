package peoplefile

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
)

// maxLineBytes bounds a line of CSV or of JSON lines, so that a line of nothing but commas does not become millions of
// cells. A cell with line breaks may be longer.
const maxLineBytes = 1 << 20

const saveAs = "save it as “CSV UTF-8” (in a spreadsheet: File, Save as) and give that file"

// foreign are kinds of files that people take for a list, by their first bytes.
var foreign = []struct{ magic, kind string }{
	{"PK\x03\x04", "a spreadsheet such as .xlsx or .ods, or a zip archive"},
	{"PK\x05\x06", "an empty zip archive"},
	{"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old .xls spreadsheet"},
	{"\x1F\x8B", "compressed with gzip"},
	{"%PDF-", "a PDF"},
}

const (
	bomUTF8    = "\xEF\xBB\xBF"
	bomUTF16LE = "\xFF\xFE"
	bomUTF16BE = "\xFE\xFF"
)

// decode returns the content as UTF-8 without a byte order mark. It refuses what is not text.
func (rd *reader) decode(data []byte) ([]byte, error) {
	for _, f := range foreign {
		if bytes.HasPrefix(data, []byte(f.magic)) {
			return nil, rd.fault(0, "is %s, not text: %s", f.kind, saveAs)
		}
	}
	text := data
	switch {
	case bytes.HasPrefix(data, []byte(bomUTF8)):
		rd.file.bom, text = true, data[len(bomUTF8):]
	case bytes.HasPrefix(data, []byte(bomUTF16LE)), bytes.HasPrefix(data, []byte(bomUTF16BE)):
		rd.file.bom = true
		decoded, err := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Bytes(data)
		// The decoder puts U+FFFD where the file is damaged.
		if err != nil || len(data)%2 != 0 || bytes.ContainsRune(decoded, utf8.RuneError) {
			return nil, rd.fault(0, "begins like UTF-16 and is damaged: %s", saveAs)
		}
		text = decoded
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, rd.fault(lineOf(text, i), "has a zero byte, as files that are not text do, "+
			"and UTF-16 without a byte order mark: %s", saveAs)
	}
	if !utf8.Valid(text) {
		_, i, _ := encoding.UTF8Validator.Transform(text, text, true) // in place, up to the first wrong byte
		return nil, rd.fault(lineOf(text, i), "is not UTF-8 (byte 0x%02X): %s", text[i], saveAs)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, rd.fault(0, "is empty")
	}
	return text, nil
}

func lineOf(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }

// checkLines refuses a text with a line that is too long.
func (rd *reader) checkLines(text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		if number++; len(line) > maxLineBytes {
			return rd.fault(number, "is longer than %d bytes", maxLineBytes)
		}
	}
	return nil
}
