#!/bin/sh
# After a cell with phonetic text, ExcelJS 4.4.0 gives neither that cell nor any row below it, and no error.
#
# Expected: phonetic text is what a Japanese workbook keeps beside a name to say how it is read. A reader passes over
# it, as read-excel-file 9.3.17 does with the same file; in the texts that cells share ExcelJS does so, too.
# Seen: if it stands in the cell itself (an inline string, as programs that write streams use them), the sheet ends
# there. eachRow visits the header and one row of nothing, and readFile reports success. A list of 200,000 people
# becomes a list of none, or of those who stand above the first such name.
#
# Needs node and npm. Output seen with node 20.20.2:
#   exceljs, inline: [["name","email"],[null]]
#   exceljs, shared: [["name","email"],["田中","ada@example.com"],["Bob","bob@example.com"]]
#   read-excel-file, inline: [["name","email"],["田中","ada@example.com"],["Bob","bob@example.com"]]
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{"private": true, "type": "module"}' >package.json
npm install --silent --no-audit --no-fund exceljs@4.4.0 read-excel-file@9.3.17 jszip@3.10.1 >/dev/null 2>&1
cat >main.js <<'JS'
import fs from 'fs'
import ExcelJS from 'exceljs'
import JSZip from 'jszip'
import readXlsx from 'read-excel-file/node'

const spreadsheet = 'http://schemas.openxmlformats.org/spreadsheetml/2006/main'
const office = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships'
const packaging = 'http://schemas.openxmlformats.org/package/2006'
const types = 'application/vnd.openxmlformats-officedocument.spreadsheetml'

// write makes a workbook with one sheet. text is one that its cells share.
async function write(path, text, rows) {
  const zip = new JSZip()
  zip.file('[Content_Types].xml', `<Types xmlns="${packaging}/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/xl/workbook.xml" ContentType="${types}.sheet.main+xml"/>
<Override PartName="/xl/sharedStrings.xml" ContentType="${types}.sharedStrings+xml"/>
<Override PartName="/xl/worksheets/sheet1.xml" ContentType="${types}.worksheet+xml"/></Types>`)
  zip.file('_rels/.rels', `<Relationships xmlns="${packaging}/relationships">
<Relationship Id="rId1" Type="${office}/officeDocument" Target="xl/workbook.xml"/></Relationships>`)
  zip.file('xl/_rels/workbook.xml.rels', `<Relationships xmlns="${packaging}/relationships">
<Relationship Id="rId1" Type="${office}/worksheet" Target="worksheets/sheet1.xml"/>
<Relationship Id="rId2" Type="${office}/sharedStrings" Target="sharedStrings.xml"/></Relationships>`)
  zip.file('xl/workbook.xml', `<workbook xmlns="${spreadsheet}" xmlns:r="${office}">
<sheets><sheet name="People" sheetId="1" r:id="rId1"/></sheets></workbook>`)
  zip.file('xl/sharedStrings.xml', `<sst xmlns="${spreadsheet}" count="1" uniqueCount="1"><si>${text}</si></sst>`)
  zip.file('xl/worksheets/sheet1.xml', `<worksheet xmlns="${spreadsheet}"><sheetData>` +
    rows.map((cells, i) => `<row r="${i + 1}">${cells.map((cell, j) => cell('AB'[j] + (i + 1))).join('')}</row>`)
      .join('') +
    '</sheetData></worksheet>')
  fs.writeFileSync(path, await zip.generateAsync({ type: 'nodebuffer' }))
}

const tanaka = '<t>田中</t><rPh sb="0" eb="2"><t>タナカ</t></rPh>'
const inline = text => at => `<c r="${at}" t="inlineStr"><is>${text}</is></c>`
const shared = at => `<c r="${at}" t="s"><v>0</v></c>`
const bob = [inline('<t>Bob</t>'), inline('<t>bob@example.com</t>')]
const header = [inline('<t>name</t>'), inline('<t>email</t>')]
const ada = inline('<t>ada@example.com</t>')
await write('inline.xlsx', '<t>unused</t>', [header, [inline(tanaka), ada], bob])
await write('shared.xlsx', tanaka, [header, [shared, ada], bob])

for (const form of ['inline', 'shared']) {
  const book = new ExcelJS.Workbook()
  await book.xlsx.readFile(`${form}.xlsx`)
  const rows = []
  book.worksheets[0].eachRow(row => rows.push(row.values.slice(1)))
  console.log(`exceljs, ${form}: ${JSON.stringify(rows)}`)
}
console.log(`read-excel-file, inline: ${JSON.stringify((await readXlsx('inline.xlsx'))[0].data)}`)
JS
node main.js | tee seen
all='[["name","email"],["田中","ada@example.com"],["Bob","bob@example.com"]]'
cat >wanted <<TEXT
exceljs, inline: [["name","email"],[null]]
exceljs, shared: $all
read-excel-file, inline: $all
TEXT
cmp seen wanted
