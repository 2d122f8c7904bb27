package peoplefile

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// xmlScanner reads the XML of a workbook: UTF-8 without a document type, which is all that programs write. It is here
// because encoding/xml makes reading a sheet take three times as long. What it cannot read it refuses, and a test
// holds it against encoding/xml.
type xmlScanner struct {
	r          io.Reader
	buffer     []byte
	start, end int // of what is read and not yet used
	err        error

	open   []byte // the full names of the tags that are open, one after the other
	opened []int  // where each begins
	ended  bool   // the tag closes itself, so that its end comes next
	begun  bool   // there was a tag
	token  xmlToken
}

// maxToken bounds a tag, or the text between two tags. A cell has at most 32,767 characters.
const maxToken = 1 << 20

type xmlKind int

const (
	xmlStart xmlKind = iota
	xmlEnd
	xmlText
)

// xmlToken is good until the next one is read. Names are without their prefixes.
type xmlToken struct {
	kind  xmlKind
	name  []byte
	text  []byte
	attrs []xmlAttr
}

type xmlAttr struct{ name, value []byte }

// attribute gives the value of an attribute, "" if there is none.
func (t *xmlToken) attribute(name string) string {
	for _, a := range t.attrs {
		if string(a.name) == name {
			return string(a.value)
		}
	}
	return ""
}

var (
	errXML     = errors.New("its XML is not well formed")
	errXMLSize = errors.New("its XML has a tag or a text that is too long")
)

func newXMLScanner(r io.Reader) *xmlScanner { return &xmlScanner{r: r, buffer: make([]byte, 64<<10)} }

// rest is what is read and not yet used.
func (x *xmlScanner) rest() []byte { return x.buffer[x.start:x.end] }

// find gives the place of a text from an offset on, and reads on until it is there.
func (x *xmlScanner) find(text string, from int) (int, error) {
	for {
		if from < x.end-x.start {
			if i := bytes.Index(x.rest()[from:], []byte(text)); i >= 0 {
				return from + i, nil
			}
			from = max(from, x.end-x.start-len(text)+1)
		}
		if err := x.fill(); err != nil {
			return 0, err
		}
	}
}

// fill reads more.
func (x *xmlScanner) fill() error {
	if x.err != nil {
		return x.err
	}
	if x.start > 0 {
		x.end = copy(x.buffer, x.rest())
		x.start = 0
	}
	if x.end == len(x.buffer) {
		if len(x.buffer) >= maxToken {
			return errXMLSize
		}
		x.buffer = append(x.buffer, make([]byte, len(x.buffer))...)
	}
	n, err := x.r.Read(x.buffer[x.end:])
	x.end += n
	if x.err = err; n > 0 {
		return nil
	}
	return err
}

// next reads a token. At the end of a whole document it gives io.EOF.
func (x *xmlScanner) next() (*xmlToken, error) {
	if x.ended {
		x.ended = false
		return x.pop()
	}
	for {
		if x.start == x.end {
			switch err := x.fill(); {
			case err == io.EOF && len(x.opened) == 0 && x.begun:
				return nil, io.EOF
			case err == io.EOF:
				return nil, io.ErrUnexpectedEOF
			case err != nil:
				return nil, err
			}
			continue
		}
		token, err := x.one()
		if err == io.EOF && x.buffer[x.start] != '<' && len(x.opened) == 0 && len(trimXML(x.rest())) == 0 {
			x.start = x.end // blanks at the end
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if token != nil || err != nil {
			return token, err
		}
	}
}

// one reads a token, or something that is none: then both results are nil.
func (x *xmlScanner) one() (*xmlToken, error) {
	if x.buffer[x.start] != '<' {
		i, err := x.find("<", 0)
		if err != nil {
			return nil, err
		}
		return x.charData(x.take(i), true)
	}
	for x.end-x.start < 2 {
		if err := x.fill(); err != nil {
			return nil, err
		}
	}
	switch x.buffer[x.start+1] {
	case '?':
		return nil, x.skip("?>", 2)
	case '!':
		return x.special()
	}
	end, err := x.tagEnd()
	if err != nil {
		return nil, err
	}
	tag := x.take(end + 1)
	if tag[1] == '/' {
		return x.endTag(bytes.TrimRight(tag[2:len(tag)-1], " \t\r\n"))
	}
	return x.startTag(tag[1 : len(tag)-1])
}

func (x *xmlScanner) take(n int) []byte {
	taken := x.buffer[x.start : x.start+n]
	x.start += n
	return taken
}

func (x *xmlScanner) skip(until string, from int) error {
	i, err := x.find(until, from)
	if err == nil {
		x.take(i + len(until))
	}
	return err
}

// special reads a comment or raw text. A document type is refused: it may define what texts mean.
func (x *xmlScanner) special() (*xmlToken, error) {
	const comment, raw = "<!--", "<![CDATA["
	for x.end-x.start < len(raw) && x.err == nil {
		if err := x.fill(); err != nil && err != io.EOF {
			return nil, err
		}
	}
	switch {
	case bytes.HasPrefix(x.rest(), []byte(comment)):
		return nil, x.skip("-->", len(comment))
	case bytes.HasPrefix(x.rest(), []byte(raw)):
		i, err := x.find("]]>", len(raw))
		if err != nil {
			return nil, err
		}
		text := x.take(i + 3)
		return x.charData(text[len(raw):i], false)
	}
	return nil, errXML
}

// tagEnd finds the > of a tag, which may stand in the values of attributes too.
func (x *xmlScanner) tagEnd() (int, error) {
	quote := byte(0)
	for i := 1; ; i++ {
		if x.start+i >= x.end {
			if err := x.fill(); err != nil {
				return 0, err
			}
		}
		switch c := x.buffer[x.start+i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i, nil
		case c == '<':
			return 0, errXML
		}
	}
}

func (x *xmlScanner) charData(raw []byte, entities bool) (*xmlToken, error) {
	if len(x.opened) == 0 {
		if len(trimXML(raw)) > 0 && !(bytes.Equal(raw, []byte(bomUTF8)) && !x.begun) {
			return nil, errXML
		}
		return nil, nil
	}
	text, err := plainText(raw, entities)
	x.token = xmlToken{kind: xmlText, text: text, attrs: x.token.attrs[:0]}
	return &x.token, err
}

func (x *xmlScanner) startTag(tag []byte) (*xmlToken, error) {
	if len(x.opened) == 0 && x.begun {
		return nil, errXML
	}
	tag, x.ended = bytes.CutSuffix(tag, []byte("/"))
	full := tag[:nameEnd(tag)]
	if !isName(full) {
		return nil, errXML
	}
	x.begun = true
	x.opened = append(x.opened, len(x.open))
	x.open = append(x.open, full...)
	x.token = xmlToken{kind: xmlStart, name: local(full), attrs: x.token.attrs[:0]}
	for tag = tag[len(full):]; ; {
		spaced := bytes.TrimLeft(tag, " \t\r\n")
		if len(spaced) == 0 {
			return &x.token, nil
		}
		name := spaced[:nameEnd(spaced)]
		value := bytes.TrimLeft(spaced[len(name):], " \t\r\n")
		if len(spaced) == len(tag) || !isName(name) || len(value) < 2 || value[0] != '=' {
			return nil, errXML
		}
		value = bytes.TrimLeft(value[1:], " \t\r\n")
		if len(value) == 0 || value[0] != '"' && value[0] != '\'' {
			return nil, errXML
		}
		end := bytes.IndexByte(value[1:], value[0])
		if end < 0 || bytes.IndexByte(value[1:1+end], '<') >= 0 {
			return nil, errXML
		}
		text, err := plainText(value[1:1+end], true)
		if err != nil {
			return nil, err
		}
		x.token.attrs = append(x.token.attrs, xmlAttr{local(name), text})
		tag = value[end+2:]
	}
}

func (x *xmlScanner) endTag(full []byte) (*xmlToken, error) {
	if len(x.opened) == 0 || !bytes.Equal(x.open[x.opened[len(x.opened)-1]:], full) {
		return nil, errXML
	}
	return x.pop()
}

func (x *xmlScanner) pop() (*xmlToken, error) {
	last := len(x.opened) - 1
	x.token = xmlToken{kind: xmlEnd, name: local(x.open[x.opened[last]:]), attrs: x.token.attrs[:0]}
	x.open, x.opened = x.open[:x.opened[last]], x.opened[:last]
	return &x.token, nil
}

func nameEnd(tag []byte) int {
	for i, c := range tag {
		if strings.IndexByte(" \t\r\n=/\"'<>&", c) >= 0 {
			return i
		}
	}
	return len(tag)
}

func trimXML(text []byte) []byte { return bytes.Trim(text, " \t\r\n") }

// isName tells whether a name is one, with at most one prefix.
func isName(name []byte) bool {
	colon := bytes.IndexByte(name, ':')
	return len(name) > 0 && colon != 0 && colon != len(name)-1 && colon == bytes.LastIndexByte(name, ':')
}

func local(name []byte) []byte { return name[bytes.LastIndexByte(name, ':')+1:] }

// plainText checks a text, and puts characters in place of what stands for them.
func plainText(raw []byte, entities bool) ([]byte, error) {
	plain := true
	for _, c := range raw {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return nil, errXML
		}
		plain = plain && c < utf8.RuneSelf && c != '&' && c != '\r'
	}
	switch {
	case plain:
		return raw, nil
	case !utf8.Valid(raw), bytes.ContainsAny(raw, "\uFFFE\uFFFF"):
		return nil, errXML
	}
	if bytes.IndexByte(raw, '\r') >= 0 {
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	}
	if !entities || bytes.IndexByte(raw, '&') < 0 {
		return raw, nil
	}
	var out []byte
	for {
		before, after, found := bytes.Cut(raw, []byte("&"))
		out = append(out, before...)
		if !found {
			return out, nil
		}
		name, rest, closed := bytes.Cut(after, []byte(";"))
		r, known := entity(string(name))
		if !closed || !known {
			return nil, errXML
		}
		out, raw = utf8.AppendRune(out, r), rest
	}
}

// entity is the character that a name stands for.
func entity(name string) (rune, bool) {
	known := map[string]rune{"lt": '<', "gt": '>', "amp": '&', "quot": '"', "apos": '\''}
	if r, found := known[name]; found {
		return r, true
	}
	digits, base := strings.TrimPrefix(name, "#"), 10
	if len(digits) == len(name) {
		return 0, false
	}
	if hex, found := strings.CutPrefix(digits, "x"); found {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	r := rune(n)
	valid := err == nil && n <= utf8.MaxRune && utf8.ValidRune(r) && (r >= ' ' || r == '\t' || r == '\n' ||
		r == '\r') &&
		r != 0xFFFE && r != 0xFFFF
	return r, valid
}
