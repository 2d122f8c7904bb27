package api_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/api"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
)

const upload = "/v1/campaigns/spring/recipients"

func TestUpload(t *testing.T) {
	t.Parallel()
	s := setup(t)
	a := s.call(signup, "POST", upload+"?redirect_url=/welcome&public_metadata=%7B%22plan%22:%22pro%22%7D",
		`[{"email_address":"ada@example.com"},{"email_address":"ADA@example.com"},{"email_address":"bob@example.com"}]`).is(202)
	got := a.object()
	if got["campaign"] != "spring" || got["added"] != 2.0 || got["duplicates"] != 1.0 || got["type"] != "bulk-invite" ||
		got["exists"] != false || got["understood"].(object)["form"] != "JSON" {
		t.Errorf("answered %s", a.body)
	}
	task := s.call(signup, "GET", a.header.Get("Location"), nil).is(200).object()
	if task["campaign"] != "spring" || task["recipients"] != 2.0 || task["token"] != "signup" {
		t.Errorf("its task is %v", task)
	}
	s.call(other, "GET", a.header.Get("Location"), nil).is(404, "not-found")
	more := s.call(signup, "POST", upload, csvBody("Email;Redirect URL\nbob@example.com;\neve@example.com;/x\n")).is(202).object()
	if more["added"] != 1.0 || more["known"] != 1.0 || more["recipients"] != 3.0 {
		t.Errorf("the second list: %v", more)
	}
}

// Who must not be written to is named, by line or pointer, and not by address.
func TestRowsThatAreLeftOut(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const why = `must not be written to, as the column \"unsubscribed\" says`
	for body, want := range map[string]string{
		"email,unsubscribed\nada@example.com,\nbob@example.com,yes\n": `[{"line":3,"field":"row","reason":"` + why + `"}]`,
		`[{"email":"ada@example.com"},{"email":"bob@example.com","unsubscribed":true}]`: `[{"pointer":"/1","field":"row",` +
			`"reason":"` + why + `"}]`,
	} {
		var sent any = body
		if body[0] != '[' {
			sent = csvBody(body)
		}
		a := s.call(signup, "POST", upload+"?dry_run=true", sent).is(200)
		if text := string(a.body); !strings.Contains(text, `"left_out_rows":`+want) || strings.Contains(text, "bob@") {
			t.Errorf("%s: %s, want %s", body, text, want)
		}
	}
}

// Every bad row is named, by its line or its pointer; nothing is enqueued.
func TestBadRows(t *testing.T) {
	t.Parallel()
	s := setup(t)
	rows := "email_address,expires_in_days\nada@example.com,7\nbob,7\neve@example.com,400\n"
	p := s.call(signup, "POST", upload, csvBody(rows)).is(422, "validation").object()
	faults := p["errors"].([]any)
	if len(faults) != 2 || p["errors_total"] != 2.0 || faults[0].(object)["line"] != 3.0 ||
		faults[0].(object)["field"] != "email_address" || faults[1].(object)["line"] != 4.0 ||
		faults[1].(object)["field"] != "expires_in_days" {
		t.Errorf("the faults are %v", faults)
	}
	p = s.call(signup, "POST", upload, `[{"email_address":"ada@example.com"},{"email_address":"bob","public_metadata":1}]`).
		is(422, "validation").object()
	if faults := p["errors"].([]any); len(faults) != 2 || faults[0].(object)["pointer"] != "/1/email_address" &&
		faults[1].(object)["pointer"] != "/1/email_address" {
		t.Errorf("the faults are %v", faults)
	}
	var many strings.Builder
	many.WriteString("email_address\n")
	for i := range 1500 {
		fmt.Fprintf(&many, "nobody%d\n", i)
	}
	p = s.call(signup, "POST", upload, csvBody(many.String())).is(422, "validation").object()
	if faults := p["errors"].([]any); len(faults) != 1000 || p["errors_total"] != 1500.0 {
		t.Errorf("%d of %v faults are told", len(faults), p["errors_total"])
	}
	p = s.call(signup, "POST", upload, csvBody("email_address,colour\nada@example.com,red\n")).is(422, "validation").object()
	if reason := p["errors"].([]any)[0].(object)["reason"].(string); !strings.Contains(reason, "ignore_columns") ||
		strings.Contains(reason, "--") {
		t.Errorf("the reason is %q", reason)
	}
	s.call(people, "GET", "/v1/campaigns/spring", nil).is(404, "not-found")
	a := s.call(signup, "POST", upload+"?skip_invalid=true", csvBody(rows)).is(202).object()
	if a["added"] != 1.0 || a["invalid"] != 2.0 || len(a["invalid_rows"].([]any)) != 2 {
		t.Errorf("without the bad rows: %v", a)
	}
	if n := s.queued(); n != 1 {
		t.Errorf("%d tasks are queued", n)
	}
}

// The body is what its type says, and not more than is allowed.
func TestBadLists(t *testing.T) {
	t.Parallel()
	s := setup(t)
	good := csvBody("email_address\nada@example.com\n")
	s.call(signup, "POST", upload, good, "Content-Type", "text/plain").is(415, "media-type")
	s.call(signup, "POST", upload, good, "Content-Type", "").is(415, "media-type")
	s.call(signup, "POST", upload, good, "Content-Type", "application/json").is(422, "validation")
	s.call(signup, "POST", upload, `[{"email_address":"ada@example.com"}]`, "Content-Type", "text/csv").is(422, "validation")
	s.call(signup, "POST", upload, `{"email_address":"ada@example.com"}`).is(422, "validation")
	s.call(signup, "POST", upload, `[{"email_address":"ada@example.com"}`).is(422, "validation")
	s.call(signup, "POST", upload, `[{"email_address":"ada@example.com"}] x`).is(422, "validation")
	s.call(signup, "POST", upload, `[]`).is(422, "validation")
	s.call(signup, "POST", upload, csvBody("")).is(422, "validation")
	s.call(signup, "POST", upload+"?map=colour%3Dred", good).is(422, "validation")
	s.call(signup, "POST", upload+"?at=2030-01-01T00:00:00Z&in=1h", good).is(422, "validation")
	s.call(signup, "POST", upload+"?split=perhaps", good).is(422, "validation")
	s.call(signup, "POST", upload+"?colour=red", good).is(422, "validation")
	s.call(signup, "POST", upload+"?split=true&split=true", good).is(400, "bad-request")
	s.call(signup, "POST", "/v1/campaigns/spring%20time/recipients", good).is(422, "validation")
	large := csvBody("email_address\n" + strings.Repeat("x", 64<<20))
	s.call(signup, "POST", upload, large).is(413, "too-large")
	if n := s.queued(); n != 0 {
		t.Errorf("%d tasks are queued", n)
	}
	p := s.call(signup, "POST", upload, csvBody("name,mail\nAda,ada@example.com\n"))
	if p.status != 422 {
		t.Errorf("a guessed column: %d %s", p.status, p.body)
	}
}

// A guess is refused, and no parameter takes it: the list is made certain instead.
func TestHTTPNeverGuesses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	list := csvBody("mail\nada@example.com\n")
	a := s.call(signup, "POST", upload, list).is(422, "guess")
	if !strings.Contains(string(a.body), `to be certain, email_column: \"mail\"`) {
		t.Errorf("%s", a.body)
	}
	s.call(signup, "POST", upload+"?accept_guesses=true", list).is(422, "validation")
	if n := s.queued(); n != 0 {
		t.Errorf("%d tasks are queued", n)
	}
	s.call(signup, "POST", upload+"?email_column=mail", list).is(202)
}

func TestWorkbooks(t *testing.T) {
	t.Parallel()
	s := setup(t)
	data, err := os.ReadFile("../peoplefile/testdata/libreoffice.xlsx")
	testkit.NoError(t, err)
	const form = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	book := csvBody(data)
	s.call(signup, "POST", upload, book).is(422, "validation") // as text/csv
	s.call(signup, "POST", upload, csvBody("email\nada@example.com\n"), "Content-Type", form).is(422, "validation")
	s.call(signup, "POST", upload+"?sheet=Nosuch", book, "Content-Type", form).is(422, "validation")
	for sheet, want := range map[string]float64{"": 2, "?sheet=Old": 1} {
		got := s.call(signup, "POST", upload+sheet, book, "Content-Type", form).is(202).object()
		if got["added"] != want {
			t.Errorf("of sheet %q: %v", sheet, got)
		}
	}
}

// A dry run enqueues nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	clerk, url := clerktest.NewServer(t, clerktest.Config{Key: "sk_test_apiSECRET"})
	clerk.AddUser("bob@example.com")
	s := setup(t, func(c *api.Config) {
		c.Clerk = settings.Instance{Key: "sk_test_apiSECRET", Kind: settings.KindTest, URL: url}
	})
	list := csvBody("email_address\nada@example.com\nbob@example.com\n")
	got := s.call(signup, "POST", upload+"?dry_run=true", list).is(200).object()
	if got["would_add"] != 2.0 || got["dry_run"] != true {
		t.Errorf("answered %v", got)
	}
	a := s.call(signup, "POST", upload+"?dry_run=clerk", list).is(202)
	task := s.call(signup, "GET", a.header.Get("Location")+"?wait=20s", nil).is(200).object()
	found, _ := task["dry_run"].(object)
	if task["state"] != "done" || found["would_send"] != 1.0 || found["refused"] != 1.0 {
		t.Errorf("it found %v", task)
	}
	s.call(other, "GET", a.header.Get("Location"), nil).is(404, "not-found")
	s.call(people, "GET", "/v1/campaigns/spring", nil).is(404, "not-found")
	without := setup(t)
	without.call(signup, "POST", upload+"?dry_run=clerk", list).is(409, "no-clerk-key")
}

func TestCampaigns(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var list strings.Builder
	list.WriteString("email_address\n")
	for i := range 25 {
		fmt.Fprintf(&list, "ada%02d@example.com\n", i)
	}
	s.call(signup, "POST", upload, csvBody(list.String())).is(202)
	s.call(signup, "POST", "/v1/campaigns/summer/recipients?in=2h", csvBody("email_address\n=x@example.com\n")).is(202)

	page := s.call(viewer, "GET", "/v1/campaigns?limit=1", nil).is(200).object()
	next := s.call(viewer, "GET", "/v1/campaigns?limit=1&cursor="+page["next_cursor"].(string), nil).is(200).object()
	one, two := page["campaigns"].([]any)[0].(object), next["campaigns"].([]any)[0].(object)
	if one["campaign"] == two["campaign"] || next["next_cursor"] != nil {
		t.Errorf("the pages are %v and %v", page, next)
	}
	rows := s.call(viewer, "GET", "/v1/campaigns?state=scheduled", nil).is(200).object()["campaigns"].([]any)
	if len(rows) != 1 || rows[0].(object)["campaign"] != "summer" {
		t.Errorf("scheduled are %v", rows)
	}

	var seen []string
	for cursor := ""; ; {
		page := s.call(people, "GET", upload+"?outcome=waiting&limit=10"+cursor, nil).is(200).object()
		for _, row := range page["recipients"].([]any) {
			seen = append(seen, row.(object)["email_address"].(string))
		}
		if page["next_cursor"] == nil {
			break
		}
		cursor = "&cursor=" + page["next_cursor"].(string)
	}
	if want := strings.Fields(list.String())[1:]; strings.Join(seen, " ") != strings.Join(want, " ") {
		t.Errorf("the pages have %q", seen)
	}
	if rows := s.call(viewer, "GET", upload+"?limit=1", nil).is(200).object()["recipients"].([]any); len(rows) != 1 ||
		rows[0].(object)["email_address"] != "a***@example.com" {
		t.Errorf("a viewer sees %v", rows)
	}
	if rows := s.call(viewer, "GET", upload+"?outcome=sent", nil).is(200).object()["recipients"].([]any); len(rows) != 0 {
		t.Errorf("sent are %v", rows)
	}

	exported := s.call(people, "GET", "/v1/campaigns/summer/export", nil).is(200)
	table, err := csv.NewReader(bytes.NewReader(exported.body)).ReadAll()
	testkit.NoError(t, err)
	if len(table) != 2 || table[0][0] != "email_address" || table[1][0] != "'=x@example.com" {
		t.Errorf("exported %q", table)
	}
	for _, c := range [][2]string{{"pause", "paused"}, {"resume", "running"}, {"cancel", "cancelled"}} {
		if got := s.call(people, "POST", "/v1/campaigns/spring/"+c[0], nil).is(200).object(); got["state"] != c[1] {
			t.Errorf("%s: it is %v", c[0], got["state"])
		}
	}
	s.call(people, "POST", "/v1/campaigns/spring/pause", nil).is(409, "state")
	s.call(people, "POST", "/v1/campaigns/none/pause", nil).is(404, "not-found")
}

// What was understood is told before anything is enqueued, and after.
func TestWhatWasUnderstoodIsAnswered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	guessed := csvBody("Record ID,First Name,Last Name,Email,Unsubscribed\n1,,,ada@example.com,\n" +
		"2,,,b\u00ADob@example.com,\n3,,,eve@example.com,yes\n")
	certain := csvBody(strings.ReplaceAll(string(guessed), "\u00AD", ""))
	for _, c := range []struct {
		path    string
		body    csvBody
		status  int
		guesses []any
		cleaned float64
	}{
		{upload + "?dry_run=true", guessed, 200,
			[]any{`in line 3 a soft hyphen (U+00AD) after "b" is taken out of the address`}, 1},
		{upload, certain, 202, []any{}, 0},
	} {
		got := s.call(signup, "POST", c.path, c.body).is(c.status).object()["understood"].(object)
		want := object{
			"form": "CSV", "export": "HubSpot (2026)", "rows": 3.0, "left_out": 1.0, "sheet": nil,
			"columns": []any{object{"column": "Email", "field": "email_address"},
				object{"column": "Unsubscribed", "field": "who must not be written to"}},
			"passed_over": []any{"Record ID", "First Name", "Last Name"},
			"left_out_rows": []any{object{"field": "row", "line": 4.0,
				"reason": `must not be written to, as the column "Unsubscribed" says`}},
			"guesses": c.guesses, "cleaned": c.cleaned, "not_mapped": []any{}, "notes": []any{}, "warnings": []any{},
			"passed_over_lines": []any{}, "further_addresses": 0.0, "sample": []any{"ada@example.com", "bob@example.com"},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: understood is %v, want %v", c.path, got, want)
		}
	}
}
