package clerkclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// The codes that an Error has when Clerk gave none.
const (
	CodeInvalidRequest   = "invalid_request"   // refused before anything was sent
	CodeCanceled         = "canceled"          // the caller gave up
	CodeTimeout          = "timeout"           // the call's deadline passed
	CodeDial             = "dial"              // no connection: name lookup, refused, unreachable
	CodeTLS              = "tls"               // no TLS: an untrusted certificate, or no TLS server there
	CodeConnectionReset  = "connection_reset"  // the connection broke
	CodeConnectionClosed = "connection_closed" // the connection was closed before the answer was whole
	CodeNetwork          = "network"           // any other failure on the way, or no HTTP there
	CodeUnreadableAnswer = "unreadable_answer" // 2xx, but not with the answer that belongs to the call
	CodeAnswerTooLarge   = "answer_too_large"  // more bytes than any answer to this call has
)

// Error is why a call did not succeed. Every method of this package returns this type and no other.
//
// It can be printed, logged and marshalled: whatever the verb, the key, addresses and tickets are left out. Only the
// field Offenders holds addresses.
type Error struct {
	Outcome Outcome
	// Status is the HTTP status of Clerk's answer; 0 when there was none.
	Status int
	// Code is Clerk's code for the first error that it names, or one of the Code constants, or empty.
	Code string
	// Message is for people: at most 300 bytes, redacted.
	Message string
	// TraceID names the call to Clerk's support.
	TraceID string
	// RetryAfter is how long Clerk asks to wait, between 0 and 24 hours; 0 when it does not say.
	RetryAfter time.Duration
	// Offenders are the addresses that Clerk names as the cause, lower-cased: of a bulk, those that made it fail.
	// That Clerk names all of them is assumed; of form_identifier_exists it names none (observed).
	Offenders []string
	// Whole means that the cause is the instance's and no single address's (a quota): without any of its recipients a bulk
	// would have failed just the same.
	Whole bool
	// Sent is false only when it is certain that no byte of the request was written.
	Sent bool
	// Cause is context.Canceled, context.DeadlineExceeded, a syscall.Errno, io.EOF or such; never an error that quotes the request.
	Cause error

	op   string    // method and path, without the query
	date time.Time // of the answer
}

// Error says what was asked, what Clerk answered and what it means, on one line.
func (e *Error) Error() string { return e.text() }

// Unwrap gives the cause, so that errors.Is finds context.Canceled and context.DeadlineExceeded.
func (e *Error) Unwrap() error { return e.Cause }

func (e Error) text() string {
	parts := make([]string, 0, 4)
	parts = append(parts, strings.TrimSpace("clerk: "+e.op))
	var what string
	if e.Status != 0 {
		what = fmt.Sprintf("%d %s", e.Status, cmp.Or(e.Code, http.StatusText(e.Status)))
	} else {
		what = e.Code
	}
	parts = append(parts, cmp.Or(strings.TrimSpace(what), string(e.Outcome)))
	if e.Message != "" {
		parts = append(parts, e.Message)
	}
	text := strings.Join(parts, ": ")
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" (retry after %s)", e.RetryAfter)
	}
	if e.TraceID != "" {
		text += fmt.Sprintf(" (trace %s)", e.TraceID)
	}
	return text
}

// Format prints the text of Error for every verb, %+v and %#v included: the fields hold addresses.
func (e Error) Format(f fmt.State, verb rune) { printPlain(f, verb, e.text()) }

// MarshalJSON leaves the addresses out.
func (e Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Outcome    Outcome `json:"outcome"`
		Status     int     `json:"http_status,omitempty"`
		Code       string  `json:"code,omitempty"`
		Message    string  `json:"message,omitempty"`
		TraceID    string  `json:"trace_id,omitempty"`
		RetryAfter float64 `json:"retry_after_seconds,omitempty"`
		Offenders  int     `json:"offenders,omitempty"`
		Whole      bool    `json:"whole,omitempty"`
		Sent       bool    `json:"sent"`
	}{e.Outcome, e.Status, e.Code, e.Message, e.TraceID, e.RetryAfter.Seconds(), len(e.Offenders), e.Whole, e.Sent})
}

// refused is the error of a request that is not sent, because it could not succeed as it is.
func refused(op, format string, args ...any) *Error {
	return &Error{Outcome: Rejected, Code: CodeInvalidRequest, Message: redact(fmt.Sprintf(format, args...)), op: op}
}

// failure is what went wrong on the way, by kind. The errors of net/http are never kept: they may quote the request, and the
// answer's headers.
type failure struct {
	code, message string
	cause         error
}

func failureOf(ctx context.Context, err error) failure {
	switch ctxErr := ctx.Err(); {
	case errors.Is(context.Cause(ctx), errReplayed):
		return failure{CodeConnectionClosed, "the connection closed before an answer came", io.EOF}
	case errors.Is(ctxErr, context.Canceled):
		return failure{CodeCanceled, "the call was cancelled", context.Canceled}
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return failure{CodeTimeout, "the call's deadline passed", context.DeadlineExceeded}
	}
	if f, ok := connectFailure(err); ok {
		return f
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // the write deadline, a moment before the context's
		return failure{CodeTimeout, "the call's deadline passed", context.DeadlineExceeded}
	case isTimeout(err): // of the TLS handshake: nothing else has a timeout of its own
		return failure{CodeTLS, "no TLS handshake with the server in time", nil}
	case errno == syscall.ECONNRESET, errno == syscall.EPIPE, errno == syscall.ECONNABORTED:
		return failure{CodeConnectionReset, "the connection broke: " + errno.Error(), errno}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failure{CodeConnectionClosed, "the connection closed in the middle of an answer", io.ErrUnexpectedEOF}
	case errors.Is(err, io.EOF), strings.Contains(err.Error(), "server closed idle connection"): // net/http exports no error for it
		return failure{CodeConnectionClosed, "the connection closed before an answer came", io.EOF}
	case errno != 0:
		return failure{CodeNetwork, "the network failed: " + errno.Error(), errno}
	}
	return failure{CodeNetwork, "no HTTP answer could be read from the connection", nil}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// connectFailure knows the errors of a connection that was never made.
func connectFailure(err error) (failure, bool) {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failure{CodeTLS, "the server's certificate is not trusted", nil}, true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return failure{CodeTLS, "the server does not speak TLS", nil}, true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		why := "its name could not be looked up"
		if dns.IsNotFound {
			why = "there is no such name"
		}
		return failure{CodeDial, "no connection to the server: " + why, nil}, true
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return failure{}, false
	case op.Op == "remote error", op.Op == "local error": // crypto/tls's words for an alert
		return failure{CodeTLS, "the TLS handshake was refused", nil}, true
	case op.Op != "dial" && op.Op != "proxyconnect":
		return failure{}, false
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return failure{CodeDial, "no connection to the server: " + errno.Error(), errno}, true
	}
	return failure{CodeDial, "no connection to the server in time", nil}, true
}
