package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// kind is the last part of a problem's type, by which a program tells problems apart.
type kind string

// The kinds of problems.
const (
	badRequest    kind = "bad-request"
	unauthorized  kind = "unauthorized"
	forbidden     kind = "forbidden"
	wrongHost     kind = "wrong-host"
	crossSite     kind = "cross-site"
	notFound      kind = "not-found"
	noMethod      kind = "method-not-allowed"
	tooLarge      kind = "too-large"
	mediaType     kind = "media-type"
	invalid       kind = "validation"
	guessed       kind = "guess"
	keyReused     kind = "idempotency-key-reused"
	keyInUse      kind = "idempotency-key-in-use"
	wasForgotten  kind = "forgotten"
	wrongState    kind = "state"
	tooMany       kind = "too-many-requests"
	busy          kind = "busy"
	noClerkKey    kind = "no-clerk-key"
	clerkRefuses  kind = "clerk-key-refused"
	unavailable   kind = "redis-unavailable"
	redisFull     kind = "redis-full"
	redisRefuses  kind = "redis-refuses"
	unsure        kind = "unsure"
	unfinished    kind = "unfinished"
	internalFault kind = "internal"
)

const typePrefix = "urn:usher:problem:"

// Fault is one thing that is wrong with a request.
type Fault struct {
	Pointer string `json:"pointer,omitempty" doc:"Where in the JSON of the body, as RFC 6901 says."`
	Line    int    `json:"line,omitempty" doc:"Line of a CSV; the header is line 1."`
	Field   string `json:"field" doc:"The field, the parameter, or row for all of a row."`
	Reason  string `json:"reason"`
}

// Problem is what a client is told of a request that was refused or has failed (RFC 9457).
type Problem struct {
	Type        string  `json:"type" example:"urn:usher:problem:validation" doc:"What kind of problem it is."`
	Title       string  `json:"title"`
	Status      int     `json:"status"`
	Detail      string  `json:"detail" doc:"What went wrong, and what to do."`
	Errors      []Fault `json:"errors,omitempty" nullable:"false" doc:"What is wrong with the request: the first 1,000."`
	ErrorsTotal int     `json:"errors_total,omitempty" doc:"How many faults there are."`

	retryAfter int  // seconds
	unread     bool // the body was not read: the connection ends, or else net/http would wait for the rest
}

// mostFaults is how many faults a client is told.
const mostFaults = 1000

func problem(status int, is kind, format string, args ...any) *Problem {
	return &Problem{
		Type: typePrefix + string(is), Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...),
	}
}

// faulty is a problem with faults; nothing was done.
func faulty(is kind, detail string, faults []Fault) *Problem {
	p := problem(http.StatusUnprocessableEntity, is, "%s", detail)
	p.Errors, p.ErrorsTotal = faults[:min(mostFaults, len(faults))], len(faults)
	return p
}

// after says when the request may be repeated.
func (p *Problem) after(seconds int) *Problem {
	p.retryAfter = seconds
	return p
}

// early says that the body was not read.
func (p *Problem) early() *Problem {
	p.unread = true
	return p
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus is for huma.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders is for huma.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.unread {
		h.Set("Connection", "close")
	}
	switch {
	case p.retryAfter > 0:
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	case p.Status == http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

const problemType = "application/problem+json"

// ContentType is for huma.
func (*Problem) ContentType(string) string { return problemType }

// wantsJSON is said of a body of another media type.
const wantsJSON = "the body must be JSON in UTF-8, and the header Content-Type must say so: application/json"

// fromHuma makes a problem of one that huma has found.
func fromHuma(e *huma.ErrorModel) *Problem {
	var faults []Fault
	for _, detail := range e.Errors {
		faults = append(faults, faultAt(detail))
	}
	switch e.Status {
	case http.StatusUnsupportedMediaType:
		return problem(e.Status, mediaType, wantsJSON)
	case http.StatusRequestEntityTooLarge:
		return problem(e.Status, tooLarge, "the body is too large for this request")
	case http.StatusUnprocessableEntity:
		return faulty(invalid, "the request is not as it must be; nothing was done", faults)
	case http.StatusInternalServerError:
		return problem(e.Status, internalFault, "the server has failed at this request")
	}
	p := problem(e.Status, badRequest, "%s", e.Detail)
	p.Errors, p.ErrorsTotal = faults, len(faults)
	return p
}

// faultAt says where a fault is that huma has found at a place such as body.items[3].tags, query.at or header.If-Match.
func faultAt(e *huma.ErrorDetail) Fault {
	where, name, _ := strings.Cut(e.Location, ".")
	reason := e.Message
	before, after, _ := strings.Cut(validation.MsgExpectedRequiredProperty, "%s")
	missing, begins := strings.CutPrefix(reason, before)
	missing, ends := strings.CutSuffix(missing, after)
	switch {
	case begins && ends:
		name, reason = strings.TrimPrefix(name+"."+missing, "."), "is missing"
	case reason == validation.MsgUnexpectedProperty:
		reason = "is no field of this request"
	}
	if where != "body" {
		return Fault{Field: name, Reason: reason}
	}
	pointer := ""
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part)
	}
	field := name
	if field == "" {
		field = "body"
	}
	return Fault{Pointer: pointer, Field: field, Reason: reason}
}

// problemOf makes a problem of an error.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	if faults := tasks.Faults(err); len(faults) > 0 {
		return faulty(invalid, "the request is not as it must be; nothing was done", faultsOf(faults))
	}
	if e, ok := errors.AsType[*settings.Error](err); ok {
		return faulty(invalid, "the request is not as it must be; nothing was done", []Fault{{
			Field: strings.TrimPrefix(e.Name, "--"), Reason: settings.FlagsAsKeys("got " + e.Got + ", want " + e.Want),
		}})
	}
	if e, ok := errors.AsType[*peoplefile.Error](err); ok {
		return faulty(invalid, "the list cannot be read; nothing was enqueued",
			[]Fault{{Line: e.Line, Field: "body", Reason: settings.FlagsAsKeys(e.Reason)}})
	}
	said := settings.FlagsAsKeys(err.Error())
	switch {
	case is(tasks.ErrNotFound, deadletter.ErrNotFound, ledger.ErrNotFound):
		return problem(http.StatusNotFound, notFound, "%s", said)
	case is(directory.ErrNoCopy):
		return problem(http.StatusConflict, wrongState, "the directory was never synced: POST /v1/syncs")
	case is(tasks.ErrConflict):
		return problem(http.StatusUnprocessableEntity, keyReused,
			"the Idempotency-Key was used for another request; nothing was done")
	case is(tasks.ErrForgotten):
		return problem(http.StatusUnprocessableEntity, wasForgotten, "the address was forgotten on request")
	case is(tasks.ErrCampaignOver, desk.ErrTaskOver, desk.ErrTaskAtWork, desk.ErrTaskCampaign, desk.ErrUploading,
		deadletter.ErrBegun, deadletter.ErrChanged):
		return problem(http.StatusConflict, wrongState, "%s", said)
	case is(desk.ErrKeyRefused, policy.ErrNamespace):
		return problem(http.StatusConflict, clerkRefuses, "%s", said)
	case store.IsFull(err) && !is(tasks.ErrUnsure):
		return problem(http.StatusServiceUnavailable, redisFull, "Redis is full; %s", desk.Undone(err)).after(60)
	case is(tasks.ErrUnsure, tasks.ErrHeld):
		const repeat = "%s; repeat the request: that adds nothing twice"
		return problem(http.StatusServiceUnavailable, unsure, repeat, said).after(1)
	case is(desk.ErrLeft, desk.ErrAtClerk, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, unfinished,
			"it could not be finished in time; repeat the request: it goes on where it was").after(5)
	}
	if kind, words := desk.Explain(err); kind == desk.NoRight {
		return problem(http.StatusServiceUnavailable, redisRefuses,
			"%s; what was asked may be done in part: repeat the request once the right is given", words).after(60)
	}
	if fault, _ := desk.RedisFault(err); fault != "" {
		return problem(http.StatusServiceUnavailable, unavailable, "%s", fault).after(1)
	}
	return problem(http.StatusInternalServerError, internalFault, "the server has failed at this request")
}

// faultsOf gives the faults of recipients and requests as a client sees them.
func faultsOf(found []*tasks.InvalidError) (faults []Fault) {
	for _, f := range found {
		pointer := "/" + strings.ReplaceAll(f.Field, ".", "/")
		if f.Index >= 0 {
			pointer = fmt.Sprintf("/%d%s", f.Index, pointer)
		}
		faults = append(faults, Fault{Pointer: pointer, Field: f.Field, Reason: settings.FlagsAsKeys(f.Reason)})
	}
	return faults
}
