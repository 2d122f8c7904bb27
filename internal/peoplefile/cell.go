package peoplefile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"example.com/usher/internal/address"
	"example.com/usher/tasks"
	"golang.org/x/text/unicode/norm"
)

// person is an address from a cell.
type person struct {
	address string
	cleaned bool   // it did not stand there like that
	removed string // what was taken out of it to make it an address
	linked  bool   // only the link behind the cell says it
}

// addressPattern finds what looks like an address within a text. A dot after it is none of its own.
var addressPattern = regexp.MustCompile(`[^\s\p{Z}<>"'(),;:|\[\]]+@[\p{L}\p{M}\p{N}.-]*[\p{L}\p{N}]`)

// mentioned finds what looks like an address within a text, also where something invisible or a wide @ stands in it.
func mentioned(text string) []string {
	return slices.Concat(addressPattern.FindAllString(text, -1),
		addressPattern.FindAllString(address.Visible(norm.NFKC.String(text)), -1))
}

// peopleOf finds the addresses in a cell. Several are a fault unless they may be split.
func peopleOf(cell string, split bool) (people []person, fault string) {
	parts := partsOf(cell)
	if len(parts) > 1 && !split {
		return nil, fmt.Sprintf("holds %d addresses (--split makes a recipient of each)", len(parts))
	}
	for _, part := range parts {
		text, fault := bare(part)
		if fault != "" {
			return nil, fault
		}
		softened, removed := address.Soften(text)
		cleaned := softened != strings.TrimSpace(cell) && len(parts) == 1 || softened != strings.TrimSpace(part)
		people = append(people, person{address: strings.Clone(softened), cleaned: cleaned, removed: removed})
	}
	return people, ""
}

// partsOf cuts a cell into its addresses: at :::, |, semicolons, commas and line breaks that stand
// neither in quotes nor in angle brackets. What would leave a part without an address is not cut.
func partsOf(cell string) []string {
	if strings.Count(cell, "@") < 2 {
		return []string{cell}
	}
	var parts []string
	quoted, angled, start := false, false, 0
	cut := func(end, next int) {
		if part := cell[start:end]; address.Trim(part) != "" {
			parts = append(parts, part)
		}
		start = next
	}
	for i := 0; i < len(cell); i++ {
		switch c := cell[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angled = true
		case c == '>':
			angled = false
		case angled:
		case strings.IndexByte("|;,\r\n", c) >= 0:
			cut(i, i+1)
		case strings.HasPrefix(cell[i:], ":::"):
			cut(i, i+3)
			i += 2
		}
	}
	cut(len(cell), len(cell))
	for _, part := range parts {
		if !strings.Contains(part, "@") {
			return []string{cell}
		}
	}
	return parts
}

// bare takes the address out of Name <address>. A name that holds another address is a fault: which of the two was
// meant?
func bare(part string) (text, fault string) {
	text = address.Trim(part)
	open := strings.LastIndexByte(text, '<')
	if open < 0 || !strings.HasSuffix(text, ">") {
		return text, ""
	}
	name, text := text[:open], address.Trim(text[open+1:len(text)-1])
	for _, other := range addressPattern.FindAllString(name, -1) {
		if tasks.FoldAddress(other) != tasks.FoldAddress(text) {
			return "", "has a name in front of the address that holds another address"
		}
	}
	return text, ""
}

// holdsAddress tells whether a cell is an address, or several.
func holdsAddress(cell string) bool {
	if !strings.Contains(cell, "@") {
		return false
	}
	for _, part := range partsOf(cell) {
		text, fault := bare(part)
		if fault != "" {
			return true
		}
		if softened, _ := address.Soften(text); address.Fault(softened) == "" {
			return true
		}
	}
	return false
}

// mentionsAddress tells whether there is an address anywhere in a cell.
func mentionsAddress(cell string) bool {
	return strings.Contains(cell, "@") && addressPattern.MatchString(cell)
}
