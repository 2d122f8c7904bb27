package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	rejected := func(offenders ...string) *clerkclient.Error {
		return &clerkclient.Error{Outcome: clerkclient.Rejected, Offenders: offenders}
	}
	whole := rejected("p0@example.com")
	whole.Whole = true
	const again, doubt, alone, refused = "again", "doubt", "alone", "refused"
	for name, c := range map[string]struct {
		n    int
		err  error
		want []string
	}{
		"one is named":       {3, rejected("p1@example.com"), []string{doubt, refused, doubt}},
		"nobody is named":    {2, rejected(), []string{alone, alone}},
		"a stranger is":      {2, rejected("stranger@example.com"), []string{alone, alone}},
		"one alone":          {1, rejected(), []string{refused}},
		"all as a whole":     {2, whole, []string{refused, refused}},
		"throttled":          {2, &clerkclient.Error{Outcome: clerkclient.Throttled}, []string{again, again}},
		"unauthorized":       {1, &clerkclient.Error{Outcome: clerkclient.Unauthorized}, []string{again}},
		"failed":             {2, &clerkclient.Error{Outcome: clerkclient.Transient}, []string{refused, refused}},
		"an unknown failure": {1, errors.New("boom"), []string{refused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, result := range judge(people(t, "p", c.n), nil, c.err) {
				got := fmt.Sprintf("%+v", result)
				switch {
				case result.Doubt && result.Alone:
					got = alone
				case result.Doubt:
					got = doubt
				case result.Again:
					got = again
				case result.Refusal != nil:
					got = refused
				}
				if got != c.want[i] {
					t.Errorf("number %d: %s, want %s", i, got, c.want[i])
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
			if got := judge(people(t, "p", 1), nil, err)[0].Refusal.Sent; got != want {
				t.Errorf("%v: sent is %t, want %t", err, got, want)
			}
		}
	}
}
