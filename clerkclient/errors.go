package clerkclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The codes of an Error for which Clerk gave none.
const (
	CodeInvalidRequest   = "invalid_request"   // refused here: nothing was sent
	CodeCanceled         = "canceled"          // the caller gave up
	CodeTimeout          = "timeout"           // the call's deadline passed
	CodeDial             = "dial"              // no connection: name look-up, refused, unreachable
	CodeTLS              = "tls"               // no TLS: an untrusted certificate, or no TLS server there
	CodeConnectionReset  = "connection_reset"  // the connection broke
	CodeConnectionClosed = "connection_closed" // the connection was closed before the answer was complete
	CodeNetwork          = "network"           // another failure of the network, or no HTTP server there
	CodeUnreadableAnswer = "unreadable_answer" // a 2xx whose body is not the answer to the call
	CodeAnswerTooLarge   = "answer_too_large"  // more bytes than any answer to the call has
)

// Error is why a call did not succeed. Every method of this package returns this type and no other.
//
// It is safe to print, log and marshal: that leaves out the key, addresses and tickets. Only the field Offenders holds
// addresses.
type Error struct {
	Outcome Outcome `json:"outcome"`
	// Status is the HTTP status of Clerk's answer; 0 when there was no answer.
	Status int `json:"http_status,omitempty"`
	// Code is Clerk's code for the first error that it names, or one of the Code constants, or empty.
	Code string `json:"code,omitempty"`
	// Message is for people. It has at most 300 bytes, and secrets and addresses are replaced.
	Message string `json:"message,omitempty"`
	// TraceID names the call to Clerk's support.
	TraceID string `json:"trace_id,omitempty"`
	// RetryAfter is how long Clerk asks to wait, at most 24 hours; 0 when it does not say.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// Offenders are the addresses that Clerk blames, in lower case. For a bulk they are those that made it fail:
	// Clerk names all of them (assumed), except that it names none for form_identifier_exists (observed).
	Offenders []string `json:"-"`
	// Reach says whom a Rejected or Unavailable answer is about.
	Reach Reach `json:"reach,omitempty"`
	// NotClerk means that the answer is none of Clerk's API: a page, say, or JSON of another form.
	NotClerk bool `json:"not_clerk,omitempty"`
	// Sent is false only if it is certain that no byte of the request was written.
	Sent bool `json:"sent"`
	// Cause is an error such as context.Canceled, a syscall.Errno or io.EOF, and never one that quotes the request.
	Cause error `json:"-"`

	op   string    // method and path, without the query
	date time.Time // of the answer
}

// Reach is whom a refusal is about. There is one table, like that of the outcomes.
type Reach string

// The reaches.
const (
	ReachRequest  Reach = ""         // this request
	ReachEndpoint Reach = "endpoint" // everybody who calls the same endpoint
	ReachWrites   Reach = "writes"   // everybody who changes something
	ReachInstance Reach = "instance" // everybody, or this request if Clerk takes another one
	ReachUnknown  Reach = "unknown"  // nobody knows: the table has no such code
)

// Error says on one line what was asked, what Clerk answered and what it means.
func (e *Error) Error() string { return e.text() }

// Unwrap returns the cause, so that errors.Is finds context.Canceled and context.DeadlineExceeded.
func (e *Error) Unwrap() error { return e.Cause }

func (e Error) text() string {
	what := cmp.Or(e.Code, string(e.Outcome))
	if e.Status != 0 {
		what = strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, cmp.Or(e.Code, http.StatusText(e.Status))))
	}
	parts := slices.DeleteFunc([]string{"clerk", e.op, what, e.Message}, func(part string) bool { return part == "" })
	text := strings.Join(parts, ": ")
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" (retry after %s)", e.RetryAfter)
	}
	if e.TraceID != "" {
		text += fmt.Sprintf(" (trace %s)", e.TraceID)
	}
	return text
}

// Format prints what Error returns for every verb, %+v and %#v included: a field holds addresses.
func (e Error) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text()) }

// refused is the error of a request that is not sent, because it could not succeed.
func refused(op, format string, args ...any) *Error {
	return &Error{Outcome: Rejected, Code: CodeInvalidRequest, Message: redact(fmt.Sprintf(format, args...)), op: op}
}

// lost is the error of a call whose answer did not come. The cause is never an error of net/http: those may quote the
// request, and the headers of the answer.
func lost(code, message string, cause error) *Error {
	return &Error{Outcome: Transient, Code: code, Message: message, Cause: cause}
}

// failureOf says what went wrong on the way.
func failureOf(ctx context.Context, err error) *Error {
	switch ctxErr := ctx.Err(); {
	case errors.Is(context.Cause(ctx), errReplayed):
		return lost(CodeConnectionClosed, "the connection closed before an answer came", io.EOF)
	case errors.Is(ctxErr, context.Canceled):
		return lost(CodeCanceled, "the call was cancelled", context.Canceled)
	case errors.Is(ctxErr, context.DeadlineExceeded):
		return lost(CodeTimeout, "the call's deadline passed", context.DeadlineExceeded)
	}
	if e := connectFailure(err); e != nil {
		return e
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	timeout, _ := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // the write deadline, a moment before the context's
		return lost(CodeTimeout, "the call's deadline passed", context.DeadlineExceeded)
	case timeout != nil && timeout.Timeout(): // of the TLS handshake: nothing else has a timeout of its own
		return lost(CodeTLS, "no TLS handshake with the server in time", nil)
	case errno == syscall.ECONNRESET, errno == syscall.EPIPE, errno == syscall.ECONNABORTED:
		return lost(CodeConnectionReset, "the connection broke: "+errno.Error(), errno)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return lost(CodeConnectionClosed, "the connection closed in the middle of an answer", io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF),
		strings.Contains(err.Error(), "server closed idle connection"): // net/http exports no error for it
		return lost(CodeConnectionClosed, "the connection closed before an answer came", io.EOF)
	case errno != 0:
		return lost(CodeNetwork, "the network failed: "+errno.Error(), errno)
	}
	return lost(CodeNetwork, "no HTTP answer could be read from the connection", nil)
}

// connectFailure knows the errors of a connection that was never made; nil for any other.
func connectFailure(err error) *Error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return lost(CodeTLS, "the server's certificate is not trusted", nil)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return lost(CodeTLS, "the server does not speak TLS", nil)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		why := "its name could not be looked up"
		if dns.IsNotFound {
			why = "there is no such name"
		}
		return lost(CodeDial, "no connection to the server: "+why, nil)
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
		return nil
	case op.Op == "remote error", op.Op == "local error": // crypto/tls's words for an alert
		return lost(CodeTLS, "the TLS handshake was refused", nil)
	case op.Op != "dial" && op.Op != "proxyconnect":
		return nil
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return lost(CodeDial, "no connection to the server: "+errno.Error(), errno)
	}
	return lost(CodeDial, "no connection to the server in time", nil)
}
