package clerkclient

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage bounds a message that goes into errors, logs and dead letters, in bytes.
const maxMessage = 300

// secrets are what Clerk's messages may quote and nobody else may read. The order matters: a URL may hold the others.
var secrets = []struct {
	form *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`\S*://\S*`), "[url]"},
	{regexp.MustCompile(`(?i)\S*__clerk_ticket\S*`), "[ticket]"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`), "[ticket]"}, // every ticket is a JWT (observed)
	{regexp.MustCompile(`(?i)\bsk_(test|live)_?\S*`), "[key]"},
	{regexp.MustCompile(`(?i)\bbearer\s+\S+`), "[key]"},
	{regexp.MustCompile(`(?i)"[^"@]{1,128}"(@|%40)[^\s<>(),;"']+`), "[address]"}, // a quoted local part may hold spaces
	{regexp.MustCompile(`(?i)[^\s<>(),;:"]*(@|%40|\\u0040)[^\s<>(),;"']*`), "[address]"},
}

// redact makes a text from outside fit to be shown: one line, at most maxMessage bytes, without addresses, URLs, tickets and keys.
func redact(text string) string {
	const most = 4096 // enough that what is left after redacting fills a message
	text = strings.ToValidUTF8(text, "?")
	if len(text) > most {
		// A secret cut in two might not be recognised: the last word goes.
		text = text[:strings.LastIndexFunc(text[:most], unicode.IsSpace)+1]
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' ' // no line of ours can be forged
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

// matching gives s if it has the form, else nothing: identifiers from outside have no room for anything else.
func matching(form *regexp.Regexp, s string) string {
	if form.MatchString(s) {
		return s
	}
	return ""
}
