package peoplefile

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// maxLineBytes bounds a line of CSV or of JSON lines, so that a line of nothing but commas does not become millions of
// cells. A cell with line breaks may be longer.
const maxLineBytes = 1 << 20

const notList = "is %s, not a list: %s"

const saveAs = "save it as “CSV UTF-8” (in a spreadsheet: File, Save as) and give that file"

// foreign are kinds of files that people take for a list, by their first bytes.
var foreign = []struct{ magic, kind string }{
	{"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old .xls spreadsheet, or one with a password"},
	{"\x1F\x8B", "compressed with gzip"},
	{"%PDF-", "a PDF"},
}

// foreignTexts are such kinds that are text, by how they begin. Many programs call a web page with a table .xls.
var foreignTexts = []struct {
	start *regexp.Regexp
	kind  string
}{
	{regexp.MustCompile(`(?i)^\s*<(\?xml|!doctype|html|head|body|table|meta)\b`), "a web page or XML"},
	{regexp.MustCompile(`(?i)^\s*begin:vcard\b`), "a file of vCards"},
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
			return nil, rd.fault(0, notList, f.kind, saveAs)
		}
	}
	text := data
	switch {
	case bytes.HasPrefix(data, []byte(bomUTF8)):
		text = data[len(bomUTF8):]
	case bytes.HasPrefix(data, []byte(bomUTF16LE)), bytes.HasPrefix(data, []byte(bomUTF16BE)):
		decoded, err := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Bytes(data)
		// The decoder puts U+FFFD where the file is damaged.
		if err != nil || len(data)%2 != 0 || bytes.ContainsRune(decoded, utf8.RuneError) {
			return nil, rd.fault(0, "begins like UTF-16 and is damaged: %s", saveAs)
		}
		text = decoded
	case rd.opts.Encoding != "":
		var err error
		if text, err = rd.convert(data); err != nil {
			return nil, err
		}
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, rd.fault(lineOf(text, i), "has a zero byte, as files that are not text do, "+
			"and UTF-16 without a byte order mark: %s", saveAs)
	}
	if !utf8.Valid(text) {
		_, i, _ := encoding.UTF8Validator.Transform(text, text, true) // in place, up to the first wrong byte
		say := ", or say what it is, such as --encoding windows-1252"
		if rd.corrects != nil { // nobody can say it there
			say = ""
		}
		return nil, rd.fault(lineOf(text, i), "is not UTF-8 (byte 0x%02X): %s%s", text[i], saveAs, say)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, rd.fault(0, "is empty")
	}
	for _, f := range foreignTexts {
		if f.start.Match(text) {
			return nil, rd.fault(0, notList, f.kind, saveAs)
		}
	}
	return text, rd.misreadFault(text)
}

// misreadFault refuses a text that was written in UTF-8 and saved by a program that took it for another encoding.
func (rd *reader) misreadFault(text []byte) error {
	mark := misread(text)
	if mark == "" {
		return nil
	}
	return rd.fault(1, "begins with %s: a spreadsheet took UTF-8 for another encoding, so other characters are "+
		"wrong too. Open the file from before again, say there that it is Unicode (UTF-8), and save it anew", show(mark))
}

// misread gives what a byte order mark has become if the text was written in UTF-8 and saved by a program that took it
// for another encoding; "" if it was not.
func misread(text []byte) string {
	text = bytes.TrimPrefix(text, []byte(`"`)) // around the first cell
	for _, e := range charmap.All {
		mark, err := e.NewDecoder().String(bomUTF8)
		if err == nil && !strings.ContainsRune(mark, utf8.RuneError) && bytes.HasPrefix(text, []byte(mark)) {
			return mark
		}
	}
	return ""
}

// convert reads a text in the encoding that was asked for.
func (rd *reader) convert(data []byte) ([]byte, error) {
	asked := rd.opts.Encoding
	found := encodingOf(asked)
	if found == nil {
		return nil, rd.fault(0, "cannot be read: %v", CheckEncoding(asked))
	}
	beyondASCII := func(r rune) bool { return r >= utf8.RuneSelf }
	if i := bytes.IndexFunc(data, beyondASCII); i >= 0 && isByteWise(found) && utf8.Valid(data) {
		return nil, rd.fault(lineOf(data, i), "is UTF-8 and not %s: leave --encoding out", show(asked))
	}
	text, err := found.NewDecoder().Bytes(data)
	if err != nil {
		return nil, rd.fault(0, "cannot be read as %s: %v", show(asked), err)
	}
	if i := bytes.IndexRune(text, utf8.RuneError); i >= 0 && found != encoding.Nop {
		return nil, rd.fault(lineOf(text, i), "is not %s: a byte in it stands for no character", show(asked))
	}
	rd.file.Understood.Encoding = asked
	return text, nil
}

// isByteWise tells whether each byte is a character of its own. Hardly a text in such an encoding has
// others than ASCII and is UTF-8, too.
func isByteWise(e encoding.Encoding) bool {
	_, is := e.(*charmap.Charmap)
	return is
}

// CheckEncoding tells whether an encoding is known.
func CheckEncoding(name string) error {
	if encodingOf(name) != nil {
		return nil
	}
	return fmt.Errorf("%s is no encoding that is known: want %s", show(name),
		strings.Join(slices.Sorted(maps.Keys(encodings())), ", "))
}

// encodingOf finds an encoding by its name, however that is spelled; nil if there is none.
func encodingOf(name string) encoding.Encoding {
	folded := foldHeading(name)
	if folded == "latin1" {
		return charmap.ISO8859_1
	}
	for known, e := range encodings() {
		if foldHeading(known) == folded {
			return e
		}
	}
	return nil
}

// encodings are those of one byte a character, and UTF-16 without a byte order mark, by their names.
func encodings() map[string]encoding.Encoding {
	known := map[string]encoding.Encoding{
		"utf-8": encoding.Nop, "utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
		"utf-16be": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	}
	for _, e := range charmap.All {
		if c, ok := e.(*charmap.Charmap); ok {
			known[strings.ToLower(strings.ReplaceAll(c.String(), " ", "-"))] = c
		}
	}
	return known
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
