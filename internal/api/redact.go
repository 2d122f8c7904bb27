package api

import (
	"regexp"
	"strings"

	"example.com/usher/internal/tokens"
)

var addressLike = regexp.MustCompile(`[^\s<>"'(),;:@]+@[^\s<>"'(),;:@]+`)

// redact leaves the first letter of an address and its domain.
func redact(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 1 {
		return ""
	}
	return string([]rune(address)[:1]) + "***" + address[at:]
}

// redactIn redacts every address in a text.
func redactIn(text string) string { return addressLike.ReplaceAllStringFunc(text, redact) }

// address is an address as the asker may see it.
func (a *asker) address(text string) string {
	if a.May(tokens.Operate) || text == "" {
		return text
	}
	return redact(text)
}

// text is a text as the asker may see it.
func (a *asker) text(text string) string {
	if a.May(tokens.Operate) {
		return text
	}
	return redactIn(text)
}
