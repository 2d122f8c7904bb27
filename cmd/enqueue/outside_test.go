package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
)

// TestNoOutputTellsTheHashOfAnAddress: whoever has it finds the address by trying.
func TestNoOutputTellsTheHashOfAnAddress(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 3, 2)
	_, rows := s.exported("--campaign", "spring")
	if len(rows) != 2 {
		t.Fatalf("%v", rows)
	}
	address, id := rows[0]["email_address"], rows[0]["id"]
	api := s.serve("--tokens-file", s.tokens("ops: "+apiToken+" read operate\n"))
	get := func(path string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api.url+path, nil)
		testkit.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+apiToken)
		response, err := http.DefaultClient.Do(request)
		testkit.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if testkit.NoError(t, err); response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", response.Status, body)
		}
		return string(body)
	}
	outputs := map[string]string{
		"api list": get("/v1/dead-letters?limit=1"), "api export": get("/v1/campaigns/spring/export"),
	}
	if !strings.Contains(outputs["api list"], "spring:") {
		t.Errorf("%s", outputs["api list"])
	}
	for _, args := range [][]string{
		{"dead-letter", "list"}, {"dead-letter", "show", id}, {"dead-letter", "export"},
		{"dead-letter", "export", "--campaign", "spring"}, {"find", address}, {"find", id},
		{"campaign", "export", "spring"}, {"campaign", "status", "spring"}, {"dead-letter", "retry", "--all", "--dry-run"},
		{"dead-letter", "delete", "--all", "--dry-run"},
		{"campaign", "delete", "spring", "--yes", "--with-dead-letters", "--dry-run"},
		{"dead-letter", "retry", id}, {"dead-letter", "show", id}, {"find", id},
	} {
		for _, more := range [][]string{nil, {"--json"}} {
			a := s.enqueue(append(args, more...)...)
			outputs[fmt.Sprint(args, more)] = a.stdout + a.stderr
		}
	}
	outputs["log of serve"] = api.log.String()
	for what, text := range outputs {
		for _, row := range rows {
			hash := store.IDOf(row["email_address"])
			if strings.Contains(text, hex.EncodeToString(hash[:])) {
				t.Errorf("%s tells the hash of %s:\n%s", what, row["email_address"], text)
			}
		}
	}
}

// TestIDsOfAnEarlierVersionAreFound: in a file that it exported, and wherever else an id is given.
func TestIDsOfAnEarlierVersionAreFound(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 4, 4)
	columns, rows := s.exported("--campaign", "spring")
	var old []string
	for _, row := range rows {
		old = append(old, deadletter.RecipientID("spring", store.IDOf(row["email_address"])))
	}
	double := map[string]string{}
	for name, cell := range rows[0] {
		double[name] = cell
	}
	double["id"] = old[0]
	file := s.corrected("double.csv", columns, append(rows, double))
	a := s.enqueue("dead-letter", "retry", "--from", file)
	if a.exit != 2 || !strings.Contains(a.stderr, "stands in line 2 already") {
		t.Errorf("one letter under both ids: %+v", a)
	}
	if a = s.enqueue("find", old[3]); a.exit != 0 || !strings.Contains(a.stdout, rows[3]["email_address"]) {
		t.Errorf("%+v", a)
	}
	want(t, s.ok("dead-letter", "show", old[3]), map[string]any{"id": rows[3]["id"]})
	want(t, s.ok("dead-letter", "retry", old[2]), map[string]any{"id": rows[2]["id"]})
	s.ok("dead-letter", "delete", old[3], "--yes")
	rows = rows[:2]
	rows[0]["id"], rows[1]["id"] = old[0], old[1]
	rows[0]["email_address"] = "right@example.com"
	file = s.corrected("old.csv", columns, rows)
	want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"retried": 1, "unchanged": 1, "gone": 0})
	want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"retried": 0, "unchanged": 1, "gone": 1})
}
