package peoplefile

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestARowTakesLittleMemory: 200,000 of them are held together, whatever they say. It does not run beside others, whose
// memory would count.
func TestARowTakesLittleMemory(t *testing.T) {
	const rows, most = 20_000, 300
	var text strings.Builder
	text.WriteString("email_address,redirect_url,public_metadata.team,public_metadata.id\n")
	for i := range rows {
		fmt.Fprintf(&text, "person%d@example.com,https://app.example.com/welcome?u=%d,team%d,%d\n", i, i, i%50, i)
	}
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	file, err := Read(strings.NewReader(text.String()), Options{})
	if err != nil || len(file.Rows) != rows {
		t.Fatalf("%d rows, %v", len(file.Rows), err)
	}
	if each := (heap() - before) / rows; each > most {
		t.Errorf("a row takes %d bytes, want at most %d", each, most)
	} else {
		t.Logf("a row takes %d bytes", each)
	}
	last := file.Rows[rows-1].Recipient()
	if last.PublicMetadata["id"] != fmt.Sprint(rows-1) || last.PublicMetadata["team"] != "team49" ||
		last.RedirectURL != fmt.Sprintf("https://app.example.com/welcome?u=%d", rows-1) {
		t.Errorf("%+v", last)
	}
}
