package desk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// requests counts what Redis is sent at a time. It calls then for each.
type requests struct {
	atomic.Int32
	then func()
}

func (n *requests) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n *requests) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.Add(1)
		return next(ctx, cmd)
	}
}

func (n *requests) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n.Add(1)
		err := next(ctx, cmds)
		if n.then != nil {
			n.then()
		}
		return err
	}
}

func addressOf(i int) string { return fmt.Sprintf("p%d@example.com", i) }

// withLetters gives a desk with dead letters of invites, a minute old, whose tasks have records.
func withLetters(t *testing.T, n int) (*desk.Desk, *redis.Client) {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t, "--maxmemory-policy", "noeviction").Addr)
	d, err := desk.New(rdb, tasks.DefaultNamespace, "test")
	testkit.NoError(t, err)
	for i := range n {
		id := fmt.Sprint("t", i)
		testkit.NoError(t, d.DeadLetters.Put(t.Context(), deadletter.Entry{
			ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: addressOf(i),
			Failure:  fate.Failure{Reason: fate.ReasonRejected, Code: "taken"},
			FailedAt: time.Now().Add(-time.Minute + time.Duration(i)*time.Millisecond),
			Payload:  fmt.Appendf(nil, `{"v":1,"enqueued_at":1,"email_address":%q}`, addressOf(i)),
		}))
		dead := fmt.Sprintf(`{"type":"invite","state":"dead","at":%d}`, time.Now().UnixMilli())
		testkit.NoError(t, rdb.Set(t.Context(), "usher:{once}:t:"+id, dead, 0).Err())
	}
	return d, rdb
}

// left is how many letters there are.
func left(t *testing.T, d *desk.Desk) int {
	t.Helper()
	n, err := d.DeadLetters.Count(t.Context())
	testkit.NoError(t, err)
	return n
}

// TestManyLettersAreDeletedInFewRequests, and with all that is known of them: their tasks' ids are free, and their
// addresses remember it.
func TestManyLettersAreDeletedInFewRequests(t *testing.T) {
	t.Parallel()
	const all = 1000
	d, rdb := withLetters(t, all)
	var n requests
	rdb.AddHook(&n)
	told := 0
	found, err := d.DeleteLetters(t.Context(), desk.Letters{Code: "taken"}, func(some []deadletter.Entry) {
		told += len(some)
	})
	testkit.NoError(t, err)
	if sent := n.Load(); found.Matched != all || told != all || left(t, d) != 0 || sent > all/8 {
		t.Errorf("%d match, %d are told, %d are left after %d requests", found.Matched, told, left(t, d), sent)
	}
	for _, i := range []int{0, 150, all - 1} {
		story, err := d.Find(t.Context(), addressOf(i))
		testkit.NoError(t, err)
		var what []string
		for _, e := range story.Events {
			what = append(what, e.What)
		}
		slices.Sort(what)
		if what = slices.Compact(what); !slices.Equal(what, []string{"dead", "deleted", "enqueued"}) {
			t.Errorf("of %s it is known: %q", addressOf(i), what)
		}
		_, err = d.Invite(t.Context(), tasks.Recipient{EmailAddress: addressOf(i)}, tasks.ID(fmt.Sprint("t", i)))
		if err != nil {
			t.Errorf("the id of the task is not free: %v", err)
		}
	}
}

// TestADeletionThatBreaksOffTellsWhatIsDeleted: each letter is there, or is told.
func TestADeletionThatBreaksOffTellsWhatIsDeleted(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	for name, test := range map[string]struct {
		breaks func(rdb *redis.Client, n *requests)
		want   error
		told   int
	}{
		"in the middle of some, when the command is interrupted": {
			func(_ *redis.Client, n *requests) { n.then = stop }, context.Canceled, 100,
		},
		"at one whose history cannot be written": {func(rdb *redis.Client, _ *requests) {
			id := store.IDOf(addressOf(120))
			testkit.NoError(t, rdb.Del(t.Context(), "usher:{once}:h:"+string(id[:])).Err())
			testkit.NoError(t, rdb.Set(t.Context(), "usher:{once}:h:"+string(id[:]), "garbage", 0).Err())
		}, nil, 120},
		"when Redis becomes full": {func(rdb *redis.Client, n *requests) {
			n.then = func() { _ = rdb.ConfigSet(t.Context(), "maxmemory", "1").Err() }
		}, nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			d, rdb := withLetters(t, 250)
			var n requests
			rdb.AddHook(&n)
			test.breaks(rdb, &n)
			ctx := t.Context()
			if test.want != nil {
				ctx = stopped
			}
			told := 0
			_, err := d.DeleteLetters(ctx, desk.Letters{}, func(some []deadletter.Entry) { told += len(some) })
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("the error is %v", err)
			}
			if gone := 250 - left(t, d); gone != told || test.told >= 0 && told != test.told {
				t.Errorf("%d are gone, and %d are told", gone, told)
			}
		})
	}
}

// TestManyLettersAreRetriedInFewRequests but for the enqueuing, which asynq does one by one.
func TestManyLettersAreRetriedInFewRequests(t *testing.T) {
	t.Parallel()
	const all = 1000
	d, rdb := withLetters(t, all)
	var n requests
	rdb.AddHook(&n)
	told := map[string]string{}
	found, err := d.RetryLetters(t.Context(), desk.Letters{Code: "taken"}, func(some []desk.Retried, gone int) {
		for _, r := range some {
			told[r.Letter.ID] = r.TaskID
		}
		if gone > 0 {
			t.Errorf("%d were gone", gone)
		}
	})
	testkit.NoError(t, err)
	if sent := n.Load(); found.Matched != all || len(told) != all || left(t, d) != 0 || sent > all+all/6 {
		t.Errorf("%d match, %d are told, %d are left after %d requests", found.Matched, len(told), left(t, d), sent)
	}
	for _, i := range []int{0, 150, all - 1} {
		next := fmt.Sprintf("t%d:retry1", i)
		task, err := d.Status(t.Context(), next)
		if err != nil || task.State != tasks.StatePending || told[fmt.Sprint("t", i)] != next {
			t.Errorf("%s is %s, %v", next, task.State, err)
		}
		story, err := d.Find(t.Context(), addressOf(i))
		testkit.NoError(t, err)
		if !slices.ContainsFunc(story.Events, func(e desk.Event) bool { return e.What == "retried" && e.TaskID == next }) {
			t.Errorf("of %s it is known: %+v", addressOf(i), story.Events)
		}
	}
}

// TestRetriesThatBreakOffAreToldAndFinished: each letter is there, or is told. When all are retried again, each has one
// task.
func TestRetriesThatBreakOffAreToldAndFinished(t *testing.T) {
	t.Parallel()
	const all = 250
	history := func(i int) string {
		id := store.IDOf(addressOf(i))
		return "usher:{once}:h:" + string(id[:])
	}
	for name, test := range map[string]struct {
		breaks func(rdb *redis.Client, n *requests, stop func())
		told   int
	}{
		"in the middle of some, when the command is interrupted": {
			func(_ *redis.Client, n *requests, stop func()) { n.then = stop }, 100,
		},
		"at one whose history cannot be written": {func(rdb *redis.Client, _ *requests, _ func()) {
			testkit.NoError(t, rdb.Del(t.Context(), history(120)).Err())
			testkit.NoError(t, rdb.Set(t.Context(), history(120), "garbage", 0).Err())
		}, 199},
		"when Redis becomes full": {func(rdb *redis.Client, n *requests, _ func()) {
			n.then = func() { _ = rdb.ConfigSet(t.Context(), "maxmemory", "1").Err() }
		}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			d, rdb := withLetters(t, all)
			var n requests
			rdb.AddHook(&n)
			ctx, stop := context.WithCancel(t.Context())
			test.breaks(rdb, &n, stop)
			told := 0
			tell := func(some []desk.Retried, _ int) { told += len(some) }
			_, err := d.RetryLetters(ctx, desk.Letters{}, tell)
			if gone := all - left(t, d); err == nil || gone != told || test.told >= 0 && told != test.told {
				t.Errorf("%d are gone, and %d are told: %v", gone, told, err)
			}
			n.then = nil
			testkit.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
			testkit.NoError(t, rdb.Del(t.Context(), history(120)).Err())
			_, err = d.RetryLetters(t.Context(), desk.Letters{}, tell)
			testkit.NoError(t, err)
			waiting := rdb.LLen(t.Context(), "asynq:{usher:interactive}:pending").Val()
			if told != all || left(t, d) != 0 || waiting != all {
				t.Errorf("in the end %d are told, %d are left and %d tasks wait", told, left(t, d), waiting)
			}
		})
	}
}

// TestALetterThatHasDiedAgainSinceIsNotDeleted: it is another one.
func TestALetterThatHasDiedAgainSinceIsNotDeleted(t *testing.T) {
	t.Parallel()
	d, _ := withLetters(t, 2)
	var read []deadletter.Entry
	_, err := d.ReadLetters(t.Context(), desk.Letters{}, func(e deadletter.Entry) error {
		read = append(read, e)
		return nil
	})
	testkit.NoError(t, err)
	again := read[0]
	again.FailedAt = time.Now().UTC()
	testkit.NoError(t, d.DeadLetters.Put(t.Context(), again))
	deleted, err := d.Retrier.DeleteEach(t.Context(), read)
	if err != nil || len(deleted) != 1 || deleted[0].ID != read[1].ID || left(t, d) != 1 {
		t.Errorf("%d are deleted, %v, and %d are left", len(deleted), err, left(t, d))
	}
}

// TestAnAddressIsForgottenAmongManyLettersInFewRequests: all letters are read, since any payload may hold it.
func TestAnAddressIsForgottenAmongManyLettersInFewRequests(t *testing.T) {
	t.Parallel()
	const all = 2000
	d, rdb := withLetters(t, all)
	var n requests
	rdb.AddHook(&n)
	removed, err := d.Forget(t.Context(), addressOf(1500), func(string) {})
	testkit.NoError(t, err)
	if sent := n.Load(); removed.DeadLetters != 1 || left(t, d) != all-1 || sent > all/4 {
		t.Errorf("%+v is removed with %d requests, and %d letters are left", removed, sent, left(t, d))
	}
}
