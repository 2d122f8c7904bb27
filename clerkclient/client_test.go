package clerkclient

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	const date = "Wed, 01 Jul 2026 12:00:00 GMT"
	c := newClient(t, answering(200, invitationJSON(aliceID, strings.ToLower(alice), "pending"), "Date", date,
		"Clerk-Trace-Id", "trace-1"))
	got, answer, err := c.Create(t.Context(), &invitation.CreateParams{EmailAddress: " " + alice})
	if err != nil {
		t.Fatal(err)
	}
	want := Answer{Status: 200, Date: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), TraceID: "trace-1"}
	if answer != want {
		t.Errorf("answer %v, want %v", answer, want)
	}
	if got.ID != aliceID || got.EmailAddress != strings.ToLower(alice) || got.Status != "pending" || got.Revoked ||
		string(got.PublicMetadata) != `{"plan":"pro"}` {
		t.Errorf("got %+v", got)
	}
	if got.CreatedAt.UnixMilli() != 1_700_000_000_123 || got.UpdatedAt.UnixMilli() != 1_700_000_000_456 ||
		got.ExpiresAt.UnixMilli() != 1_702_592_000_123 || got.CreatedAt.Location() != time.UTC {
		t.Errorf("times %s, %s, %s", got.CreatedAt, got.UpdatedAt, got.ExpiresAt)
	}
}

// TestBulkOrder checks that the result has the order of the request, whatever the order of the answer.
func TestBulkOrder(t *testing.T) {
	t.Parallel()
	rows := make([]string, MaxBulk)
	asked := make([]*invitation.CreateParams, MaxBulk)
	for i := range MaxBulk {
		asked[i] = &invitation.CreateParams{EmailAddress: fmt.Sprintf("User%d@Example.com", i)}
		rows[MaxBulk-1-i] = invitationJSON(fmt.Sprintf("inv_%d", i), fmt.Sprintf("user%d@example.com", i), "pending")
	}
	c := newClient(t, answering(200, "\n ["+strings.Join(rows, ",")+"]\n"))
	got, answer, err := c.CreateBulk(t.Context(), asked)
	if err != nil || len(got) != MaxBulk || answer.Status != 200 {
		t.Fatalf("%d invitations, %v: %v", len(got), answer, err)
	}
	for i, one := range got {
		if one.ID != fmt.Sprintf("inv_%d", i) {
			t.Errorf("place %d has %s", i, one.ID)
		}
	}
}

// TestImplausibleAnswers: a 2xx that is not the answer to the call may hide that something was created.
func TestImplausibleAnswers(t *testing.T) {
	t.Parallel()
	a, b := invitationJSON(aliceID, alice, "pending"), invitationJSON(bobID, bob, "pending")
	user := `{"id":"user_1","email_addresses":[]}`
	bodies := map[string][]string{
		"create": {b, "[" + a + "]", `{}`, `null`, `""`, `7`, `{"id":"` + aliceID + `"}`,
			`{"email_address":"` + alice + `"}`,
			invitationJSON("inv/1", alice, "pending"), invitationJSON(strings.Repeat("a", 65), alice, "pending"),
			`{"data":` + a + `}`, a + a, clerkError(""), strings.Replace(a, "1700000000123", `"now"`, 1)},
		"bulk": {"[]", "[" + a + "]", "[" + a + "," + a + "]", "[" + a + "," + b + "," + b + "]",
			"[" + a + "," + invitationJSON("inv_3", "carol@example.com", "pending") + "]",
			"[" + a + "," + invitationJSON(aliceID, bob, "pending") + "]",
			"[" + a + "," + invitationJSON("inv_3", alice, "pending") + "]",
			"[" + a + ",null]", "[null,null]", "null", a, `{"data":[` + a + "," + b + `]}`, "[" + a + "," + b},
		"delete": {a, `{}`, "null", "[]", `{"id":"` + bobID + `","deleted":true}`, `{"id":"` + aliceID + `"}`},
		"revoke": {a, b, invitationJSON(bobID, alice, "revoked"), `{}`, "null", "[]"},
		"list": {`{}`, `null`, `{"data":null,"total_count":0}`, `{"total_count":0}`, clerkError(""),
			`{"data":[],"total_count":-1}`,
			`{"data":[null],"total_count":1}`, `{"data":[{}],"total_count":1}`, `{"data":{},"total_count":0}`, `""`,
			"7", `{"data":[],"total_count":"0"}`,
			"[" + strings.TrimSuffix(strings.Repeat(a+",", MaxPage+1), ",") + "]"},
		"users": {`{}`, `null`, `{"data":[]}`, "[null]", `[{"email_addresses":[]}]`, `[7]`, `""`,
			"[" + user + `,{"id":""}]`},
	}
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			server := &script{}
			c := newClient(t, server)
			for _, body := range bodies[op.name] {
				server.set(answering(200, body))
				answer, err := op.do(t.Context(), c)
				if err == nil {
					t.Errorf("believed: %s", body)
					continue
				}
				e := asError(t, err)
				if e.Outcome != Transient || e.Code != CodeUnreadableAnswer || e.Status != 200 ||
					answer.Status != 200 || !e.Sent {
					t.Errorf("%s: %v: outcome %s, code %q", body, e, e.Outcome, e.Code)
				}
				mustNotLeak(t, err)
			}
			server.set(answering(201, op.good))
			if _, err := op.do(t.Context(), c); err != nil {
				t.Errorf("the good answer: %v", err)
			}
		})
	}
}

// TestListForms reads both forms: an object with a count, and the bare array of Clerk's document.
func TestListForms(t *testing.T) {
	t.Parallel()
	rows := invitationJSON(aliceID, alice, "accepted") + "," + invitationJSON(bobID, bob, "sleeping")
	for body, want := range map[string]struct{ rows, total int }{
		`{"data":[` + rows + `],"total_count":1234}`: {2, 1234},
		`{"data":[` + rows + `]}`:                    {2, -1},
		" [" + rows + "]":                            {2, -1},
		`[]`:                                         {0, -1},
		`{"data":[],"total_count":0}`:                {0, 0},
	} {
		c := newClient(t, answering(200, body))
		page, answer, err := c.List(t.Context(), ListQuery{Limit: 2})
		if err != nil || len(page.Invitations) != want.rows || page.TotalCount != want.total || answer.Status != 200 {
			t.Errorf("%d rows, total %d, %v: %v", len(page.Invitations), page.TotalCount, answer, err)
			continue
		}
		if want.rows == 2 && (page.Invitations[0].Status != "accepted" || page.Invitations[1].EmailAddress != bob) {
			t.Errorf("rows %+v", page)
		}
	}
}

func TestListQueryIsSent(t *testing.T) {
	t.Parallel()
	for want, query := range map[string]ListQuery{
		"paginated=true": {},
		"limit=1&offset=7&order_by=%2Bexpires_at&paginated=true&query=a%26b%3D%2B&status=revoked": {
			Limit: 1, Offset: 7, OrderBy: "+expires_at", Query: "a&b=+", Status: "revoked",
		},
	} {
		c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != want {
				t.Errorf("query %q, want %q", r.URL.RawQuery, want)
			}
			_, _ = io.WriteString(w, `{"data":[],"total_count":0}`)
		}))
		if _, _, err := c.List(t.Context(), query); err != nil {
			t.Error(err)
		}
	}
}

func TestUsersByEmail(t *testing.T) {
	t.Parallel()
	address := func(address, more string) string { return fmt.Sprintf(`{"email_address":%q%s}`, address, more) }
	body := fmt.Sprintf(`[{"id":"user_1","email_addresses":[%s,%s]},{"id":"user_2","email_addresses":[%s,%s,%s,%s]},`+
		`{"id":"user_3"}]`,
		address("VERIFIED@example.com", `,"verification":{"status":"verified"}`), address("other@example.com", ""),
		address("unknown@example.com", `,"verification":null`),
		address("entered@example.com", `,"verification":{"status":"unverified"}`),
		address("reserved@example.com", `,"reserved":true,"verification":{"status":"unverified"}`),
		address("verified@example.com", `,"verification":{"status":"verified"}`))
	c := newClient(t, answering(200, body))
	got, _, err := c.UsersByEmail(t.Context(), []string{
		"Verified@Example.com ", "verified@example.com", "entered@example.com", "reserved@example.com",
		"unknown@example.com", "nobody@example.com",
	})
	want := []string{"reserved@example.com", "unknown@example.com", "verified@example.com"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q: %v", got, err)
	}
}

func TestDoomedRequestsAreNotSent(t *testing.T) {
	t.Parallel()
	c := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	to := func(addresses ...string) []*invitation.CreateParams {
		var all []*invitation.CreateParams
		for _, address := range addresses {
			all = append(all, &invitation.CreateParams{EmailAddress: address})
		}
		return all
	}
	create := func(p *invitation.CreateParams) error { _, _, err := c.Create(t.Context(), p); return err }
	bulk := func(p []*invitation.CreateParams) error { _, _, err := c.CreateBulk(t.Context(), p); return err }
	list := func(q ListQuery) error { _, _, err := c.List(t.Context(), q); return err }
	users := func(a []string) error { _, _, err := c.UsersByEmail(t.Context(), a); return err }
	for name, err := range map[string]error{
		"create nothing":    create(nil),
		"create nobody":     create(&invitation.CreateParams{}),
		"empty bulk":        bulk(nil),
		"bulk of 11":        bulk(slices.Repeat(to(alice), 11)),
		"bulk with nothing": bulk([]*invitation.CreateParams{nil}),
		"bulk with nobody":  bulk(to(alice, "")),
		"bulk with a twin":  bulk(to(alice, bob, strings.ToUpper(alice))),
		"limit":             list(ListQuery{Limit: MaxPage + 1}),
		"negative limit":    list(ListQuery{Limit: -1}),
		"offset":            list(ListQuery{Offset: -1}),
		"status":            list(ListQuery{Status: alice}),
		"order":             list(ListQuery{OrderBy: "alice"}),
		"no addresses":      users(nil),
		"101 addresses":     users(slices.Repeat([]string{alice}, 101)),
		"an empty address":  users([]string{alice, " "}),
	} {
		e := asError(t, err)
		if e.Outcome != Rejected || e.Sent || e.Status != 0 || e.Code != CodeInvalidRequest || e.Message == "" {
			t.Errorf("%s: %v: outcome %s, sent %t", name, e, e.Outcome, e.Sent)
		}
		mustNotLeak(t, err)
	}
}

func TestTimesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, ms := range []int64{0, -1, 1 << 62, -1 << 62} {
		if got := millis(ms); !got.IsZero() {
			t.Errorf("%d: %s", ms, got)
		}
	}
	body := strings.NewReplacer("1700000000123", "9223372036854775807", "1702592000123",
		"null").Replace(invitationJSON(aliceID, alice, "pending"))
	got, _, err := newClient(t, answering(200, body)).Create(t.Context(),
		&invitation.CreateParams{EmailAddress: alice})
	if err != nil || !got.CreatedAt.IsZero() || !got.ExpiresAt.IsZero() {
		t.Fatalf("%s, %s: %v", got.CreatedAt, got.ExpiresAt, err)
	}
	if encoded, err := json.Marshal(got); err != nil || strings.Contains(string(encoded), "created_at") {
		t.Errorf("%s: %v", encoded, err)
	}
}

// TestTheHostAloneIsABase: Clerk's own SDKs take it like that.
func TestTheHostAloneIsABase(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://api.clerk.com": "/v1", "https://api.clerk.com/": "/v1", "https://api.clerk.com/v1/": "/v1",
		"https://proxy.example.com/clerk": "/clerk",
	} {
		base, err := parseBaseURL(raw)
		if err != nil || base.Path != want {
			t.Errorf("%s: path %q, %v, want %q", raw, base.Path, err, want)
		}
	}
}
