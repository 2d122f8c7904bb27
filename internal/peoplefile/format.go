package peoplefile

import (
	"archive/zip"
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"
)

// formats shows numbers as a workbook shows them: dates, leading zeros.
type formats struct {
	file   *excelize.File
	sheet  string
	epoch  time.Time // the day 0 of its dates
	styles map[int]*excelize.Style
	shown  map[styled]string
}

type styled struct {
	style int
	value string
}

// openFormats gives excelize the workbook without what is in its sheets.
func (b *book) openFormats(main string, relations relations) (*formats, error) {
	const empty = `<worksheet ` +
		`xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData/></worksheet>`
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	parts := map[string]bool{
		"[Content_Types].xml": true, "_rels/.rels": true, main: true, relations.ofType("styles"): true,
		path.Dir(main) + "/_rels/" + path.Base(main) + ".rels": true,
	}
	for _, of := range b.sheets {
		parts[of.path] = false
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		content := []byte(empty)
		if parts[name] && b.parts[name] != nil {
			var err error
			if content, err = b.whole(name); err != nil {
				return nil, err
			}
		} else if parts[name] {
			continue
		}
		w, err := archive.Create(name)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return newFormats(out.Bytes(), b.sheets[0].name)
}

// newFormats opens the workbook. A panic in it is a broken file, not the end of the program.
func newFormats(data []byte, sheet string) (f *formats, err error) {
	defer caught(&err)
	file, err := excelize.OpenReader(bytes.NewReader(data), excelize.Options{
		UnzipSizeLimit: 4 * maxSmallPart, UnzipXMLSizeLimit: 4 * maxSmallPart, // so that it needs no temporary files
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	epoch := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	if props, err := file.GetWorkbookProps(); err == nil && props.Date1904 != nil && *props.Date1904 {
		epoch = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return &formats{
		file: file, sheet: sheet, epoch: epoch, styles: map[int]*excelize.Style{}, shown: map[styled]string{},
	}, nil
}

func caught(err *error) {
	if reason := recover(); reason != nil {
		*err = fmt.Errorf("%w: %v", errBroken, reason)
	}
}

func (f *formats) close() { _ = f.file.Close() }

// style gives a style; nil if there is none.
func (f *formats) style(number int) *excelize.Style {
	style, known := f.styles[number]
	if !known {
		style, _ = f.file.GetStyle(number)
		f.styles[number] = style
	}
	return style
}

// struck tells whether a style strikes text through.
func (f *formats) struck(number int) bool {
	style := f.style(number)
	return style != nil && style.Font != nil && style.Font.Strike
}

// showDate gives a date as its style shows it. Some programs write dates as text.
func (f *formats) showDate(number int, value string) (string, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z"} {
		if at, err := time.Parse(layout, value); err == nil && f.hasFormat(number) {
			days := float64(at.Unix()-f.epoch.Unix()) / (24 * 60 * 60)
			return f.show(number, strconv.FormatFloat(days, 'f', -1, 64))
		}
	}
	return value, nil
}

// hasFormat tells whether a style says how a number shows.
func (f *formats) hasFormat(number int) bool {
	style := f.style(number)
	return style != nil && (style.NumFmt != 0 || style.CustomNumFmt != nil)
}

// show gives a number as its style shows it.
func (f *formats) show(number int, value string) (shown string, err error) {
	const wholeDigits = 11 // as many as a cell without a format shows
	if value == "" || !f.hasFormat(number) && len(value) <= wholeDigits && strings.Trim(value, "0123456789") == "" {
		return value, nil
	}
	key := styled{number, value}
	if shown, known := f.shown[key]; known {
		return shown, nil
	}
	defer caught(&err)
	const at = "A1"
	if f.style(number) == nil {
		number = 0
	}
	if err = f.file.SetCellStyle(f.sheet, at, at, number); err == nil {
		err = f.file.SetCellDefault(f.sheet, at, value)
	}
	if err == nil {
		shown, err = f.file.GetCellValue(f.sheet, at)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errBroken, err)
	}
	const most = 100_000
	if strings.TrimSpace(shown) == "" {
		shown = value // a format that hides it must not hide that somebody has opted out
	}
	if len(f.shown) < most {
		f.shown[key] = shown
	}
	return shown, nil
}
