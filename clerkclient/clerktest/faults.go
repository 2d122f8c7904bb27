package clerktest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The kinds of faults. The default status given here is for faults without a Fault.Status.
const (
	FaultStatus       FaultKind = "status"       // Clerk's error JSON with any status; default 500
	FaultHTML         FaultKind = "html"         // an HTML page, as an edge serves it; default 502
	FaultEmpty        FaultKind = "empty"        // no body; default 200
	FaultNotJSON      FaultKind = "not-json"     // a text that is not JSON; default 200
	FaultTruncated    FaultKind = "truncated"    // half of the answer's JSON, as if that were all; default 200
	FaultCut          FaultKind = "cut"          // the same, but the connection breaks in the middle; default 200
	FaultReset        FaultKind = "reset"        // the connection is reset without an answer; net/http repeats a GET
	FaultHang         FaultKind = "hang"         // no answer until Fault.For has passed or the client has left
	FaultThrottle     FaultKind = "throttle"     // 429, in the form of Fault.RetryAfter and Fault.ThrottleBody
	FaultEdge         FaultKind = "edge"         // the edge's 403 with the text "error code: 1010"
	FaultUnauthorized FaultKind = "unauthorized" // 401 clerk_key_invalid
	FaultMaintenance  FaultKind = "maintenance"  // 503 maintenance_mode; of Writes, unless Fault.Endpoint says else
)

// Fault is something that goes wrong with requests. It strikes requests that have passed key, path and limits, so a
// struck request has taken its place in the windows. Faults are tried in the order in which they were injected. The
// first that fits strikes.
type Fault struct {
	// ID is set by Inject.
	ID   int       `json:"id"`
	Kind FaultKind `json:"kind"`
	// After lets the request be carried out first: an invitation is made and its answer lost. Otherwise nothing is
	// done, but see LateCommit.
	After bool `json:"after"`

	// Endpoint chooses the requests to one endpoint, or Writes; empty means any. Address chooses those with an
	// address, whatever its case, in the body or in the query of GET /users; empty means any. TemplateSlug chooses
	// creates and bulks with a template; empty means any.
	Endpoint     Endpoint `json:"endpoint"`
	Address      string   `json:"email_address"`
	TemplateSlug string   `json:"template_slug"`
	// Times is how many requests are struck; 0 means all until the fault is cleared.
	Times int `json:"times"`
	// Probability is the part of the chosen requests that is struck, drawn by Config.Seed; 0 means all.
	Probability float64 `json:"probability"`

	// Status replaces the kind's default, Code the code of the error's JSON, and Body the body.
	Status int    `json:"status"`
	Code   string `json:"code"`
	Body   string `json:"body"`
	// For is how long a hang lasts; 0 means until the client leaves.
	For time.Duration `json:"-"`
	// LateCommit is how long after its client left a hang a request is carried out, unless After did so before; 0
	// means Config.LateCommit. With a kind that has an answer it is carried out so long after that; 0 means never.
	LateCommit time.Duration `json:"-"`
	// InErrors gives maintenance the form of other errors.
	InErrors bool `json:"in_errors"`
	// RetryIn is the wait that a throttle asks for, in the form of RetryAfter; 0 means a second. Other kinds that have
	// an answer ask for it in whole seconds; 0 means that they do not ask.
	RetryIn      time.Duration `json:"-"`
	RetryAfter   RetryAfter    `json:"retry_after"`
	ThrottleBody ThrottleBody  `json:"throttle_body"`

	// Struck is how many requests it has struck.
	Struck int `json:"struck"`
}

var faultKinds = []FaultKind{
	FaultStatus, FaultHTML, FaultEmpty, FaultNotJSON, FaultTruncated, FaultCut, FaultReset, FaultHang, FaultThrottle,
	FaultEdge, FaultUnauthorized, FaultMaintenance,
}

// Validate says what is wrong with a fault: an unknown word, or a number out of bounds.
func (f Fault) Validate() error {
	var errs []error
	if !slices.Contains(faultKinds, f.Kind) {
		errs = append(errs, fmt.Errorf("kind %q: want one of %v", f.Kind, faultKinds))
	}
	if !slices.Contains([]Endpoint{"", Create, Bulk, List, Revoke, Delete, Users, Count, Writes}, f.Endpoint) {
		const fault = "endpoint %q: want create, bulk, list, revoke, delete, users, count, writes or nothing for any"
		errs = append(errs, fmt.Errorf(fault, f.Endpoint))
	}
	if f.Probability < 0 || f.Probability > 1 {
		errs = append(errs, fmt.Errorf("probability %v: want 0 to 1", f.Probability))
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599) {
		errs = append(errs, fmt.Errorf("status %d: want 200 to 599", f.Status))
	}
	if f.Times < 0 || f.For < 0 || f.LateCommit < 0 || f.RetryIn < 0 {
		errs = append(errs, errors.New("times, for, late_commit and retry_in cannot be negative"))
	}
	if !f.RetryAfter.known() || !f.ThrottleBody.known() {
		errs = append(errs, fmt.Errorf("retry_after %q, throttle_body %q: unknown word", f.RetryAfter, f.ThrottleBody))
	}
	return errors.Join(errs...)
}

// Inject adds a fault and returns its id. It panics if the fault is invalid (see [Fault.Validate]).
func (s *Sandbox) Inject(f Fault) (id int) {
	if err := f.Validate(); err != nil {
		panic("clerktest: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastFault++
	f.ID, f.Struck = s.lastFault, 0
	s.faults = append(s.faults, &f)
	return f.ID
}

// Faults returns the faults that can strike, in the order in which they were injected, and how often each has struck.
func (s *Sandbox) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	faults := make([]Fault, len(s.faults))
	for i, f := range s.faults {
		faults[i] = *f
	}
	return faults
}

// ClearFault ends one fault. It reports false if no fault has this id, or no longer. Hangs under way go on.
func (s *Sandbox) ClearFault(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, func(f *Fault) bool { return f.ID == id })
	return len(s.faults) < before
}

// ClearFaults ends all faults. Hangs under way go on.
func (s *Sandbox) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// strike chooses the fault for a request, if any, and records it.
func (s *Sandbox) strike(c *call, addresses []string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.endpoint == Create || c.endpoint == Bulk {
		s.record(c.number).Recipients = len(addresses)
	}
	for i, f := range s.faults {
		if !f.fits(c, addresses) {
			continue
		}
		if f.Probability > 0 && s.rng.Float64() >= f.Probability {
			continue
		}
		f.Struck++
		if f.Struck == f.Times {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		r := s.record(c.number)
		r.Fault, r.FaultID = f.Kind, f.ID
		s.counts[c.endpoint].Faulted++
		struck := *f
		return &struck
	}
	return nil
}

// fits tells whether the fault is about a request.
func (f *Fault) fits(c *call, addresses []string) bool {
	carries := func(a string) bool { return fold(a) == fold(f.Address) }
	endpoint := f.Endpoint
	if f.Kind == FaultMaintenance && endpoint == "" {
		endpoint = Writes
	}
	return (endpoint == "" || endpoint == c.endpoint || endpoint == Writes && c.endpoint.writes()) &&
		(f.Address == "" || slices.ContainsFunc(addresses, carries)) &&
		(f.TemplateSlug == "" || slices.Contains(c.slugs, f.TemplateSlug))
}

// suffer plays a fault.
func (c *call) suffer(f *Fault, w work) {
	real := &answer{status: http.StatusOK, raw: []byte(`{"object":"invitation","id":"inv_","status":"pending"}`)}
	if f.Kind == FaultHang {
		c.hang(f, w)
		return
	}
	if !c.s.pause(c.r.Context(), c.latency) {
		c.abandon(w, c.cfg.LateCommit)
	}
	if f.After {
		real = c.s.do(w)
	}
	switch f.Kind {
	case FaultReset:
		tear(c.w)
	case FaultCut:
		half := real.half(f, c.trace)
		half.header = map[string]string{"Content-Length": strconv.Itoa(2*len(half.raw) + 1)}
		c.reply(half)
		_ = http.NewResponseController(c.w).Flush()
		panic(http.ErrAbortHandler) // closes in order: a reset could overtake the half
	case FaultTruncated:
		c.reply(real.half(f, c.trace))
	default:
		if !f.After {
			c.s.postpone(c, w, f.LateCommit)
		}
		c.reply(f.answer(c.s.clock()))
	}
}

// hang keeps the client waiting, before or after the work.
func (c *call) hang(f *Fault, w work) {
	hold := func() bool {
		if f.For > 0 {
			return c.s.pause(c.r.Context(), f.For)
		}
		select {
		case <-c.r.Context().Done():
		case <-c.s.closed:
		}
		return false
	}
	if !f.After {
		if !hold() {
			c.abandon(w, cmp.Or(f.LateCommit, c.cfg.LateCommit))
		}
		c.reply(c.s.do(w))
		return
	}
	done := c.s.do(w)
	if !hold() {
		c.abandon(w, 0)
	}
	c.reply(done)
}

// answer is the answer of a fault whose kind has one.
func (f *Fault) answer(now time.Time) *answer {
	var a *answer
	switch f.Kind {
	case FaultHTML:
		status := cmp.Or(f.Status, http.StatusBadGateway)
		a = &answer{status: status, raw: htmlPage(status), kind: "text/html; charset=UTF-8"}
	case FaultEmpty:
		a = &answer{status: cmp.Or(f.Status, http.StatusOK)}
	case FaultNotJSON:
		a = &answer{status: cmp.Or(f.Status, http.StatusOK), raw: []byte("upstream connect error")}
	case FaultThrottle:
		a = throttled(cmp.Or(f.RetryIn, time.Second), now, f.RetryAfter, f.ThrottleBody, false)
	case FaultMaintenance:
		a = errMaintenance(f.InErrors)
	case FaultEdge:
		a = errEdge()
	case FaultUnauthorized:
		a = errKeyInvalid()
	default:
		status := cmp.Or(f.Status, http.StatusInternalServerError)
		code := cmp.Or(f.Code, codeOf(status))
		long := "A fault of the sandbox: " + code + "."
		a = refuse(status, apiError{Code: code, Message: http.StatusText(status), LongMessage: long})
	}
	if f.Body != "" {
		a.raw = []byte(f.Body)
	}
	if f.RetryIn > 0 && f.Kind != FaultThrottle {
		a.header = map[string]string{"Retry-After": strconv.Itoa(int(math.Ceil(f.RetryIn.Seconds())))}
	}
	return a
}

// half is the first half of an answer's bytes.
func (a *answer) half(f *Fault, trace string) *answer {
	whole := a.encode(trace)
	if f.Body != "" {
		whole = []byte(f.Body)
	}
	return &answer{status: cmp.Or(f.Status, a.status), raw: bytes.Clone(whole[:len(whole)/2])}
}

// codeOf is the code that Clerk documents for a status.
func codeOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "clerk_key_invalid"
	case http.StatusForbidden:
		return "not_allowed_access"
	case http.StatusNotFound:
		return "resource_not_found"
	case http.StatusConflict:
		return "resource_locked"
	case http.StatusRequestEntityTooLarge:
		return "request_body_too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_content_type"
	case http.StatusTooManyRequests:
		return "too_many_requests"
	case http.StatusInternalServerError:
		return "internal_clerk_error"
	case http.StatusServiceUnavailable:
		return "service_unavailable"
	case http.StatusGatewayTimeout:
		return "gateway_timeout"
	}
	return "status_" + strconv.Itoa(status)
}

func htmlPage(status int) []byte {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	return []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
		"</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n")
}

// tear resets the connection and ends the handler by the panic that net/http has for this: a handler that just
// returned would answer 200. Without access to the connection (HTTP/2, a recorder) the panic alone does the same for
// the client.
func tear(w http.ResponseWriter) {
	defer panic(http.ErrAbortHandler)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	inner := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		inner = t.NetConn() // TLS
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // close with a reset
	}
}
