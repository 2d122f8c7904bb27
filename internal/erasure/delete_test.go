package erasure

import (
	"context"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// listed gives an eraser, the queue of invites, and an invite that waits in it as the eraser lists it.
func listed(t *testing.T) (e *Eraser, server *miniredis.Miniredis, task *asynq.TaskInfo) {
	t.Helper()
	server = miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	client, err := tasks.NewClient(tasks.Redis(rdb))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Invite(t.Context(), tasks.Recipient{EmailAddress: "ada@example.com"}); err != nil {
		t.Fatal(err)
	}
	e = New(rdb, tasks.DefaultNamespace)
	found, err := about(policy.Queue(tasks.DefaultNamespace, policy.Interactive), "ada@example.com", e.inspector.ListPendingTasks)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d tasks, %v", len(found), err)
	}
	return e, server, found[0]
}

func TestATaskIsDeletedOnce(t *testing.T) {
	t.Parallel()
	e, _, task := listed(t)
	for _, want := range []bool{true, false} { // the second time it is gone
		if deleted, err := e.delete(t.Context(), task.Queue, task); deleted != want || err != nil {
			t.Errorf("deleted %t, %v, want %t", deleted, err, want)
		}
	}
}

// TestATaskThatHasBegunIsLeftToTheNextPass: it was listed before it began.
func TestATaskThatHasBegunIsLeftToTheNextPass(t *testing.T) {
	t.Parallel()
	e, server, task := listed(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	begun, end := make(chan struct{}), make(chan struct{})
	worker := asynq.NewServerFromRedisClient(rdb, asynq.Config{Queues: map[string]int{task.Queue: 1}, LogLevel: asynq.FatalLevel})
	if err := worker.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(begun)
		<-end
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Shutdown)
	t.Cleanup(func() { close(end) })
	<-begun
	if deleted, err := e.delete(t.Context(), task.Queue, task); deleted || err != nil {
		t.Errorf("deleted %t, %v", deleted, err)
	}
}

// TestWhatRedisRefusesToDeleteIsAnError: else forgetting would go round for minutes, and then name the wrong reason.
func TestWhatRedisRefusesToDeleteIsAnError(t *testing.T) {
	t.Parallel()
	e, server, task := listed(t)
	server.SetError("MISCONF Redis cannot write")
	deleted, err := e.delete(t.Context(), task.Queue, task)
	if deleted || err == nil || !strings.Contains(err.Error(), "MISCONF") || !strings.Contains(err.Error(), task.ID) {
		t.Errorf("deleted %t, %v", deleted, err)
	}
}
