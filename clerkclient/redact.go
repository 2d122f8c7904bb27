package clerkclient

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage is the most bytes of a message in errors, logs and dead letters.
const maxMessage = 300

// secrets are what Clerk's messages may quote and nobody else may read. URLs come first: one may hold the others.
var secrets = []struct {
	form *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`\S*://\S*`), "[url]"},
	{regexp.MustCompile(`(?i)\S*__clerk_ticket\S*`), "[ticket]"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`), "[ticket]"}, // every ticket is a JWT (observed)
	{regexp.MustCompile(`(?i)\bsk_(test|live)_?\S*`), "[key]"},
	{regexp.MustCompile(`(?i)\bbearer\s+\S+`), "[key]"},
	// The part of an address before the @ may hold spaces if it is quoted.
	{regexp.MustCompile(`(?i)"[^"@]{1,128}"(@|%40)[^\s<>(),;"']+`), "[address]"},
	{regexp.MustCompile(`(?i)[^\s<>(),;:"]*(@|%40|\\u0040)[^\s<>(),;"']*`), "[address]"},
}

// redact makes a text from outside safe to show: one line of at most maxMessage bytes, without addresses, URLs,
// tickets and keys.
func redact(text string) string {
	const most = 4096 // enough to fill a message after the secrets are replaced
	text = strings.ToValidUTF8(text, "?")
	if len(text) > most {
		// Cut at a space: half a secret might not be recognised.
		text = text[:strings.LastIndexFunc(text[:most], unicode.IsSpace)+1]
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' ' // so that nobody can forge a line of a log
		}
		return r
	}, text)
	for _, s := range secrets {
		text = s.form.ReplaceAllLiteralString(text, s.put)
	}
	text = strings.TrimSpace(text)
	if len(text) <= maxMessage {
		return text
	}
	cut := maxMessage - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

var (
	codeForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	traceForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// matching returns s if it has the form, and else nothing: an identifier from outside could hold anything.
func matching(form *regexp.Regexp, s string) string {
	if form.MatchString(s) {
		return s
	}
	return ""
}
