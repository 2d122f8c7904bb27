package ask

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

func TestLookUpFindsWhomClerkWouldRefuse(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"user@example.com", "both@example.com"},
		pending: []string{"Pending@Example.com", "other@example.com"}}
	q := once(t, clerk)
	for _, c := range []struct {
		who   tasks.Recipient
		code  string
		alone bool
	}{
		{who: tasks.Recipient{EmailAddress: "good@example.com"}},
		{who: tasks.Recipient{EmailAddress: "User@example.com"}, code: "form_identifier_exists"},
		{who: tasks.Recipient{EmailAddress: "pending@example.com"}, code: "duplicate_record"},
		// It is not known whether Clerk admits them with ignore_existing: a look-up never refuses them.
		{who: tasks.Recipient{EmailAddress: "user@example.com", IgnoreExisting: true}, alone: true},
		{who: tasks.Recipient{EmailAddress: "pending@example.com", IgnoreExisting: true}},
	} {
		got := q.LookUp(t.Context(), []tasks.Recipient{c.who})[0]
		code := ""
		if got.Refusal != nil {
			code = got.Refusal.Code
		}
		if got.Alone != c.alone || code != c.code {
			t.Errorf("%s: %+v, %q", c.who.EmailAddress, got, code)
		}
	}
}

func TestALookUpThatFailsRefusesNobody(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"p0@example.com"}, pending: []string{"p1@example.com"},
		refuse: errors.New("no")}
	for _, f := range once(t, clerk).LookUp(t.Context(), people("p", 3)) {
		if f.Refusal != nil || f.Alone || !f.Unknown {
			t.Errorf("%+v", f)
		}
	}
}

func TestASurveyTellsTheRefusedAndTheUnknown(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{users: []string{"p7@example.com", "p120@example.com"}, pending: []string{"P8@example.com"}}
	var told []Progress
	findings, err := patient(t, clerk).Survey(t.Context(), people("p", 130), func(p Progress) { told = append(told, p) })
	if len(told) != 3 || told[2] != (Progress{Answered: 3, Questions: 3, Users: 2}) {
		t.Errorf("told of %+v", told)
	}
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
		&clerkclient.Error{Outcome: clerkclient.Throttled, Status: 429,
			RetryAfter: 200 * time.Millisecond, Sent: true},
		&clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true},
	}}
	findings, err := patient(t, clerk).Survey(t.Context(), people("p", 3), nil)
	if err != nil || findings[0].Unknown || clerk.asked != 4 {
		t.Errorf("%+v, %v after %d questions, want 4", findings, err, clerk.asked)
	}
}

func TestASurveyThatFailsSaysWhoIsUnknown(t *testing.T) {
	t.Parallel()
	refused := &clerkclient.Error{Outcome: clerkclient.Unauthorized, Status: 401, Sent: true}
	clerk := &fakeClerk{refuse: refused}
	caller := newCaller(t)
	list := append(people("p", 2), tasks.Recipient{EmailAddress: "again@example.com", IgnoreExisting: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() { <-caller.Gate.Refused(); cancel(refused) }() // as whoever has the gate does
	findings, err := New(clerk, Patiently(caller), nil, zerolog.Nop()).Survey(ctx, list, nil)
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
type panickyClerk struct{}

func (*panickyClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	panic("secret")
}

func (*panickyClerk) UsersByEmail(context.Context, []string) ([]string, clerkclient.Answer, error) {
	panic("secret")
}

// TestAPanickingQuestionFails also shows that a panic does not end the process: questions run in goroutines of their
// own.
func TestAPanickingQuestionFails(t *testing.T) {
	t.Parallel()
	clerk := &panickyClerk{}
	q, list := once(t, clerk), people("p", 5)
	for _, f := range q.LookUp(t.Context(), list) {
		if f.Refusal != nil || !f.Unknown {
			t.Errorf("a look-up found %+v", f)
		}
	}
	findings, err := patient(t, clerk).Survey(t.Context(), list, nil)
	if err == nil || !findings[0].Unknown {
		t.Errorf("a survey found %+v, %v", findings[0], err)
	}
	if found := q.FindLost(t.Context(), lostSince(time.Now(), "p0@example.com")); found[0].Err == nil {
		t.Errorf("lost calls: %v, and no error", found)
	}
	if found, err := q.PendingOf(t.Context(), "p0@example.com"); err == nil {
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
		atOnce := func(ctx context.Context, question func(context.Context) error) error { return question(ctx) }
		q, list := New(clerk, atOnce, observer, zerolog.New(&log)), people("p", 3)
		for look, warnings := range []int{1, 1, 2} {
			q.LookUp(t.Context(), list)
			if got := strings.Count(log.String(), "a look-up failed"); got != warnings ||
				observer.failed.Load() != int32(look+1) {
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
		if q.LookUp(stopped, list); observer.failed.Load() != 3 ||
			strings.Count(log.String(), "a look-up failed") != 2 {
			t.Errorf("a look-up that was given up counts: %d, %s", observer.failed.Load(), log.String())
		}
		clerk.refuse = nil
		if q.LookUp(t.Context(), list); observer.failed.Load() != 3 {
			t.Error("a look-up that was answered counts")
		}
	})
}
