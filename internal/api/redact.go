package api

import (
	"regexp"

	"example.com/usher/internal/address"
	"example.com/usher/internal/tokens"
)

var addressLike = regexp.MustCompile(`[^\s<>"'(),;:@]+@[^\s<>"'(),;:@]+`)

// redactIn redacts every address in a text.
func redactIn(text string) string { return addressLike.ReplaceAllStringFunc(text, address.Redact) }

// address is an address as the asker may see it.
func (a *asker) address(text string) string {
	if a.May(tokens.Operate) || text == "" {
		return text
	}
	return address.Redact(text)
}

// text is a text as the asker may see it.
func (a *asker) text(text string) string {
	if a.May(tokens.Operate) {
		return text
	}
	return redactIn(text)
}
