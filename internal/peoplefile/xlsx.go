package peoplefile

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"example.com/usher/internal/visible"
)

// Bounds of a workbook.
const (
	maxParts         = 10_000
	maxUnpackedBytes = 256 << 20
	maxSmallPart     = 8 << 20  // of a part that is held whole
	maxStrings       = 64 << 20 // bytes of the texts that cells share
	maxTexts         = 4 << 20  // of them, which take memory even if they are empty
	maxReading       = time.Minute
)

var (
	errBroken = errors.New("is a broken .xlsx")
	errLarge  = errors.New("unpacks to more than is taken: split it, or save only the sheet with the people")
	errSlow   = errors.New("takes longer than a minute to read: split it")
)

// IsWorkbook tells by how a list begins whether it is read as an .xlsx.
func IsWorkbook(data []byte) bool {
	return bytes.HasPrefix(data, []byte("PK\x03\x04")) || bytes.HasPrefix(data, []byte("PK\x05\x06"))
}

// workbook reads the people of an .xlsx.
//
// excelize says how numbers show, and which style strikes text through. The rows are read here, as they come out of
// the archive: excelize gives no sign of a sheet that is broken in the middle, gives neither links nor merged cells
// with the rows, and takes four times as long. Nothing is written to temporary files.
func (rd *reader) workbook(data []byte) error {
	rd.file.Understood.Form = formWorkbook
	b, err := openBook(data)
	if err == nil {
		defer b.close()
		var t *table
		if t, err = rd.chooseSheet(b); err == nil && len(t.rows) > 0 {
			err = rd.misreadFault([]byte(strings.Join(t.raw(0, nil), ""))) // a row may have no cells
		}
		if err == nil {
			return rd.table(t)
		}
	}
	if _, told := errors.AsType[*Error](err); told {
		return err
	}
	return rd.fault(0, "%s", shortened(visible.Text(err.Error()))) // it may quote what is no text, or long
}

// chooseSheet reads the sheet that is asked for, or the only one that can be meant.
func (rd *reader) chooseSheet(b *book) (*table, error) {
	var found []string
	var chosen, any *table
	for _, s := range b.sheets {
		asked := rd.opts.Sheet == s.name
		if rd.opts.Sheet != "" && !asked || rd.opts.Sheet == "" && s.hidden {
			continue
		}
		t, err := b.read(rd, s)
		if err != nil {
			return nil, err
		}
		switch {
		case asked:
			rd.file.Understood.Sheet = s.name
			return t, nil
		case t.holdsAddress():
			found, chosen = append(found, s.name), t
		case len(t.rows) > 0 && any == nil:
			any = t
		}
	}
	switch {
	case rd.opts.Sheet != "":
		return nil, fmt.Errorf("has no sheet %s; it has %s", show(rd.opts.Sheet), shown(b.visible()))
	case len(found) > 1:
		return nil, fmt.Errorf("has addresses in several sheets: %s: say which one is meant, such as %s", shown(found),
			Flag{"sheet", found[0]})
	case chosen != nil:
		rd.file.Understood.Sheet = found[0]
		return chosen, nil
	case any != nil:
		return any, nil
	}
	return nil, errors.New("has no sheet that is seen and holds anything")
}

func (t *table) holdsAddress() (found bool) {
	t.each(0, len(t.rows), func(number int, cells []string) bool {
		found = slices.ContainsFunc(cells, holdsAddress)
		return !found
	})
	for at := range t.sheet.links {
		found = found || t.sheet.mailLink(at.row, at.column) != ""
	}
	return found
}

// book is an open workbook.
type book struct {
	parts   map[string]*zip.File
	sheets  []bookSheet
	texts   []string // that cells share
	struck  map[int]bool
	formats *formats
	begun   time.Time
}

type bookSheet struct {
	name   string
	path   string
	hidden bool
}

func (b *book) visible() (names []string) {
	for _, s := range b.sheets {
		if !s.hidden {
			names = append(names, s.name)
		}
	}
	return names
}

func (b *book) close() {
	if b.formats != nil {
		b.formats.close()
	}
}

// openBook reads everything but the sheets.
func openBook(data []byte) (*book, error) {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	b := &book{parts: map[string]*zip.File{}, struck: map[int]bool{}, begun: time.Now()}
	var size uint64
	for _, part := range archive.File {
		size += part.UncompressedSize64
		if len(b.parts) > maxParts || part.UncompressedSize64 > maxUnpackedBytes || size > maxUnpackedBytes {
			return nil, errLarge
		}
		b.parts[strings.TrimPrefix(strings.ReplaceAll(part.Name, `\`, "/"), "/")] = part
	}
	if err := checkParts(archive.File); err != nil {
		return nil, err
	}
	if err := b.checkKind(); err != nil {
		return nil, err
	}
	root, err := b.relations("")
	if err != nil {
		return nil, err
	}
	main := root.ofType("officeDocument")
	if main == "" {
		return nil, errors.New("is a zip archive and no .xlsx: unpack it, and give the file that is in it")
	}
	relations, err := b.relations(main)
	if err != nil {
		return nil, err
	}
	if err := b.readSheets(main, relations); err != nil {
		return nil, err
	}
	if err := b.readStrings(relations.ofType("sharedStrings")); err != nil {
		return nil, err
	}
	b.formats, err = b.openFormats(main, relations)
	return b, err
}

// checkParts unpacks everything once, which is quick, so that no time is spent on what a broken archive says. No part
// may be longer than it says.
func checkParts(parts []*zip.File) error {
	for _, part := range parts {
		r, err := part.Open()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			_ = r.Close()
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errBroken, show(part.Name), err)
		}
	}
	return nil
}

// checkKind tells the kinds of archives apart that people take for an .xlsx.
func (b *book) checkKind() error {
	if part := b.parts["mimetype"]; part != nil {
		kind, err := b.whole("mimetype")
		if err != nil {
			return err
		}
		if strings.Contains(string(kind), "opendocument.spreadsheet") {
			return errors.New("is an .ods spreadsheet: save it as .xlsx and give that file")
		}
	}
	for _, other := range []struct{ part, kind string }{
		{"xl/workbook.bin", "an .xlsb spreadsheet"},
		{"Index/Document.iwa", "a document of Numbers, Pages or Keynote"},
		{"word/document.xml", "a text document"},
	} {
		if b.parts[other.part] != nil {
			return fmt.Errorf("is %s: save it as .xlsx and give that file", other.kind)
		}
	}
	return nil
}

// relations are what a part of the workbook refers to.
type relations map[string]relation // by id

type relation struct {
	kind   string // the end of its type
	target string // a path in the archive, or an address outside
}

// ofType is the target of the only relation of a kind.
func (r relations) ofType(kind string) string {
	for _, one := range r {
		if one.kind == kind {
			return one.target
		}
	}
	return ""
}

// relations reads what a part refers to; "" is the whole workbook. A part need not refer to anything.
func (b *book) relations(of string) (relations, error) {
	folder, file := path.Split(of)
	found := relations{}
	err := b.tags(folder+"_rels/"+file+".rels", "Relationship", func(tag xml.StartElement) {
		target := attribute(tag, "Target")
		if attribute(tag, "TargetMode") != "External" {
			if !strings.HasPrefix(target, "/") {
				target = path.Join(folder, target)
			}
			target = strings.TrimPrefix(path.Clean(target), "/")
		}
		found[attribute(tag, "Id")] = relation{path.Base(attribute(tag, "Type")), target}
	})
	if errors.Is(err, errMissing) {
		err = nil
	}
	return found, err
}

func (b *book) readSheets(main string, relations relations) error {
	err := b.tags(main, "sheet", func(tag xml.StartElement) {
		if of := relations[attribute(tag, "id")]; of.kind == "worksheet" {
			state := attribute(tag, "state")
			b.sheets = append(b.sheets, bookSheet{
				attribute(tag, "name"), of.target, state == "hidden" || state == "veryHidden",
			})
		}
	})
	if err == nil && len(b.sheets) == 0 {
		err = fmt.Errorf("%w: it has no sheet", errBroken)
	}
	return err
}

// readStrings reads the texts that cells share. Phonetic hints are no part of them.
func (b *book) readStrings(part string) error {
	if part == "" {
		return nil
	}
	var text strings.Builder
	size := 0
	struck := false // some of the text is
	r := run{}
	return b.tokens(part, func(token xml.Token) error {
		r.see(token)
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "si" {
				text.Reset()
				struck = false
			}
		case xml.CharData:
			if !r.inText() {
				break
			}
			if size += len(token); size > maxStrings {
				return errLarge
			}
			text.Write(token)
			struck = struck || r.struck && len(bytes.TrimSpace(token)) > 0
		case xml.EndElement:
			if token.Name.Local != "si" {
				break
			}
			if struck {
				b.struck[len(b.texts)] = true
			}
			if b.texts = append(b.texts, unescape(text.String())); len(b.texts) > maxTexts {
				return errLarge
			}
		}
		return nil
	})
}

// run follows the parts of a text with formats of their own.
type run struct {
	phonetic int
	text     bool
	struck   bool
}

func (r *run) see(token xml.Token) {
	switch token := token.(type) {
	case xml.StartElement:
		switch token.Name.Local {
		case "rPh":
			r.phonetic++
		case "r", "si", "is":
			r.struck = false
		case "strike":
			value := attribute(token, "val")
			r.struck = value == "" || truth(value)
		case "t":
			r.text = true
		}
	case xml.EndElement:
		switch token.Name.Local {
		case "rPh":
			r.phonetic--
		case "t":
			r.text = false
		}
	}
}

func (r *run) inText() bool { return r.text && r.phonetic == 0 }

var errMissing = errors.New("has no such part")

// open opens a part, bounded by the size that the archive declares.
func (b *book) open(part string) (io.ReadCloser, error) {
	file := b.parts[part]
	if file == nil {
		return nil, fmt.Errorf("%w: %s: %w", errBroken, show(part), errMissing)
	}
	r, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBroken, show(part), err)
	}
	return r, nil
}

// whole reads a small part.
func (b *book) whole(part string) ([]byte, error) {
	r, err := b.open(part)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxSmallPart+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", errBroken, show(part), err)
	case len(data) > maxSmallPart:
		return nil, errLarge
	}
	return data, nil
}

// tags calls for each tag of a name that opens in a part.
func (b *book) tags(part, name string, use func(xml.StartElement)) error {
	return b.tokens(part, func(token xml.Token) error {
		if tag, opens := token.(xml.StartElement); opens && tag.Name.Local == name {
			use(tag)
		}
		return nil
	})
}

// tokens calls for each token of a part. A part that ends in the middle, or differs from its checksum, is broken.
func (b *book) tokens(part string, use func(xml.Token) error) error {
	r, err := b.open(part)
	if err != nil {
		return err
	}
	defer r.Close()
	x := newXMLReader(r)
	for n := 0; ; n++ {
		if n%4096 == 0 && time.Since(b.begun) > maxReading {
			return errSlow
		}
		token, err := x.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errBroken, show(part), err)
		}
		if err := use(token); err != nil {
			return err
		}
	}
}

func truth(value string) bool {
	return value == "1" || strings.EqualFold(value, "true") || value == "on"
}

// unescape undoes how .xlsx writes characters that XML cannot, such as _x000D_.
func unescape(text string) string {
	if !strings.Contains(text, "_x") {
		return text
	}
	return escaped.ReplaceAllStringFunc(text, func(code string) string {
		var r rune
		if _, err := fmt.Sscanf(code, "_x%04x_", &r); err != nil {
			return code
		}
		return string(r)
	})
}
