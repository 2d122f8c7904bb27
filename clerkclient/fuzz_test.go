package clerkclient

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
)

// FuzzClassify: whatever an answer says, the error that it becomes is bounded, printable and without addresses.
func FuzzClassify(f *testing.F) {
	for _, body := range []string{
		"", htmlBody, otherJSON, clerkError("duplicate_record", `{"email_addresses":["a@b.cd"]}`), clerkError("resource_locked"),
		clerkError("not_allowed_access", `{"identifiers":"a@b.cd"}`), `{"errors":[{"code":"x","long_message":"a@b.cd \u0000 ` + testURL + `"}]}`,
	} {
		for _, status := range []int{200, 302, 400, 403, 409, 429, 503, 999} {
			f.Add(status, "30", "Wed, 01 Jul 2026 12:00:00 GMT", "trace-1", body)
		}
	}
	outcomes := []Outcome{Rejected, Throttled, Transient, Unauthorized}
	f.Fuzz(func(t *testing.T, status int, retry, date, trace, body string) {
		header := http.Header{"Retry-After": {retry}, "Date": {date}, "Clerk-Trace-Id": {trace}}
		e := classify("GET /x", answer{status: status, header: header, body: []byte(body), at: time.Unix(1_700_000_000, 0)})
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
		case strings.Contains(text, "@") || strings.Contains(text, "://") || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
			t.Errorf("text %q", text)
		}
	})
}

// canned is a backend whose answer is there already.
type canned struct{ answer answer }

func (c canned) Call(_ context.Context, _ *clerk.APIRequest, into clerk.ResponseReader) error {
	if fault := decode("canned", c.answer, into); fault != nil {
		return fault
	}
	return nil
}

// FuzzAnswers: whatever a 2xx holds, what is believed of it is about what was asked.
func FuzzAnswers(f *testing.F) {
	for _, op := range operations() {
		f.Add(op.good)
		f.Add(op.good[:len(op.good)/2])
		f.Add("[" + op.good + "]")
		f.Add(strings.Replace(op.good, `"id"`, `"ID"`, 1))
	}
	f.Add("null")
	f.Add(`{"data":[],"total_count":-1}`)
	asked := []string{fold(alice), bob}
	f.Fuzz(func(t *testing.T, body string) {
		a := answer{status: 200, header: http.Header{}, body: []byte(body)}
		single := func(i Invitation, _ Answer, err error) {
			if err == nil && (!segmentForm.MatchString(i.ID) || fold(i.EmailAddress) != asked[0]) {
				t.Errorf("believed: %s", body)
			}
		}
		c := &Client{invitations: &invitation.Client{Backend: canned{a}}}
		single(c.Create(t.Context(), &invitation.CreateParams{EmailAddress: alice}))
		if revoked, _, err := c.Revoke(t.Context(), aliceID); err == nil && revoked.ID != aliceID {
			t.Errorf("believed: %s", body)
		}
		many, _, err := c.CreateBulk(t.Context(), []*invitation.CreateParams{{EmailAddress: alice}, {EmailAddress: bob}})
		if err == nil && (len(many) != 2 || fold(many[0].EmailAddress) != asked[0] || fold(many[1].EmailAddress) != bob || many[0].ID == many[1].ID) {
			t.Errorf("believed: %s", body)
		}
		list := &listAnswer{}
		if decode(opList, a, list) == nil {
			if page, err := readPage(list, 3); err == nil && (len(page.Invitations) > 3 || page.TotalCount < -1 || !strings.Contains(body, "[")) {
				t.Errorf("believed: %s", body)
			}
		}
		users := &userAnswer{}
		if decode(opUsers, a, users) == nil {
			if taken, err := readUsers(users, asked); err == nil && (len(taken) > 2 || !strings.Contains(body, "[")) {
				t.Errorf("believed: %s", body)
			}
		}
	})
}
