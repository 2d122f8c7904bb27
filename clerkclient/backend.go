package clerkclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
)

const (
	maxAnswer     = 1 << 20 // of a call about one or ten invitations, in bytes
	maxListAnswer = 8 << 20 // of a list: 500 invitations with 8 KB of metadata each, and some

	dialTimeout = 10 * time.Second
	idleTimeout = 30 * time.Second // shorter than servers keep connections: one that they closed may cost a lost answer
	idleConns   = 512              // more than calls are ever made at once, so that each finds its connection again
)

// Backend carries requests of Clerk's SDK to Clerk under this package's transport rules: bounded bodies, a deadline for
// every call that is checked last before bytes are written, no redirects, no repeats of a request that may have been sent, and errors of
// type *Error. It implements clerk.Backend and is safe for concurrent use.
//
// The resources that it fills have no RawJSON: invitations hold sign-up tickets there.
type Backend struct {
	base      *url.URL
	key       key
	userAgent string
	timeout   time.Duration
	transport *http.Transport
}

var _ clerk.Backend = (*Backend)(nil)

// NewBackend checks the configuration; its errors say which part is wrong and never hold the key.
func NewBackend(config Config) (*Backend, error) {
	secret, err := parseKey(config.Key)
	if err != nil {
		return nil, err
	}
	base, err := parseBaseURL(config.BaseURL)
	if err != nil {
		return nil, err
	}
	agent, err := userAgent(config.Version)
	if err != nil {
		return nil, err
	}
	timeout, err := checkTimeout(config.Timeout)
	if err != nil {
		return nil, err
	}
	return &Backend{base: base, key: secret, userAgent: agent, timeout: timeout, transport: newTransport()}, nil
}

func newTransport() *http.Transport {
	// HTTP/1.1 only: one call per connection, so that a reset hits one call and a write deadline is one call's.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		Proxy:     http.ProxyFromEnvironment,
		Protocols: protocols,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &gate{Conn: conn}, nil
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // so that the bound on a body is a bound on memory
	}
}

// Close closes the connections that are kept for later calls. Calls under way go on.
func (b *Backend) Close() { b.transport.CloseIdleConnections() }

// Format prints the backend without its key, for every verb.
func (b Backend) Format(f fmt.State, verb rune) {
	printPlain(f, verb, fmt.Sprintf("clerkclient.Backend{host %s, %s key %s}", b.base.Host, b.key.kind, b.key.fingerprint))
}

// Call makes one request and reads its answer into the resource. Its error is an *Error; the context's deadline, or the
// configured timeout if that is earlier, is the call's. Multipart requests are not supported: no invitation needs one.
func (b *Backend) Call(ctx context.Context, request *clerk.APIRequest, into clerk.ResponseReader) error {
	req, op, fault := b.newRequest(request)
	if fault != nil {
		return fault
	}
	a, fault := b.exchange(ctx, req, op)
	if fault != nil {
		return fault
	}
	if fault := decode(op, a, into); fault != nil {
		return fault
	}
	return nil
}

// decode reads a 2xx into the resource; anything else, and a 2xx that cannot be read, is an error.
func decode(op string, a answer, into clerk.ResponseReader) *Error {
	if fault := classify(op, a); fault != nil {
		return fault
	}
	into.Read(&clerk.APIResponse{
		Header: a.header, Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
		TraceID: matching(traceForm, a.header.Get("Clerk-Trace-Id")),
	})
	switch {
	case len(bytes.TrimSpace(a.body)) == 0:
		a.fault = &failure{message: "it is empty"}
	case tooManyObjects(a.body), json.Unmarshal(a.body, into) != nil:
		a.fault = &failure{message: "it is not the JSON that belongs to this call"}
	}
	return classify(op, a)
}

// segmentForm is what a part of a path may be. Ids come from outside: one with a slash or a question mark would make another
// call of it. (Invitation ids are inv_ and 27 alphanumerics: observed.)
var segmentForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (b *Backend) newRequest(request *clerk.APIRequest) (req *http.Request, op string, fault *Error) {
	path, query, hasQuery := strings.Cut(request.Path, "?")
	path = strings.Trim(path, "/")
	op = request.Method + " " + redact("/"+path)
	for segment := range strings.SplitSeq(path, "/") {
		if !segmentForm.MatchString(segment) {
			return nil, request.Method, refused(request.Method, "the path has a part that is not 1 to 64 letters, digits, _ or -")
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil || hasQuery && request.Method != http.MethodGet {
		return nil, op, refused(op, "the path has a query that does not belong there")
	}
	body := io.Reader(http.NoBody) // and no `null` for a call without parameters
	if request.Params != nil {
		if request.Method == http.MethodGet {
			for name, given := range request.Params.ToQuery() {
				values[name] = append(values[name], given...)
			}
		} else if encoded, err := json.Marshal(request.Params); err != nil {
			return nil, op, refused(op, "the parameters cannot be written as JSON")
		} else {
			body = bytes.NewReader(encoded)
		}
	}
	target := *b.base
	target.Path += "/" + path
	target.RawQuery = values.Encode()
	req, err = http.NewRequest(request.Method, target.String(), body)
	if err != nil {
		return nil, op, refused(op, "the request cannot be built")
	}
	b.setHeaders(req)
	return req, op, nil
}

func (b *Backend) setHeaders(req *http.Request) {
	req.Header.Set("Authorization", b.key.authorization())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Clerk-API-Version", apiVersion)
	req.Header.Set("User-Agent", b.userAgent)
	if req.Body != http.NoBody {
		req.Header.Set("Content-Type", "application/json")
	}
}

// exchange writes the request, once, before its deadline, and reads the answer, whatever it is.
func (b *Backend) exchange(parent context.Context, req *http.Request, op string) (answer, *Error) {
	ctx, cancel := context.WithTimeout(parent, b.timeout)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	deadline, _ := ctx.Deadline()
	c := &call{deadline: deadline, abort: abort}
	lost := func(err error) *Error {
		f := failureOf(ctx, err)
		if f.code == CodeDial || f.code == CodeTLS {
			f.message = req.URL.Host + ": " + f.message
		}
		return &Error{Outcome: Transient, Code: f.code, Message: f.message, Cause: f.cause, Sent: c.end(), op: op}
	}
	if err := ctx.Err(); err != nil {
		return answer{}, lost(err)
	}
	trace := &httptrace.ClientTrace{GotConn: c.gotConn}
	// The transport, not an http.Client: it follows no redirect, keeps no cookie, and its errors do not quote the URL.
	resp, err := b.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return answer{}, lost(err)
	}
	defer c.end()
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, at: time.Now()}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return a, nil // what follows is not HTTP and has no end
	}
	limit := int64(maxAnswer)
	if req.Method == http.MethodGet {
		limit = maxListAnswer
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		f := failureOf(ctx, err)
		a.fault = &f
	} else if int64(len(a.body)) > limit {
		a.body, a.fault = nil, &failure{code: CodeAnswerTooLarge, message: fmt.Sprintf("it has more than %d bytes", limit)}
	}
	return a, nil
}

// implausible is the error of a 2xx that is JSON but not the answer to what was asked. Something may have been done.
func implausible(op string, response *clerk.APIResponse, why string) *Error {
	return classify(op, answer{status: response.StatusCode, header: response.Header, fault: &failure{message: why}})
}
