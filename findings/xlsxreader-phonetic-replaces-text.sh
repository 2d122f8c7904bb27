#!/bin/sh
# thedatashed/xlsxreader 1.2.8 gives how a text is read in place of the text, and of a text in several styles within
# a cell only the first part.
#
# Expected: phonetic text (rPh), which Japanese workbooks keep beside a name, is passed over, and the parts of a text
# in several styles are joined. excelize 2.11.1 does both with the same file; xlsxreader joins parts in the texts that
# cells share, too.
# Seen: the name 田中 comes as タナカ, and an address of which one part is bold comes as "carol@": both without an error.
#
# Output seen with Go 1.26.8:
#   excelize: [[田中 ada@example.com] [Carol carol@example.com]]
#   xlsxreader: [[タナカ ada@example.com] [Carol carol@]]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"archive/zip"
	"bytes"
	"fmt"

	"github.com/thedatashed/xlsxreader"
	"github.com/xuri/excelize/v2"
)

const (
	sheetML   = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
	office    = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
	packaging = "http://schemas.openxmlformats.org/package/2006"
	types     = "application/vnd.openxmlformats-officedocument.spreadsheetml"
)

var parts = []struct{ name, content string }{
	{"[Content_Types].xml", `<Types xmlns="` + packaging + `/content-types">` +
		`<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Override PartName="/xl/workbook.xml" ContentType="` + types + `.sheet.main+xml"/>` +
		`<Override PartName="/xl/sharedStrings.xml" ContentType="` + types + `.sharedStrings+xml"/>` +
		`<Override PartName="/xl/styles.xml" ContentType="` + types + `.styles+xml"/>` +
		`<Override PartName="/xl/worksheets/sheet1.xml" ContentType="` + types + `.worksheet+xml"/></Types>`},
	{"_rels/.rels", `<Relationships xmlns="` + packaging + `/relationships">` +
		`<Relationship Id="rId1" Type="` + office + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`},
	{"xl/_rels/workbook.xml.rels", `<Relationships xmlns="` + packaging + `/relationships">` +
		`<Relationship Id="rId1" Type="` + office + `/worksheet" Target="worksheets/sheet1.xml"/>` +
		`<Relationship Id="rId2" Type="` + office + `/sharedStrings" Target="sharedStrings.xml"/>` +
		`<Relationship Id="rId3" Type="` + office + `/styles" Target="styles.xml"/></Relationships>`},
	{"xl/styles.xml", `<styleSheet xmlns="` + sheetML + `"><fonts count="1"><font/></fonts>` +
		`<fills count="1"><fill/></fills><borders count="1"><border/></borders>` +
		`<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="1"><xf xfId="0"/></cellXfs></styleSheet>`},
	{"xl/workbook.xml", `<workbook xmlns="` + sheetML + `" xmlns:r="` + office + `">` +
		`<sheets><sheet name="People" sheetId="1" r:id="rId1"/></sheets></workbook>`},
	{"xl/sharedStrings.xml", `<sst xmlns="` + sheetML + `" count="1" uniqueCount="1">` +
		`<si><t>田中</t><rPh sb="0" eb="2"><t>タナカ</t></rPh></si></sst>`},
	{"xl/worksheets/sheet1.xml", `<worksheet xmlns="` + sheetML + `"><sheetData>` +
		`<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>ada@example.com</t></is></c></row>` +
		`<row r="2"><c r="A2" t="inlineStr"><is><t>Carol</t></is></c>` +
		`<c r="B2" t="inlineStr"><is><r><rPr><b/></rPr><t>carol@</t></r><r><t>example.com</t></r></is></c></row>` +
		`</sheetData></worksheet>`},
}

func main() {
	var book bytes.Buffer
	archive := zip.NewWriter(&book)
	for _, part := range parts {
		w, err := archive.Create(part.name)
		check(err)
		_, err = w.Write([]byte(part.content))
		check(err)
	}
	check(archive.Close())

	whole, err := excelize.OpenReader(bytes.NewReader(book.Bytes()))
	check(err)
	rows, err := whole.GetRows("People")
	check(err)
	fmt.Println("excelize:", rows)

	quick, err := xlsxreader.NewReader(book.Bytes())
	check(err)
	rows = nil
	for row := range quick.ReadRows("People") {
		check(row.Error)
		var cells []string
		for _, cell := range row.Cells {
			cells = append(cells, cell.Value)
		}
		rows = append(rows, cells)
	}
	fmt.Println("xlsxreader:", rows)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
GO
go get github.com/thedatashed/xlsxreader@v1.2.8 github.com/xuri/excelize/v2@v2.11.1 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
excelize: [[田中 ada@example.com] [Carol carol@example.com]]
xlsxreader: [[タナカ ada@example.com] [Carol carol@]]
TEXT
cmp seen wanted
