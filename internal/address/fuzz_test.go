package address_test

import (
	"strings"
	"testing"
	"unicode"

	"example.com/usher/internal/address"
)

// FuzzAddress cleans any text: nothing is made of it that did not stand there, and what is no fault hides nothing.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"ada@example.com", "\u00A0mailto:ada@example.com\u200B", "da\u00ADvid@example.com", "eve@exam\u200Bple.com",
		"Ada <ada@example.com>", `"a\"b c"@example.com`, "a@b@example.com", "MAILTO:", "a@[10.0.0.1]", "\xFF@example.com",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		trimmed := address.Trim(text)
		softened, removed := address.Soften(trimmed)
		_, domain, _ := strings.Cut(trimmed[max(0, strings.LastIndexByte(trimmed, '@')):], "@")
		switch {
		case !strings.Contains(text, trimmed):
			t.Fatalf("%q becomes %q", text, trimmed)
		case !strings.HasSuffix(softened, domain), (removed == "") != (softened == trimmed):
			t.Fatalf("%q becomes %q, of which %q is said", trimmed, softened, removed)
		}
		if address.Fault(softened) != "" {
			return
		}
		hides := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z) }
		if len(softened) > address.MaxBytes || strings.Count(softened, "@") < 1 || address.Trim(softened) != softened ||
			strings.ContainsFunc(softened[strings.LastIndexByte(softened, '@'):], hides) {
			t.Fatalf("%q is taken for an address", softened)
		}
	})
}
