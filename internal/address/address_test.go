package address_test

import (
	"strings"
	"testing"

	"example.com/usher/internal/address"
)

func TestWhatIsCopiedAlongIsTrimmed(t *testing.T) {
	t.Parallel()
	const ada = "ada@example.com"
	for _, text := range []string{
		ada, " ada@example.com\t\r\n", "\u00A0ada@example.com\u00A0", "\uFEFFada@example.com\u200B\u200C\u200D\u2060",
		"mailto:ada@example.com", "MAILTO: ada@example.com", "\u200Bmailto:\u00A0ada@example.com ", "\u3000" + ada,
	} {
		if got := address.Trim(text); got != ada {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	for text, want := range map[string]string{
		"mailto:": "", " ": "", "mailto:mailto:a@example.com": "mailto:a@example.com",
		"\u202Aada@example.com": "\u202Aada@example.com", // a direction character is a fault, not a blank
	} {
		if got := address.Trim(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestInvisibleCharactersBeforeTheSignAreGuessedAway(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"da\u00ADvid@example.com":          {"david@example.com", `a soft hyphen (U+00AD) after "da"`},
		"\u00ADd\u200Ba\uFEFF@example.com": {"da@example.com", "a soft hyphen (U+00AD) at its start"},
		"ada@exam\u200Bple.com":            {"ada@exam\u200Bple.com", ""},
		"a\u200Dda@example.com":            {"a\u200Dda@example.com", ""},
		"ada@example.com":                  {"ada@example.com", ""},
		"a\u00ADda":                        {"a\u00ADda", ""},
	} {
		if got, removed := address.Soften(text); got != want[0] || removed != want[1] {
			t.Errorf("%q becomes %q, %q", text, got, removed)
		}
	}
}

func TestFaultsNameTheCharacterAndItsPlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ada@example.com": "", "Zoë@example.com": "", "a+b@sub.example.com": "",
		"": "is missing", "ada": "is not an e-mail address", "ada@localhost": "has a domain without a dot",
		"ada@-x.example": "has a domain that cannot exist", "ada@example.com?subject=hi": "has a domain that cannot exist",
		"ada@ex*mple.com": "has a domain that cannot exist", "ada@{example}.com": "has a domain that cannot exist",
		"ada@example.com\u3002": "has a domain that cannot exist", "ada@example.123": "has a domain that cannot exist",
		"ada@" + strings.Repeat("x", 64) + ".org": "has a domain that cannot exist",
		"ada@" + strings.Repeat("x", 63) + ".org": "", "ada@bücher.example": "", "ada@4.example": "",
		"ada@[10.0.0.1]":   "has a domain that cannot exist",
		"a da@example.com": "is not an e-mail address", "ada@example..com": "is not an e-mail address",
		"Ada <ada@example.com>":             "must be the bare address, without a display name, quotes or brackets",
		strings.Repeat("a", 250) + "@x.org": "is 256 bytes long, at most 254 are allowed",
		"a\x00@example.com":                 "has bytes that are not printable text",
		"eve@exam\u200Bple.com": `has an invisible character in its domain: a zero-width space ` +
			`(U+200B) after "eve@exam"`,
		"eve@\u00ADexample.com": `has an invisible character in its domain: a soft hyphen (U+00AD) ` +
			`after "eve@"`,
		"e\u202Eve@example.com": `has an invisible character: a right-to-left override (U+202E) ` +
			`after "e"`,
		"e\u00A0ve@example.com": `has an invisible character: a no-break space (U+00A0) after "e"`,
		"\u200Eeve@example.com": `has an invisible character: a left-to-right mark (U+200E) at its ` +
			`start`,
		"e\u3164ve@example.com":     `has an invisible character: U+3164 after "e"`,
		"e\U000E0041ve@example.com": `has an invisible character: U+E0041 after "e"`,
		"e\uFE0Fve@example.com":     `has an invisible character: U+FE0F after "e"`,
		"e\u2800ve@example.com":     `has an invisible character: U+2800 after "e"`,
		"eve@example.com\u00ADx.example.org": `has an invisible character in its domain: a soft hyphen (U+00AD) ` +
			`after "eve@example.com"`,
	} {
		if got := address.Fault(text); got != want {
			t.Errorf("%q %q, want %q", text, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ada@example.com": "a***@example.com", "ünal@example.com": "ü***@example.com", "": "", "@x": "",
	} {
		if got := address.Redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
