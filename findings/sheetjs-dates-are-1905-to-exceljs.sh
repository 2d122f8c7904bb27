#!/bin/sh
# Dates that SheetJS 0.18.5 writes with cellDates are dates of July 1905 to ExcelJS 4.4.0.
#
# Expected: with cellDates: true SheetJS writes a date as text in ISO 8601, in a cell of type d, which ISO/IEC 29500
# has for that. ExcelJS gives a Date of that day, as read-excel-file 9.3.17 does.
# Seen: ExcelJS takes the number at the beginning of the text, 2026, for a count of days since 1900, so that every date
# of that year is 18 July 1905, and every date of the year before is the day before. It gives no error.
#
# Needs node and npm. Output seen with node 20.20.2:
#   written: <c r="A1" s="1" t="d"><v>2026-03-04T00:00:00.000Z</v></c>
#   exceljs: 1905-07-18, 1905-07-18, 1905-07-17
#   read-excel-file: 2026-03-04, 2026-11-29, 2025-12-31
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export TZ=UTC
echo '{"private": true, "type": "module"}' >package.json
npm install --silent --no-audit --no-fund xlsx@0.18.5 exceljs@4.4.0 read-excel-file@9.3.17 jszip@3.10.1 >/dev/null 2>&1
cat >main.js <<'JS'
import fs from 'fs'
import ExcelJS from 'exceljs'
import JSZip from 'jszip'
import readXlsx from 'read-excel-file/node'
import SheetJS from 'xlsx'

const days = [[new Date('2026-03-04')], [new Date('2026-11-29')], [new Date('2025-12-31')]]
const written = SheetJS.utils.book_new()
SheetJS.utils.book_append_sheet(written, SheetJS.utils.aoa_to_sheet(days, { cellDates: true }), 'Days')
fs.writeFileSync('days.xlsx', SheetJS.write(written, { type: 'buffer', bookType: 'xlsx', cellDates: true }))

const archive = await JSZip.loadAsync(fs.readFileSync('days.xlsx'))
const sheet = await archive.file('xl/worksheets/sheet1.xml').async('string')
console.log('written:', sheet.match(/<c r="A1".*?<\/c>/)[0])

const day = value => value.toISOString().slice(0, 10)
const book = new ExcelJS.Workbook()
await book.xlsx.readFile('days.xlsx')
const seen = []
book.worksheets[0].eachRow(row => seen.push(day(row.getCell(1).value)))
console.log('exceljs:', seen.join(', '))
console.log('read-excel-file:', (await readXlsx('days.xlsx'))[0].data.map(row => day(row[0])).join(', '))
JS
node main.js | tee seen
cat >wanted <<'TEXT'
written: <c r="A1" s="1" t="d"><v>2026-03-04T00:00:00.000Z</v></c>
exceljs: 1905-07-18, 1905-07-18, 1905-07-17
read-excel-file: 2026-03-04, 2026-11-29, 2025-12-31
TEXT
cmp seen wanted
