package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"example.com/usher/internal/testkit"
)

// generated is how many requests of either kind the generator makes.
const generated = 300

// generator makes requests from the document.
type generator struct {
	*rand.Rand
	doc *openapi3.T
	n   int // of the addresses it has made
}

// attempt is a request that the generator has made.
type attempt struct {
	what, method, path, form string
	query                    []string
	header                   map[string]string
	body                     []byte
}

// posts are the paths of the operations that take a body of JSON, and create or change something.
func posts() []string {
	return []string{"/v1/invitations", "/v1/revocations", "/v1/deletions", "/v1/find", "/v1/campaigns/{name}/recipients"}
}

// value makes a value that a schema allows.
func (g *generator) value(field string, ref *openapi3.SchemaRef) any {
	s := ref.Value
	switch {
	case len(s.Enum) > 0:
		return s.Enum[g.IntN(len(s.Enum))]
	case s.Type.Includes("object"):
		o := object{}
		for name, property := range s.Properties {
			if len(s.Required) == 0 || g.IntN(2) == 0 || strings.Contains(strings.Join(s.Required, " "), name) {
				o[name] = g.value(name, property)
			}
		}
		if len(s.Properties) == 0 {
			o["plan"], o["depth"] = "pro", object{"n": g.IntN(1000), "list": []int{1}}
		}
		return o
	case s.Type.Includes("array"):
		var list []any
		for range 1 + g.IntN(3) {
			list = append(list, g.value("", s.Items))
		}
		return list
	case field == "email_address", field == "what":
		g.n++
		return fmt.Sprintf("person%d@example.com", g.n)
	case field == "redirect_url":
		return "https://example.com/" + strconv.Itoa(g.IntN(1000))
	case field == "invitation_id":
		return "inv_" + strconv.Itoa(g.IntN(1_000_000))
	case s.Type.Includes("integer"):
		low, high := 0, 1000
		if s.Min != nil {
			low = int(*s.Min)
		}
		if s.Max != nil {
			high = int(*s.Max)
		}
		return low + g.IntN(high-low+1)
	case s.Type.Includes("boolean"):
		return g.IntN(2) == 0
	}
	return "text" + strconv.Itoa(g.IntN(1000))
}

// valid makes a request that must be accepted.
func (g *generator) valid() attempt {
	path := posts()[g.IntN(len(posts()))]
	a := attempt{what: "valid", method: http.MethodPost, path: strings.ReplaceAll(path, "{name}", fmt.Sprintf("list-%d", g.Int())),
		form: "application/json", header: map[string]string{}}
	op := g.doc.Paths.Find(path).Post
	body := g.value("", op.RequestBody.Value.Content["application/json"].Schema)
	one := func(o object) { // what excludes what, no schema says
		if o["ignore_existing"] == true {
			delete(o, "on_duplicate")
		}
		if path == "/v1/revocations" || path == "/v1/deletions" {
			keep := []string{"invitation_id", "email_address"}[g.IntN(2)]
			kept := o[keep]
			clear(o)
			o[keep] = kept
		}
	}
	switch body := body.(type) {
	case object:
		one(body)
	case []any:
		for _, row := range body {
			one(row.(object))
		}
	}
	a.body, _ = json.Marshal(body)
	if path != "/v1/find" && g.IntN(2) == 0 {
		a.header["Idempotency-Key"] = fmt.Sprintf("key-%d", g.Int())
	}
	if path != "/v1/find" && g.IntN(3) == 0 {
		a.query = append(a.query, "in="+strconv.Itoa(1+g.IntN(50))+"m")
	}
	return a
}

// spoil makes a request wrong in one way, and says in which.
func (g *generator) spoil(a attempt) attempt {
	isList := strings.HasSuffix(a.path, "/recipients")
	isFind := a.path == "/v1/find"
	field := "email_address"
	if isFind {
		field = "what"
	}
	whole := func(member string) []byte { // an object with one member, or a list of it
		if isList {
			return []byte("[{" + member + "}]")
		}
		return []byte("{" + member + "}")
	}
	address := `"` + field + `":"a@example.com"`
	ways := []func(){
		func() { a.what = "an unknown field"; a.body = whole(address + `,"colour":"red"`) },
		func() { a.what = "a number for a text"; a.body = whole(`"` + field + `":12`) },
		func() { a.what = "a list for a text"; a.body = whole(`"` + field + `":["a@example.com"]`) },
		func() { a.what = "an object for a text"; a.body = whole(`"` + field + `":{}`) },
		func() { a.what = "a huge number"; a.body = whole(address + `,"expires_in_days":1e400`) },
		func() {
			a.what = "a number too large"
			a.body = whole(address + `,"expires_in_days":99999999999999999999`)
		},
		func() { a.what = "a fraction"; a.body = whole(address + `,"expires_in_days":1.5`) },
		func() { a.what = "a text for a flag"; a.body = whole(address + `,"notify":"perhaps"`) },
		func() {
			a.what = "deep nesting"
			a.body = whole(address + `,"public_metadata":` + strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000))
		},
		func() { a.what = "deep lists"; a.body = []byte(strings.Repeat("[", 50_000)) },
		func() { a.what = "a key twice"; a.body = whole(address + "," + address) },
		func() { a.what = "trailing data"; a.body = append(a.body, []byte(" {}")...) },
		func() { a.what = "half a body"; a.body = a.body[:len(a.body)-1] },
		func() { a.what = "no body"; a.body = nil },
		func() { a.what = "an empty object"; a.body = []byte("{}") },
		func() { a.what = "null"; a.body = []byte("null") },
		func() { a.what = "a text"; a.body = []byte(`"text"`) },
		func() { a.what = "garbage"; a.body = []byte{0xff, 0xfe, 0x00, byte(g.IntN(256)), '{'} },
		func() { a.what = "no UTF-8"; a.body = whole(`"` + field + "\":\"\xc3\x28@example.com\"") },
		func() { a.what = "plain text"; a.form = "text/plain" },
		func() { a.what = "a form"; a.form = "application/x-www-form-urlencoded" },
		func() { a.what = "XML"; a.form = "application/xml" },
		func() { a.what = "no type that parses"; a.form = "application/json; =" + strconv.Itoa(g.IntN(10)) },
		func() { a.what = "an unknown parameter"; a.query = append(a.query, "colour=red") },
		func() {
			a.what = "a parameter twice"
			a.query = append(a.query, "at=2037-01-01T00:00:00Z", "at=2037-01-01T00:00:00Z")
		},
		func() { a.what = "a bad escape"; a.query = append(a.query, "in=%zz") },
		func() { a.what = "an empty key"; a.header["Idempotency-Key"] = "" },
		func() { a.what = "a key with a space"; a.header["Idempotency-Key"] = "a b" },
		func() { a.what = "a long key"; a.header["Idempotency-Key"] = strings.Repeat("k", 256) },
		func() { a.what = "no address"; a.body = whole(`"email_address":"nobody"`) },
		func() { a.what = "another method"; a.method = http.MethodPut },
		func() { a.what = "a method with no meaning"; a.method = "BREW" },
		func() { a.what = "no such path"; a.path += "/more" },
	}
	if !isFind {
		ways = append(ways,
			func() { a.what = "a bad time"; a.query = []string{"at=tomorrow"} },
			func() { a.what = "a time that is past"; a.query = []string{"at=2001-01-01T00:00:00Z"} },
			func() { a.what = "a bad while"; a.query = []string{"in=-1h"} },
			func() { a.what = "two times"; a.query = []string{"in=1h", "at=2037-01-01T00:00:00Z"} },
		)
	}
	ways[g.IntN(len(ways))]()
	return a
}

func (s *stage) attempt(a attempt) *http.Request {
	s.t.Helper()
	path := a.path
	if len(a.query) > 0 {
		path += "?" + strings.Join(a.query, "&")
	}
	r, err := http.NewRequestWithContext(s.t.Context(), a.method, s.url+path, bytes.NewReader(a.body))
	testkit.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+people)
	r.Header.Set("Content-Type", a.form)
	for name, value := range a.header {
		r.Header[name] = []string{value}
	}
	return r
}

// Requests that the document allows are accepted.
func TestGeneratedRequests(t *testing.T) {
	t.Parallel()
	s := setupOn(t, testkit.Client(t, testkit.RunRedis(t).Addr)) // it is ten times as fast as one written in Go
	g := s.generator()
	j := s.judge()
	for range generated {
		a := g.valid()
		in, err := j.request(s.attempt(a))
		if err != nil {
			t.Fatalf("the generator made %s %s: %v", a.path, a.body, err)
		}
		got := s.do(s.attempt(a))
		if got.status != http.StatusAccepted && got.status != http.StatusOK {
			t.Fatalf("%s %q %s: %d %s", a.path, a.query, a.body, got.status, got.body)
		}
		if err := j.answer(t.Context(), in, got); err != nil {
			t.Fatalf("%s: %v", got.body, err)
		}
	}
}

// Requests that are wrong in some way are told so, and do nothing.
func TestGeneratedFaults(t *testing.T) {
	t.Parallel()
	s := setup(t)
	g := s.generator()
	for range generated {
		a := g.spoil(g.valid())
		got := s.do(s.attempt(a))
		if got.status < 400 || got.status > 499 {
			t.Errorf("%s: %s %s %q %.200s: %d %s", a.what, a.method, a.path, a.query, a.body, got.status, got.body)
		}
		if form := got.header.Get("Content-Type"); form != "application/problem+json" {
			t.Errorf("%s: answered %s", a.what, form)
		}
	}
	if n := s.queued(); n != 0 {
		t.Errorf("%d tasks are queued", n)
	}
	if keys := s.rdb.Keys(t.Context(), "usher:{once}:*").Val(); len(keys) != 0 {
		t.Errorf("there are %q", keys)
	}
}

func (s *stage) generator() *generator {
	s.t.Helper()
	seed := rand.Uint64()
	s.t.Logf("the seed is %d", seed)
	doc, err := openapi3.NewLoader().LoadFromData(s.call("", "GET", "/openapi.json", nil).is(200).body)
	testkit.NoError(s.t, err)
	return &generator{Rand: rand.New(rand.NewPCG(seed, 0)), doc: doc}
}

// What is wrong with the framing of a request is told by net/http, or by a handler, and does nothing.
func TestBadFraming(t *testing.T) {
	t.Parallel()
	s := setup(t)
	head := "POST /v1/invitations HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + signup +
		"\r\nContent-Type: application/json\r\n"
	body := `{"email_address":"ada@example.com"}`
	for name, text := range map[string]string{
		"a broken chunk":          head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
		"a chunk that ends early": head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n" + body + "\r\n0\r\n\r\n",
		"two lengths":             head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
		"a length that is none":   head + "Content-Length: many\r\n\r\n" + body,
		"a length below zero":     head + "Content-Length: -1\r\n\r\n" + body,
		"no host":                 strings.Replace(head, "Host: 127.0.0.1\r\n", "", 1) + "Content-Length: 2\r\n\r\n{}",
		"a large header":          head + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"no HTTP":                 "hello\r\n\r\n",
	} {
		if status := s.raw(text); status < 400 || status > 499 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if n := s.queued(); n != 0 {
		t.Errorf("%d tasks are queued", n)
	}
}

// raw sends a text as it is and gives the status that is answered.
func (s *stage) raw(text string) int {
	s.t.Helper()
	conn, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	testkit.NoError(s.t, err)
	defer conn.Close()
	_, _ = conn.Write([]byte(text)) // it may be refused before its end
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	testkit.NoError(s.t, err)
	_ = answer.Body.Close()
	return answer.StatusCode
}
