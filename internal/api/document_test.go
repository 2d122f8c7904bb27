package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"example.com/usher/internal/testkit"
)

// judge is a reader of the document that is not the server's.
type judge struct{ routers.Router }

func (s *stage) judge() judge {
	s.t.Helper()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(s.call("", "GET", "/openapi.json", nil).is(200).body)
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, doc.Validate(s.t.Context()))
	router, err := gorillamux.NewRouter(doc)
	testkit.NoError(s.t, err)
	return judge{router}
}

// request tells what is wrong with a request, as the document says. Its body can be read again.
func (j judge) request(r *http.Request) (*openapi3filter.RequestValidationInput, error) {
	at := *r.URL
	at.Scheme, at.Host = "", ""
	asked := r.Clone(r.Context())
	asked.URL = &at
	route, params, err := j.FindRoute(asked)
	if err != nil {
		return nil, err
	}
	in := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true},
	}
	return in, openapi3filter.ValidateRequest(r.Context(), in)
}

// answer tells what is wrong with an answer.
func (j judge) answer(ctx context.Context, in *openapi3filter.RequestValidationInput, a answer) error {
	return openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

// judged makes a request of the document, and wants both sides to be as it says.
func (s *stage) judged(j judge, token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	r := s.request(token, method, path, body, headers...)
	var sent []byte
	if r.Body != nil {
		sent, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	in, err := j.request(r)
	if err != nil {
		s.t.Errorf("%s %s is not as the document says: %v", method, path, err)
		return answer{t: s.t}
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	a := s.do(r)
	if err := j.answer(s.t.Context(), in, a); err != nil {
		s.t.Errorf("the answer to %s %s is not as the document says: %v\n%s", method, path, err, a.body)
	}
	return a
}

// Requests and answers of every operation are as the document says.
func TestTheDocumentIsTrue(t *testing.T) {
	t.Parallel()
	s := setup(t)
	j := s.judge()
	ok := func(status int, token, method, path string, body any, headers ...string) answer {
		t.Helper()
		return s.judged(j, token, method, path, body, headers...).is(status)
	}
	invite := object{
		"email_address": "ada@example.com", "public_metadata": object{"plan": "pro"}, "redirect_url": "/welcome",
		"notify": true, "ignore_existing": false, "expires_in_days": 7, "template_slug": "invitation", "on_duplicate": "accept",
		"on_existing_user": "skip",
	}
	id := ok(202, signup, "POST", "/v1/invitations", invite, key, "one").object()["task_id"].(string)
	ok(202, signup, "POST", "/v1/invitations", invite, key, "one")
	ok(200, signup, "GET", "/v1/tasks/"+id, nil)
	ok(200, people, "POST", "/v1/tasks/"+id+"/cancel", nil, key, "cancel")
	ok(200, people, "POST", "/v1/tasks/"+id+"/cancel", nil, key, "cancel")
	ok(200, signup, "GET", "/v1/tasks/"+id+"?wait=1s", nil)
	dead := ok(202, signup, "POST", "/v1/invitations?in=2h", object{"email_address": "bob@example.com"}).object()["task_id"].(string)
	s.die(dead, object{"email_address": "bob@example.com"})
	ok(200, signup, "GET", "/v1/tasks/"+dead, nil)
	ok(202, people, "POST", "/v1/revocations?at=2037-01-01T00:00:00Z", object{"invitation_id": "inv_abc"})
	ok(202, people, "POST", "/v1/deletions", object{"email_address": "ada@example.com"})
	ok(202, signup, "POST", "/v1/syncs", nil)
	ok(202, signup, "POST", upload, `[{"email_address":"ada@example.com"},{"email_address":"bob@example.com"}]`)
	ok(202, signup, "POST", upload+"?skip_invalid=true&map=redirect_url%3DLink&notify=false",
		csvBody("email_address,Link\neve@example.com,/x\nnobody,/x\n"))
	ok(200, signup, "POST", upload+"?dry_run=true", csvBody("email_address\neve@example.com\n"))
	for _, path := range []string{
		"/v1/campaigns", "/v1/campaigns?state=running&limit=5", "/v1/campaigns/spring", upload, upload + "?outcome=waiting&limit=1",
		"/v1/campaigns/spring/export", "/v1/status", "/v1/dead-letters", "/v1/dead-letters?reason=rejected&limit=1",
	} {
		ok(200, people, "GET", path, nil)
	}
	ok(200, people, "POST", "/v1/find", object{"what": "bob@example.com"})
	ok(200, viewer, "POST", "/v1/find", object{"what": "spring"})
	ok(403, viewer, "POST", "/v1/find", object{"what": "bob@example.com"})
	ok(404, viewer, "POST", "/v1/find", object{"what": "none"})
	ok(409, viewer, "GET", "/v1/invitations", nil)
	ok(200, people, "POST", "/v1/campaigns/spring/pause", nil)
	ok(200, people, "POST", "/v1/campaigns/spring/resume", nil)
	ok(200, people, "POST", "/v1/campaigns/spring/cancel", nil, key, "stop")
	ok(202, people, "POST", "/v1/dead-letters/"+dead+"/retry", object{"set": object{"email_address": "bob@example.org"}}, key, "r")
	ok(202, people, "POST", "/v1/dead-letters/"+dead+"/retry", object{"set": object{"email_address": "bob@example.org"}}, key, "r")
	ok(404, people, "DELETE", "/v1/dead-letters/none", nil)
	ok(200, people, "POST", "/v1/forgets", object{"email_address": "zoe@example.com"}, key, "f")
	ok(200, people, "POST", "/v1/forgets", object{"email_address": "zoe@example.com"}, key, "f")
	ok(422, signup, "POST", "/v1/invitations", object{"email_address": "zoe@example.com"})
	ok(200, people, "POST", "/v1/forgets", object{"email_address": "zoe@example.com", "lift": true})
	ok(401, "", "GET", "/v1/status", nil)
	ok(403, signup, "GET", "/v1/status", nil)
}

// The page shows every operation and loads nothing from outside.
func TestThePage(t *testing.T) {
	t.Parallel()
	s := setup(t)
	page := string(s.call("", "GET", "/docs", nil).is(200).body)
	for _, op := range s.operations() {
		if !strings.Contains(page, fmt.Sprintf("<code>%s %s</code>", op.method, op.path)) {
			t.Errorf("the page does not show %s %s", op.method, op.path)
		}
	}
	for _, outside := range []string{"http://", "https://", "//unpkg", "src=", "<script", "@import", "url("} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
}
