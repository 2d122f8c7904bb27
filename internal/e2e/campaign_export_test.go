package e2e

import (
	stdcsv "encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
)

// exported gives the rows of an export as CSV, by address, and checks that nobody is there twice.
func (s *system) exported(args ...string) map[string]map[string]string {
	s.t.Helper()
	a := s.enqueue(append([]string{"campaign", "export"}, args...)...)
	if a.Exit != 0 {
		s.t.Fatalf("exit %d: %s", a.Exit, a.Stderr)
	}
	lines, err := stdcsv.NewReader(strings.NewReader(a.Stdout)).ReadAll()
	if err != nil || len(lines) == 0 {
		s.t.Fatalf("%v in %q", err, a.Stdout)
	}
	rows := map[string]map[string]string{}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		if rows[line[0]] != nil {
			s.t.Errorf("%s is there twice", line[0])
		}
		rows[line[0]] = row
	}
	return rows
}

func TestAnExportTellsWhatBecameOfEverybody(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_OVERALL=0")
	s.clerk.AddUser("bulk3@example.com")
	s.worker()
	want(t, s.ok("bulk-invite", s.write("p.csv", csv("bulk", 30)), "--campaign", "load", "--wait"), map[string]any{"sent": 29, "dead": 1})
	ids := s.sentTo()
	before := s.exported("load")
	if len(before) != 30 {
		t.Fatalf("%d rows, want 30", len(before))
	}
	sent := before["bulk0@example.com"]
	if sent["outcome"] != "sent" || sent["invitation_id"] != ids["bulk0@example.com"] || sent["settled_at"] == "" || sent["attempts"] != "1" || sent["invitation_status"] != "" || sent["synced_at"] != "" {
		t.Errorf("sent: %v", sent)
	}
	if dead := before["bulk3@example.com"]; dead["outcome"] != "dead" || dead["cause"] != "form_identifier_exists" || dead["attempts"] != "0" || dead["invitation_id"] != "" || dead["settled_at"] == "" {
		t.Errorf("dead: %v", dead)
	}
	testkit.NoError(t, s.clerk.Accept(ids["bulk0@example.com"]))
	testkit.NoError(t, s.clerk.Expire(ids["bulk1@example.com"]))
	s.ok("revoke", ids["bulk2@example.com"], "--wait")
	s.ok("sync-list", "--wait")
	after := s.exported("load", "--csv")
	for i, status := range []string{"accepted", "expired", "revoked", "", "pending"} {
		if row := after[fmt.Sprintf("bulk%d@example.com", i)]; row["invitation_status"] != status || (row["synced_at"] == "") != (status == "") {
			t.Errorf("want %q: %v", status, row)
		}
	}
	asJSON := s.list("campaign", "export", "load")
	if len(asJSON) != 30 {
		t.Fatalf("%d objects, want 30", len(asJSON))
	}
	for _, row := range asJSON {
		if row["email_address"] == "bulk3@example.com" {
			want(t, row, map[string]any{"outcome": "dead", "invitation_id": nil, "invitation_status": nil, "attempts": 0})
		}
	}
	path := filepath.Join(t.TempDir(), "out.csv")
	if a := s.enqueue("campaign", "export", "load", "-o", path); a.Exit != 0 || a.Stdout != "" {
		t.Errorf("%+v", a)
	}
	if content, err := os.ReadFile(path); err != nil || strings.Count(string(content), "\n") != 31 {
		t.Errorf("%v, %d lines, want 31", err, strings.Count(string(content), "\n"))
	}
	for _, args := range [][]string{{"load", "-o", path}, {"load", "--csv", "--json"}} {
		if a := s.enqueue(append([]string{"campaign", "export"}, args...)...); a.Exit != 2 {
			t.Errorf("%v: exit %d, %s", args, a.Exit, a.Stderr)
		}
	}
	other := filepath.Join(t.TempDir(), "other.csv")
	if a := s.enqueue("campaign", "export", "nobody", "-o", other); a.Exit != 1 {
		t.Errorf("of no campaign: exit %d", a.Exit)
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a file was made for a campaign that is not there")
	}
}

func TestAnExportTellsWhoWaitsAndWhoWasLeftOver(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{}, "USHER_LIMIT_CREATE=2/1h", "USHER_LIMIT_BULK=1/1h", "USHER_RESERVE=1")
	file := s.write("p.csv", csv("bulk", 6000))
	s.ok("bulk-invite", file, "--campaign", "load")
	outcomes := func() map[string]int {
		counts := map[string]int{}
		for _, row := range s.exported("load") {
			counts[row["outcome"]]++
		}
		return counts
	}
	if got := outcomes(); got["waiting"] != 6000 {
		t.Errorf("%v, want 6000 waiting", got)
	}
	s.worker()
	testkit.Eventually(t, "its first window is spent", func() bool { return s.campaign("load").Sent == 11 })
	s.ok("campaign", "cancel", "load", "--yes")
	testkit.Eventually(t, "nobody is in a question", func() bool { return outcomes()["open"] == 0 })
	if got := outcomes(); got["sent"] != 11 || got["cancelled"] != 5989 {
		t.Errorf("%v, want 11 sent and 5989 cancelled", got)
	}
}
