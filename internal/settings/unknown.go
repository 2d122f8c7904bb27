package settings

import (
	"fmt"
	"slices"
	"strings"
)

// prefix begins the names of our own variables.
const prefix = "USHER_"

// variables are the environment variables with our prefix that a program of ours, a test or the Compose file reads.
func variables() []string {
	return []string{
		"USHER_ADMIN_ADDR", "USHER_ADMIN_TOKEN", "USHER_ADMIN_TOKEN_FILE", "USHER_ADMIN_TLS_CERT",
		"USHER_ADMIN_TLS_KEY", "USHER_API_ADDR", "USHER_API_TLS_CERT",
		"USHER_API_TLS_KEY", "USHER_API_TOKEN", "USHER_API_TOKENS_FILE", "USHER_API_URL", "USHER_BACKOFF_MAX",
		"USHER_BACKOFF_MIN", "USHER_BULK_METADATA", "USHER_ERASURE_LOG", "USHER_FAST_RETRY", "USHER_IMAGE_TAG", "USHER_KEEP",
		"USHER_LIMIT_BULK", "USHER_LIMIT_CREATE", "USHER_LIMIT_OVERALL", "USHER_LOG_FORMAT", "USHER_LOG_LEVEL",
		"USHER_MAX_ATTEMPTS", "USHER_NAMESPACE", "USHER_RESERVE", "USHER_SCHEDULE_FILE", "USHER_SETTLE",
		"USHER_STRICT", "USHER_TEST_BINARIES", "USHER_TIMEOUT",
	}
}

// UnknownVariables gives a warning for each variable of an environment that has our prefix and that nothing reads: its
// name is misspelled, or of another version. Its value is not shown. The warnings are sorted.
func UnknownVariables(environ []string) (warnings []string) {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(variables(), name) {
			continue
		}
		warning := fmt.Sprintf("%.60q is set, but no setting has that name", name)
		if near := Nearest(name, variables()); near != "" {
			warning += "; do you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}

// Nearest is the known name that is at most two letters away from another; empty if there is none.
func Nearest(name string, all []string) (near string) {
	least := 3
	for _, known := range all {
		if d := distance(name, known); d < least {
			near, least = known, d
		}
	}
	return near
}

// distance is how many letters must be changed, added or left out to make one name of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before := row[0]
		row[0] = i + 1
		for j := range b {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Plural gives a count with its noun, whose plural takes an s.
func Plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Distinct gives values without those that came before, in their order.
func Distinct(values []string) (distinct []string) {
	seen := make(map[string]bool, len(values))
	for _, value := range values {
		if !seen[value] {
			distinct = append(distinct, value)
		}
		seen[value] = true
	}
	return distinct
}
