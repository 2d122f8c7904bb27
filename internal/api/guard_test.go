package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/usher/internal/api"
	"example.com/usher/internal/testkit"
)

// operation is one of the document.
type operation struct {
	method, path string
	needs        []string // one of these scopes
}

// operations reads the document.
func (s *stage) operations() (all []operation) {
	s.t.Helper()
	doc := s.call("", "GET", "/openapi.json", nil).is(200).object()
	for path, item := range doc["paths"].(object) {
		for method, op := range item.(object) {
			_, scopes, _ := strings.Cut(op.(object)["description"].(string), "Needs a token with the scope ")
			needs := strings.Split(strings.TrimSuffix(scopes, "."), " or ")
			all = append(all, operation{strings.ToUpper(method), path, needs})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.method+a.path, b.method+b.path) })
	return all
}

// scopesOf are the scopes of the tokens of the stage. Who may operate may read.
func scopesOf() map[string][]string {
	return map[string][]string{
		signup: {"enqueue"}, other: {"enqueue"}, viewer: {"read"}, people: {"enqueue", "read", "operate"},
	}
}

// Each operation wants a token, and one with its scope. A refusal does not tell whether the thing exists.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	s := setup(t)
	id := s.call(signup, "POST", "/v1/syncs", nil).is(202).object()["task_id"].(string)
	s.call(signup, "POST", "/v1/campaigns/spring/recipients", csvBody("email_address\nada@example.com\n")).is(202)
	all := s.operations()
	if len(all) < 20 {
		t.Fatalf("the document has %d operations", len(all))
	}
	for _, op := range all {
		there := strings.NewReplacer("{id}", id, "{name}", "spring").Replace(op.path)
		none := strings.NewReplacer("{id}", "none", "{name}", "none").Replace(op.path)
		for _, token := range []string{"", "unknown-token-0123456789-01234567", strings.ToUpper(signup)} {
			a := s.call(token, op.method, there, nil).is(401, "unauthorized")
			if a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s %s does not say what it wants", op.method, op.path)
			}
		}
		for token, scopes := range scopesOf() {
			may := slices.ContainsFunc(op.needs, func(s string) bool { return slices.Contains(scopes, s) })
			if may {
				continue
			}
			one := s.call(token, op.method, there, nil).is(403, "forbidden")
			if two := s.call(token, op.method, none, nil); two.status != 403 || string(one.body) != string(two.body) {
				t.Errorf("%s %s: %s for what exists, %s for what does not", op.method, op.path, one.body, two.body)
			}
		}
	}
	s.call("", "GET", "/v1/nothing", nil).is(401, "unauthorized")
	s.call(signup, "GET", "/v1/nothing", nil).is(404, "not-found")
	if a := s.call(signup, "PUT", "/v1/invitations", nil).is(405, "method-not-allowed"); a.header.Get("Allow") != "GET, POST" {
		t.Errorf("allowed are %s", a.header.Get("Allow"))
	}
	basic := s.call("", "POST", "/v1/syncs", nil, "Authorization", "Basic "+signup)
	basic.is(401, "unauthorized")
}

// Requests under another name of the server, or from another site's page, are refused with any method.
func TestHostsAndOrigins(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, c := range []struct {
		headers []string
		kind    string
	}{
		{nil, ""},
		{[]string{"Host", "api.example.com"}, ""},
		{[]string{"Host", "API.example.com:8443"}, ""},
		{[]string{"Host", "evil.example.org"}, "wrong-host"},
		{[]string{"Host", "evil.example.org:8081"}, "wrong-host"},
		{[]string{"Host", "127.0.0.1.evil.example.org"}, "wrong-host"},
		{[]string{"Sec-Fetch-Site", "same-origin"}, ""},
		{[]string{"Sec-Fetch-Site", "none"}, ""},
		{[]string{"Sec-Fetch-Site", "cross-site"}, "cross-site"},
		{[]string{"Sec-Fetch-Site", "same-site"}, "cross-site"},
		{[]string{"Origin", "https://evil.example.org"}, "cross-site"},
		{[]string{"Origin", "null"}, "cross-site"},
		{[]string{"Host", "api.example.com", "Origin", "https://api.example.com"}, ""},
	} {
		for _, method := range []string{"GET", "POST"} {
			path := map[string]string{"GET": "/v1/status", "POST": "/v1/find"}[method]
			var body any
			if method == "POST" {
				body = object{"what": "ada@example.com"}
			}
			a := s.call(people, method, path, body, c.headers...)
			if c.kind == "" {
				a.is(200)
			} else {
				a.is(403, c.kind)
			}
		}
	}
	s.call("", "GET", "/healthz", nil, "Host", "10.0.0.7").is(200) // as a prober asks
	s.call("", "GET", "/readyz", nil, "Host", "10.0.0.7").is(200)
}

// A name that asks too often is told when to come again; another name is served.
func TestRequestsASecond(t *testing.T) {
	t.Parallel()
	s := setup(t, func(c *api.Config) { c.PerSecond = 3 })
	refused := 0
	for range 12 {
		if a := s.call(signup, "GET", "/v1/tasks/none", nil); a.status == 429 {
			refused++
			if a.is(429, "too-many-requests").header.Get("Retry-After") != "1" {
				t.Errorf("come again after %q", a.header.Get("Retry-After"))
			}
		}
	}
	if refused < 6 {
		t.Errorf("%d of 12 requests were refused", refused)
	}
	s.call(other, "GET", "/v1/tasks/none", nil).is(404)
}

// Without a file of tokens everybody may do everything; the command allows that on loopback only.
func TestWithoutTokens(t *testing.T) {
	t.Parallel()
	s := setup(t, func(c *api.Config) { c.Tokens = nil })
	id := s.call("", "POST", "/v1/syncs", nil).is(202).object()["task_id"].(string)
	if !strings.HasPrefix(id, "http~anybody~") {
		t.Errorf("the task is %s", id)
	}
	s.call("", "GET", "/v1/status", nil).is(200)
}

// No address and no token stands in the log, whatever is asked.
func TestTheLogTellsNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.call(signup, "POST", "/v1/invitations", object{"email_address": "ada.secret@example.com"}).is(202)
	s.call(signup, "POST", "/v1/invitations", object{"email_address": "ada.secret@", "x": "ada.secret@example.com"}).is(422)
	s.call(people, "GET", "/v1/tasks/ada.secret@example.com?x=ada.secret@example.com", nil).is(422)
	s.call(people, "GET", "/v1/tasks/ada.secret@example.com", nil).is(404)
	s.call("ada.secret@example.com", "GET", "/v1/status", nil).is(401)
	s.call(people, "POST", "/v1/find", object{"what": "ada.secret@example.com"}).is(200)
	s.call(people, "POST", "/v1/forgets", object{"email_address": "ada.secret@example.com"}).is(200)
	log := s.log.String()
	for _, secret := range []string{"ada.secret", signup, people} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s:\n%s", secret, log)
		}
	}
	if !strings.Contains(log, `"token":"signup"`) || !strings.Contains(log, `"route":"POST /v1/invitations"`) {
		t.Errorf("the log does not tell who asked for what:\n%s", log)
	}
}

// Slow connections, with and without a token, hold nothing that others need.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var conns []net.Conn
	for i := range 200 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		testkit.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
		begin := "POST /v1/invitations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
		switch i % 4 {
		case 0:
			begin = begin[:i%100]
		case 1:
			begin += "Authorization: Bearer " + signup + "\r\n\r\n{"
		case 2:
			begin = strings.Replace(begin, "invitations", "campaigns/slow/recipients", 1) + "Authorization: Bearer " + signup +
				"\r\n\r\n["
		case 3:
			begin += "\r\n"
		}
		_, err = conn.Write([]byte(begin))
		testkit.NoError(t, err)
	}
	for i := range 10 {
		list := csvBody(fmt.Sprintf("email_address\nada%d@example.com\n", i))
		s.call(other, "POST", "/v1/campaigns/quick/recipients", list).is(202)
		s.call(signup, "POST", "/v1/syncs", nil).is(202)
	}
	refused := make(chan int, len(conns))
	for i := 2; i < len(conns); i += 4 {
		go func() {
			if response, err := http.ReadResponse(bufio.NewReader(conns[i]), nil); err == nil {
				refused <- response.StatusCode
				_ = response.Body.Close()
			}
		}()
	}
	for range len(conns)/4 - 2 { // two are being read
		if status := <-refused; status != http.StatusTooManyRequests {
			t.Errorf("a slow upload was answered %d", status)
		}
	}
}
