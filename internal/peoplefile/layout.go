package peoplefile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// layout says which rows of a table are people, and what its columns mean.
type layout struct {
	export   *export
	header   int // row of the headings; -1 if there is none
	from, to int // rows of people
	columns  []heading
	address  int  // the column that holds it; -1 if none does
	width    int  // cells of the header
	exact    bool // rows must have as many, since the file is one of bad rows
}

// heading is a column, or a key of JSON, and what becomes of it.
type heading struct {
	name    string
	column          // what it sets
	forbids forbids // whether it may forbid to write to the person
	further bool    // it has more addresses of the same person
	ticked  bool    // boxes: checked or nothing
}

// used tells whether a cell of the column may show in messages.
func (h heading) used() bool { return h.field != "" }

// bars tells whether a cell of the column forbids to write to the person. The empty box of a consent says no.
func (h heading) bars(cell string) bool {
	return h.forbids.by(cell) || h.forbids == ifDenied && h.ticked && strings.TrimSpace(cell) == ""
}

// survey counts what the columns of a file hold.
type survey struct {
	addresses []int // cells that are an address
	filled    []int // cells that are not empty
	checked   []int // cells with a ticked box
	rows      int
}

func (s *survey) see(column int, cell string) {
	for len(s.filled) <= column {
		s.addresses, s.filled, s.checked = append(s.addresses, 0), append(s.filled, 0), append(s.checked, 0)
	}
	switch cell = strings.TrimSpace(cell); {
	case cell == "":
		return
	case strings.EqualFold(cell, "checked"):
		s.checked[column]++
	case holdsAddress(cell):
		s.addresses[column]++
	}
	s.filled[column]++
}

// withAddresses are the columns that hold any, without those that are excepted.
func (s *survey) withAddresses(except func(column int) bool) (columns []int) {
	for i, n := range s.addresses {
		if n > 0 && !except(i) {
			columns = append(columns, i)
		}
	}
	return columns
}

func (s *survey) signs(footer string) signs {
	ticked := func(i int) bool { return s.checked[i] > 0 && s.checked[i] == s.filled[i] }
	for i := range s.checked {
		if ticked(i) {
			return signs{checked: true, footer: footer}
		}
	}
	return signs{footer: footer}
}

func (t *table) survey(from int) *survey {
	s := &survey{}
	t.each(from, len(t.rows), func(_ int, cells []string) bool {
		s.rows++
		for i, cell := range cells {
			s.see(i, cell)
		}
		return true
	})
	return s
}

// layout finds out where people begin and end, and what the columns mean.
func (rd *reader) layout(t *table) (*layout, error) {
	if len(t.rows) == 0 {
		return nil, rd.fault(0, "has no header: the first line must name the columns, such as email_address")
	}
	footer := t.lastLines()
	header, found := rd.findHeader(t, footer)
	firebase := (rd.opts.NoHeader || !found) && t.isFirebase()
	if rd.opts.NoHeader || firebase || !found && slices.ContainsFunc(t.cells(0, nil), holdsAddress) {
		return rd.headless(t, firebase)
	}
	names := slices.Clone(t.cells(header, nil))
	l := &layout{header: header, from: header + 1, to: len(t.rows), width: len(names)}
	if n := len(names); n >= 2 && names[n-2] == columnLine && names[n-1] == columnReason {
		names, l.exact = names[:n-2], true
	}
	for i, name := range names {
		names[i] = strings.Clone(name)
	}
	rd.file.Columns = names
	seen := t.survey(l.from)
	l.export = exportOf(names, false, seen.signs(footer))
	if err := rd.assign(l, names, seen, Place{Line: t.rows[header].line}); err != nil {
		return nil, err
	}
	if err := rd.checkPreamble(t, l); err != nil {
		return nil, err
	}
	l.dropFooter(rd, t)
	rd.hiddenColumn(t, l)
	return l, nil
}

// findHeader finds the row with the headings. It is the first one unless a later one of the first lines has those of
// a known export, or the column of the address and a blank line in front of it.
func (rd *reader) findHeader(t *table, footer string) (row int, found bool) {
	var cells []string
	for i := range t.rows {
		if t.rows[i].line > t.rows[0].line+maxLeading {
			break
		}
		cells = t.cells(i, cells)
		apart := i == 0 || t.rows[i].afterBlank
		if e := exportOf(cells, false, signs{footer: footer}); e != nil && (apart || e.leads(t, i)) {
			return i, true
		}
		isAddress := func(name string) bool {
			c, known := rd.opts.column(name)
			return known && c.field == fieldEmail
		}
		if apart && slices.ContainsFunc(cells, isAddress) {
			return i, true
		}
	}
	return 0, false
}

// leads tells whether the rows in front of one are those that the program writes there.
func (e export) leads(t *table, header int) bool {
	for i := range header {
		if e.preamble == nil || !e.preamble(strings.TrimSpace(strings.Join(t.cells(i, nil), ""))) {
			return false
		}
	}
	return true
}

// checkPreamble refuses lines in front of the header that may be people.
func (rd *reader) checkPreamble(t *table, l *layout) error {
	for i := range l.header {
		cells := t.cells(i, nil)
		if l.address < len(cells) && l.address >= 0 && mentionsAddress(cells[l.address]) {
			return rd.fault(t.rows[i].line, "stands in front of the header and holds an address; "+
				"the header seems to be in line %d", t.rows[l.header].line)
		}
		rd.file.Understood.Preamble = append(rd.file.Understood.Preamble, t.rows[i].line)
	}
	return nil
}

// lastLines are the lines at the end that have one cell and are under a blank line, folded, as exports write them.
func (t *table) lastLines() string {
	lines, apart := "", ""
	for i := len(t.rows) - 1; i > 0 && i >= len(t.rows)-maxLeading; i-- {
		cells := t.cells(i, nil)
		if !one(cells) {
			break
		}
		if lines += foldHeading(cells[0]) + "\n"; t.rows[i].afterBlank {
			apart = lines
		}
	}
	return apart
}

// dropFooter passes over lines at the end that are set apart by a blank line and hold one cell, which is no address.
func (l *layout) dropFooter(rd *reader, t *table) {
	last := t.rows[len(t.rows)-1].line
	to := l.to
	for i := l.to - 1; i >= l.from && t.rows[i].line > last-maxLeading; i-- {
		cells := t.cells(i, nil)
		if !one(cells) || l.address >= 0 && l.address < len(cells) && strings.Contains(cells[l.address], "@") {
			break
		}
		if t.rows[i].afterBlank {
			to = i
		}
	}
	for i := to; i < l.to; i++ {
		rd.file.Understood.Footer = append(rd.file.Understood.Footer, t.rows[i].line)
	}
	l.to = to
}

// isFirebase tells whether the first row is a person as Firebase writes them. It need not have an address, and what
// stands there is secret, so it must not be taken for headings.
func (t *table) isFirebase() bool {
	first := t.cells(0, nil)
	return len(first) == firebaseCells && (first[firebaseVerified] == "true" || first[firebaseVerified] == "false")
}

// headless reads a list without headings.
func (rd *reader) headless(t *table, firebase bool) (*layout, error) {
	first := t.cells(0, nil)
	l := &layout{header: -1, to: len(t.rows), width: len(first), columns: make([]heading, len(first)), address: -1}
	seen := t.survey(0)
	for _, asked := range rd.opts.byFlag() {
		number, err := strconv.Atoi(asked.heading)
		if err != nil || number < 1 || number > l.width {
			return nil, rd.fault(0, "has no header, so columns have numbers, 1 to %d: %s is none of them", l.width,
				show(asked.heading))
		}
		l.columns[number-1].column = asked.column
		if asked.field == fieldEmail {
			l.address = number - 1
		}
	}
	line := t.rows[0].line
	with := seen.withAddresses(func(i int) bool { return i >= l.width })
	if firebase && slices.Contains(with, firebaseAddress) {
		for _, i := range with { // those of a person's other accounts
			l.columns[i].further = i != firebaseAddress
		}
		with = []int{firebaseAddress}
	}
	switch {
	case l.address >= 0:
	case len(with) > 1:
		return nil, rd.fault(line, "looks like people already, and %s hold addresses: say which counts with "+
			"--no-header --email-column %d", numbers(with), with[0]+1)
	case len(with) == 0 || seen.addresses[with[0]] < seen.rows && !firebase:
		return nil, rd.fault(line, "looks like people already: the first line must name the columns, "+
			"such as email_address; for a list without a header say --no-header --email-column N")
	default:
		l.address = with[0]
		if l.width > 1 {
			rd.guess(Guess{Line: line, What: fmt.Sprintf("there is no header, and column %d is taken for the "+
				"addresses",
				l.address+1), Flags: []Flag{{"no-header", ""}, {"email-column", strconv.Itoa(l.address + 1)}}})
		}
	}
	l.columns[l.address].column = column{field: fieldEmail}
	for i, h := range l.columns { // for a file of bad rows, which has a header
		name := fmt.Sprintf("column %d", i+1)
		if h.used() {
			name = h.column.String()
		}
		rd.file.Columns = append(rd.file.Columns, name)
	}
	if firebase && l.address == firebaseAddress {
		l.export = &export{program: "Firebase", seen: "2026", sparse: true}
		rd.file.Understood.Warnings = append(rd.file.Understood.Warnings, firebaseWarning)
	}
	rd.hiddenColumn(t, l)
	return l, nil
}

// numbers names columns without headings.
func numbers(columns []int) string {
	var names []string
	for _, i := range columns[:min(maxNames, len(columns))] {
		names = append(names, fmt.Sprintf("column %d", i+1))
	}
	return strings.Join(names, " and ")
}

// assign finds out what columns mean by their headings.
func (rd *reader) assign(l *layout, names []string, seen *survey, at Place) error {
	l.address, l.columns = -1, make([]heading, len(names))
	if l.export != nil && l.export.refused != "" {
		return rd.fault(0, "is an export of %s: %s, so nobody in it is invited", l.export, l.export.refused)
	}
	byColumn := map[column]string{}
	var unknown []string
	for i, name := range names {
		h := rd.heading(l.export, name)
		h.ticked = i < len(seen.checked) && seen.checked[i] > 0
		other, twice := byColumn[h.column]
		switch {
		case h.used() && twice && at.Line > 0:
			return rd.fault(at.Line, "has two columns for %s: %s and %s", h.column, show(other), show(name))
		case h.used():
			byColumn[h.column] = name
		case isFormat(name):
		case h.forbids != ifAnything && !h.further && strings.TrimSpace(name) != "" && (l.export == nil):
			unknown = append(unknown, name)
		}
		if h.field == fieldEmail && l.address < 0 {
			l.address = i
		}
		l.columns[i] = h
	}
	if err := rd.askedFor(byColumn, names, at); err != nil {
		return err
	}
	if err := rd.chooseAddress(l, seen, unknown, at); err != nil {
		return err
	}
	if l.address >= 0 && l.columns[l.address].forbids != ifAnything {
		l.columns[l.address].forbids = never // complaints@ under Subscriber Email is an address and no status
	}
	return nil
}

// heading finds out what a column means.
func (rd *reader) heading(e *export, name string) heading {
	h := heading{name: name, forbids: forbidsOf(name)}
	if strings.TrimSpace(name) == "" {
		return h
	}
	c, known, asked := rd.opts.meaning(name)
	folded := foldHeading(name)
	switch {
	case asked:
		h.column = c
	case e == nil || e.ownColumns:
		if h.column = c; known {
			h.forbids = never // public_metadata.deleted is the sender's own
		}
	case folded == e.address && rd.opts.emailHeading() == "":
		h.column = column{field: fieldEmail}
	case slices.Contains(e.further, folded):
		h.further = true
	}
	return h
}

// askedFor refuses a flag that names a column that is not there.
func (rd *reader) askedFor(byColumn map[column]string, names []string, at Place) error {
	for _, asked := range rd.opts.byFlag() {
		if _, found := byColumn[asked.column]; found {
			continue
		}
		flag := "--map"
		if asked.field == fieldEmail && rd.opts.EmailColumn != "" {
			flag = "--email-column"
		}
		return rd.fault(at.Line, "has no column %s, as %s asks; it names %s", show(asked.heading), flag, shown(names))
	}
	return nil
}

// chooseAddress finds the column of the address, and refuses to where two may be meant.
func (rd *reader) chooseAddress(l *layout, seen *survey, unknown []string, at Place) error {
	primary := l.export != nil && !l.export.ownColumns || rd.opts.emailHeading() != ""
	others := seen.withAddresses(func(i int) bool {
		return primary || i >= len(l.columns) || l.columns[i].used() && i != l.address
	})
	nameless := func(i int) bool { return strings.TrimSpace(l.columns[i].name) == "" }
	name := func(i int) string {
		if nameless(i) {
			return fmt.Sprintf("column %d", i+1)
		}
		return show(l.columns[i].name)
	}
	if l.address >= 0 && !slices.Contains(others, l.address) && !primary {
		others = append(others, l.address)
		slices.Sort(others)
	}
	named := slices.IndexFunc(others, func(i int) bool { return !nameless(i) })
	switch {
	case len(others) > 0 && named < 0:
		return rd.fault(at.Line, "has addresses in column %d, which has no name: give it one, such as email_address, "+
			"or say --no-header if the first line is a person", others[0]+1)
	case len(others) > 1:
		var quoted []string
		for _, i := range others[:min(maxNames, len(others))] {
			quoted = append(quoted, name(i))
		}
		return rd.fault(at.Line, "has more than one column with addresses: %s: say whose are meant, such as %s",
			strings.Join(quoted, " and "), flagsOf(rd.choice(l, others[named], unknown)))
	case l.address >= 0:
		for _, name := range unknown {
			rd.addUnknown(name)
		}
	case len(others) == 1:
		l.address = others[0]
		l.columns[l.address].column = column{field: fieldEmail}
		rd.guess(Guess{Line: at.Line, What: "the column " + name(l.address) + " is taken for the addresses",
			Flags: rd.choice(l, l.address, unknown)})
	case at.Line > 0:
		return rd.fault(at.Line, "has no column email_address (or email; --email-column says another); it names %s",
			shown(rd.file.Columns))
	default: // JSON, whose rows say it
		for _, name := range unknown {
			rd.addUnknown(name)
		}
	}
	return nil
}

// choice are the flags that make a column the one with the addresses.
func (rd *reader) choice(l *layout, address int, unknown []string) []Flag {
	flags := []Flag{{"email-column", l.columns[address].name}}
	others := slices.ContainsFunc(unknown, func(name string) bool { return name != l.columns[address].name })
	if others && !rd.opts.IgnoreColumns {
		flags = append(flags, Flag{"ignore-columns", ""})
	}
	return flags
}

// hiddenColumn guesses that a column nobody sees is meant.
func (rd *reader) hiddenColumn(t *table, l *layout) {
	if rd.opts.emailHeading() == "" && l.address >= 0 && t.sheet.hiddenColumn(l.address+1) {
		name := l.columns[l.address].name
		if l.header < 0 {
			name = strconv.Itoa(l.address + 1)
		}
		rd.guess(Guess{What: "the column " + show(name) + " is hidden, and taken for the addresses all the same",
			Flags: []Flag{{"email-column", name}}})
	}
}

// shown quotes the names of columns.
func shown(names []string) string {
	var quoted []string
	for _, name := range names[:min(maxNames, len(names))] {
		quoted = append(quoted, show(name))
	}
	return strings.Join(quoted, ", ")
}
