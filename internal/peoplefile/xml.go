package peoplefile

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
)

// Bounds of the XML in a workbook.
const (
	maxToken = 1 << 20 // bytes of a tag, or of the text between two tags: a cell has at most 32,767 characters
	maxDepth = 100     // of tags in tags
)

var (
	errXML     = errors.New("its XML is not well formed")
	errXMLSize = errors.New("its XML has a tag or a text that is too long")
)

// xmlReader reads an XML document in UTF-8 that has one root and no document type, which could define what texts mean.
// encoding/xml alone takes a document without a root, with two of them, and with text around them.
type xmlReader struct {
	*xml.Decoder
	input *tokenInput
	depth int
	begun bool // the root has begun
}

func newXMLReader(r io.Reader) *xmlReader {
	input := &tokenInput{r: r}
	return &xmlReader{Decoder: xml.NewDecoder(bufio.NewReaderSize(input, 64<<10)), input: input}
}

// next reads a tag, or a text that is good until the next call. At the end of a whole document it gives io.EOF.
func (x *xmlReader) next() (xml.Token, error) {
	for {
		x.input.left = maxToken
		token, err := x.Token()
		switch {
		case err == io.EOF && !x.begun:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if x.depth++; x.depth > maxDepth || x.depth == 1 && x.begun {
				return nil, errXML
			}
			x.begun = true
			return token, nil
		case xml.EndElement:
			x.depth--
			return token, nil
		case xml.CharData:
			if x.depth > 0 {
				return token, nil
			}
			if bytes.Equal(token, []byte(bomUTF8)) && !x.begun {
				break
			}
			if len(bytes.TrimSpace(token)) > 0 {
				return nil, errXML
			}
		case xml.Directive:
			return nil, errXML
		}
	}
}

// tokenInput refuses to give more bytes than are left for a token.
type tokenInput struct {
	r    io.Reader
	left int
}

func (t *tokenInput) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, errXMLSize
	}
	n, err := t.r.Read(p)
	t.left -= n
	return n, err
}

// attribute gives the value of an attribute, "" if there is none.
func attribute(tag xml.StartElement, name string) string {
	for _, a := range tag.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
