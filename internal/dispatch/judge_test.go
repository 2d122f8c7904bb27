package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	rejected := func(offenders ...string) *clerkclient.Error {
		return &clerkclient.Error{Outcome: clerkclient.Rejected, Offenders: offenders}
	}
	instance, unknown := rejected(), rejected()
	instance.Reach, unknown.Reach = clerkclient.ReachInstance, clerkclient.ReachUnknown
	doubted := fate.Answer{Kind: fate.KindDoubted}
	again, another := fate.Answer{Kind: fate.KindNothingYet}, fate.Answer{Kind: fate.KindForAnother}
	refused, alone := fate.Answer{Kind: fate.KindRefused}, fate.Answer{Kind: fate.KindForAnother, Alone: true}
	lost, unsent := fate.Answer{Kind: fate.KindLost}, fate.Answer{Kind: fate.KindNotSent}
	failed := func(sent bool) error { return &clerkclient.Error{Outcome: clerkclient.Transient, Sent: sent} }
	for name, c := range map[string]struct {
		n    int
		err  error
		want []fate.Answer
	}{
		"one is named":       {3, rejected("p1@example.com"), []fate.Answer{another, refused, another}},
		"nobody is named":    {2, rejected(), []fate.Answer{alone, alone}},
		"a stranger is":      {2, rejected("stranger@example.com"), []fate.Answer{alone, alone}},
		"one alone":          {1, rejected(), []fate.Answer{refused}},
		"the instance, two":  {2, instance, []fate.Answer{alone, alone}},
		"the instance, one":  {1, instance, []fate.Answer{doubted}},
		"unknown, two":       {2, unknown, []fate.Answer{alone, alone}},
		"unknown, one":       {1, unknown, []fate.Answer{doubted}},
		"throttled":          {2, &clerkclient.Error{Outcome: clerkclient.Throttled}, []fate.Answer{again, again}},
		"unauthorized":       {1, &clerkclient.Error{Outcome: clerkclient.Unauthorized}, []fate.Answer{again}},
		"failed":             {2, failed(true), []fate.Answer{lost, lost}},
		"not sent":           {2, failed(false), []fate.Answer{unsent, unsent}},
		"an unknown failure": {1, errors.New("boom"), []fate.Answer{lost}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, got := range judge(people(t, "p", c.n), nil, c.err) {
				instance := c.want[i].Kind == fate.KindDoubted && c.err == instance
				if got.Kind != c.want[i].Kind || got.Alone != c.want[i].Alone || got.Instance != instance {
					t.Errorf("number %d: %+v, want %+v", i, got, c.want[i])
				}
			}
		})
	}
}

// TestAnErrorThatIsNotClerksMayHaveBeenSent: only the one that says that nothing was.
func TestAnErrorThatIsNotClerksMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	for want, errs := range map[bool][]error{
		true: {errors.New("boom"), context.Canceled, fmt.Errorf("wrapped: %w", context.DeadlineExceeded)},
		false: {call.ErrNothingSent, fmt.Errorf("wrapped: %w", call.ErrNothingSent),
			&clerkclient.Error{Outcome: clerkclient.Transient}},
	} {
		for _, err := range errs {
			if got := judge(people(t, "p", 1), nil, err)[0].Kind == fate.KindLost; got != want {
				t.Errorf("%v: counts as lost: %t, want %t", err, got, want)
			}
		}
	}
}

// TestOnlyWhatClerkHasAnsweredMayBeRepeatedAtOnce: a complete 500 or 503 in its own words, to a call for one.
func TestOnlyWhatClerkHasAnsweredMayBeRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		n    int
		err  clerkclient.Error
		want bool
	}{
		"500":             {1, clerkclient.Error{Status: 500, Code: "internal_clerk_error"}, true},
		"503":             {1, clerkclient.Error{Status: 503, Code: "service_unavailable"}, true},
		"503 of two":      {2, clerkclient.Error{Status: 503, Code: "service_unavailable"}, false},
		"503 as a page":   {1, clerkclient.Error{Status: 503, NotClerk: true}, false},
		"503 broken off":  {1, clerkclient.Error{Status: 503}, false},
		"504":             {1, clerkclient.Error{Status: 504, Code: "gateway_timeout"}, false},
		"502":             {1, clerkclient.Error{Status: 502, Code: "bad_gateway"}, false},
		"408":             {1, clerkclient.Error{Status: 408, Code: "timeout"}, false},
		"no answer":       {1, clerkclient.Error{Code: clerkclient.CodeTimeout}, false},
		"unreadable, 200": {1, clerkclient.Error{Status: 200, Code: clerkclient.CodeUnreadableAnswer}, false},
	} {
		c.err.Outcome, c.err.Sent = clerkclient.Transient, true
		for _, got := range judge(people(t, "p", c.n), nil, &c.err) {
			if got.Kind != fate.KindLost || got.Answered != c.want || got.Shared != (c.n > 1) {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}
