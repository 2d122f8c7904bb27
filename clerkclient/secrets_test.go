package clerkclient

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
)

// TestNoErrorLeaks has answers that quote all secrets everywhere.
func TestNoErrorLeaks(t *testing.T) {
	t.Parallel()
	quoting := fmt.Sprintf("%s (%s) has an invitation: %s, ticket %s, key %s, mail %s, \"alice "+
		"liddell\"@example.com, Bearer %s",
		alice, strings.ReplaceAll(alice, "@", "%40"), testURL, testTicket, testKey, "mailto:"+bob, testKey)
	quoted, err := json.Marshal(quoting)
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{
		fmt.Sprintf(`{"errors":[{"message":%s,"long_message":%s,"code":%s,"meta":{"email_addresses":[%q]}}],`+
			`"clerk_trace_id":%s}`, quoted, quoted, quoted, alice, quoted),
		fmt.Sprintf(`{"errors":[{"message":%s,"code":"duplicate_record","meta":%s}]}`, quoted, quoted),
		fmt.Sprintf(`{"errors":[{"message":"no","long_message":%s,"code":"duplicate_record"}]}`, quoted),
		quoting, string(quoted), `[` + string(quoted) + `]`,
		`{"id":` + string(quoted) + `,"email_address":` + string(quoted) + `,"created_at":` + string(quoted) + `}`,
		`{"id":"inv_1","email_address":` + string(quoted) + `,"status":` + string(quoted) + `}`,
	}
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			server := &script{}
			c := newClient(t, server)
			for _, status := range []int{200, 302, 400, 401, 403, 404, 409, 422, 429, 500, 503} {
				for _, body := range bodies {
					server.set(answering(status, body, "Clerk-Trace-Id", alice, "Retry-After", alice, "Location",
						testURL, "Date", alice))
					answer, err := op.do(t.Context(), c)
					e := asError(t, err)
					mustNotLeak(t, err, *e, answer, e.Cause)
					mustNotMarshal(t, err, *e, answer)
				}
			}
		})
	}
}

func TestNoValueLeaks(t *testing.T) {
	t.Parallel()
	config := Config{Key: testKey, BaseURL: "https://alice:liddell@clerk.example.com/", Version: alice}
	mustNotLeak(t, config, &config)
	mustNotMarshal(t, config.BaseURL == "", Config{Key: testKey})

	c := newClient(t, answering(200, `{"data":[`+invitationJSON(aliceID, alice, "pending")+`],"total_count":1}`))
	mustNotLeak(t, c, *c, ListQuery{Query: alice, Status: alice, OrderBy: alice})
	mustNotMarshal(t, c, *c)
	// Inside a field that is not exported, fmt ignores methods and reads the memory.
	mustNotLeak(t, struct{ c Client }{*c}, struct{ k key }{c.key})

	page, _, err := c.List(t.Context(), ListQuery{Query: alice})
	if err != nil {
		t.Fatal(err)
	}
	mustNotLeak(t, page, &page, page.Invitations, page.Invitations[0])
	encoded, err := json.Marshal(page)
	if err != nil || strings.Contains(string(encoded), testTicket) || !strings.Contains(string(encoded), alice) {
		t.Errorf("marshalled, an invitation has its address and no ticket: %s, %v", encoded, err)
	}
}

// TestOnlyOffendersHoldAddresses checks that they are not printed either.
func TestOnlyOffendersHoldAddresses(t *testing.T) {
	t.Parallel()
	e := &Error{Outcome: Rejected, Status: 400, Code: "duplicate_record", Offenders: []string{alice, bob}}
	mustNotLeak(t, e, *e, []*Error{e}, []Error{*e}, map[string]error{"x": e})
	mustNotMarshal(t, e, *e, map[string]any{"error": e})
	encoded, _ := json.Marshal(e)
	if want := `{"outcome":"rejected","http_status":400,"code":"duplicate_record",` +
		`"sent":false}`; string(encoded) != want {
		t.Errorf("%s, want %s", encoded, want)
	}
	if got, want := e.Error(), "clerk: 400 duplicate_record"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	c := newClient(t, answering(429, clerkError("too_many_requests"), "Retry-After", "90"))
	_, _, err := c.Create(t.Context(), &invitation.CreateParams{EmailAddress: alice})
	want := "clerk: POST /invitations: 429 too_many_requests: It was refused. (retry after 1m30s) (trace trace-1)"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "",
		"is invalid":                         "is invalid",
		"alice@example.com is taken":         "[address] is taken",
		"<alice@example.com>, (b@c.de): no":  "<[address]>, ([address]): no",
		"o'brien+x@example.com":              "[address]",
		"ünï@exämple.com!":                   "[address]",
		`"al ice"@example.com is taken`:      "[address] is taken",
		"alice%40example.com":                "[address]",
		"see https://x.y/z?a=b c":            "see [url] c",
		"with " + testTicket + ".":           "with [ticket]",
		"key sk_live_abc, sk_test_abc":       "key [key] [key]",
		"one\ntwo\x1b[31m\u2028three":        "one two [31m three",
		"bad \xff byte":                      "bad ? byte",
		strings.Repeat("ä", 400):             strings.Repeat("ä", 148) + "…",
		strings.Repeat("a@b.cd ", 1000):      "",
		strings.Repeat("x", 4090) + "@ex.am": "[address]",
		strings.Repeat("x", 5000) + "@ex.am": "",
	} {
		got := redact(text)
		if want != "" && got != want || strings.Contains(got, "@") || len(got) > maxMessage || !utf8.ValidString(got) {
			t.Errorf("%.60q: %q, want %q", text, got, want)
		}
	}
}
