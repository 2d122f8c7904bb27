package clerktest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"example.com/usher/clerkclient/clerktest"
)

// contractVar names a file with Clerk's published OpenAPI document. With it, every answer in these tests is held to
// it.
const contractVar = "CLERK_OPENAPI"

type document struct {
	*openapi3.T
	router routers.Router
}

var loadDocument = sync.OnceValues(func() (*document, error) {
	path := os.Getenv(contractVar)
	if path == "" {
		return nil, nil
	}
	openapi3.DefineStringFormatValidator("email", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForEmail))
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", contractVar, err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", contractVar, err)
	}
	return &document{doc, router}, nil
})

// contract is the document, or nil if none is given.
func contract(t *testing.T) *document {
	t.Helper()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// input matches a request to its operation in the document; nil if there is none.
func (d *document) input(req *http.Request) *openapi3filter.RequestValidationInput {
	asked := req.Clone(context.Background())
	asked.URL.Scheme, asked.URL.Host, asked.URL.Path = "https", "api.clerk.com",
		"/v1"+strings.TrimPrefix(req.URL.Path, "/v1")
	asked.Host = "api.clerk.com"
	route, params, err := d.router.FindRoute(asked)
	if err != nil {
		return nil
	}
	return &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			IncludeResponseStatus: true, SkipSettingDefaults: true},
	}
}

// checkAnswer holds an answer to the document: documented statuses to their schema, other errors to the one for
// errors.
func checkAnswer(t *testing.T, req *http.Request, r reply) {
	t.Helper()
	doc := contract(t)
	if doc == nil {
		return
	}
	in := doc.input(req)
	if in == nil || in.Route.Operation.Responses.Status(r.status) == nil {
		if !strings.HasPrefix(r.header.Get("Content-Type"), "application/json") {
			return
		}
		var body any
		if err := json.Unmarshal(r.body, &body); err != nil {
			t.Fatalf("%s %s: %d: %v", req.Method, req.URL.Path, r.status, err)
		}
		if err := doc.Components.Schemas["ClerkErrors"].Value.VisitJSON(body); err != nil {
			t.Errorf("%s %s: %d: %v", req.Method, req.URL.Path, r.status, err)
		}
		return
	}
	body := r.body
	// the document only has the bare array
	if r.status == http.StatusOK && req.URL.Query().Get("paginated") == "true" {
		var page struct {
			Data       json.RawMessage `json:"data"`
			TotalCount *int            `json:"total_count"`
		}
		if err := json.Unmarshal(body, &page); err != nil || page.TotalCount == nil {
			t.Fatalf("not a page: %v in %s", err, body)
		}
		body = page.Data
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: r.status, Header: r.header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: in.Options,
	})
	if err != nil {
		t.Errorf("%s %s: %d: the answer breaks Clerk's document: %v", req.Method, req.URL.Path, r.status, err)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	doc := contract(t)
	if doc == nil {
		t.Skip("The contract check was NOT run: set " + contractVar +
			" to the path of Clerk's OpenAPI document to hold every answer to it.")
	}
	s := setup(t, clerktest.Config{})
	s.LoadDemo()
	sent := decode[clerktest.Invitation](t, s.create("a@example.com"))
	full := `{"email_address":"b@example.com","public_metadata":{"plan":"pro"},` +
		`"redirect_url":"https://example.com/in","notify":false,
		"ignore_existing":true,"expires_in_days":7,"template_slug":"waitlist_invitation"}`
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/invitations", full, 200},
		{"POST", "/invitations",
			`{"email_address":"c@example.com","notify":null,"ignore_existing":null,"expires_in_days":null}`, 200},
		{"POST", "/invitations", `{"email_address":"pending@example.com"}`, 400},
		{"POST", "/invitations", `{"email_address":"user.one@example.com"}`, 422},
		{"POST", "/invitations", `{"email_address":"x@blocked.example"}`, 403},
		{"POST", "/invitations/bulk", "[" + full + `,{"email_address":"d@example.com"}]`, 200},
		{"POST", "/invitations/bulk", `[{"email_address":"e@example.com","public_metadata":null,"redirect_url":null}]`,
			200},
		{"POST", "/invitations/bulk", `[{"email_address":"pending@example.com"}]`, 400},
		{"POST", "/invitations/bulk", `[{"email_address":"user.one@example.com"}]`, 422},
		{"GET", "/invitations", "", 200},
		{"GET", "/invitations?paginated=true&limit=500&offset=1&status=pending&query=example&order_by=-email_address",
			"", 200},
		{"POST", "/invitations/" + sent.ID + "/revoke", "", 200},
		{"POST", "/invitations/" + sent.ID + "/revoke", "", 400},
		{"POST", "/invitations/inv_none/revoke", "", 404},
		{"GET", "/invitations?status=revoked", "", 200},
		{"GET", "/users?email_address=user.one@example.com&email_address=USER.TWO@example.com&limit=100", "", 200},
		{"GET", "/users?limit=500&order_by=email_address", "", 200},
	} {
		req := s.request(c.method, c.path, c.body)
		if err := openapi3filter.ValidateRequest(t.Context(), doc.input(req)); err != nil {
			t.Errorf("%s %s: not a request by the document: %v", c.method, c.path, err)
		}
		wantStatus(t, s.do(c.method, c.path, c.body), c.status) // which holds the answer to the document
	}
	s.SetKey("sk_test_other")
	wantError(t, s.do("GET", "/users", ""), 401, "clerk_key_invalid")
}

// TestContractCanFail shows that checkAnswer's means find a broken answer.
func TestContractCanFail(t *testing.T) {
	t.Parallel()
	doc := contract(t)
	if doc == nil {
		t.Skip("The contract check was NOT run: set " + contractVar +
			" to the path of Clerk's OpenAPI document to hold every answer to it.")
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/v1/invitations", nil)
	if err != nil {
		t.Fatal(err)
	}
	in := doc.input(req)
	for name, body := range map[string]string{
		"no id": `[{"object":"invitation","email_address":"a@example.com","public_metadata":{},` +
			`"status":"pending","created_at":1,"updated_at":1}]`,
		"odd status": `[{"object":"invitation","id":"inv_1","email_address":"a@example.com","public_metadata":{},` +
			`"status":"odd","created_at":1,"updated_at":1}]`,
		"odd address": `[{"object":"invitation","id":"inv_1","email_address":"nobody","public_metadata":{},` +
			`"status":"pending","created_at":1,"updated_at":1}]`,
		"odd field": `[{"object":"invitation","id":"inv_1","email_address":"a@example.com","public_metadata":{},` +
			`"status":"pending","created_at":1,"updated_at":1,"x":1}]`,
	} {
		err := openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: in, Status: 200, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)), Options: in.Options,
		})
		if err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
