package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/testkit"
)

// takenQueue is a queue with tasks on a real Redis, and asynq's dequeue of it.
type takenQueue struct {
	t    *testing.T
	rdb  *redis.Client
	name string
	keys []string
	args []any
}

func newTakenQueue(t *testing.T, rdb *redis.Client, name string, tasks ...string) *takenQueue {
	t.Helper()
	q := &takenQueue{t: t, rdb: rdb, name: name, args: []any{
		time.Now().Add(30 * time.Second).Unix(), queues.Key(name, "t:"),
	}}
	for _, part := range []string{"pending", "paused", "active", "lease"} {
		q.keys = append(q.keys, queues.Key(name, part))
	}
	client := asynq.NewClientFromRedisClient(rdb)
	for _, id := range tasks {
		_, err := client.Enqueue(asynq.NewTask("x", []byte(id)), asynq.Queue(name), asynq.TaskID(id))
		testkit.NoError(t, err)
	}
	return q
}

// holds gives what stands in a list of the queue, the oldest first.
func (q *takenQueue) holds(part string) []string {
	ids := q.rdb.LRange(q.t.Context(), queues.Key(q.name, part), 0, -1).Val()
	slices.Reverse(ids)
	return ids
}

// is checks where all tasks are, and that they are marked so and have leases if they are active.
func (q *takenQueue) is(pending, active []string) {
	q.t.Helper()
	leases := q.rdb.ZRange(q.t.Context(), q.keys[3], 0, -1).Val()
	if got := q.holds("pending"); !slices.Equal(got, pending) {
		q.t.Errorf("pending: %v, want %v", got, pending)
	}
	slices.Sort(leases)
	if got := q.holds("active"); !slices.Equal(got, active) || !slices.Equal(leases, active) {
		q.t.Errorf("active: %v with leases %v, want %v", got, leases, active)
	}
	for state, ids := range map[string][]string{"pending": pending, "active": active} {
		for _, id := range ids {
			if got := q.rdb.HGet(q.t.Context(), queues.Key(q.name, "t:"+id), "state").Val(); got != state {
				q.t.Errorf("%s is marked %s, not %s", id, got, state)
			}
		}
	}
}

// TestSeveralTasksAreTakenAsAsynqTakesOne: what Redis holds afterwards is the same.
func TestSeveralTasksAreTakenAsAsynqTakesOne(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	ids := []string{"1", "2", "3"}
	ours, theirs := newTakenQueue(t, rdb, "ours", ids...), newTakenQueue(t, rdb, "theirs", ids...)
	many := &taken{redis: rdb}
	first, more := many.take(t.Context(), ours.keys, ours.args)
	if first.Err() != nil || more {
		t.Fatalf("taken: %v; there may be more: %t", first, more)
	}
	hold := make(chan struct{})
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Queues: map[string]int{"theirs": 1}, LogLevel: asynq.FatalLevel, Concurrency: len(ids),
	})
	testkit.NoError(t, server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		<-hold
		return nil
	})))
	t.Cleanup(func() { close(hold); server.Shutdown() })
	testkit.Eventually(t, "asynq has taken them", func() bool { return len(theirs.holds("active")) == len(ids) })
	for _, q := range []*takenQueue{ours, theirs} {
		q.is(nil, ids)
	}
	for _, id := range ids {
		fields := func(q *takenQueue) []string {
			return slices.Sorted(maps.Keys(rdb.HGetAll(t.Context(), queues.Key(q.name, "t:"+id)).Val()))
		}
		if !slices.Equal(fields(ours), fields(theirs)) {
			t.Errorf("task %s has %v, with asynq %v", id, fields(ours), fields(theirs))
		}
	}
}

// TestTasksThatWaitForTheirHandlersComeInTurn, and nobody takes one of a queue that is paused, or that is gone.
func TestTasksThatWaitForTheirHandlersComeInTurn(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	q := newTakenQueue(t, rdb, "q", "a", "b", "gone", "c")
	testkit.NoError(t, rdb.Del(t.Context(), queues.Key("q", "t:gone")).Err())
	messages := func(ids ...string) (all []string) {
		for _, id := range ids {
			all = append(all, rdb.HGet(t.Context(), queues.Key("q", "t:"+id), "msg").Val())
		}
		return all
	}
	many := &taken{redis: rdb}
	answer, _ := many.take(t.Context(), q.keys, q.args)
	got := []string{answer.Val().(string), many.next(t.Context()), many.next(t.Context())}
	if !slices.Equal(got, messages("a", "b", "c")) || many.next(t.Context()) != "" {
		t.Errorf("taken: %q", got)
	}
	if none, _ := many.take(t.Context(), q.keys, q.args); !errors.Is(none.Err(), redis.Nil) {
		t.Errorf("an empty queue: %v", none)
	}
	paused := newTakenQueue(t, rdb, "paused", "a")
	testkit.NoError(t, rdb.Set(t.Context(), queues.Key("paused", "paused"), 1, 0).Err())
	if none, _ := many.take(t.Context(), paused.keys, paused.args); !errors.Is(none.Err(), redis.Nil) {
		t.Errorf("a paused queue: %v", none)
	}
	paused.is([]string{"a"}, nil)
}

// TestTasksThatGetNoHandlerArePutBack, in their order, but for those that somebody else has by now.
func TestTasksThatGetNoHandlerArePutBack(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	q := newTakenQueue(t, rdb, "q", "a", "b", "c", "d")
	many := &taken{redis: rdb}
	first, _ := many.take(t.Context(), q.keys, q.args)
	testkit.NoError(t, first.Err())
	later := redis.Z{Score: float64(time.Now().Add(time.Minute).Unix()), Member: "c"}
	testkit.NoError(t, rdb.ZAdd(t.Context(), q.keys[3], later).Err())
	many.since = many.since.Add(-takenFor)
	if message := many.next(t.Context()); message != "" {
		t.Errorf("given after a while: %q", message)
	}
	q.is([]string{"b", "d"}, []string{"a", "c"})
	many.putBack(t.Context())
	q.is([]string{"b", "d"}, []string{"a", "c"})
}

// TestSeveralAreTakenOnlyWhereThereIsRoom: tasks are always ready, and handlers never end.
func TestSeveralAreTakenOnlyWhereThereIsRoom(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	accepting, stop := context.WithCancel(t.Context())
	k := newWake(&Worker{
		Config: Config{Redis: rdb, RedisOnce: rdb, Namespace: "usher", Log: zerolog.Nop()}, accepting: accepting,
	})
	const room, concurrency = 20, 40
	name := queues.Name("usher", queues.Interactive)
	l := k.lookouts[queues.Key(name, "pending")]
	hold := make(chan struct{})
	l.room, l.next = room, asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		<-hold
		return nil
	})
	var ids []string
	for i := range 2 * concurrency {
		ids = append(ids, string(rune('0'+i)))
	}
	q := newTakenQueue(t, rdb, name, ids...)
	server := asynq.NewServerFromRedisClient(servers{unheard{rdb}, k}, asynq.Config{
		Queues: map[string]int{name: 1}, TaskCheckInterval: quickCheck, Concurrency: concurrency, LogLevel: asynq.FatalLevel,
	})
	testkit.NoError(t, server.Start(k.handler("usher", queues.Interactive)))
	testkit.Eventually(t, "all handlers run", func() bool { return l.working.Load() == concurrency })
	q.is(ids[concurrency:], ids[:concurrency])
	close(hold)
	stop()
	server.Shutdown()
	k.putBack(t.Context())
	if left := q.holds("active"); len(left) > 0 {
		t.Errorf("active at the end: %v", left)
	}
}
