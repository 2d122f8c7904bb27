package clerkclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outcome says what an answer means for the recipients of the call. Its text is a metric's label.
type Outcome string

// The outcomes of a call.
const (
	// Created: Clerk did what was asked, creating or not. No Error has this outcome.
	Created Outcome = "created"
	// Rejected: Clerk refuses and would refuse again.
	Rejected Outcome = "rejected"
	// Throttled: the endpoint is over its limit; nothing is wrong with the request.
	Throttled Outcome = "throttled"
	// Transient: it failed, or may have succeeded without our knowing; the same request may succeed later.
	Transient Outcome = "transient"
	// Unauthorized: Clerk or its edge refuses this program; nothing is wrong with the request.
	Unauthorized Outcome = "unauthorized"
)

// OutcomeOf gives the outcome of a call by its error: Created for nil, Transient for an error that is not this package's.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Created
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return Transient
}

// outcomeOf is the one table of what a status means. It goes by the status; the code of the body matters only where the
// same status says two things.
func outcomeOf(a answer, body clerkErrors) Outcome {
	switch status := a.status; {
	case status >= 200 && status <= 299:
		if a.fault != nil {
			return Transient // it may have been done, but nobody can read what
		}
		return Created
	case status == http.StatusUnauthorized:
		return Unauthorized
	case status == http.StatusForbidden:
		switch {
		case body.known():
			return Rejected
		case a.fault != nil:
			return Transient // whose answer it was cannot be told
		default:
			return Unauthorized // not Clerk but its edge (observed: `error code: 1010`)
		}
	case status == http.StatusConflict:
		if body.known() && !body.has("resource_locked") {
			return Rejected
		}
		return Transient
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return Transient
	case status == http.StatusTooManyRequests:
		return Throttled // whatever the code: there are several, and pages without one (observed)
	case status >= 400 && status <= 499:
		return Rejected
	default:
		// 5xx; and 1xx, 3xx and what is no status at all. Clerk's API redirects nowhere, so a 3xx is somebody's on the
		// way (a portal, a moved base URL): the call was not carried out, and no recipient is to blame for it. Following
		// it would carry the key to whoever wrote it.
		return Transient
	}
}

// wholeCodes are the refusals whose cause is the instance's, not an address's (documented).
var wholeCodes = []string{"quota_exceeded", "dev_monthly_email_limit_exceeded"}

// answer is an HTTP answer whose body has been read, as far as it could be.
type answer struct {
	status int
	header http.Header
	body   []byte
	fault  *failure // why the body is not whole
	at     time.Time
}

// date is the server's clock when it answered, with a resolution of 1 s; zero when it does not say.
func (a answer) date() time.Time {
	at, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// classify turns an answer into the error that it is; nil for a 2xx whose body is whole.
func classify(op string, a answer) *Error {
	var body clerkErrors
	if a.status < 200 || a.status > 299 {
		body = readErrors(a.body)
	}
	outcome := outcomeOf(a, body)
	if outcome == Created {
		return nil
	}
	e := &Error{
		Outcome: outcome, Status: a.status, Sent: true,
		TraceID: cmp.Or(matching(traceForm, a.header.Get("Clerk-Trace-Id")), matching(traceForm, body.TraceID)),
		op:      op, date: a.date(),
	}
	switch {
	case a.status >= 200 && a.status <= 299:
		e.Code, e.Message, e.Cause = cmp.Or(a.fault.unreadable(), CodeUnreadableAnswer), "the answer could not be read: "+a.fault.message, a.fault.cause
		return e
	case body.known():
		first := body.Errors[0]
		e.Code, e.Message = matching(codeForm, first.Code), redact(cmp.Or(first.LongMessage, first.Message))
		e.Offenders = body.offenders()
		e.Whole = slices.ContainsFunc(wholeCodes, body.has)
	default:
		e.Message = "the answer is not one of Clerk's API"
	}
	e.RetryAfter = retryAfter(a.header, cmp.Or(a.date(), a.at))
	return e
}

// unreadable is the code of a 2xx that could not be read, where it says more than that.
func (f *failure) unreadable() string {
	switch f.code {
	case CodeCanceled, CodeTimeout, CodeAnswerTooLarge:
		return f.code
	}
	return ""
}

// maxRetryAfter bounds what Clerk can ask for: no limit of its has a window longer than an hour.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header of that name: whole seconds (documented) or an HTTP date, taken against the answer's own
// clock (assumed); 0 for none, for garbage and for the past.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// clerkErrors is the body of Clerk's refusals (documented). Clerk's own type would let a field of the body replace the HTTP status.
type clerkErrors struct {
	Errors []struct {
		Message     string          `json:"message"`
		LongMessage string          `json:"long_message"`
		Code        string          `json:"code"`
		Meta        json.RawMessage `json:"meta"`
	} `json:"errors"`
	TraceID string `json:"clerk_trace_id"`
}

// readErrors gives what the body says; the zero value when it is not Clerk's.
func readErrors(body []byte) clerkErrors {
	var parsed clerkErrors
	if tooManyObjects(body) || json.Unmarshal(body, &parsed) != nil || len(parsed.Errors) == 0 || parsed.Errors[0].Code == "" {
		return clerkErrors{}
	}
	return parsed
}

func (c clerkErrors) known() bool { return len(c.Errors) > 0 }

func (c clerkErrors) has(code string) bool {
	for _, e := range c.Errors {
		if e.Code == code {
			return true
		}
	}
	return false
}

// maxOffenders is more than any call has addresses.
const maxOffenders = 100

// offenders gives the addresses that Clerk blames, folded, each once.
func (c clerkErrors) offenders() []string {
	var found []string
	for _, e := range c.Errors {
		var meta struct {
			EmailAddresses names `json:"email_addresses"`
			Identifiers    names `json:"identifiers"`
		}
		if json.Unmarshal(e.Meta, &meta) != nil {
			continue // meta has many shapes; these two are the only ones of interest
		}
		for _, name := range slices.Concat(meta.EmailAddresses, meta.Identifiers) {
			folded := fold(name)
			if len(found) < maxOffenders && strings.Contains(folded, "@") && len(folded) <= 320 && !slices.Contains(found, folded) {
				found = append(found, folded)
			}
		}
	}
	return found
}

// names is a list of strings; one alone counts as a list, and any other shape as none.
type names []string

func (n *names) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*n = names{one}
		return nil
	}
	var many []string
	if json.Unmarshal(data, &many) == nil {
		*n = many
	}
	return nil
}

// fold gives the form under which two spellings are one address: Clerk matches without regard to case (assumed).
func fold(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

// tooManyObjects refuses bodies that would grow by orders of magnitude when decoded (`[{},{},…`): the largest honest
// answer, 500 invitations, would need 200 nested objects in each one's metadata to get here.
func tooManyObjects(body []byte) bool { return bytes.Count(body, []byte("{")) > 100_000 }
