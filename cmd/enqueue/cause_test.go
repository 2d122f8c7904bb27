package main

import (
	"strings"
	"testing"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestFailuresWithoutACode are told without a gap where the code would be.
func TestFailuresWithoutACode(t *testing.T) {
	t.Parallel()
	s := setup(t)
	refused := fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Message: "no such thing"}
	testkit.NoError(t, s.letters.Put(t.Context(), deadletter.Entry{
		ID: "a", TaskID: "a", Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: "ada@example.com",
		Failure: refused, Attempts: 1, FailedAt: time.Now().UTC(),
		Payload: []byte(`{"v":1,"email_address":"ada@example.com"}`),
		History: []fate.Attempt{{At: time.Now().UTC(), Failure: refused}},
	}))
	for command, text := range map[string]string{
		"dead-letter show a":             "rejected: 422: no such thing\n",
		"dead-letter list":               "rejected: 422: no such thing",
		"dead-letter delete a --dry-run": "a  ada@example.com  without a code\n",
		"dead-letter retry a --dry-run":  "a  ada@example.com  without a code\n",
	} {
		if told := s.enqueue(strings.Fields(command)...).stdout; !strings.Contains(told, text) {
			t.Errorf("%s lacks %q:\n%s", command, text, told)
		}
	}
	if told := s.enqueue("dead-letter", "show", "a").stdout; !strings.Contains(told, "  422: no such thing\n") {
		t.Errorf("the attempts:\n%s", told)
	}
}

// TestACauseMayEndASentence: Clerk's messages end with a full stop of their own.
func TestACauseMayEndASentence(t *testing.T) {
	t.Parallel()
	for _, f := range []tasks.Failure{
		{Reason: "rejected", HTTPStatus: 422, Message: "no such thing."}, {Reason: "rejected"},
	} {
		want := map[bool]string{true: "rejected: 422: no such thing", false: "rejected"}[f.Message != ""]
		if got := cause(&f); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
