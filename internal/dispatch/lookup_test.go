package dispatch

import (
	"errors"
	"testing"

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
