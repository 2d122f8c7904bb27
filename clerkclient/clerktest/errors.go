package clerktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
)

// apiError is one entry of Clerk's errors array.
type apiError struct {
	Message     string         `json:"message"`
	LongMessage string         `json:"long_message"`
	Code        string         `json:"code"`
	Meta        map[string]any `json:"meta,omitempty"`
}

// answer is what a request gets: errors, or a body as JSON, or raw bytes.
type answer struct {
	status int
	errors []apiError
	body   any
	raw    []byte // instead of body
	kind   string // content type; default application/json
	header map[string]string
}

func ok(body any) *answer { return &answer{status: http.StatusOK, body: body} }

func refuse(status int, errs ...apiError) *answer { return &answer{status: status, errors: errs} }

// code is the first error's code, for the record.
func (a *answer) code() string {
	if len(a.errors) == 0 {
		return ""
	}
	return a.errors[0].Code
}

// encode returns the bytes of the body. It cannot fail: every body is of a type that can be marshalled, and metadata
// was checked when it came in.
func (a *answer) encode(trace string) []byte {
	if a.raw != nil {
		return a.raw
	}
	body := a.body
	if len(a.errors) > 0 {
		body = struct {
			Errors  []apiError `json:"errors"`
			TraceID string     `json:"clerk_trace_id"`
		}{a.errors, trace}
	}
	if body == nil {
		return nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("clerktest: an answer that does not marshal: %v", err))
	}
	return encoded
}

// write sends the answer, dated by the sandbox's clock.
func (a *answer) write(w http.ResponseWriter, c *call) {
	h := w.Header()
	h.Set("Date", c.s.clock().UTC().Format(http.TimeFormat))
	h.Set("Clerk-Trace-Id", c.trace)
	h.Set("Content-Type", "application/json")
	if a.kind != "" {
		h.Set("Content-Type", a.kind)
	}
	for k, v := range maps.All(a.header) {
		h.Set(k, v)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.encode(c.trace))
}

// The errors of Clerk that the sandbox plays. The messages are like Clerk's, but only status and code are to be
// relied on.

func errKeyInvalid() *answer {
	const message = "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct."
	return refuse(http.StatusUnauthorized, apiError{Code: "clerk_key_invalid", Message: message, LongMessage: message})
}

func errAuthHeader() *answer {
	const message = "Invalid Authorization header format"
	return refuse(http.StatusUnauthorized, apiError{Code: "authorization_header_format_invalid", Message: message,
		LongMessage: message + `. Must be "Bearer <YOUR_API_KEY>"`})
}

func errNotFound(what string) *answer {
	return refuse(http.StatusNotFound, apiError{Code: "resource_not_found", Message: "not found", LongMessage: what})
}

func errEdge() *answer {
	return &answer{status: http.StatusForbidden, raw: []byte("error code: 1010"), kind: "text/plain; charset=UTF-8"}
}

func errVersionConflict() *answer {
	return refuse(http.StatusBadRequest, apiError{Code: "api_version_invalid", Message: "invalid API version",
		LongMessage: "The API version was given both as a header and as a query parameter. Give only one of them."})
}

func errUnsupportedType() *answer {
	return refuse(http.StatusUnsupportedMediaType, apiError{Code: "unsupported_content_type",
		Message: "Unsupported content type", LongMessage: "Content-Type must be application/json."})
}

func errTooLarge() *answer {
	return refuse(http.StatusRequestEntityTooLarge, apiError{Code: "request_body_too_large",
		Message:     "Request body too large",
		LongMessage: fmt.Sprintf("The request body is larger than %d bytes.", maxBody)})
}

func errBodyInvalid(why string) *answer {
	return refuse(http.StatusBadRequest, apiError{Code: "request_body_invalid", Message: "Request body invalid",
		LongMessage: why})
}

func errBulkSize(n int) *answer {
	return refuse(http.StatusBadRequest, apiError{Code: "bulk_size_exceeded", Message: "bulk size exceeded",
		LongMessage: fmt.Sprintf("At most %d invitations can be created at once, got %d.", maxBulk, n)})
}

func errQuota() *answer {
	return refuse(http.StatusForbidden, apiError{Code: "quota_exceeded", Message: "quota exceeded",
		LongMessage: "You have reached your limit of invitations."})
}

func errDevCap() *answer {
	return refuse(http.StatusBadRequest, apiError{Code: "dev_monthly_email_limit_exceeded",
		Message:     "monthly email limit exceeded",
		LongMessage: "This development instance has reached its monthly limit of emails."})
}

// errNotAllowed names the identifiers, if there are any.
func errNotAllowed(identifiers []string) *answer {
	e := apiError{Code: "not_allowed_access", Message: "Access not allowed.",
		LongMessage: "The email address is not allowed to access this application."}
	if len(identifiers) > 0 {
		e.LongMessage = strings.Join(identifiers, ", ") + " not allowed to access this application."
		e.Meta = map[string]any{"identifiers": identifiers}
	}
	return refuse(http.StatusForbidden, e)
}

// errMaintenance has Clerk's documented form of it, which is not that of other errors, or theirs.
func errMaintenance(inErrors bool) *answer {
	const code, short = "maintenance_mode", "Maintenance mode"
	const long = "The application is in maintenance mode. Changes are not possible at the moment."
	if inErrors {
		return refuse(http.StatusServiceUnavailable, apiError{Code: code, Message: short, LongMessage: long})
	}
	return &answer{status: http.StatusServiceUnavailable, body: map[string]string{
		"shortMessage": short, "longMessage": long, "code": code,
	}}
}

func errRejected(status int, code string) *answer {
	return refuse(status, apiError{Code: code, Message: "is invalid", LongMessage: "email_address was refused.",
		Meta: map[string]any{"param_name": "email_address"}})
}

func errDuplicate(addresses []string, naming Naming) *answer {
	e := apiError{Code: "duplicate_record", Message: "duplicate invitation",
		LongMessage: "There are already pending invitations for some of the addresses."}
	if naming == NameFirst {
		addresses = addresses[:1]
	}
	if naming != NameNone {
		e.LongMessage = "There are already pending invitations for the following email addresses: " +
			strings.Join(addresses, ", ")
		e.Meta = map[string]any{"email_addresses": addresses}
	}
	return refuse(http.StatusBadRequest, e)
}

func errUserExists(addresses []string, named bool) *answer {
	e := apiError{Code: "form_identifier_exists", Message: "already exists",
		LongMessage: "That email address is taken. Please try another.",
		Meta:        map[string]any{"param_name": "email_address"}}
	if named {
		e.Meta["email_addresses"] = addresses
	}
	return refuse(http.StatusUnprocessableEntity, e)
}

func errRevoke(code, why string) *answer {
	return refuse(http.StatusBadRequest, apiError{Code: code, Message: why,
		LongMessage: "The invitation cannot be revoked: " + why + "."})
}

// param is an error about one parameter, all of which are 422.
func param(code, name, message, long string) apiError {
	return apiError{Code: code, Message: message, LongMessage: long, Meta: map[string]any{"param_name": name}}
}

func paramMissing(name string) apiError {
	return param("form_param_missing", name, "is missing", name+" must be included.")
}

func paramUnknown(name string) apiError {
	return param("form_param_unknown", name, "is unknown", name+" is not a valid parameter for this request.")
}

func paramType(name, want string) apiError {
	return param("form_param_type_invalid", name, "is invalid", "`"+name+"` must be a `"+want+"`.")
}

func paramFormat(name, want string) apiError {
	return param("form_param_format_invalid", name, "is invalid", name+" must be "+want+".")
}

func paramValue(name, want string) apiError {
	return param("form_param_value_invalid", name, "is invalid", name+" must be "+want+".")
}
