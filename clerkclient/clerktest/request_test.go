package clerktest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"

	"example.com/usher/clerkclient/clerktest"
)

// TestValidation walks what is wrong with a request's fields. byDocument: Clerk's OpenAPI document says so too, and is
// asked.
func TestValidation(t *testing.T) {
	t.Parallel()
	big := `{"a":"` + strings.Repeat("x", 8192) + `"}`
	fits := `{"a":"` + strings.Repeat("x", 8192-len(`{"a":""}`)) + `"}`
	for _, c := range []struct {
		name, item string
		status     int
		code       string // "" means accepted
		param      string
		byDocument bool
	}{
		{"plain", `{"email_address":"a@example.com"}`, 200, "", "", true},
		{"plus and subdomain", `{"email_address":"a+b@mail.example.co.uk"}`, 200, "", "", true},
		{"missing address", `{"notify":true}`, 422, "form_param_missing", "email_address", true},
		{"unknown field", `{"email_address":"a@example.com","role":"x"}`, 422, "form_param_unknown", "role", true},
		{"address is a number", `{"email_address":7}`, 422, "form_param_type_invalid", "email_address", true},
		{"address is null", `{"email_address":null}`, 422, "form_param_type_invalid", "email_address", true},
		{"empty address", `{"email_address":""}`, 422, "form_param_format_invalid", "email_address", false},
		{"malformed address", `{"email_address":"a@b@example.com"}`, 422, "form_param_format_invalid",
			"email_address", false},
		{"address without a dotted domain", `{"email_address":"a@localhost"}`, 422, "form_param_format_invalid",
			"email_address", false},
		{"address with a name", `{"email_address":"A <a@example.com>"}`, 422, "form_param_format_invalid",
			"email_address", false},
		{"address with a space", `{"email_address":" a@example.com"}`, 422, "form_param_format_invalid",
			"email_address", false},
		{"metadata is an array", `{"email_address":"a@example.com","public_metadata":[1]}`, 422,
			"form_param_type_invalid", "public_metadata", true},
		{"metadata fits", `{"email_address":"a@example.com","public_metadata":` + fits + `}`, 200, "", "", true},
		{"metadata is too large", `{"email_address":"a@example.com","public_metadata":` + big + `}`, 422,
			"form_param_exceeds_allowed_size", "public_metadata", false},
		{"redirect to a path", `{"email_address":"a@example.com","redirect_url":"/in"}`, 200, "", "", true},
		{"redirect to nowhere", `{"email_address":"a@example.com","redirect_url":"in"}`, 422,
			"form_param_format_invalid", "redirect_url", false},
		{"notify is a text", `{"email_address":"a@example.com","notify":"yes"}`, 422,
			"form_param_type_invalid", "notify", true},
		{"ignore_existing is a number", `{"email_address":"a@example.com","ignore_existing":1}`, 422,
			"form_param_type_invalid", "ignore_existing", true},
		{"no day", `{"email_address":"a@example.com","expires_in_days":0}`, 422, "form_param_value_invalid",
			"expires_in_days", true},
		{"too many days", `{"email_address":"a@example.com","expires_in_days":366}`, 422, "form_param_value_invalid",
			"expires_in_days", true},
		{"a year", `{"email_address":"a@example.com","expires_in_days":365}`, 200, "", "", true},
		{"half a day", `{"email_address":"a@example.com","expires_in_days":1.5}`, 422, "form_param_type_invalid",
			"expires_in_days", true},
		{"unknown template", `{"email_address":"a@example.com","template_slug":"x"}`, 422, "form_param_value_invalid",
			"template_slug", true},
		{"template is null", `{"email_address":"a@example.com","template_slug":null}`, 422, "form_param_type_invalid",
			"template_slug", true},
	} {
		for _, form := range []struct{ path, body string }{{"/invitations", c.item},
			{"/invitations/bulk", "[" + c.item + "]"}} {
			t.Run(form.path[1:]+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				s := setup(t, clerktest.Config{})
				r := s.do("POST", form.path, form.body)
				if c.code == "" {
					wantStatus(t, r, 200)
				} else if meta := wantError(t, r, c.status, c.code); meta["param_name"] != c.param {
					t.Errorf("param_name %v, want %s", meta["param_name"], c.param)
				}
				if n := len(s.Ledger()); n != map[bool]int{true: 1, false: 0}[c.code == ""] {
					t.Errorf("%d invitations were made", n)
				}
				if doc := contract(t); doc != nil && c.byDocument {
					err := openapi3filter.ValidateRequest(t.Context(),
						doc.input(s.request("POST", form.path, form.body)))
					if (err == nil) != (c.code == "") {
						t.Errorf("Clerk's document says otherwise: %v", err)
					}
				}
			})
		}
	}
}

func TestNullIsForBulks(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	item := `{"email_address":"a@example.com","public_metadata":null,"redirect_url":null}`
	wantError(t, s.do("POST", "/invitations", item), 422, "form_param_type_invalid")
	wantStatus(t, s.do("POST", "/invitations/bulk", "["+item+"]"), 200)
}

func TestMetadataMax(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{MetadataMax: 10})
	wantStatus(t, s.do("POST", "/invitations", `{"email_address":"a@example.com","public_metadata":{ "a" : "bb" }}`),
		200)
	wantError(t, s.do("POST", "/invitations", `{"email_address":"b@example.com","public_metadata":{"a":"bbb"}}`), 422,
		"form_param_exceeds_allowed_size")
	s.Configure(func(c *clerktest.Config) { c.MetadataMax = -1 })
	wantStatus(t, s.do("POST", "/invitations",
		`{"email_address":"b@example.com","public_metadata":{"a":"`+strings.Repeat("b", 20_000)+`"}}`), 200)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for _, body := range []string{``, `{`, `null`, `7`, `[]`, `{"email_address":"a@example.com"} {}`} {
		wantError(t, s.do("POST", "/invitations", body), 400, "request_body_invalid")
	}
	for _, body := range []string{``, `[`, `null`, `{"email_address":"a@example.com"}`, `[1]`, `[null]`} {
		wantError(t, s.do("POST", "/invitations/bulk", body), 400, "request_body_invalid")
	}
	wantError(t, s.do("POST", "/invitations/bulk", `[]`), 422, "form_param_missing")
	wantError(t, s.bulk(manyAddresses(11)...), 400, "bulk_size_exceeded")
	wantStatus(t, s.bulk(manyAddresses(10)...), 200)

	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
		req := s.request("POST", "/invitations", `{"email_address":"x@example.com"}`)
		req.Header.Set("Content-Type", kind)
		r, err := s.try(req)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, r, 415, "unsupported_content_type")
	}
	req := s.request("POST", "/invitations", `{"email_address":"y@example.com"}`)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	r, err := s.try(req)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, r, 200)
	wantError(t, s.do("POST", "/invitations", `{"email_address":"`+strings.Repeat("x", 2<<20)+`"}`), 413,
		"request_body_too_large")
}

func manyAddresses(n int) []string {
	addresses := make([]string, n)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("m%03d@example.com", i)
	}
	return addresses
}

func TestKeys(t *testing.T) {
	t.Parallel()
	ask := func(s *sandbox, header, agent string) reply {
		req := s.request("GET", "/users", "")
		req.Header.Set("Authorization", header)
		if header == "" {
			req.Header.Del("Authorization")
		}
		req.Header.Set("User-Agent", agent)
		r, err := s.try(req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s := setup(t, clerktest.Config{})
	for _, header := range []string{"", "sk_test_x", "Basic sk_test_x", "Bearer", "Bearer ", "Bearer sk_test_x y"} {
		wantError(t, ask(s, header, "app/1"), 401, "authorization_header_format_invalid")
	}
	for _, header := range []string{"Bearer x", "Bearer pk_test_x", "Bearer sk_test_"} {
		wantError(t, ask(s, header, "app/1"), 401, "clerk_key_invalid")
	}
	wantStatus(t, ask(s, "Bearer sk_live_anything", "app/1"), 200)
	s.SetKey("sk_test_only")
	wantError(t, ask(s, "Bearer sk_test_x", "app/1"), 401, "clerk_key_invalid")
	wantStatus(t, ask(s, "bearer sk_test_only", "app/1"), 200)
	s.RevokeKey()
	wantError(t, ask(s, "Bearer sk_test_only", "app/1"), 401, "clerk_key_invalid")
	s.SetKey("sk_test_only")
	wantStatus(t, ask(s, "Bearer sk_test_only", "Go-http-client/1.1"), 200)

	s.Configure(func(c *clerktest.Config) { c.EdgeBlocksAgents = true })
	for _, agent := range []string{"", "Go-http-client/1.1"} {
		if r := ask(s, "Bearer sk_test_only", agent); r.status != http.StatusForbidden ||
			string(r.body) != "error code: 1010" {
			t.Errorf("agent %q: %d %s", agent, r.status, r.body)
		}
	}
	wantStatus(t, ask(s, "Bearer sk_test_only", "app/1"), 200)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	s := setup(t, clerktest.Config{})
	for _, c := range [][2]string{{"GET", "/"}, {"GET", "/sessions"}, {"DELETE", "/invitations"},
		{"GET", "/invitations/bulk"},
		{"GET", "/invitations/inv_1"}, {"POST", "/invitations//revoke"}, {"POST", "/invitations/a/b/revoke"},
		{"POST", "/users"}} {
		wantError(t, s.do(c[0], c[1], ""), 404, "resource_not_found")
	}
	id := s.AddInvitation("a@example.com").ID
	s.url = strings.TrimSuffix(s.url, "/v1") // without the prefix
	wantStatus(t, s.do("GET", "/users", ""), 200)
	wantStatus(t, s.do("POST", "/invitations/"+id+"/revoke", ""), 200)
	wantError(t, s.do("POST", "/invitations/a%2Fb/revoke", ""), 404, "resource_not_found") // an id that there is not

	req := s.request("GET", "/users?__clerk_api_version=2025-11-10", "")
	req.Header.Set("Clerk-API-Version", "2025-11-10")
	r, err := s.try(req)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, r, 400, "api_version_invalid")
}
