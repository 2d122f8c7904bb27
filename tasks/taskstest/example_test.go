package taskstest_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/usher/tasks"
	"example.com/usher/tasks/taskstest"
)

// inviter is what a signup service uses of the client.
type inviter interface {
	Invite(ctx context.Context, r tasks.Recipient, opts ...tasks.Option) (tasks.Task, error)
}

// signUp is the code of a producer's that is tested.
func signUp(ctx context.Context, client inviter, address string) string {
	task, err := client.Invite(ctx, tasks.Recipient{EmailAddress: address}, tasks.ID("signup-"+address[:3]))
	switch {
	case errors.Is(err, tasks.ErrExists) && task.State == tasks.StateDead:
		return "we could not invite you, and look into it"
	case errors.Is(err, tasks.ErrExists):
		return "you have signed up already"
	case errors.Is(err, tasks.ErrForgotten):
		return "we may not write to you"
	case err != nil:
		return "please try again later"
	}
	return "look for our e-mail"
}

// A test of a producer gives it a client that records, and looks at what was enqueued.
func Example() {
	client := taskstest.New()
	defer client.Close()
	ctx := context.Background()

	fmt.Println(signUp(ctx, client, "ada@example.com"))
	fmt.Println(signUp(ctx, client, "ada@example.com"))
	for _, e := range client.Enqueued() {
		fmt.Println(e.Task.ID, e.Task.Type, e.Recipients[0].EmailAddress)
	}
	// Output:
	// look for our e-mail
	// you have signed up already
	// signup-ada invite ada@example.com
}

// A test sees how a producer gets along with a Redis that is away.
func ExampleClient_FailWith() {
	client := taskstest.New()
	defer client.Close()

	client.FailWith(errors.New("connection refused"))
	fmt.Println(signUp(context.Background(), client, "ada@example.com"))
	client.FailWith(nil)
	fmt.Println(signUp(context.Background(), client, "ada@example.com"))
	// Output:
	// please try again later
	// look for our e-mail
}

// An address that was forgotten on request is not written down again.
func ExampleClient_Forget() {
	client := taskstest.New()
	defer client.Close()

	if err := client.Forget("ada@example.com"); err != nil {
		panic(err)
	}
	fmt.Println(signUp(context.Background(), client, "ada@example.com"))
	// Output:
	// we may not write to you
}

// No worker runs in a test: the test says how a task ends.
func ExampleClient_Finish() {
	client := taskstest.New()
	defer client.Close()
	ctx := context.Background()

	list := []tasks.Recipient{
		{EmailAddress: "ada@example.com"}, {EmailAddress: "bob@example.com"}, {EmailAddress: "cy@example.com"},
	}
	task, err := client.BulkInvite(ctx, tasks.BulkRequest{Campaign: "spring", Recipients: list})
	if err != nil {
		panic(err)
	}
	if err := client.Finish(task.ID, func(t *tasks.Task) { t.Bulk.Dead = 1 }); err != nil {
		panic(err)
	}
	if task, err = client.Wait(ctx, task.ID); err != nil {
		panic(err)
	}
	fmt.Println(task.State, task.Bulk.Sent, task.Bulk.Dead)
	// Output:
	// done 2 1
}
