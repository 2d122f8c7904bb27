package operator_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
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

// TestDeadLettersAreChosen by each of what chooses them, and say all that is known of them.
func TestDeadLettersAreChosen(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	if _, err := client.BulkInvite(t.Context(),
		tasks.BulkRequest{Campaign: "spring", Recipients: []tasks.Recipient{{EmailAddress: "bob@example.com"}}}); err != nil {
		t.Fatal(err)
	}
	failed := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	rdb, namespace := client.Connection()
	for i, entry := range []deadletter.Entry{
		{ID: "a", Type: tasks.TypeInvite, EmailAddress: "ada@example.com", Attempts: 3, Payload: []byte(`{"v":1}`),
			Failure: fate.Failure{Reason: fate.ReasonExhausted, Code: "timeout", Message: "late", TraceID: "trace"}},
		{ID: "b", Type: tasks.TypeBulkInvite, EmailAddress: "bob@example.com", Campaign: "spring", Payload: []byte(`{"v":1}`),
			Failure: fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 403, Code: "not_allowed_access"}},
		{ID: "c", Type: tasks.TypeRevoke, InvitationID: "inv_1", Payload: []byte(`{`),
			Failure: fate.Failure{Reason: fate.ReasonInvalid, Code: "invalid_payload"}},
	} {
		entry.TaskID, entry.Queue = "task-"+entry.ID, namespace+":interactive"
		entry.FailedAt = failed.Add(time.Duration(i) * time.Minute)
		if err := deadletter.NewStore(rdb, namespace).Put(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	for chosen, want := range map[*operator.DeadLetters]string{
		{}: "a b c", {IDs: []string{"c"}}: "c", {Code: "timeout"}: "a", {Campaign: "spring"}: "b", {Reason: "invalid"}: "c",
		{Code: "timeout", Reason: "invalid"}: "",
	} {
		var ids []string
		for _, letter := range all(t, op.DeadLetters(t.Context(), *chosen)) {
			ids = append(ids, letter.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%+v chooses %q, want %q", *chosen, got, want)
		}
	}
	got := all(t, op.DeadLetters(t.Context(), operator.DeadLetters{}))
	for i := range got {
		got[i].Recipient = nil
	}
	want := []operator.DeadLetter{
		{ID: "a", TaskID: "task-a", Type: tasks.TypeInvite, EmailAddress: "ada@example.com", Attempts: 3, FailedAt: failed,
			Failure: tasks.Failure{Reason: "exhausted", Code: "timeout", Message: "late", TraceID: "trace"}},
		{ID: "b", TaskID: "task-b", Type: tasks.TypeBulkInvite, EmailAddress: "bob@example.com", Campaign: "spring",
			FailedAt: failed.Add(time.Minute),
			Failure:  tasks.Failure{Reason: "rejected", HTTPStatus: 403, Code: "not_allowed_access"}},
		{ID: "c", TaskID: "task-c", Type: tasks.TypeRevoke, InvitationID: "inv_1", FailedAt: failed.Add(2 * time.Minute),
			Failure: tasks.Failure{Reason: "invalid", Code: "invalid_payload"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestTasksAreChosen(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	if _, err := client.SyncList(t.Context(), tasks.ID("now")); err != nil {
		t.Fatal(err)
	}
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	if _, err := client.Invite(t.Context(), recipient, tasks.ID("later"), tasks.In(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for want, chosen := range map[string]operator.TaskFilter{
		"later": {State: tasks.StateScheduled}, "now": {Type: tasks.TypeSyncList},
	} {
		if got := all(t, op.Tasks(t.Context(), chosen)); len(got) != 1 || got[0].ID != want {
			t.Errorf("%+v chooses %+v", chosen, got)
		}
	}
}

// TestACancelledTaskLeavesItsQueue at once, not when its time comes.
func TestACancelledTaskLeavesItsQueue(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	task, err := client.Invite(t.Context(), recipient, tasks.ID("later"), tasks.In(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.Cancel(t.Context(), "later"); err != nil {
		t.Fatal(err)
	}
	rdb, _ := client.Connection()
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(task.Queue, "later")
	if !errors.Is(err, asynq.ErrTaskNotFound) {
		t.Errorf("it is there still: %+v, %v", info, err)
	}
}

// TestALiftedAddressCanBeInvited, and not before.
func TestALiftedAddressCanBeInvited(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	if _, err := op.Forget(t.Context(), "ada"); !invalid(err) {
		t.Errorf("%v", err)
	}
	if _, err := op.Forget(t.Context(), "ada@example.com"); err != nil {
		t.Fatal(err)
	}
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	if _, err := client.Invite(t.Context(), recipient); !errors.Is(err, tasks.ErrForgotten) {
		t.Errorf("%v", err)
	}
	for _, want := range []bool{true, false} {
		if lifted, err := op.Lift(t.Context(), "ada@example.com"); err != nil || lifted != want {
			t.Errorf("%v, %v", lifted, err)
		}
	}
	if _, err := client.Invite(t.Context(), recipient); err != nil {
		t.Error(err)
	}
}

func TestInvitationsAreChosen(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	before := time.Now()
	sync(client,
		clerkclient.Invitation{ID: "inv_1", EmailAddress: "ada@example.com", Status: "pending"},
		clerkclient.Invitation{ID: "inv_2", EmailAddress: "bob@example.com", Status: "accepted"},
	)
	for want, chosen := range map[string]operator.InvitationFilter{
		"inv_1": {Query: "ada"}, "inv_2": {Status: "accepted"},
	} {
		invitations, at, err := op.Directory(t.Context(), chosen)
		if err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Fatalf("synced at %v: %v", at, err)
		}
		if got := all(t, invitations); len(got) != 1 || got[0].ID != want {
			t.Errorf("%+v chooses %+v", chosen, got)
		}
	}
}

// TestACampaignIsPausedResumedAndCancelled, and its recipients are told in the order of the list.
func TestACampaignIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	client, op, closeAll := connect()
	defer closeAll()
	request := tasks.BulkRequest{Campaign: "spring"}
	for i := range 600 { // several pages
		address := fmt.Sprintf("p%d@example.com", i*7919%600)
		request.Recipients = append(request.Recipients, tasks.Recipient{EmailAddress: address})
	}
	if _, err := client.BulkInvite(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	each, err := op.Recipients(t.Context(), "spring")
	if err != nil {
		t.Fatal(err)
	}
	inOrder := slices.EqualFunc(all(t, each), request.Recipients, func(got operator.Recipient, want tasks.Recipient) bool {
		return got.EmailAddress == want.EmailAddress
	})
	if !inOrder {
		t.Error("not in the order of the list")
	}
	for _, step := range []struct {
		do    func(context.Context, string) (tasks.Campaign, error)
		state tasks.CampaignState
	}{
		{op.Pause, tasks.CampaignPaused}, {op.Resume, tasks.CampaignRunning}, {op.CancelCampaign, tasks.CampaignCancelled},
	} {
		done, err := step.do(t.Context(), "spring")
		now, err2 := client.Campaign(t.Context(), "spring")
		if err := errors.Join(err, err2); err != nil || done.State != step.state || now.State != step.state {
			t.Errorf("%s, and then %s, want %s: %v", done.State, now.State, step.state, err)
		}
	}
}

// all gives what an iterator gives, which is no error.
func all[T any](t *testing.T, each iter.Seq2[T, error]) (values []T) {
	t.Helper()
	for value, err := range each {
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	return values
}

func invalid(err error) bool {
	_, is := errors.AsType[*tasks.InvalidError](err)
	return is
}
