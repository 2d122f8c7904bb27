package desk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

const address = "ada@example.com"

// listed gives the work of forgetting an address, and an invite for it that waits in its queue, as it is listed.
func listed(t *testing.T) (f *forgetting, server *miniredis.Miniredis, task *asynq.TaskInfo) {
	t.Helper()
	d, server := setup(t)
	if _, err := d.Invite(t.Context(), tasks.Recipient{EmailAddress: address}); err != nil {
		t.Fatal(err)
	}
	f = &forgetting{Desk: d, folded: address, id: store.IDOf(address)}
	found, err := f.about(t.Context())
	if err != nil || len(found) != 1 {
		t.Fatalf("%d tasks, %v", len(found), err)
	}
	return f, server, found[0]
}

// work starts an asynq server on a queue, which ends with the test.
func work(t *testing.T, rdb redis.UniversalClient, queue string, handle asynq.HandlerFunc) {
	t.Helper()
	worker := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: 10 * time.Millisecond,
	})
	if err := worker.Start(handle); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Shutdown)
}

func TestATaskIsDeletedOnce(t *testing.T) {
	t.Parallel()
	f, _, task := listed(t)
	for range 2 { // the second time it is gone
		if err := f.erase(t.Context(), task); f.removed.Tasks != 1 || err != nil {
			t.Errorf("deleted %d times, %v, want once", f.removed.Tasks, err)
		}
	}
	if r, known, err := f.records.Get(t.Context(), task.ID); !known || err != nil || r.State != record.Cancelled {
		t.Errorf("its record is %+v, %v", r, err)
	}
}

// TestATaskThatHasBegunIsLeftToTheNextPass: it was listed before it began.
func TestATaskThatHasBegunIsLeftToTheNextPass(t *testing.T) {
	t.Parallel()
	f, server, task := listed(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	begun, end := make(chan struct{}), make(chan struct{})
	work(t, rdb, task.Queue, func(context.Context, *asynq.Task) error {
		close(begun)
		<-end
		return nil
	})
	t.Cleanup(func() { close(end) })
	<-begun
	if err := f.erase(t.Context(), task); f.removed.Tasks != 0 || err != nil {
		t.Errorf("deleted %d times, %v", f.removed.Tasks, err)
	}
}

// TestWhatRedisRefusesToDeleteIsAnError: else forgetting would go round for minutes, and then name the wrong reason.
func TestWhatRedisRefusesToDeleteIsAnError(t *testing.T) {
	t.Parallel()
	f, server, task := listed(t)
	server.SetError("MISCONF Redis cannot write")
	err := f.erase(t.Context(), task)
	said := fmt.Sprint(err)
	if f.removed.Tasks != 0 || !strings.Contains(said, "MISCONF") || !strings.Contains(said, task.ID) {
		t.Errorf("deleted %d times, %v", f.removed.Tasks, err)
	}
}

// TestForgettingWaitsForWhatIsAtWork: a revocation of the address's invitations is let end, and the worker of an invite
// ends it when it sees the tombstone.
func TestForgettingWaitsForWhatIsAtWork(t *testing.T) {
	t.Parallel()
	for kind, told := range map[string]string{tasks.TypeInvite: "is at work", tasks.TypeRevoke: "is about to revoke"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d, _ := setup(t)
			lane, enqueue := queues.Interactive, func() (tasks.Task, error) {
				return d.Invite(t.Context(), tasks.Recipient{EmailAddress: address})
			}
			if kind == tasks.TypeRevoke {
				lane = queues.Housekeeping
				enqueue = func() (tasks.Task, error) { return d.RevokeEmail(t.Context(), address) }
			}
			queue, begun, listed := queues.Name(d.namespace, lane), make(chan struct{}), make(chan struct{})
			if _, err := enqueue(); err != nil {
				t.Fatal(err)
			}
			handle := func(ctx context.Context, _ *asynq.Task) error {
				close(begun)
				for kind == tasks.TypeInvite {
					gone, err := d.tombstones.Forgotten(ctx, store.IDOf(address))
					if err != nil || gone[0] {
						<-listed
						return err
					}
				}
				return nil
			}
			if kind == tasks.TypeInvite { // else it begins when that it waits was told
				work(t, d.rdb, queue, handle)
				<-begun
			}
			var waited []string
			removed, err := d.Forget(t.Context(), address, func(left string) {
				if waited = append(waited, left); len(waited) > 1 {
					return
				}
				close(listed)
				if kind == tasks.TypeRevoke {
					work(t, d.rdb, queue, handle)
				}
			})
			if err != nil || len(waited) == 0 || !strings.Contains(waited[0], told) {
				t.Errorf("%+v, %v, and waited for %q", removed, err, waited)
			}
		})
	}
}

// TestForgettingEndsWithItsContext: the tombstone stays.
func TestForgettingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	if _, err := d.RevokeEmail(t.Context(), address); err != nil { // nobody runs it
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := d.Forget(ctx, address, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was interrupted", err)
	}
	_, err = d.Invite(t.Context(), tasks.Recipient{EmailAddress: address})
	if !errors.Is(err, tasks.ErrForgotten) {
		t.Errorf("inviting it: %v", err)
	}
	if lifted, err := d.Lift(t.Context(), " ADA@example.com"); !lifted || err != nil {
		t.Errorf("lifted %t, %v", lifted, err)
	}
}

// TestForgettingLooksIntoEveryList of asynq's.
func TestForgettingLooksIntoEveryList(t *testing.T) {
	t.Parallel()
	d, _ := setup(t)
	client := asynq.NewClientFromRedisClient(d.rdb)
	queue := queues.Name(d.namespace, queues.Interactive)
	for _, opts := range [][]asynq.Option{{}, {asynq.ProcessIn(time.Hour)}} {
		for _, payload := range []string{`{"email_address":"Ada@Example.com"}`, "garbage of <ada@example.com>"} {
			task := asynq.NewTask(tasks.TypeInvite, []byte(payload))
			if _, err := client.Enqueue(task, append(slices.Clone(opts), asynq.Queue(queue))...); err != nil {
				t.Fatal(err)
			}
		}
	}
	bob := asynq.NewTask(tasks.TypeInvite, []byte(`{"email_address":"bob@example.com"}`))
	other, err := client.Enqueue(bob, asynq.Queue(queue))
	if err != nil {
		t.Fatal(err)
	}
	archived, err := client.Enqueue(asynq.NewTask(tasks.TypeInvite, []byte(address)), asynq.Queue(queue))
	if err == nil {
		err = d.inspector.ArchiveTask(queue, archived.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	removed, err := d.Forget(t.Context(), address, func(left string) { t.Errorf("it waits for %s", left) })
	if err != nil || removed.Tasks != 5 {
		t.Errorf("%+v, %v, want 5 tasks removed", removed, err)
	}
	if _, err := d.inspector.GetTaskInfo(queue, other.ID); err != nil {
		t.Errorf("another's task: %v", err)
	}
}

func TestWhatCarriesAnAddress(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	for payload, want := range map[string]bool{
		`{"v":1,"email_address":"ada@example.com"}`:                                                      true,
		`{"v":1,"email_address":" Ada@Example.COM"}`:                                                     true,
		`{"v":1,"email_address":"nada@example.com"}`:                                                     false,
		`{"v":1,"email_address":"bob@example.com","public_metadata":{"f":"ada@example.com"}}`:            false,
		`{"v":1,"email_address":"ada@example.com","public_metadata":{"friend":"bob@example.com"},"x":1}`: true,
		`{"v":1,"campaign":"ada"}`:                                                                       false,
		`garbage of ada@example.com, kept`:                                                               true,
		`garbage <ADA@example.com>`:                                                                      true,
		`{"email_address":["ada@example.com"]}`:                                                          true,
		`garbage of nada@example.com`:                                                                    false,
		`garbage of ada@example.com.au`:                                                                  false,
		`garbage of ada@example.community`:                                                               false,
		`nada@example.com, and ada@example.com.`:                                                         true,
		``:                                                                                               false,
	} {
		if got := (&forgetting{folded: address}).in([]byte(payload)); got != want {
			t.Errorf("%q: %t, want %t", payload, got, want)
		}
	}
}
