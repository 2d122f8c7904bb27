package clerkclient

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clerk/clerk-sdk-go/v2"
)

// FuzzClassify checks that the error of any answer is bounded, printable and without addresses.
func FuzzClassify(f *testing.F) {
	for _, body := range []string{
		"", htmlBody, otherJSON, clerkError("duplicate_record", `{"email_addresses":["a@b.cd"]}`),
		clerkError("resource_locked"),
		clerkError("not_allowed_access", `{"identifiers":"a@b.cd"}`),
		`{"errors":[{"code":"x","long_message":"a@b.cd \u0000 ` + testURL + `"}]}`,
	} {
		for _, status := range []int{200, 302, 400, 403, 409, 429, 503, 999} {
			f.Add(status, "30", "Wed, 01 Jul 2026 12:00:00 GMT", "trace-1", body)
		}
	}
	outcomes := []Outcome{Rejected, Throttled, Transient, Unauthorized}
	f.Fuzz(func(t *testing.T, status int, retry, date, trace, body string) {
		header := http.Header{"Retry-After": {retry}, "Date": {date}, "Clerk-Trace-Id": {trace}}
		e := classify("GET /x", answer{status: status, header: header, body: []byte(body),
			at: time.Unix(1_700_000_000, 0)})
		if e == nil {
			if status < 200 || status > 299 {
				t.Fatalf("%d is a success", status)
			}
			return
		}
		text := e.Error()
		switch {
		case !slices.Contains(outcomes, e.Outcome):
			t.Errorf("outcome %q", e.Outcome)
		case e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter:
			t.Errorf("retry after %s", e.RetryAfter)
		case len(e.Offenders) > maxOffenders || len(text) > 1000 || len(e.Message) > maxMessage:
			t.Errorf("%d offenders, %d bytes", len(e.Offenders), len(text))
		case strings.Contains(text, "@") || strings.Contains(text, "://") || !utf8.ValidString(text) ||
			strings.ContainsFunc(text, unicode.IsControl):
			t.Errorf("text %q", text)
		}
	})
}

// FuzzAnswers checks that a 2xx with any body is believed only if it answers the call.
func FuzzAnswers(f *testing.F) {
	for _, op := range operations() {
		f.Add(op.good)
		f.Add(op.good[:len(op.good)/2])
		f.Add("[" + op.good + "]")
		f.Add(strings.Replace(op.good, `"id"`, `"ID"`, 1))
	}
	f.Add("null")
	f.Add(`{"data":[],"total_count":-1}`)
	f.Add(`[null]`)
	f.Add(invitationJSON(bobID, bob, "revoked"))
	a := invitationJSON(aliceID, alice, "pending")
	f.Add("[" + a + "," + a + "]")
	f.Add("[" + a + "," + invitationJSON(aliceID, bob, "pending") + "]")
	f.Add("[" + strings.Repeat(a+",", 3) + a + "]")
	asked := []string{fold(alice), bob}
	f.Fuzz(func(t *testing.T, body string) {
		single, isSingle := decoded[*clerk.Invitation](body)
		if created, why := readCreated(single, alice); isSingle && why == "" &&
			(!segmentForm.MatchString(created.ID) || fold(created.EmailAddress) != asked[0]) {
			t.Errorf("believed: %s", body)
		}
		if revoked, why := readRevoked(single, aliceID); isSingle && why == "" && revoked.ID != aliceID {
			t.Errorf("believed: %s", body)
		}
		bulk, isBulk := decoded[[]*clerk.Invitation](body)
		if many, why := readBulk(bulk, asked); isBulk && why == "" && (len(many) != 2 || many[0].ID == many[1].ID ||
			fold(many[0].EmailAddress) != asked[0] || fold(many[1].EmailAddress) != bob) {
			t.Errorf("believed: %s", body)
		}
		list, isList := decoded[invitationList](body)
		if page, why := readPage(list, 3); isList && why == "" &&
			(len(page.Invitations) > 3 || page.TotalCount < -1 || !strings.Contains(body, "[")) {
			t.Errorf("believed: %s", body)
		}
		users, isUsers := decoded[[]userRow](body)
		if taken, why := readUsers(users, asked); isUsers && why == "" &&
			(len(taken) > 2 || !strings.Contains(body, "[")) {
			t.Errorf("believed: %s", body)
		}
	})
}

// decoded is the body of a 2xx as the calls decode it.
func decoded[A any](body string) (A, bool) {
	var into A
	fault := decode("canned", answer{status: 200, header: http.Header{}, body: []byte(body)}, &into)
	return into, fault == nil
}
