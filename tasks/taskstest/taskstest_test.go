package taskstest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/usher/tasks"
	"example.com/usher/tasks/taskstest"
)

// client is what both clients have in common.
type client interface {
	Invite(context.Context, tasks.Recipient, ...tasks.Option) (tasks.Task, error)
	BulkInvite(context.Context, tasks.BulkRequest, ...tasks.Option) (tasks.Task, error)
	Revoke(context.Context, string, ...tasks.Option) (tasks.Task, error)
	SyncList(context.Context, ...tasks.Option) (tasks.Task, error)
	SyncListWhole(context.Context, ...tasks.Option) (tasks.Task, error)
	Status(context.Context, string) (tasks.Task, error)
	Wait(context.Context, string) (tasks.Task, error)
	Close() error
}

var (
	_ client = (*tasks.Client)(nil)
	_ client = (*taskstest.Client)(nil)
)

func TestRecordsAsTheRealClientAnswers(t *testing.T) {
	t.Parallel()
	c, ctx := taskstest.New(), t.Context()
	task, err := c.Invite(ctx, tasks.Recipient{EmailAddress: " ada@example.com "}, tasks.ID("a"), tasks.In(time.Hour))
	if err != nil || task.State != tasks.StateScheduled || task.Queue != "usher:interactive" {
		t.Fatalf("%+v, %v", task, err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "ada@example.com"}, tasks.ID("a")); !errors.Is(err, tasks.ErrExists) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "bob@example.com"}, tasks.ID("a")); !errors.Is(err, tasks.ErrConflict) {
		t.Errorf("another one with the id: %v", err)
	}
	if _, err := c.Invite(ctx, tasks.Recipient{EmailAddress: "ada"}); err == nil {
		t.Error("a bad address was recorded")
	}
	bulk, err := c.BulkInvite(ctx, tasks.BulkRequest{Recipients: []tasks.Recipient{{EmailAddress: "x@example.com"}, {EmailAddress: "X@example.com"}}})
	if err != nil || bulk.Bulk.Added != 1 || bulk.Bulk.Duplicates != 1 {
		t.Errorf("%+v, %v", bulk.Bulk, err)
	}
	if invited := c.Invited(); len(invited) != 2 || invited[0].EmailAddress != "ada@example.com" {
		t.Errorf("invited: %v", invited)
	}
	waited := make(chan tasks.Task)
	go func() {
		task, _ := c.Wait(ctx, "a")
		waited <- task
	}()
	if err := c.Finish("a", func(task *tasks.Task) { task.InvitationID = "inv_1" }); err != nil {
		t.Fatal(err)
	}
	if task := <-waited; task.State != tasks.StateDone || task.InvitationID != "inv_1" {
		t.Errorf("waited for %+v", task)
	}
	away := errors.New("redis is away")
	c.FailWith(away)
	if _, err := c.SyncList(ctx); !errors.Is(err, away) {
		t.Errorf("with Redis away: %v", err)
	}
}
