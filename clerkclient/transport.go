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
	"regexp"
	"strings"
	"time"

	"github.com/clerk/clerk-sdk-go/v2"
)

const (
	maxAnswer     = 1 << 20 // bytes of an answer about one or ten invitations
	maxListAnswer = 8 << 20 // bytes of a list: 500 invitations with 8 KB of metadata each, and some more

	dialTimeout = 10 * time.Second
	idleTimeout = 30 * time.Second // shorter than servers keep connections: a call on a closed one is lost
	idleConns   = 512              // more than the calls ever made at once, so that each finds its connection again
)

func newTransport() *http.Transport {
	// HTTP/1.1 only: it gives each call a connection of its own. So a reset hits one call only, and the write deadline
	// of a connection is that of one call.
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
		DisableCompression:     true, // a small compressed body can become a large one in memory
	}
}

// Call makes one request of Clerk's SDK and reads its answer into the resource. Its error is an *Error.
//
// The call ends at the context's deadline or after the configured timeout, whichever comes first, and just before
// bytes are written that is checked once more. Bodies are bounded. Redirects are not followed, and a request that may
// have been sent is not repeated. The resource gets no RawJSON, because an invitation's holds its sign-up ticket.
// Multipart requests and queries within the path are not supported.
func (c *Client) Call(ctx context.Context, request *clerk.APIRequest, into clerk.ResponseReader) error {
	a, op, fault := c.send(ctx, request)
	if fault == nil {
		into.Read(&clerk.APIResponse{
			Header: a.header, Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
			TraceID: a.traceID(),
		})
		fault = decode(op, a, into)
	}
	if fault != nil {
		return fault
	}
	return nil
}

// send makes a request and gives the answer, a complete 2xx; any other is a fault. op is the operation, as errors
// name it.
func (c *Client) send(ctx context.Context, request *clerk.APIRequest) (a answer, op string, fault *Error) {
	req, op, fault := c.newRequest(request)
	if fault == nil {
		a, fault = c.exchange(ctx, req, op)
	}
	if fault == nil {
		fault = classify(op, a)
	}
	return a, op, fault
}

// decode reads the body of a 2xx.
func decode(op string, a answer, into any) *Error {
	switch {
	case len(bytes.TrimSpace(a.body)) == 0:
		return unreadable(op, a, "it is empty")
	case tooManyObjects(a.body), json.Unmarshal(a.body, into) != nil:
		return unreadable(op, a, "it is not the JSON that belongs to this call")
	}
	return nil
}

// unreadable is the error of a 2xx that is not the answer to the call. Clerk may have done something.
func unreadable(op string, a answer, why string) *Error {
	a.fault = &Error{Message: why}
	return classify(op, a)
}

// segmentForm is the form of one part of a path. Ids come from outside: a slash or a question mark in one would turn
// the request into another one.
var segmentForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// newRequest builds the HTTP request of an operation.
func (c *Client) newRequest(request *clerk.APIRequest) (req *http.Request, op string, fault *Error) {
	path := strings.Trim(request.Path, "/")
	for segment := range strings.SplitSeq(path, "/") {
		if !segmentForm.MatchString(segment) {
			const fault = "the path has a part that is not 1 to 64 letters, digits, _ or -"
			return nil, "", refused(request.Method, fault)
		}
	}
	op = request.Method + " /" + path
	target := c.base.JoinPath(path)
	body := io.Reader(http.NoBody)
	switch {
	case request.Params == nil: // no body, where encoding nothing would send `null`
	case request.Method == http.MethodGet:
		target.RawQuery = request.Params.ToQuery().Encode()
	default:
		var encoded bytes.Buffer
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(false) // < is one byte, of those that Clerk allows, not six
		if encoder.Encode(request.Params) != nil {
			return nil, op, refused(op, "the parameters cannot be written as JSON")
		}
		body = bytes.NewReader(bytes.TrimSuffix(encoded.Bytes(), []byte("\n")))
	}
	req, err := http.NewRequest(request.Method, target.String(), body)
	if err != nil {
		return nil, op, refused(op, "the request cannot be built")
	}
	req.Header.Set("Authorization", c.key.authorization())
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Clerk-API-Version", apiVersion)
	req.Header.Set("User-Agent", c.userAgent)
	if req.Body != http.NoBody {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, op, nil
}

// exchange writes the request once, before its deadline, and reads the answer, whatever its status.
func (c *Client) exchange(parent context.Context, req *http.Request, op string) (answer, *Error) {
	ctx, cancel := context.WithTimeout(parent, c.timeout)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	deadline, _ := ctx.Deadline()
	call := &call{deadline: deadline, abort: abort}
	unanswered := func(err error) *Error {
		e := failureOf(ctx, err)
		if e.Code == CodeDial || e.Code == CodeTLS {
			e.Message = req.URL.Host + ": " + e.Message
		}
		e.Sent, e.op = call.end(), op
		return e
	}
	if err := ctx.Err(); err != nil {
		return answer{}, unanswered(err)
	}
	trace := &httptrace.ClientTrace{GotConn: call.gotConn}
	// The transport, not an http.Client: it follows no redirect, keeps no cookie, and its errors do not quote the URL.
	resp, err := c.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return answer{}, unanswered(err)
	}
	defer call.end()
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
		a.fault = failureOf(ctx, err)
	} else if int64(len(a.body)) > limit {
		why := fmt.Sprintf("it has more than %d bytes", limit)
		a.body, a.fault = nil, &Error{Code: CodeAnswerTooLarge, Message: why}
	}
	return a, nil
}
