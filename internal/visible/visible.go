// Package visible shows texts that others wrote to people.
package visible

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text gives a text in which nothing hides: whatever changes the direction of a line, has no width, or a terminal
// obeys stands there as its code, such as \u202e. Line ends stay.
func Text(text string) string {
	if !strings.ContainsFunc(text, hides) {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !hides(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			first, second := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, first, second)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// hides tells whether a rune is not seen as what it is.
func hides(r rune) bool {
	if r < utf8.RuneSelf { // most are
		return r < ' ' && r != '\n' || r == '\x7f'
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector) || blanks(r)
}

// blanks are letters without a shape.
func blanks(r rune) bool { return strings.ContainsRune("\u115F\u1160\u17B4\u17B5\u3164\uFFA0", r) }
