package clerkclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	htmlBody  = "<html><head><title>Sorry</title></head><body>error code: 1010</body></html>"
	otherJSON = `{"success":false,"errors":[{"code":1010,"message":"blocked"}]}`
)

// wantOutcome says again, in other words than outcomeOf, what each status means with each kind of body.
func wantOutcome(status int, kind string) Outcome {
	bodiless := status == http.StatusNoContent || status == http.StatusNotModified
	if kind == "good" && status < 300 && !bodiless {
		return Created
	}
	switch status {
	case 401:
		return Unauthorized
	case 403:
		return map[string]Outcome{"clerk": Rejected, "locked": Rejected, "broken": Transient,
			"broken good": Transient}[kind].or(Unauthorized)
	case 409:
		return map[string]Outcome{"clerk": Rejected}[kind].or(Transient)
	case 408, 425:
		return Transient
	case 429:
		return Throttled
	}
	if status/100 == 4 && (kind == "clerk" || kind == "locked") {
		return Rejected
	}
	return Transient // what is not Clerk's refuses nobody
}

func (o Outcome) or(other Outcome) Outcome {
	if o == "" {
		return other
	}
	return o
}

// brokenStatuses are those with which a body breaks off: each that has a rule, and one that has none of each hundred.
// A broken answer costs a connection.
var brokenStatuses = []int{
	200, 201, 204, 250, 302, 304, 307, 350, 400, 401, 402, 403, 404, 405, 408, 409, 410, 415, 422, 423, 425, 429, 450,
	500, 501, 502, 503, 504, 550, 599,
}

// TestEveryStatus walks every status with every kind of body through every call, over real HTTP.
func TestEveryStatus(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			bodies := map[string]string{
				"good": op.good, "clerk": clerkError("form_param_invalid"), "locked": clerkError("resource_locked"),
				"other": otherJSON, "html": htmlBody, "empty": "", "cut": clerkError("")[:40],
				"broken":      clerkError("")[:40],
				"broken good": op.good,
			}
			server := &script{}
			c := newClient(t, server)
			for status := 200; status <= 599; status++ {
				for kind, body := range bodies {
					if strings.HasPrefix(kind, "broken") && !slices.Contains(brokenStatuses, status) {
						continue
					}
					server.set(answerOfKind(kind, status, body))
					answer, err := op.do(t.Context(), c)
					checkOutcome(t, fmt.Sprintf("%d %s", status, kind), answer, err, status, wantOutcome(status, kind))
				}
			}
		})
	}
}

// answerOfKind plays an answer; a broken one ends before its announced length.
func answerOfKind(kind string, status int, body string) http.HandlerFunc {
	if !strings.HasPrefix(kind, "broken") || status == http.StatusNoContent || status == http.StatusNotModified {
		return answering(status, body, "Clerk-Trace-Id", "trace-9")
	}
	return func(w http.ResponseWriter, r *http.Request) {
		answering(status, body, "Clerk-Trace-Id", "trace-9", "Content-Length", strconv.Itoa(len(body)+10))(w, r)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func checkOutcome(t *testing.T, what string, answer Answer, err error, status int, want Outcome) {
	t.Helper()
	if got := OutcomeOf(err); got != want {
		t.Errorf("%s: outcome %s, want %s: %v", what, got, want, err)
	}
	if answer.Status != status || answer.Date.IsZero() || answer.TraceID != "trace-9" {
		t.Errorf("%s: answer %+v", what, answer)
	}
	if err == nil {
		return
	}
	e := asError(t, err)
	if e.Status != status || !e.Sent || e.TraceID != "trace-9" || e.Error() == "" {
		t.Errorf("%s: %#v, status %d, sent %t, trace %q", what, e, e.Status, e.Sent, e.TraceID)
	}
	if status < 300 && e.Code != CodeUnreadableAnswer {
		t.Errorf("%s: code %q, want %q", what, e.Code, CodeUnreadableAnswer)
	}
}

// TestEndlessBody: a client that read to the end would never return.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			for status, want := range map[int]Outcome{
				200: Transient, 307: Transient, 400: Transient, 401: Unauthorized, 403: Transient, 409: Transient,
				429: Throttled, 502: Transient,
			} {
				var written atomic.Int64
				c := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(status)
					chunk := []byte(strings.Repeat(" ", 1<<16))
					for {
						n, err := w.Write(chunk)
						written.Add(int64(n))
						if err != nil {
							return
						}
					}
				}))
				_, err := op.do(t.Context(), c)
				e := asError(t, err)
				if e.Outcome != want || e.Status != status {
					t.Errorf("%d: %v is %s, want %s", status, e, e.Outcome, want)
				}
				if status == 200 && e.Code != CodeAnswerTooLarge {
					t.Errorf("code %q, want %q", e.Code, CodeAnswerTooLarge)
				}
				if most := int64(maxListAnswer + 64<<20); written.Load() > most { // what sockets may hold, generously
					t.Errorf("%d: the server could write %d bytes", status, written.Load())
				}
			}
		})
	}
}

func TestManySmallObjectsAreNotDecoded(t *testing.T) {
	t.Parallel()
	body := `{"data":[` + strings.Repeat("{},", 200_000) + `{}],"total_count":1}`
	c := newClient(t, answering(200, body))
	_, _, err := c.List(t.Context(), ListQuery{})
	if e := asError(t, err); e.Outcome != Transient || e.Code != CodeUnreadableAnswer ||
		!strings.Contains(e.Message, "not the JSON") {
		t.Errorf("got %v", e)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                  0,
		"0":                                 0,
		"30":                                30 * time.Second,
		" 30 ":                              30 * time.Second,
		"3600":                              time.Hour,
		"-5":                                0,
		"86400":                             24 * time.Hour,
		"86401":                             24 * time.Hour,
		"99999999999999999999999":           24 * time.Hour,
		"-99999999999999999999999":          0,
		"9223372036854775807":               24 * time.Hour,
		"1.5":                               0,
		"1e3":                               0,
		"soon":                              0,
		"Wed, 01 Jul 2026 12:01:40 GMT":     100 * time.Second,
		"Wed, 01 Jul 2026 11:59:00 GMT":     0,
		"Thu, 01 Jul 2027 12:00:00 GMT":     24 * time.Hour,
		"Wednesday, 01-Jul-26 12:00:07 GMT": 7 * time.Second,
		"Wed Jul  1 12:00:09 2026":          9 * time.Second,
		"2026-07-01T12:00:00Z":              0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// TestRetryAfterDateIsAgainstTheServersClock: our clock may be wrong by more than the wait.
func TestRetryAfterDateIsAgainstTheServersClock(t *testing.T) {
	t.Parallel()
	header := http.Header{"Retry-After": {"Wed, 01 Jul 2026 12:01:40 GMT"}, "Date": {"Wed, 01 Jul 2026 12:00:00 GMT"}}
	ours := time.Date(2026, 7, 1, 12, 1, 30, 0, time.UTC)
	if e := classify("", answer{status: 429, header: header, at: ours}); e.RetryAfter != 100*time.Second {
		t.Errorf("with a Date: %s", e.RetryAfter)
	}
	header.Del("Date")
	if e := classify("", answer{status: 429, header: header, at: ours}); e.RetryAfter != 10*time.Second {
		t.Errorf("without a Date: %s", e.RetryAfter)
	}
}

func TestThrottledWhateverTheBody(t *testing.T) {
	t.Parallel()
	for _, body := range []string{clerkError("too_many_requests"), clerkError("rate_limit_exceeded"),
		clerkError("duplicate_record"), htmlBody, ""} {
		c := newClient(t, answering(429, body, "Retry-After", "17"))
		_, err := operations()[0].do(t.Context(), c)
		if e := asError(t, err); e.Outcome != Throttled || e.RetryAfter != 17*time.Second {
			t.Errorf("%q: %v, retry after %s", body, e, e.RetryAfter)
		}
	}
}

func TestRefusalsInDetail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status    int
		body      string
		outcome   Outcome
		code      string
		offenders []string
		reach     Reach
	}{
		"duplicates": {
			400, clerkError("duplicate_record",
				`{"email_addresses":["`+alice+`","BOB@example.org","bob@example.org"]}`),
			Rejected, "duplicate_record", []string{"alice.liddell@example.com", bob}, ReachRequest,
		},
		"not allowed": {403, clerkError("not_allowed_access", `{"identifiers":["`+alice+`"]}`), Rejected,
			"not_allowed_access", []string{"alice.liddell@example.com"}, ReachRequest},
		"one as a string": {400, clerkError("duplicate_record", `{"email_addresses":"`+bob+`"}`), Rejected,
			"duplicate_record", []string{bob}, ReachRequest},
		"no address": {403, clerkError("not_allowed_access", `{"identifiers":["example.org",7,null]}`),
			Rejected, "not_allowed_access", nil, ReachRequest},
		"a user": {422, clerkError("form_identifier_exists", `{"param_name":"email_address"}`), Rejected,
			"form_identifier_exists", nil, ReachRequest},
		"quota": {403, clerkError("quota_exceeded"), Rejected, "quota_exceeded", nil, ReachInstance},
		"development quota": {400, clerkError("dev_monthly_email_limit_exceeded"), Rejected,
			"dev_monthly_email_limit_exceeded", nil, ReachInstance},
		"meta of no shape": {400, clerkError("duplicate_record", `[1]`), Rejected, "duplicate_record", nil,
			ReachRequest},
		"bad key": {401, clerkError("clerk_key_invalid"), Unauthorized, "clerk_key_invalid", nil,
			ReachRequest},
		"locked": {409, clerkError("resource_locked"), Transient, "resource_locked", nil, ReachRequest},
		"a code of no form": {400, clerkError("see mail to alice.liddell@example.com"), Rejected, "", nil,
			ReachUnknown},
		"a new code": {422, clerkError("made_up_tomorrow"), Rejected, "made_up_tomorrow", nil, ReachUnknown},
		"no invitations": {400, clerkError("invitations_not_supported"), Rejected, "invitations_not_supported", nil,
			ReachInstance},
		"not in this plan": {402, clerkError("unsupported_subscription_plan_features"), Rejected,
			"unsupported_subscription_plan_features", nil, ReachInstance},
		"a field": {422, clerkError("form_made_up"), Rejected, "form_made_up", nil, ReachRequest},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, answering(test.status, test.body))
			answer, err := operations()[1].do(t.Context(), c)
			e := asError(t, err)
			if e.Outcome != test.outcome || e.Code != test.code || e.Reach != test.reach ||
				!slices.Equal(e.Offenders, test.offenders) {
				t.Errorf("%v: outcome %s, code %q, reach %q, offenders %q", e, e.Outcome, e.Code, e.Reach, e.Offenders)
			}
			if e.TraceID != "trace-1" || answer.TraceID != "trace-1" { // from the body: there is no header
				t.Errorf("trace %q, %q", e.TraceID, answer.TraceID)
			}
			mustNotLeak(t, err, *e)
			mustNotMarshal(t, err, *e)
		})
	}
}

func TestOffendersAreBounded(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&all, `"u%d@example.com",`, i)
	}
	body := readErrors([]byte(clerkError("duplicate_record",
		`{"email_addresses":[`+strings.TrimSuffix(all.String(), ",")+`]}`)))
	if got := len(body.offenders()); got != maxOffenders {
		t.Errorf("%d offenders, want %d", got, maxOffenders)
	}
}

func TestBodyCannotSetTheStatus(t *testing.T) {
	t.Parallel()
	c := newClient(t, answering(503, `{"status":200,"errors":[{"code":"service_unavailable","message":"later"}]}`))
	_, err := operations()[0].do(t.Context(), c)
	if e := asError(t, err); e.Status != 503 || e.Outcome != Transient {
		t.Errorf("got %v, status %d", e, e.Status)
	}
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	for want, err := range map[Outcome]error{
		Created:   nil,
		Transient: io.ErrUnexpectedEOF,
		Throttled: fmt.Errorf("calling: %w", &Error{Outcome: Throttled}),
		Rejected:  errors.Join(context.Canceled, &Error{Outcome: Rejected}),
	} {
		if got := OutcomeOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// TestNobodyIsServed: maintenance mode, in both forms of its body, and a key that lacks the right.
func TestNobodyIsServed(t *testing.T) {
	t.Parallel()
	const topLevel = `{"shortMessage":"Maintenance","longMessage":"Try again later.","code":"maintenance_mode"}`
	for name, c := range map[string]struct {
		status int
		body   string
		want   Outcome
		code   string
		writes bool // a write of it is about all writes
	}{
		"documented":      {503, topLevel, Unavailable, "maintenance_mode", true},
		"as other errors": {503, clerkError("maintenance_mode"), Unavailable, "maintenance_mode", true},
		"another 503":     {503, clerkError("service_unavailable"), Transient, "service_unavailable", false},
		"another form":    {503, `{"code":"some_code"}`, Transient, "", false},
		"no right":        {403, clerkError("authorization_invalid"), Unavailable, "authorization_invalid", false},
		"no scope": {403, clerkError("authorization_missing_scopes"), Unavailable, "authorization_missing_scopes",
			false},
		"a bad key":         {401, clerkError("authorization_invalid"), Unauthorized, "authorization_invalid", false},
		"not this address":  {403, clerkError("not_allowed_access"), Rejected, "not_allowed_access", false},
		"not that far away": {400, topLevel, Rejected, "maintenance_mode", false},
	} {
		for _, op := range operations() {
			server := &script{}
			server.set(answering(c.status, c.body, "Retry-After", "1800"))
			_, err := op.do(t.Context(), newClient(t, server))
			e := asError(t, err)
			reach := ReachRequest
			switch {
			case c.writes && op.method != http.MethodGet:
				reach = ReachWrites
			case c.want == Unavailable:
				reach = ReachEndpoint
			case c.code == "maintenance_mode": // with another status
				reach = ReachUnknown
			}
			if e.Outcome != c.want || e.Code != c.code || e.Reach != reach || e.RetryAfter != 30*time.Minute {
				t.Errorf("%s, %s: %s %q, reach %q, after %s", name, op.name, e.Outcome, e.Code, e.Reach, e.RetryAfter)
			}
		}
	}
}
