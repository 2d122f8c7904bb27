package handle

import "testing"

func TestRedact(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"ada@example.com": "a***@example.com", "ünal@example.com": "ü***@example.com", "": "", "@x": "",
	} {
		if got := redact(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
