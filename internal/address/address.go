// Package address cleans e-mail addresses as people paste them, and says what is wrong with the others. How stored
// addresses are folded and hashed is no part of it.
package address

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxBytes is how long an address may be: RFC 5321, 4.5.3.1.3 less the angle brackets.
const MaxBytes = 254

// Characters that nobody sees.
const (
	softHyphen     = '\u00AD'
	zeroWidthSpace = '\u200B'
	byteOrderMark  = '\uFEFF'
)

var names = map[rune]string{
	softHyphen: "a soft hyphen", zeroWidthSpace: "a zero-width space", byteOrderMark: "a byte order mark",
	'\u00A0': "a no-break space", '\u200C': "a zero-width non-joiner", '\u200D': "a zero-width joiner",
	'\u200E': "a left-to-right mark", '\u200F': "a right-to-left mark", '\u2060': "a word joiner",
	'\u202A': "a left-to-right embedding", '\u202B': "a right-to-left embedding",
	'\u202C': "the end of a direction change", '\u202D': "a left-to-right override",
	'\u202E': "a right-to-left override",
}

// Trim removes from either end what comes along when an address is copied: blanks, no-break spaces, zero-width
// characters, byte order marks, and a leading mailto:.
func Trim(text string) string {
	text = strings.TrimFunc(text, isEdge)
	const scheme = "mailto:"
	if len(text) >= len(scheme) && strings.EqualFold(text[:len(scheme)], scheme) {
		text = strings.TrimFunc(text[len(scheme):], isEdge)
	}
	return text
}

func isEdge(r rune) bool {
	switch r {
	case zeroWidthSpace, byteOrderMark, '\u200C', '\u200D', '\u2060':
		return true
	}
	return unicode.IsSpace(r)
}

// Soften removes from the part before the @ the invisible characters that editors and web pages put there: zero-width
// spaces, byte order marks and soft hyphens. That is a guess, since an address might really hold one; removed says
// what was taken out and where, and is empty if nothing was. The domain stays as it is: there such a character may
// hide another domain.
func Soften(text string) (softened, removed string) {
	local, domain, found := cutLast(text)
	if !found || !strings.ContainsFunc(local, isSoft) {
		return text, ""
	}
	at := strings.IndexFunc(local, isSoft)
	r, _ := utf8.DecodeRuneInString(local[at:])
	removed = place(r, local[:at])
	return strings.Map(func(r rune) rune {
		if isSoft(r) {
			return -1
		}
		return r
	}, local) + domain, removed
}

func isSoft(r rune) bool { return r == softHyphen || r == zeroWidthSpace || r == byteOrderMark }

// cutLast cuts before the last @, which the second part keeps.
func cutLast(text string) (local, domain string, found bool) {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at:], true
}

// Fault says what is wrong with a trimmed address, and is empty if nothing is.
func Fault(text string) string {
	switch {
	case text == "":
		return "is missing"
	case len(text) > MaxBytes:
		return fmt.Sprintf("is %d bytes long, at most %d are allowed", len(text), MaxBytes)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return "has bytes that are not printable text"
	}
	if reason := invisible(text); reason != "" {
		return reason
	}
	parsed, err := mail.ParseAddress(text)
	if err != nil {
		return "is not an e-mail address"
	}
	if parsed.Name != "" || parsed.Address != text {
		return "must be the bare address, without a display name, quotes or brackets"
	}
	return domainFault(text[strings.LastIndexByte(text, '@')+1:])
}

func domainFault(domain string) string {
	last := ""
	for last = range strings.SplitSeq(domain, ".") {
		if !mayBeLabel(last) {
			return "has a domain that cannot exist"
		}
	}
	switch {
	case last == domain:
		return "has a domain without a dot"
	case strings.Trim(last, "0123456789") == "":
		return "has a domain that cannot exist"
	}
	return ""
}

// mayBeLabel tells whether a part of a domain may exist: letters, digits and hyphens, and no dot of another script,
// which programs take for one. Only ASCII is looked at further.
func mayBeLabel(label string) bool {
	const most = 63
	stray := func(r rune) bool {
		return r < utf8.RuneSelf && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) ||
			strings.ContainsRune("\u3002\uFF0E\uFF61", r)
	}
	return label != "" && utf8.RuneCountInString(label) <= most && !strings.HasPrefix(label, "-") &&
		!strings.HasSuffix(label, "-") && !strings.ContainsFunc(label, stray)
}

// invisible finds the first character that nobody sees, or that changes the direction of what is seen.
func invisible(text string) string {
	at := strings.IndexFunc(text, isInvisible)
	if at < 0 {
		return ""
	}
	r, _ := utf8.DecodeRuneInString(text[at:])
	where := ""
	if local, _, _ := cutLast(text); at > len(local) {
		where = " in its domain"
	}
	return "has an invisible character" + where + ": " + place(r, text[:at])
}

// isInvisible tells whether a character leaves no mark of its own. The ranges are those letters and marks that fonts
// draw as nothing.
func isInvisible(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return false
	case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zs, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
		return true
	case unicode.Is(unicode.Variation_Selector, r), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r):
		return true
	}
	return r == '\u2800' // a Braille cell without dots
}

// Visible gives a text without the characters that nobody sees.
func Visible(text string) string {
	return strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return r
	}, text)
}

// place names a character, and where it stands.
func place(r rune, before string) string {
	name := fmt.Sprintf("U+%04X", r)
	if known := names[r]; known != "" {
		name = known + " (" + name + ")"
	}
	if before == "" {
		return name + " at its start"
	}
	return fmt.Sprintf("%s after %q", name, tail(before))
}

// tail is the end of a text, short enough for a message.
func tail(text string) string {
	const most = 40
	if len(text) > most {
		text = "…" + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return text
}

// Redact leaves the first letter of an address and its domain. Of what is no address it leaves nothing.
func Redact(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 1 {
		return ""
	}
	return string([]rune(text)[:1]) + "***" + text[at:]
}
