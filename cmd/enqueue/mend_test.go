package main

import (
	"crypto/rand"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/xuri/excelize/v2"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// deadOnes makes a campaign of n recipients, of whom some are dead.
func (s *stage) deadOnes(campaign string, n, dead int) {
	s.t.Helper()
	s.ok("bulk-invite", s.write(campaign+".csv", people(campaign, n)), "--campaign", campaign)
	s.dead(campaign, dead, "form_param_format_invalid")
	if n > dead {
		s.sent(campaign, n-dead)
	}
	s.finish(campaign)
}

// exported is what dead-letter export writes, a row for each letter by the names of the columns.
func (s *stage) exported(args ...string) (header []string, rows []map[string]string) {
	s.t.Helper()
	text := s.enqueue(append([]string{"dead-letter", "export"}, args...)...).stdout
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	testkit.NoError(s.t, err)
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, name := range all[0] {
			row[name] = cells[i]
		}
		rows = append(rows, row)
	}
	return all[0], rows
}

// corrected writes a file of some columns.
func (s *stage) corrected(name string, columns []string, rows []map[string]string) string {
	s.t.Helper()
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(columns)
	for _, row := range rows {
		var cells []string
		for _, column := range columns {
			cells = append(cells, row[column])
		}
		_ = w.Write(cells)
	}
	w.Flush()
	return s.write(name, b.String())
}

// outcomes are those of a campaign's recipients by address.
func (s *stage) outcomes(campaign string) map[string]map[string]any {
	s.t.Helper()
	all := map[string]map[string]any{}
	for _, r := range s.list("campaign", "export", campaign) {
		address, _ := r["email_address"].(string)
		all[address] = r
	}
	return all
}

// revived lets a mended recipient be sent, which is asked about first.
func (s *stage) revived(campaign string, n int) (recipients []tasks.Recipient) {
	s.t.Helper()
	batch, err := s.ledgers.TakeToAsk(s.t.Context(), campaign, n, 1, ledger.Unsure)
	testkit.NoError(s.t, err)
	for _, row := range batch.Rows {
		var r tasks.Recipient
		testkit.NoError(s.t, json.Unmarshal(row.Recipient, &r))
		recipients = append(recipients, r)
	}
	return recipients
}

func TestADeadLetterIsMended(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 3, 1)
	id := s.list("dead-letter", "list")[0]["id"].(string)
	was := s.list("dead-letter", "list")[0]["email_address"].(string)
	a := s.list("dead-letter", "retry", id, "--set", "email_address= Right@example.com ", "--set",
		"public_metadata.plan=pro", "--set", "notify=no")
	want(t, a[0], map[string]any{"id": id, "task_id": "bulk:spring:2", "dry_run": false})
	want(t, s.ok("campaign", "status", "spring"), map[string]any{
		"recipients": 3, "sent": 2, "dead": 0, "remaining": 1, "state": "running",
	})
	outcomes := s.outcomes("spring")
	want(t, outcomes["Right@example.com"], map[string]any{"mended_from": was, "outcome": "open"})
	if outcomes[was] != nil {
		t.Errorf("%s is a recipient still", was)
	}
	if got := s.revived("spring", 9); len(got) != 1 || got[0].PublicMetadata["plan"] != "pro" || !got[0].NoNotify {
		t.Errorf("%+v is to be sent", got)
	}
	if left := s.list("dead-letter", "list"); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	// The list as it was adds nobody: the mended address stands for the one in it.
	want(t, s.ok("bulk-invite", s.dir+"/spring.csv", "--campaign", "spring"),
		map[string]any{"added": 0, "known": 3, "recipients": 3})
}

func TestAnInviteIsMended(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "wrong@example.com", "--id", "ada", "--metadata", `{"plan":"free","n":12345678901234567890}`)
	s.dies("ada", "wrong@example.com", `{"v":1,"email_address":"wrong@example.com","enqueued_at":7,`+
		`"public_metadata":{"n":12345678901234567890,"plan":"free"}}`)
	want(t, s.list("dead-letter", "retry", "ada", "--set", "email_address=ada@example.com", "--set",
		"public_metadata.plan=")[0], map[string]any{"task_id": "ada:retry1"})
	queued := s.queued("usher:interactive", "ada:retry1")
	if queued != `{"v":1,"email_address":"ada@example.com","public_metadata":{"n":12345678901234567890},"enqueued_at":7}` {
		t.Errorf("queued: %s", queued)
	}
}

// TestACorrectionInAnotherEncodingIsAdvisedWhatThereIs: the command has no flag that names one.
func TestACorrectionInAnotherEncodingIsAdvisedWhatThereIs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := s.write("latin.csv", "id,failed_at,redirect_url\na,2026-11-28T06:34:20Z,/\xfc\n")
	if a := s.enqueue("dead-letter", "retry", "--from", file); a.exit != 2 ||
		!strings.Contains(a.stderr, "line 2: is not UTF-8 (byte 0xFC): save it as") ||
		strings.Contains(a.stderr, "--encoding") {
		t.Errorf("%+v", a)
	}
}

func TestWhatCannotBeMendedIsNamedAndNothingIsRetried(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 4, 2)
	s.ok("forget", "gone@example.com", "--yes")
	id := s.list("dead-letter", "list")[0]["id"].(string)
	for set, reason := range map[string]string{
		"email_address=gone@example.com":    "was forgotten on request",
		"email_address=spring3@example.com": "is in campaign spring already",
		"email_address=nobody":              "email_address",
		"expires_in_days=400":               "400 is not between 1 and 365",
		"public_metadata={":                 "is not valid JSON",
		"notify=perhaps":                    "is none of true",
		"colour=red":                        "is no field",
		"redirect_url":                      "is not FIELD=VALUE",
	} {
		before := s.mini.Dump()
		a := s.enqueue("dead-letter", "retry", id, "--set", set)
		if a.exit != 2 || !strings.Contains(a.stderr, reason) {
			t.Errorf("%s: exit %d, %s", set, a.exit, a.stderr)
		}
		if s.mini.Dump() != before {
			t.Errorf("%s: something was written", set)
		}
	}
}

func TestAFileOfCorrections(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 10, 5)
	header, rows := s.exported()
	for _, column := range []string{"id", "failed_at", "reason", "http_status", "code", "message", "email_address",
		"public_metadata", "redirect_url", "notify", "ignore_existing", "expires_in_days", "template_slug", "on_duplicate",
		"on_existing_user"} {
		if !slices.Contains(header, column) {
			t.Errorf("the export has no column %s", column)
		}
	}
	rows[0]["email_address"] = "mended@example.com"
	rows[1]["expires_in_days"] = "7"
	rows[2]["public_metadata"] = `{"plan":"pro"}`
	file := s.corrected("c.csv", header, rows)
	want(t, s.ok("dead-letter", "retry", "--from", file, "--dry-run"), map[string]any{
		"retried": 0, "would_retry": 3, "unchanged": 2,
	})
	answer := map[string]any{"retried": 3, "unchanged": 2, "gone": 0, "faults": "[]"}
	want(t, s.ok("dead-letter", "retry", "--from", file), answer)
	want(t, s.ok("campaign", "status", "spring"), map[string]any{"recipients": 10, "sent": 5, "dead": 2, "remaining": 3})
	before := s.mini.Dump()
	want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"retried": 0, "unchanged": 2, "gone": 3})
	if s.mini.Dump() != before {
		t.Error("the file given a second time changed something")
	}
	// A column that is missing leaves its field, an empty cell clears it.
	mended := s.revived("spring", 9)
	if i := slices.IndexFunc(mended, func(r tasks.Recipient) bool { return r.ExpiresInDays == 7 }); i < 0 {
		t.Errorf("nobody got 7 days: %+v", mended)
	}
	want(t, s.ok("dead-letter", "retry", "--from", file, "--unchanged"), map[string]any{"retried": 2, "gone": 3})
}

// TestAFileThatWasBrokenOffIsFinished: the process ended after a row was replaced and before its letter was deleted, so
// the address is in the campaign already.
func TestAFileThatWasBrokenOffIsFinished(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 4, 2)
	header, rows := s.exported()
	id := rows[0]["id"]
	letter, err := s.letters.Get(t.Context(), id)
	testkit.NoError(t, err)
	inside := letter.Inside()
	key := store.Keys(tasks.DefaultNamespace).Letter(inside)
	entry := s.mini.HGet(key, "entry")
	rows[0]["email_address"], rows[1]["email_address"] = "first@example.com", "second@example.com"
	s.ok("dead-letter", "retry", "--from", s.corrected("one.csv", header, rows[:1]))
	s.mini.HSet(key, "entry", entry, "next", inside+":retry1", "mended", `{"email_address":"first@example.com"}`)
	testkit.NoError(t, s.rdb.ZAdd(t.Context(), store.Keys(tasks.DefaultNamespace).Letters(), z(inside)).Err())
	other := s.enqueue("dead-letter", "retry", id, "--set", "email_address=other@example.com")
	if other.exit != 2 || !strings.Contains(other.stderr, "has begun") {
		t.Errorf("mended otherwise: exit %d, %s", other.exit, other.stderr)
	}
	want(t, s.ok("dead-letter", "retry", "--from", s.corrected("two.csv", header, rows)), map[string]any{"retried": 2})
	want(t, s.ok("campaign", "status", "spring"), map[string]any{"recipients": 4, "dead": 0, "remaining": 2})
}

// TestAWrongTimeInAFileIsToldAsSuch, and not as another death.
func TestAWrongTimeInAFileIsToldAsSuch(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 3, 3)
	header, rows := s.exported()
	right := rows[0]["failed_at"]
	refused := func(row map[string]string, words string) {
		t.Helper()
		row["email_address"] = "new@example.com"
		a := s.enqueue("dead-letter", "retry", "--from", s.corrected(rand.Text(), header, []map[string]string{row}))
		if a.exit != 2 || !strings.Contains(a.stderr, words) || strings.Contains(a.stderr, "died again") != (words == "died again") {
			t.Errorf("%q is not said: exit %d\n%s", words, a.exit, a.stderr)
		}
	}
	rows[0]["failed_at"] = "2026-01-01T00:00:00Z"
	refused(rows[0], "failed_at: is not when this dead letter failed, which is "+right+": put that there, or export it anew")
	again, err := s.letters.Get(t.Context(), rows[1]["id"])
	testkit.NoError(t, err)
	s.ok("dead-letter", "retry", rows[1]["id"])
	again.FailedAt = time.Now().UTC()
	testkit.NoError(t, s.letters.Put(t.Context(), again))
	refused(rows[1], "died again")
	s.ok("dead-letter", "delete", rows[2]["id"], "--yes")
	rows[2]["failed_at"] = "2026-01-01T00:00:00Z"
	refused(rows[2], "failed_at: is not when this dead letter failed, which was deleted already: leave the row out")
	rows[2]["id"] = "nobody"
	refused(rows[2], "id: there is no such dead letter")
}

func TestEmptyCellsClearAndMissingColumnsLeave(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("bulk-invite", s.write("p.csv", people("p", 2)), "--campaign", "spring", "--metadata", `{"a":"1","b":"2"}`,
		"--expires-in-days", "9", "--redirect-url", "/x")
	s.dead("spring", 2, "boom")
	_, rows := s.exported()
	for _, row := range rows {
		row["public_metadata.a"] = ""
		row["redirect_url"] = ""
	}
	s.ok("dead-letter", "retry", "--from",
		s.corrected("c.csv", []string{"failed_at", "id", "public_metadata.a", "redirect_url"}, rows))
	for _, r := range s.revived("spring", 9) {
		if len(r.PublicMetadata) != 1 || r.PublicMetadata["b"] != "2" || r.RedirectURL != "" || r.ExpiresInDays != 9 {
			t.Errorf("%+v", r)
		}
	}
}

func TestFaultsOfAFileAreAllNamedByLine(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 10, 9)
	s.ok("forget", "gone@example.com", "--yes")
	header, rows := s.exported()
	sent := ""
	for address, r := range s.outcomes("spring") {
		if r["outcome"] == "sent" {
			sent = address
		}
	}
	rows[0]["email_address"] = "gone@example.com"
	rows[1]["email_address"] = sent
	rows[2]["email_address"], rows[3]["email_address"] = "twice@example.com", "Twice@example.com"
	rows[4]["email_address"] = ""
	rows[5]["id"] = "spring:00000000000000000000000000000000"
	rows[6]["failed_at"] = "2026-01-01T00:00:00Z"
	rows[7]["email_address"], rows[7]["expires_in_days"] = "fine@example.com", "x"
	rows[8]["email_address"] = "new@example.com"
	rows = append(rows, maps.Clone(rows[8])) // of one letter, with another address
	rows[9]["email_address"] = "newer@example.com"
	before := s.mini.Dump()
	a := s.enqueue("dead-letter", "retry", "--from", s.corrected("c.csv", header, rows), "--json")
	if a.exit != 2 || a.stdout != "" || s.mini.Dump() != before {
		t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
	}
	var failure struct {
		Rows []badRow `json:"rows"`
	}
	testkit.NoError(t, json.Unmarshal([]byte(a.stderr), &failure))
	var lines []int
	for _, row := range failure.Rows {
		lines = append(lines, row.Line)
	}
	if !slices.Equal(lines, []int{2, 3, 5, 6, 7, 8, 9, 11}) {
		t.Errorf("lines %v\n%s", lines, a.stderr)
	}
	for what, text := range map[string]string{
		"a misspelled column": "id,failed_at,redirct_url\nx,y,z\n", "no id": "failed_at,email\nx,y\n",
	} {
		if a := s.enqueue("dead-letter", "retry", "--from", s.write("x.csv", text)); a.exit != 2 {
			t.Errorf("%s: exit %d, %s", what, a.exit, a.stderr)
		}
	}
}

// TestAMendedAddressIsForgotten: nothing of it is left, neither in its own place nor beside the address that took it.
func TestAMendedAddressIsForgotten(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 2, 1)
	letter := s.list("dead-letter", "list")[0]
	was := letter["email_address"].(string)
	s.list("dead-letter", "retry", letter["id"].(string), "--set", "email_address=right@example.com")
	if !strings.Contains(s.mini.Dump(), was) {
		t.Fatal("nothing tells what was mended")
	}
	s.ok("forget", was, "--yes")
	id := store.IDOf(was)
	dump := s.mini.Dump()
	links, err := s.rdb.HGetAll(t.Context(), "usher:{once}:c:spring:mended").Result()
	testkit.NoError(t, err)
	if strings.Contains(dump, was) || strings.Contains(dump, hex.EncodeToString(id[:])) || links[string(id[:])] != "" {
		t.Errorf("the address is left somewhere: %v", links)
	}
	want(t, s.outcomes("spring")["right@example.com"], map[string]any{"mended_from": "<nil>"})
}

// TestADeadTaskIsNoSuccess: a repeated id says so, whatever the payload, until its dead letter was retried or deleted.
func TestADeadTaskIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := setup(t)
	again := []string{"invite", "ada@example.com", "--id", "ada"}
	s.ok(again...)
	payload := s.queued("usher:interactive", "ada")
	s.dies("ada", "ada@example.com", payload)
	tells := func(a answer, exit int) {
		t.Helper()
		told := strings.Contains(a.stderr, "form_param_format_invalid") &&
			strings.Contains(a.stderr, "enqueue dead-letter retry ada --set")
		if a.exit != exit || !told {
			t.Errorf("exit %d, want %d\n%s%s", a.exit, exit, a.stdout, a.stderr)
		}
	}
	tells(s.enqueue(again...), 3)
	tells(s.enqueue(append(again, "--wait")...), 3)
	tells(s.enqueue("invite", "ada@example.com", "--id", "ada", "--no-notify"), 2)

	s.list("dead-letter", "retry", "ada", "--set", "notify=false")
	want(t, s.ok(again...), map[string]any{"task_id": "ada:retry1", "state": "pending", "exists": true})
	s.ended("ada:retry1", record.Record{State: record.Done, InvitationID: "inv_1"})
	want(t, s.ok(again...), map[string]any{"task_id": "ada:retry1", "state": "done", "invitation_id": "inv_1"})
}

// TestTheIDOfADeletedDeadLetterIsFree: another task takes it, whose retries have numbers that were not used before.
func TestTheIDOfADeletedDeadLetterIsFree(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	s.dies("ada", "ada@example.com", s.queued("usher:interactive", "ada"))
	s.list("dead-letter", "retry", "ada")
	s.dies("ada:retry1", "ada@example.com", s.queued("usher:interactive", "ada:retry1"))
	s.list("dead-letter", "delete", "ada:retry1", "--yes")
	want(t, s.ok("invite", "bob@example.com", "--id", "ada"), map[string]any{"exists": false, "state": "pending"})
	if payload := s.queued("usher:interactive", "ada"); !strings.Contains(payload, "bob@example.com") {
		t.Errorf("queued: %s", payload)
	}
	s.dies("ada", "bob@example.com", s.queued("usher:interactive", "ada"))
	want(t, s.list("dead-letter", "retry", "ada")[0], map[string]any{"task_id": "ada:retry2"})
	if payload := s.queued("usher:interactive", "ada:retry2"); !strings.Contains(payload, "bob@example.com") {
		t.Errorf("queued: %s", payload)
	}
}

// TestAFreeIDThatIsQueuedStillIsNotTaken: asynq may run the task of before once more, and must find its record.
func TestAFreeIDThatIsQueuedStillIsNotTaken(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	cause := refusal("boom")
	s.ended("ada", record.Record{State: record.Dead, Error: &cause, Free: true})
	if a := s.enqueue("invite", "bob@example.com", "--id", "ada"); a.exit != 2 {
		t.Errorf("exit %d: %s%s", a.exit, a.stdout, a.stderr)
	}
	if r, _, err := s.records.Get(t.Context(), "ada"); err != nil || r.State != record.Dead {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestABulkTellsOfItsDeadAndRetriesThem(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 4, 2)
	again := []string{"bulk-invite", s.dir + "/spring.csv", "--campaign", "spring"}
	a := s.enqueue(again...)
	if a.exit != 0 || !strings.Contains(a.stdout, "Not sent again: 2 dead letters of this list.") ||
		!strings.Contains(a.stdout, "--retry-dead") {
		t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
	}
	want(t, s.ok(append(again, "--retry-dead", "--expires-in-days", "5")...), map[string]any{
		"known_dead": 2, "retried": 2, "recipients": 4, "dead": 0, "remaining": 2, "task_id": "bulk:spring:2",
		"state": "pending", "known": 4,
	})
	got := s.revived("spring", 9)
	if len(got) != 2 || got[0].ExpiresInDays != 5 || got[1].ExpiresInDays != 5 {
		t.Errorf("%+v are to be sent", got)
	}
	want(t, s.ok("status", "spring"), map[string]any{"campaign": "spring", "recipients": 4, "state": "running"})
}

// TestARetryIsWaitedFor until each has its outcome, and one that is dead again is exit 3.
func TestARetryIsWaitedFor(t *testing.T) {
	t.Parallel()
	for ending, exit := range map[fate.Step]int{fate.Sent: 0, fate.Dead: 3} {
		s := setup(t)
		s.deadOnes("spring", 2, 1)
		lines, exited := s.watched(t.Context(), onStdout, "dead-letter", "retry", "--all", "--wait")
		told := func(string) bool { return true }
		if line := next(t, lines, told); line != "1 dead letter retried.\n" {
			t.Errorf("told: %s", line)
		}
		batch, err := s.ledgers.TakeToAsk(t.Context(), "spring", 1, time.Minute, ledger.Unsure)
		testkit.NoError(t, err)
		cause := refusal("boom")
		o := ledger.Outcome{Row: batch.Rows[0], At: time.Now(), Decision: fate.Decision{Next: ending, Cause: &cause}}
		o.Decision.Intent = fate.IntentUnchanged
		_, err = s.ledgers.Settle(t.Context(), "spring", []ledger.Outcome{o})
		testkit.NoError(t, err)
		exits(t, exited, exit)
	}
	s := setup(t)
	s.ok("invite", "ada@example.com", "--id", "ada")
	s.dies("ada", "ada@example.com", s.queued("usher:interactive", "ada"))
	if a := s.enqueue("dead-letter", "retry", "ada", "--wait", "--wait-timeout", "100ms"); a.exit != 4 {
		t.Errorf("exit %d: %s%s", a.exit, a.stdout, a.stderr)
	}
}

// TestCorrectionsAreReadInEveryForm: as the export writes JSON, and as a spreadsheet is saved.
func TestCorrectionsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"JSON lines", "semicolons", "workbook"} {
		s := setup(t)
		s.deadOnes("spring", 3, 2)
		content := ""
		switch header, rows := s.exported(); form {
		case "JSON lines":
			content = strings.Replace(s.enqueue("dead-letter", "export", "--json").stdout, `"notify":true`, `"notify":false`, 1)
		case "semicolons":
			content = "\ufeffid;failed_at;Notify\r\n" + rows[0]["id"] + ";" + rows[0]["failed_at"] + ";FALSE\r\n" +
				rows[1]["id"] + ";" + rows[1]["failed_at"] + ";TRUE\r\n"
		default:
			rows[0]["notify"] = "no"
			content = workbook(func(f *excelize.File) error {
				for i, row := range append([]map[string]string{nil}, rows...) {
					for j, column := range header {
						cell, _ := excelize.CoordinatesToCellName(j+1, i+1)
						value := column
						if i > 0 {
							value = row[column]
						}
						if err := f.SetCellStr("Sheet1", cell, value); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
		a := s.ok("dead-letter", "retry", "--from", s.write("c", content))
		want(t, a, map[string]any{"retried": 1, "unchanged": 1})
		if got := s.revived("spring", 9); len(got) != 1 || !got[0].NoNotify {
			t.Errorf("%s: %+v", form, got)
		}
	}
}

// TestADeadLetterThatIsGoneSaysWhatBecameOfIt: its retry is named.
func TestADeadLetterThatIsGoneSaysWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 2, 1)
	row := s.list("dead-letter", "list")[0]["id"].(string)
	for _, id := range []string{"ada", "bob"} {
		s.ok("invite", id+"@example.com", "--id", id)
		s.dies(id, id+"@example.com", s.queued("usher:interactive", id))
	}
	s.list("dead-letter", "retry", "ada", row)
	s.list("dead-letter", "delete", "bob", "--yes")
	for _, verb := range []string{"retry", "show", "list"} {
		for id, want := range map[string]string{
			"ada": "it was retried already (enqueue status ada:retry1)", "bob": "it was deleted",
			row: "it was retried already in campaign spring", "eve": "dead letter eve: no such dead letter",
		} {
			a := s.enqueue("dead-letter", verb, id)
			if a.exit != 1 || !strings.Contains(a.stderr, want) || strings.Contains(a.stdout, "Done") {
				t.Errorf("%s %s: exit %d\n%s%s", verb, id, a.exit, a.stdout, a.stderr)
			}
		}
	}
	want(t, s.ok("status", "ada"), map[string]any{"state": "dead", "retried_as": "ada:retry1"})
	if a := s.enqueue("status", "ada"); !strings.Contains(a.stdout, "It was retried: enqueue status ada:retry1") {
		t.Errorf("%s", a.stdout)
	}
}

// TestAFileThatIsGivenTwiceAtOnceIsRetriedOnce: the slower one is told so, and finds no fault.
func TestAFileThatIsGivenTwiceAtOnceIsRetriedOnce(t *testing.T) {
	t.Parallel()
	for moment, is := range map[string]func(cmd string, args []string) bool{
		"the letters are read": func(cmd string, args []string) bool {
			return cmd == "HGETALL" && strings.HasSuffix(args[0], ":c:spring:meta")
		},
		"the first is enqueued, and not deleted": func(cmd string, args []string) bool {
			return strings.HasPrefix(cmd, "EVAL") && slices.ContainsFunc(args, func(key string) bool {
				return strings.Contains(key, "{once}:d:g:")
			})
		},
	} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.deadOnes("spring", 3, 2)
			s.ok("invite", "ada@example.com", "--id", "ada")
			s.dies("ada", "ada@example.com", s.queued("usher:interactive", "ada"))
			_, rows := s.exported()
			for i, row := range rows {
				row["email_address"] = fmt.Sprintf("right%d@example.com", i)
			}
			file := s.corrected("file.csv", []string{"id", "failed_at", "email_address"}, rows)
			s.once(is, func() {
				want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"retried": 3, "gone": 0})
			})
			want(t, s.ok("dead-letter", "retry", "--from", file), map[string]any{"retried": 0, "gone": 3})
			want(t, s.ok("campaign", "status", "spring"), map[string]any{"recipients": 3, "remaining": 2})
		})
	}
}

// TestALetterThatIsRetriedTwiceAtOnceIsRetriedOnce: the slower one is told so.
func TestALetterThatIsRetriedTwiceAtOnceIsRetriedOnce(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"ada"}, {"ada", "--set", "notify=no"}, {"--all"}} {
		s := setup(t)
		s.ok("invite", "ada@example.com", "--id", "ada")
		s.dies("ada", "ada@example.com", s.queued("usher:interactive", "ada"))
		args = append([]string{"dead-letter", "retry"}, args...)
		deletes := func(_ string, args []string) bool {
			return slices.ContainsFunc(args, func(key string) bool { return strings.Contains(key, "{once}:d:g:ada") })
		}
		s.once(deletes, func() {
			if a := s.enqueue(args...); a.exit != 0 || a.stdout != "1 dead letter retried.\n" {
				t.Errorf("the faster one of %v: %+v", args, a)
			}
		})
		if a := s.enqueue(args...); a.exit != 0 || a.stdout != "0 dead letters retried.\n1 dead letter retried already.\n" {
			t.Errorf("the slower one of %v: %+v", args, a)
		}
	}
}

// once does something before the first command to Redis that is such a one.
func (s *stage) once(is func(cmd string, args []string) bool, do func()) {
	var begun atomic.Bool
	s.mini.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if is(cmd, args) && begun.CompareAndSwap(false, true) {
			do()
		}
		return false
	})
}

// TestARetryThatIsWaitedForTellsHowItEnded, to a program too.
func TestARetryThatIsWaitedForTellsHowItEnded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"ada", "bob"} {
		s.ok("invite", id+"@example.com", "--id", id)
		s.dies(id, id+"@example.com", s.queued("usher:interactive", id))
	}
	for _, args := range [][]string{{"ada"}, {"bob", "--set", "notify=no"}} {
		command := append([]string{"dead-letter", "retry", "--wait", "--json"}, args...)
		lines, exit := s.watched(t.Context(), onStdout, command...)
		id := args[0] + ":retry1"
		testkit.Eventually(t, "it is retried", func() bool { return s.enqueue("status", id).exit == 0 })
		s.ended(id, record.Record{State: record.Done, InvitationID: "inv_1"})
		next(t, lines, func(line string) bool {
			return strings.Contains(line, `"state":"sent"`) && strings.Contains(line, `"task_id":"`+id+`"`)
		})
		exits(t, exit, 0)
	}
}

// TestARehearsedMendTellsWhereItWouldGo.
func TestARehearsedMendTellsWhereItWouldGo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 2, 1)
	_, rows := s.exported()
	id, was := rows[0]["id"], rows[0]["email_address"]
	rows[0]["email_address"] = "right@example.com"
	file := s.corrected("file.csv", []string{"id", "failed_at", "email_address"}, rows)
	for _, args := range [][]string{{id, "--set", "email_address=right@example.com"}, {"--from", file}} {
		a := s.enqueue(append([]string{"dead-letter", "retry", "--dry-run"}, args...)...)
		if a.exit != 0 || !strings.Contains(a.stdout, was+" → right@example.com") {
			t.Errorf("exit %d\n%s%s", a.exit, a.stdout, a.stderr)
		}
	}
}

// TestFaultsOfSeveralAreNamedInOneSentence.
func TestFaultsOfSeveralAreNamedInOneSentence(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, id := range []string{"one", "two"} {
		s.ok("revoke", "inv_"+id, "--id", id)
		testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
			ID: id, TaskID: id, Type: tasks.TypeRevoke, FailedAt: time.Now(), Payload: []byte(`{}`),
		}))
	}
	a := s.enqueue("dead-letter", "retry", "--all", "--set", "notify=no")
	if !strings.Contains(a.stderr, "nothing was retried: dead letter one: it is no") ||
		!strings.Contains(a.stderr, "; dead letter two: it is no") {
		t.Errorf("%s", a.stderr)
	}
	for _, verb := range []string{"list", "retry", "delete"} {
		if a := s.enqueue("dead-letter", verb, "--reason", "rotten"); a.exit != 2 {
			t.Errorf("%s: exit %d", verb, a.exit)
		}
	}
}

// TestTheDeadOfACampaignAreExportedInTheOrderOfItsList, however they died; what else is about it comes after them.
func TestTheDeadOfACampaignAreExportedInTheOrderOfItsList(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.deadOnes("spring", 20, 15)
	s.deadOnes("autumn", 2, 2)
	testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
		ID: "revoke", TaskID: "revoke", Type: tasks.TypeRevoke, Campaign: "spring", FailedAt: time.Unix(1, 0),
		Payload: []byte(`{"campaign":"spring"}`),
	}))
	for i, letter := range s.list("dead-letter", "list", "--campaign", "spring") { // from the last to die on, as it were
		at := float64(time.Now().UnixMilli() - int64(i))
		testkit.NoError(t, s.rdb.ZAdd(t.Context(), "usher:{once}:d:index", redis.Z{Score: at, Member: letter["id"]}).Err())
	}
	var want, got []string
	for _, r := range s.list("campaign", "export", "spring") {
		if r["outcome"] == "dead" {
			want = append(want, fmt.Sprint(r["email_address"]))
		}
	}
	_, rows := s.exported("--campaign", "spring")
	for _, row := range rows {
		got = append(got, row["email_address"])
	}
	if want = append(want, ""); len(want) != 16 || !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, rows = s.exported("--campaign", "spring", "--code", "nothing"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
}
