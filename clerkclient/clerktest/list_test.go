package clerktest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
)

func TestList(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	ids := map[string]string{}
	for _, address := range []string{"b@example.com", "A@example.com", "d@other.example", "c@example.com"} {
		days := map[string]int{"c@example.com": 1}[address]
		r := s.do("POST", "/invitations",
			fmt.Sprintf(`{"email_address":%q,"expires_in_days":%d}`, address, max(days, 2)))
		if days == 1 {
			r = s.do("POST", "/invitations",
				fmt.Sprintf(`{"email_address":%q,"expires_in_days":1,"ignore_existing":true}`, address))
			wantStatus(t, s.do("POST", "/invitations/"+decode[clerktest.Invitation](t, r).ID+"/revoke", ""), 200)
			r = s.do("POST", "/invitations",
				fmt.Sprintf(`{"email_address":%q,"expires_in_days":1,"ignore_existing":true}`, address))
		}
		ids[address] = decode[clerktest.Invitation](t, r).ID
		s.clock.advance(time.Second)
	}
	// b, A, d, c (2 days), c (revoked), c (1 day)
	for query, want := range map[string]string{
		"":                                      "c@ c@ d@ A@ b@",
		"?order_by=-created_at":                 "c@ c@ d@ A@ b@",
		"?order_by=created_at":                  "b@ A@ d@ c@ c@",
		"?order_by=%2Bcreated_at":               "b@ A@ d@ c@ c@",
		"?order_by=+created_at":                 "b@ A@ d@ c@ c@",
		"?order_by=email_address":               "A@ b@ c@ c@ d@",
		"?order_by=-email_address":              "d@ c@ c@ b@ A@",
		"?order_by=expires_at":                  "c@ b@ A@ d@ c@",
		"?limit=2":                              "c@ c@",
		"?limit=2&offset=1":                     "c@ d@",
		"?limit=500&offset=4":                   "b@",
		"?offset=5":                             "",
		"?offset=9223372036854775807&limit=500": "",
		"?query=a@EXAMPLE":                      "A@",
		"?query=other":                          "d@",
		"?query=" + strings.ToLower(ids["b@example.com"]): "b@",
		"?query=nobody":                  "",
		"?status=revoked":                "c@",
		"?status=revoked&status=pending": "c@",
		"?status=accepted":               "",
	} {
		list := s.list(query)
		got := make([]string, len(list))
		for i, v := range list {
			got[i], _, _ = strings.Cut(v.EmailAddress, "@")
			got[i] += "@"
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", query, got, want)
		}
	}
	s.Configure(func(c *clerktest.Config) { c.StatusRepeatable = true })
	if n := len(s.list("?status=revoked&status=pending")); n != 6 {
		t.Errorf("%d for two statuses, want 6", n)
	}
	page := decode[struct {
		Data       []clerktest.Invitation `json:"data"`
		TotalCount int                    `json:"total_count"`
	}](t, s.do("GET", "/invitations?paginated=true&limit=2&offset=4", ""))
	if page.TotalCount != 5 || len(page.Data) != 1 || page.Data[0].URL == "" {
		t.Errorf("page %+v", page)
	}
	if r := s.do("GET", "/invitations?paginated=true&query=nobody",
		""); string(r.body) != `{"data":[],"total_count":0}` {
		t.Errorf("empty page %s", r.body)
	}
}

func TestListDefaults(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for _, a := range manyAddresses(12) {
		s.AddInvitation(a)
	}
	if n := len(s.list("")); n != 10 {
		t.Errorf("%d by default, want 10", n)
	}
	if n := len(s.list("?limit=500")); n != 12 {
		t.Errorf("%d of 12", n)
	}
}

func TestListRefusals(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for query, code := range map[string]string{
		"limit=0": "form_param_value_invalid", "limit=501": "form_param_value_invalid",
		"limit=x": "form_param_type_invalid", "limit=": "form_param_type_invalid",
		"offset=-1": "form_param_value_invalid", "offset=1.5": "form_param_type_invalid",
		"status=odd": "form_param_value_invalid", "order_by=id": "form_param_value_invalid",
		"order_by=--created_at": "form_param_value_invalid",
		"paginated=maybe":       "form_param_type_invalid",
	} {
		name, _, _ := strings.Cut(query, "=")
		if meta := wantError(t, s.do("GET", "/invitations?"+query, ""), 422, code); meta["param_name"] != name {
			t.Errorf("%s: meta %v", query, meta)
		}
	}
}

func TestExpiryByTheClock(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.create("a@example.com")
	s.clock.advance(30*24*time.Hour - time.Millisecond)
	wantAddresses(t, s.list("?status=pending"), "a@example.com")
	s.clock.advance(time.Millisecond)
	wantAddresses(t, s.list("?status=pending"))
	list := s.list("?status=expired")
	wantAddresses(t, list, "a@example.com")
	if list[0].Status != "expired" {
		t.Errorf("status %s", list[0].Status)
	}
}

func TestListLag(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{ListLag: 5 * time.Second})
	id := decode[clerktest.Invitation](t, s.create("a@example.com")).ID
	wantAddresses(t, s.list(""))
	wantError(t, s.create("a@example.com"), 400, "duplicate_record")
	s.clock.advance(5*time.Second - 1)
	wantAddresses(t, s.list("?query="+id))
	s.clock.advance(1)
	wantAddresses(t, s.list("?query="+id), "a@example.com")
}

// TestManyInvitations lists from a hundred thousand.
func TestManyInvitations(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for i := range 20_000 {
		s.AddInvitation(fmt.Sprintf("n%d@example.com", i))
	}
	wantAddresses(t, s.list("?limit=1"), "n19999@example.com")
	wantAddresses(t, s.list("?query=n17777@"), "n17777@example.com")
	page := decode[struct {
		Data       []json.RawMessage `json:"data"`
		TotalCount int               `json:"total_count"`
	}](t, s.do("GET", "/invitations?paginated=true&limit=500&offset=10000&order_by=email_address", ""))
	if page.TotalCount != 20_000 || len(page.Data) != 500 {
		t.Errorf("%d of %d", len(page.Data), page.TotalCount)
	}
	wantError(t, s.create("N5@example.com"), 400, "duplicate_record")
}

type userObject struct {
	ID             string          `json:"id"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	EmailAddresses []struct {
		EmailAddress string `json:"email_address"`
	} `json:"email_addresses"`
}

// lookup asks which of the addresses are users'.
func (s *sandbox) lookup(addresses ...string) []userObject {
	s.t.Helper()
	q := url.Values{"email_address": addresses, "limit": {"500"}}
	return decode[[]userObject](s.t, s.do("GET", "/users?"+q.Encode(), ""))
}

func TestUsers(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for _, a := range []string{"Ann@example.com", "bob@example.com", "cleo@other.example", "BOB@example.com"} {
		s.AddUser(a)
		s.clock.advance(time.Second)
	}
	addresses := func(users []userObject) string {
		var got []string
		for _, u := range users {
			got = append(got, u.EmailAddresses[0].EmailAddress)
		}
		return strings.Join(got, " ")
	}
	if got := addresses(s.lookup("ann@EXAMPLE.com", "nobody@example.com",
		"bob@example.com")); got != "bob@example.com Ann@example.com" {
		t.Errorf("found %s", got)
	}
	if got := len(s.lookup("nobody@example.com")); got != 0 {
		t.Errorf("%d found", got)
	}
	id := s.lookup("ann@example.com")[0].ID
	for query, want := range map[string]string{
		"":                           "cleo@other.example bob@example.com Ann@example.com",
		"?order_by=%2Bemail_address": "Ann@example.com bob@example.com cleo@other.example",
		"?limit=1&offset=1":          "bob@example.com",
		"?email_address_query=OTHER": "cleo@other.example",
		"?query=ann":                 "Ann@example.com",
		"?user_id=" + id:             "Ann@example.com",
		"?username=ann":              "",
		"?email_address=ann@example.com&query=bob": "",
	} {
		if got := addresses(decode[[]userObject](t, s.do("GET", "/users"+query, ""))); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	s.Configure(func(c *clerktest.Config) { c.CaseSensitive = true })
	if got := addresses(s.lookup("ann@example.com", "bob@example.com")); got != "bob@example.com" {
		t.Errorf("case-sensitive: %s", got)
	}
}

func TestUsersBounds(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for _, a := range manyAddresses(100) {
		s.AddUser(a)
	}
	if n := len(s.lookup(manyAddresses(100)...)); n != 100 {
		t.Errorf("%d of 100", n)
	}
	q := url.Values{"email_address": manyAddresses(100)}
	if n := len(decode[[]userObject](t, s.do("GET", "/users?"+q.Encode(), ""))); n != 10 {
		t.Errorf("%d without a limit, want Clerk's default of 10", n)
	}
	q["email_address"] = manyAddresses(101)
	wantError(t, s.do("GET", "/users?"+q.Encode(), ""), 422, "form_param_array_size_exceeded")
	for _, query := range []string{"limit=501", "order_by=odd", "starting_after=user_1"} {
		if r := s.do("GET", "/users?"+query, ""); r.status != 422 {
			t.Errorf("%s: %d", query, r.status)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	s.LoadDemo()
	if n := len(s.lookup("user.one@example.com", "user.two@example.com")); n != 2 {
		t.Errorf("%d users", n)
	}
	wantAddresses(t, s.list(""), "pending@example.com")
	wantError(t, s.create("x@blocked.example"), 403, "not_allowed_access")
	s.Reset()
	wantStatus(t, s.create("x@blocked.example"), 200)
	if n := len(s.lookup("user.one@example.com")); n != 0 || len(s.Ledger()) != 1 {
		t.Error("a reset forgets all")
	}
	if r := s.Requests(); r[0].Number != 4 ||
		!slices.IsSortedFunc(r, func(a, b clerktest.Request) int { return a.Number - b.Number }) {
		t.Errorf("numbers are never used twice: %+v", r)
	}
}
