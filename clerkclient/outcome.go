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

	"github.com/clerk/clerk-sdk-go/v2"
)

// Outcome says what an answer means for the recipients of the call. Metrics use its text as a label.
type Outcome string

// The outcomes of a call.
const (
	// Created means that Clerk did what was asked. No Error has this outcome.
	Created Outcome = "created"
	// Rejected means that Clerk refuses the request. Error.Reach says whether it would refuse others, too.
	Rejected Outcome = "rejected"
	// Throttled means that the endpoint is over its limit. Nothing is wrong with the request.
	Throttled Outcome = "throttled"
	// Transient means that the call failed, or may have succeeded unseen. The same request may succeed later.
	Transient Outcome = "transient"
	// Unavailable means that Clerk serves nobody at present who asks for this: it is in maintenance mode, or the key
	// lacks a right. Nothing is wrong with the request. Error.Reach says what else it is about.
	Unavailable Outcome = "unavailable"
	// Unauthorized means that Clerk or its edge refuses this program. Nothing is wrong with the request.
	Unauthorized Outcome = "unauthorized"
)

// OutcomeOf returns the outcome of a call by its error: Created for nil, Transient for an error of another package.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Created
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return Transient
}

// outcomeOf is the only table of what a status means. The code in the body matters only where a status means two
// things.
func outcomeOf(a answer, body clerkErrors) Outcome {
	switch status := a.status; {
	case status == http.StatusServiceUnavailable && body.has(codeMaintenance),
		status == http.StatusForbidden && slices.ContainsFunc(rightCodes, body.has):
		return Unavailable
	case a.succeeded() && a.fault == nil:
		return Created
	case a.succeeded():
		return Transient // Clerk may have done it, but nobody can read what
	case status == http.StatusUnauthorized:
		return Unauthorized
	case status == http.StatusForbidden:
		switch {
		case body.known():
			return Rejected
		case a.fault != nil:
			return Transient // nobody can tell whose answer it was
		}
		return Unauthorized // not from Clerk but from its edge (observed: `error code: 1010`)
	case status == http.StatusConflict:
		if body.known() && !body.has("resource_locked") {
			return Rejected
		}
		return Transient
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return Transient
	case status == http.StatusTooManyRequests:
		return Throttled // whatever the code: there are several, and pages without one (observed)
	case status >= 400 && status <= 499 && body.known():
		return Rejected
	}
	// 5xx, a 4xx that is not Clerk's, and also 1xx, 3xx and numbers that are no status. Clerk's API redirects nowhere,
	// so a 3xx comes from somebody on the way (a portal, a moved base URL). The call was not carried out, and no
	// recipient is to blame. To follow it would give the key to a stranger.
	return Transient
}

// codeMaintenance is Clerk's answer to everything that changes something while an application is in maintenance mode.
// On development instances nothing works then (documented).
const codeMaintenance = "maintenance_mode"

// rightCodes are refusals of a key that lacks the right to make the call (Clerk's error registry).
var rightCodes = []string{"authorization_invalid", "authorization_missing_scopes"}

// instanceCodes are refusals that may be about everybody: the instance, its plan or a quota (Clerk's error registry).
// Some may depend on what one request asks for.
var instanceCodes = []string{
	"invitations_not_supported", "request_invalid_for_instance", "request_invalid_for_environment",
	"api_version_invalid", "unsupported_subscription_plan_features", "feature_requires_email_address_enabled",
	"quota_exceeded", "dev_monthly_email_limit_exceeded",
}

// requestCodes are refusals of one request, whatever becomes of others (documented, and Clerk's error registry).
// Those that begin with form_ are, too.
var requestCodes = []string{
	"duplicate_record", "not_allowed_access", "revoked_invitation", "bulk_size_exceeded", "conflict",
	CodeAlreadyRevoked, CodeAlreadyAccepted, CodeNotFound, "request_body_too_large",
	"unsupported_content_type",
}

// reachOf says whom a refusal is about, as far as its body tells.
func reachOf(op string, outcome Outcome, body clerkErrors) Reach {
	isAboutRequest := func(e clerk.Error) bool {
		return strings.HasPrefix(e.Code, "form_") || slices.Contains(requestCodes, e.Code)
	}
	switch {
	case outcome == Unavailable && body.has(codeMaintenance) && !strings.HasPrefix(op, http.MethodGet):
		return ReachWrites
	case outcome == Unavailable:
		return ReachEndpoint
	case outcome != Rejected:
		return ReachRequest
	case slices.ContainsFunc(instanceCodes, body.has):
		return ReachInstance
	case slices.ContainsFunc(body.Errors, isAboutRequest):
		return ReachRequest
	}
	return ReachUnknown
}

// answer is an HTTP answer whose body has been read, as far as that was possible.
type answer struct {
	status int
	header http.Header
	body   []byte
	fault  *Error // why the body is not complete
	at     time.Time
}

func (a answer) succeeded() bool { return a.status >= 200 && a.status <= 299 }

func (a answer) traceID() string { return matching(traceForm, a.header.Get("Clerk-Trace-Id")) }

// dateOf is the server's clock when it answered, to the second; zero when the server does not say.
func dateOf(header http.Header) time.Time {
	at, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

// classify turns an answer into an error; nil for a 2xx whose body is complete.
func classify(op string, a answer) *Error {
	var body clerkErrors
	if !a.succeeded() {
		body = readErrors(a.body)
	}
	outcome := outcomeOf(a, body)
	if outcome == Created {
		return nil
	}
	e := &Error{
		Outcome: outcome, Status: a.status, Sent: true,
		TraceID: cmp.Or(a.traceID(), matching(traceForm, body.TraceID)),
		op:      op, date: dateOf(a.header),
	}
	switch {
	case a.succeeded():
		e.Code, e.Cause = CodeUnreadableAnswer, a.fault.Cause
		e.Message = "the answer could not be read: " + a.fault.Message
		if slices.Contains([]string{CodeCanceled, CodeTimeout, CodeAnswerTooLarge}, a.fault.Code) {
			e.Code = a.fault.Code // says more
		}
		e.NotClerk = e.Code == CodeUnreadableAnswer
		return e
	case body.known():
		first := body.Errors[0]
		e.Code, e.Message = matching(codeForm, first.Code), redact(cmp.Or(first.LongMessage, first.Message))
		e.Offenders = body.offenders()
		e.Reach = reachOf(op, outcome, body)
	default:
		e.Message = "the answer is not one of Clerk's API"
		e.NotClerk = a.fault == nil
	}
	e.RetryAfter = retryAfter(a.header, cmp.Or(e.date, a.at))
	return e
}

// maxRetryAfter bounds what Clerk can ask for: none of its limits has a window longer than an hour.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header Retry-After: whole seconds (documented), or an HTTP date to be compared with the
// answer's own clock (assumed). It is 0 for none, for garbage and for the past.
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

// clerkErrors is the body of Clerk's refusals (documented). The SDK's own type would let a field of the body replace
// the HTTP status.
type clerkErrors struct {
	Errors  []clerk.Error `json:"errors"`
	TraceID string        `json:"clerk_trace_id"`
	// Of maintenance mode, whose documented form is another.
	Code         string `json:"code"`
	ShortMessage string `json:"shortMessage"`
	LongMessage  string `json:"longMessage"`
}

// readErrors reads the body; the zero value means that it is not one of Clerk's.
func readErrors(body []byte) clerkErrors {
	var read clerkErrors
	if tooManyObjects(body) || json.Unmarshal(body, &read) != nil {
		return clerkErrors{}
	}
	if !read.known() && read.Code == codeMaintenance {
		read.Errors = []clerk.Error{{Code: read.Code, Message: read.ShortMessage, LongMessage: read.LongMessage}}
	}
	if !read.known() || read.Errors[0].Code == "" {
		return clerkErrors{}
	}
	return read
}

func (c clerkErrors) known() bool { return len(c.Errors) > 0 }

func (c clerkErrors) has(code string) bool {
	return slices.ContainsFunc(c.Errors, func(e clerk.Error) bool { return e.Code == code })
}

// maxOffenders is more than the addresses of any call.
const maxOffenders = 100

// offenders returns the addresses that Clerk blames, folded, each once.
func (c clerkErrors) offenders() []string {
	var found []string
	for _, e := range c.Errors {
		var meta struct {
			EmailAddresses any `json:"email_addresses"`
			Identifiers    any `json:"identifiers"`
		}
		if json.Unmarshal(e.Meta, &meta) != nil {
			continue // meta has many shapes; only these two fields matter
		}
		for _, named := range []any{meta.EmailAddresses, meta.Identifiers} {
			list, ok := named.([]any)
			if !ok {
				list = []any{named} // one alone
			}
			for _, name := range list {
				text, _ := name.(string)
				folded := fold(text)
				isAddress := strings.Contains(folded, "@") && len(folded) <= 320
				if isAddress && len(found) < maxOffenders && !slices.Contains(found, folded) {
					found = append(found, folded)
				}
			}
		}
	}
	return found
}

// fold returns the form that two spellings of one address share: Clerk ignores case (assumed).
func fold(address string) string { return strings.ToLower(strings.TrimSpace(address)) }

// tooManyObjects refuses bodies that grow by orders of magnitude when they are decoded (`[{},{},…`). No honest answer
// comes near the bound: 500 invitations would need 200 nested objects in the metadata of each.
func tooManyObjects(body []byte) bool { return bytes.Count(body, []byte("{")) > 100_000 }
