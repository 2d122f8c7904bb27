package settings

import (
	"slices"
	"strings"
	"testing"
)

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ entry, want string }{
		{"USHER_RESERVE=5", ""}, {"PATH=/bin", ""}, {"USHERS_RESERVE=5", ""},
		{"USHER_RESERVES=5", `"USHER_RESERVES" is set, but no setting has that name; do you mean USHER_RESERVE?`},
		{"USHER_LIMIT_CRAETE=5", `"USHER_LIMIT_CRAETE" is set, but no setting has that name; do you mean USHER_LIMIT_CREATE?`},
		{"USHER_SECRET=sk_live_x", `"USHER_SECRET" is set, but no setting has that name`},
		{"USHER_\x1b[2J=x", `"USHER_\x1b[2J" is set, but no setting has that name`},
	} {
		if got := strings.Join(UnknownVariables([]string{test.entry}), "|"); got != test.want {
			t.Errorf("%q: %s, want %s", test.entry, got, test.want)
		}
	}
	if several := UnknownVariables([]string{"USHER_B=", "USHER_A="}); len(several) != 2 || !slices.IsSorted(several) {
		t.Errorf("%q", several)
	}
}

func TestPlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows"} {
		if got := Plural(n, "row"); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
