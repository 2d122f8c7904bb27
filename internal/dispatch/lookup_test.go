package dispatch

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

func TestLookUpFindsTheDoomed(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"user@example.com", "both@example.com"}, pending: []string{"Pending@Example.com", "other@example.com"}}
	d := setup(t, clerk, 100, 25)
	for _, c := range []struct {
		who  tasks.Recipient
		want Result
		code string
	}{
		{tasks.Recipient{EmailAddress: "good@example.com"}, Result{Again: true}, ""},
		{tasks.Recipient{EmailAddress: "User@example.com"}, Result{Found: true}, "form_identifier_exists"},
		{tasks.Recipient{EmailAddress: "pending@example.com"}, Result{Found: true}, "duplicate_record"},
		// Whether Clerk admits them with ignore_existing is not known: never refused from a look-up.
		{tasks.Recipient{EmailAddress: "user@example.com", IgnoreExisting: true}, Result{Again: true, Alone: true}, ""},
		{tasks.Recipient{EmailAddress: "pending@example.com", IgnoreExisting: true}, Result{Again: true}, ""},
	} {
		got := d.LookUp(t.Context(), []Recipient{person(t, c.who)})[0]
		code := ""
		if got.Refusal != nil {
			code = got.Refusal.Code
		}
		if got.Found != c.want.Found || got.Again != c.want.Again || got.Alone != c.want.Alone || code != c.code {
			t.Errorf("%s: %+v, %q", c.who.EmailAddress, got, code)
		}
	}
}

func TestALookUpThatFailsRefusesNobody(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"p0@example.com"}, pending: []string{"p1@example.com"}, refuse: errors.New("no")}
	for _, result := range setup(t, clerk, 100, 25).LookUp(t.Context(), people(t, "p", 3)) {
		if !result.Again || result.Alone || result.Found {
			t.Errorf("%+v", result)
		}
	}
}

func TestASurveyTellsTheDoomedAndTheUnknown(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"p7@example.com", "p120@example.com"}, pending: []string{"P8@example.com"}}
	d := setup(t, clerk, 100, 25)
	findings, err := Survey(t.Context(), d.caller, clerk, people(t, "p", 130))
	if err != nil || clerk.lookUps != 2 {
		t.Fatalf("%v after %d calls for users", err, clerk.lookUps)
	}
	for i, f := range findings {
		want := map[int]string{7: "form_identifier_exists", 8: "duplicate_record", 120: "form_identifier_exists"}[i]
		if f.Unknown || (f.Refusal == nil) != (want == "") || f.Refusal != nil && f.Refusal.Code != want {
			t.Errorf("%d: %+v, want %q", i, f, want)
		}
	}
}

// TestASurveyWaitsOutAThrottling: and it tries again what fails, but not for ever.
func TestASurveyWaitsOutAThrottling(t *testing.T) {
	t.Parallel()
	clerk := &moodyClerk{errs: []error{
		&clerkclient.Error{Outcome: clerkclient.Throttled, Status: 429, RetryAfter: 200 * time.Millisecond, Sent: true},
		&clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true},
	}}
	d := setup(t, clerk, 100, 25)
	findings, err := Survey(t.Context(), d.caller, clerk, people(t, "p", 3))
	if err != nil || findings[0].Unknown || clerk.asked != 4 {
		t.Errorf("%+v, %v after %d questions, want 4", findings, err, clerk.asked)
	}
}

func TestASurveyThatFailsSaysWhoIsUnknown(t *testing.T) {
	t.Parallel()
	refused := &clerkclient.Error{Outcome: clerkclient.Unauthorized, Status: 401, Sent: true}
	clerk := &fakeClerk{refuse: refused}
	d := setup(t, clerk, 100, 25)
	list := append(people(t, "p", 2), person(t, tasks.Recipient{EmailAddress: "again@example.com", IgnoreExisting: true}))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() { <-d.caller.Gate.Refused(); cancel(refused) }() // as whoever has the gate does
	findings, err := Survey(ctx, d.caller, clerk, list)
	if e, ok := errors.AsType[*clerkclient.Error](err); !ok || e.Status != 401 {
		t.Errorf("%v", err)
	}
	if !findings[0].Unknown || !findings[1].Unknown || findings[2].Unknown {
		t.Errorf("%+v", findings)
	}
}

// moodyClerk fails its first questions.
type moodyClerk struct {
	fakeClerk
	errs  []error
	asked int
}

func (m *moodyClerk) mood() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if len(m.errs) > 0 {
		err, m.errs = m.errs[0], m.errs[1:]
	}
	return err
}

func (m *moodyClerk) List(ctx context.Context, q clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	if err := m.mood(); err != nil {
		return clerkclient.Page{}, clerkclient.Answer{}, err
	}
	return m.fakeClerk.List(ctx, q)
}

func (m *moodyClerk) UsersByEmail(ctx context.Context, addresses []string) ([]string, clerkclient.Answer, error) {
	if err := m.mood(); err != nil {
		return nil, clerkclient.Answer{}, err
	}
	return m.fakeClerk.UsersByEmail(ctx, addresses)
}

// panickyClerk panics whenever it is asked something.
type panickyClerk struct{ fakeClerk }

func (*panickyClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	panic("secret")
}

func (*panickyClerk) UsersByEmail(context.Context, []string) ([]string, clerkclient.Answer, error) {
	panic("secret")
}

// TestAPanickingQuestionFails also shows that a panic does not end the process: questions run in goroutines of their own.
func TestAPanickingQuestionFails(t *testing.T) {
	t.Parallel()
	clerk := &panickyClerk{}
	d := setup(t, clerk, 100, 25)
	list := people(t, "p", 5)
	for _, result := range d.LookUp(t.Context(), list) {
		if !result.Again || result.Found {
			t.Errorf("a look-up found %+v", result)
		}
	}
	findings, err := Survey(t.Context(), d.caller, clerk, list)
	if err == nil || !findings[0].Unknown {
		t.Errorf("a survey found %+v, %v", findings[0], err)
	}
	if found, err := d.FindLost(t.Context(), lostSince(t, time.Now(), "p0@example.com")); err == nil {
		t.Errorf("lost calls: %v, and no error", found)
	}
	if found, err := d.PendingOf(t.Context(), list[0]); err == nil {
		t.Errorf("pending invitations: %v, and no error", found)
	}
}

// counted counts the look-ups that failed.
type counted struct {
	silent
	failed atomic.Int32
}

func (c *counted) LookedUp(_ time.Duration, failed bool) {
	if failed {
		c.failed.Add(1)
	}
}

func TestALookUpThatFailsIsCountedAndSaidOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		clerk := &fakeClerk{refuse: &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Code: "down"}}
		observer := &counted{}
		d := &Dispatcher{log: zerolog.New(&log), observer: observer}
		d.questions = questions{clerk: clerk, put: func(ctx context.Context, question func(context.Context) error) error {
			return question(ctx)
		}}
		list := people(t, "p", 3)
		for look, warnings := range []int{1, 1, 2} {
			d.LookUp(t.Context(), list)
			if got := strings.Count(log.String(), "a look-up failed"); got != warnings || observer.failed.Load() != int32(look+1) {
				t.Errorf("look-up %d: %d warnings, %d counted", look+1, got, observer.failed.Load())
			}
			time.Sleep(policy.LookupWarning * 2 / 3)
		}
		for _, part := range []string{"users", "pending", "503 down", `"recipients":3`} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log does not say %q: %s", part, log.String())
			}
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		time.Sleep(policy.LookupWarning)
		if d.LookUp(stopped, list); observer.failed.Load() != 3 || strings.Count(log.String(), "a look-up failed") != 2 {
			t.Errorf("a look-up that was given up counts: %d, %s", observer.failed.Load(), log.String())
		}
		clerk.refuse = nil
		if d.LookUp(t.Context(), list); observer.failed.Load() != 3 {
			t.Error("a look-up that was answered counts")
		}
	})
}
