package operator_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/tasks"
	"example.com/usher/tasks/operator"
)

// An admin service shows what failed, and mends it.
func ExampleOperator_DeadLetters() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	dies(client, "signup-1", "ada@exmaple.com")

	for letter, err := range op.DeadLetters(ctx, operator.DeadLetters{Reason: "rejected"}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(letter.ID, letter.EmailAddress, letter.Failure.Code)
		right := *letter.Recipient
		right.EmailAddress = "ada@example.com"
		taskID, err := op.Mend(ctx, letter.ID, right)
		if err != nil {
			panic(err)
		}
		fmt.Println("sent again by task", taskID)
	}
	// Output:
	// signup-1 ada@exmaple.com form_param_format_invalid
	// sent again by task signup-1:retry1
}

// What failed for a reason that is gone is tried again as it is.
func ExampleOperator_Retry() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	dies(client, "signup-1", "ada@example.com")

	taskID, err := op.Retry(ctx, "signup-1")
	fmt.Println(taskID, err)
	_, err = op.Retry(ctx, "signup-1")
	fmt.Println("again:", errors.Is(err, operator.ErrDeadLetterNotFound))
	// Output:
	// signup-1:retry1 <nil>
	// again: true
}

// Deleting a dead letter gives up what was asked, and frees the task's id.
func ExampleOperator_DeleteDeadLetter() {
	client, op, closeAll := connect()
	defer closeAll()
	dies(client, "signup-1", "ada@example.com")

	for range 2 {
		fmt.Println(op.DeleteDeadLetter(context.Background(), "signup-1"))
	}
	// Output:
	// true <nil>
	// false <nil>
}

// A person who changed her mind is not invited. Of a scheduled task nothing has happened yet.
func ExampleOperator_Cancel() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	if _, err := client.Invite(ctx, recipient, tasks.ID("welcome-17"), tasks.In(time.Hour)); err != nil {
		panic(err)
	}

	for task, err := range op.Tasks(ctx, operator.TaskFilter{State: tasks.StateScheduled}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(task.ID, "for", task.EmailAddress)
		cancelled, err := op.Cancel(ctx, task.ID)
		fmt.Println(cancelled.State, "by", cancelled.CancelledBy, err)
	}
	// Output:
	// welcome-17 for ada@example.com
	// cancelled by ada@desk <nil>
}

// A request for erasure: the address is removed, and not written down again.
func ExampleOperator_Forget() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	recipient := tasks.Recipient{EmailAddress: "ada@example.com"}
	if _, err := client.Invite(ctx, recipient); err != nil {
		panic(err)
	}

	removed, err := op.Forget(ctx, "ada@example.com")
	fmt.Println("tasks removed:", removed.Tasks, err)
	_, err = client.Invite(ctx, recipient)
	fmt.Println(errors.Is(err, tasks.ErrForgotten))
	// Output:
	// tasks removed: 1 <nil>
	// true
}

// What became of one person is a page of a support desk.
func ExampleOperator_Find() {
	client, op, closeAll := connect()
	defer closeAll()
	dies(client, "signup-1", "ada@example.com")

	story, err := op.Find(context.Background(), "ada@example.com")
	if err != nil {
		panic(err)
	}
	for _, e := range story.Events {
		fmt.Println(e.What, e.TaskID)
	}
	// Output:
	// enqueued signup-1
	// dead-letter signup-1
}

// The directory is Clerk's list as last synced.
func ExampleOperator_Directory() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	_, _, err := op.Directory(ctx, operator.InvitationFilter{})
	fmt.Println(errors.Is(err, operator.ErrNeverSynced))

	sync(client, clerkclient.Invitation{ID: "inv_1", EmailAddress: "ada@example.com", Status: "pending"})
	invitations, _, err := op.Directory(ctx, operator.InvitationFilter{Status: "pending"})
	if err != nil {
		panic(err)
	}
	for invitation, err := range invitations {
		fmt.Println(invitation.ID, invitation.EmailAddress, err)
	}
	// Output:
	// true
	// inv_1 ada@example.com <nil>
}

// Each recipient of a campaign has an outcome of its own.
func ExampleOperator_Recipients() {
	client, op, closeAll := connect()
	defer closeAll()
	ctx := context.Background()
	list := []tasks.Recipient{{EmailAddress: "ada@example.com"}, {EmailAddress: "grace@example.com"}}
	if _, err := client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list}); err != nil {
		panic(err)
	}
	if _, err := op.CancelCampaign(ctx, "spring"); err != nil {
		panic(err)
	}

	recipients, err := op.Recipients(ctx, "spring")
	if err != nil {
		panic(err)
	}
	for recipient, err := range recipients {
		fmt.Println(recipient.EmailAddress, recipient.Outcome, err)
	}
	// Output:
	// ada@example.com cancelled <nil>
	// grace@example.com cancelled <nil>
}

// connect gives a client and an operator on a Redis that stands for the workers'.
func connect() (*tasks.Client, *operator.Operator, func()) {
	redis, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client, err := tasks.NewClient(tasks.RedisURL("redis://" + redis.Addr()))
	if err != nil {
		panic(err)
	}
	op, err := operator.New(client, "ada@desk")
	if err != nil {
		panic(err)
	}
	return client, op, func() {
		_ = client.Close()
		redis.Close()
	}
}

// dies leaves the dead letter of an invite, as a worker does.
func dies(client *tasks.Client, id, address string) {
	rdb, namespace := client.Connection()
	now := time.Now().UTC()
	err := deadletter.NewStore(rdb, namespace).Put(context.Background(), deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: namespace + ":interactive", EmailAddress: address, FailedAt: now,
		Failure: fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: "form_param_format_invalid"},
		Payload: fmt.Appendf(nil, `{"v":1,"email_address":%q,"enqueued_at":%d}`, address, now.Add(-time.Minute).UnixMilli()),
	})
	if err != nil {
		panic(err)
	}
}

// sync copies a list into the directory, as a worker does.
func sync(client *tasks.Client, invitations ...clerkclient.Invitation) {
	ctx := context.Background()
	rdb, namespace := client.Connection()
	draft, err := directory.New(rdb, namespace).Begin(ctx)
	if err == nil {
		err = draft.Add(ctx, invitations)
	}
	if err == nil {
		_, _, err = draft.Publish(ctx)
	}
	if err != nil {
		panic(err)
	}
}
