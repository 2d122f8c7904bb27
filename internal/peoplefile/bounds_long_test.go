//go:build long

package peoplefile

import (
	"fmt"
	"strings"
	"testing"
)

// Rows and texts that hold nothing have bounds too: small archives hold millions of them.
func TestNothingIsBounded(t *testing.T) {
	t.Parallel()
	for part, c := range map[string]struct{ content, fault string }{
		"xl/worksheets/sheet1.xml": {"<worksheet><sheetData>" + strings.Repeat("<row/>", 1<<20+1) +
			"</sheetData></worksheet>", "has more than 1048576 rows"},
		"xl/sharedStrings.xml": {"<sst>" + strings.Repeat("<si/>", maxTexts+1) + "</sst>",
			"unpacks to more than is taken"},
	} {
		_, err := Read(strings.NewReader(string(zipped(t, map[string]string{part: c.content}))), Options{})
		if !strings.Contains(fmt.Sprint(err), c.fault) {
			t.Errorf("%s: %v, want %s", part, err, c.fault)
		}
	}
}
