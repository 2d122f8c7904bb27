package operator_test

import (
	"errors"
	"strings"
	"testing"

	"example.com/usher/tasks"
	"example.com/usher/tasks/operator"
)

func TestAnOperatorHasAName(t *testing.T) {
	t.Parallel()
	client, _, closeAll := connect()
	defer closeAll()
	if _, err := operator.New(client, " "); err == nil {
		t.Error("nobody acts")
	}
}

// TestAMendedLetterIsChecked: nothing is sent of what cannot be.
func TestAMendedLetterIsChecked(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	dies(client, "a", "ada@example.com")
	if _, err := op.Forget(t.Context(), "gone@example.com"); err != nil {
		t.Fatal(err)
	}
	for address, says := range map[string]string{"ada": "email_address", "gone@example.com": "forgotten"} {
		_, err := op.Mend(t.Context(), "a", tasks.Recipient{EmailAddress: address})
		if !errors.Is(err, operator.ErrFaults) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", address, err)
		}
	}
	n := 0
	for _, err := range op.DeadLetters(t.Context(), operator.DeadLetters{}) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d dead letters are left", n)
	}
	if _, err := op.Mend(t.Context(), "b", tasks.Recipient{}); !errors.Is(err, operator.ErrDeadLetterNotFound) {
		t.Errorf("%v", err)
	}
}

// TestAForgottenAddressIsCleaned as it comes out of a web page.
func TestAForgottenAddressIsCleaned(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	dies(client, "a", "ada@example.com")
	const pasted = "\u00A0mailto:ada@example.com\u200B "
	if story, err := op.Find(t.Context(), pasted); err != nil || len(story.Events) == 0 {
		t.Errorf("%+v, %v", story, err)
	}
	if removed, err := op.Forget(t.Context(), pasted); err != nil || removed.DeadLetters != 1 {
		t.Errorf("%+v, %v", removed, err)
	}
	if lifted, err := op.Lift(t.Context(), pasted); err != nil || !lifted {
		t.Errorf("%v, %v", lifted, err)
	}
}

// TestAnIterationEnds: with an error as its last pair, or when nobody wants more.
func TestAnIterationEnds(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	dies(client, "a", "ada@example.com")
	dies(client, "b", "bob@example.com")
	for letter, err := range op.DeadLetters(t.Context(), operator.DeadLetters{}) {
		if err != nil || letter.ID != "a" {
			t.Errorf("%+v, %v", letter, err)
		}
		break
	}
	var last error
	for _, err := range op.DeadLetters(t.Context(), operator.DeadLetters{IDs: []string{"a", "nobody"}}) {
		last = err
	}
	if !errors.Is(last, operator.ErrDeadLetterNotFound) {
		t.Errorf("%v", last)
	}
	if _, err := op.Recipients(t.Context(), "nobody"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := op.Cancel(t.Context(), "nobody"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
