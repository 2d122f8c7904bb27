#!/bin/sh
# A mail link that tealeg/xlsx 3.3.13 writes leads to a place in the workbook of that name, which there is not.
#
# Expected: SetHyperlink("mailto:…") makes an external link, a relationship with TargetMode="External", as it does with
# https:, and as excelize 2.11.1 has it with SetCellHyperLink(…, "External").
# Seen: the address stands in the attribute location, which is for places such as Sheet2!A1, and there is no
# relationship. No error is given. A reader that follows relationships, as most do, sees a cell without a link, so that
# people whose address stands only behind their name are lost.
#
# Output seen with Go 1.26.8:
#   tealeg, https://example.com/: external 1, location ""
#   tealeg, mailto:ada@example.com: external 0, location "mailto:ada@example.com"
#   excelize, mailto:ada@example.com: external 1, location ""
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
	"io"
	"regexp"
	"strings"

	tealeg "github.com/tealeg/xlsx/v3"
	"github.com/xuri/excelize/v2"
)

func main() {
	for _, link := range []string{"https://example.com/", "mailto:ada@example.com"} {
		var out bytes.Buffer
		file := tealeg.NewFile()
		sheet, err := file.AddSheet("People")
		check(err)
		sheet.AddRow().AddCell().SetHyperlink(link, "Ada", "")
		check(file.Write(&out))
		tell("tealeg", link, out.Bytes())
	}
	const link = "mailto:ada@example.com"
	var out bytes.Buffer
	file := excelize.NewFile()
	check(file.SetCellValue("Sheet1", "A1", "Ada"))
	check(file.SetCellHyperLink("Sheet1", "A1", link, "External"))
	check(file.Write(&out))
	tell("excelize", link, out.Bytes())
}

var location = regexp.MustCompile(`<hyperlink [^>]*location="([^"]+)"`)

// tell counts the external links of the first sheet, and gives its first link to a place in the workbook.
func tell(program, link string, book []byte) {
	archive, err := zip.NewReader(bytes.NewReader(book), int64(len(book)))
	check(err)
	external, place := 0, ""
	for _, part := range archive.File {
		r, err := part.Open()
		check(err)
		content, err := io.ReadAll(r)
		check(err)
		switch part.Name {
		case "xl/worksheets/_rels/sheet1.xml.rels":
			external = strings.Count(string(content), `TargetMode="External"`)
		case "xl/worksheets/sheet1.xml":
			if found := location.FindSubmatch(content); found != nil {
				place = string(found[1])
			}
		}
	}
	fmt.Printf("%s, %s: external %d, location %q\n", program, link, external, place)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
GO
go get github.com/tealeg/xlsx/v3@v3.3.13 github.com/xuri/excelize/v2@v2.11.1 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
tealeg, https://example.com/: external 1, location ""
tealeg, mailto:ada@example.com: external 0, location "mailto:ada@example.com"
excelize, mailto:ada@example.com: external 1, location ""
TEXT
cmp seen wanted
