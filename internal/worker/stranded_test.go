package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// strandedBundle is a queue with tasks that asynq takes for active.
type strandedBundle struct {
	*mender
	t         *testing.T
	rdb       *redis.Client
	inspector *asynq.Inspector
}

func setupStranded(t *testing.T, active ...string) strandedBundle {
	t.Helper()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	b := strandedBundle{
		&mender{rdb: rdb, queue: "test:interactive", from: "0", key: "0"}, t, rdb,
		asynq.NewInspectorFromRedisClient(rdb),
	}
	client := asynq.NewClientFromRedisClient(rdb)
	for _, id := range active {
		_, err := client.Enqueue(asynq.NewTask("invite", []byte("{}")), asynq.Queue(b.queue), asynq.TaskID(id))
		testkit.NoError(t, err)
		testkit.NoError(t, rdb.LMove(t.Context(), b.at("pending"), b.at("active"), "RIGHT", "LEFT").Err())
		testkit.NoError(t, rdb.HSet(t.Context(), b.at("t:"+id), "state", "active").Err())
		lease := redis.Z{Score: float64(time.Now().Add(30 * time.Second).Unix()), Member: id}
		testkit.NoError(t, rdb.ZAdd(t.Context(), b.at("lease"), lease).Err())
	}
	return b
}

func (b strandedBundle) at(part string) string { return "asynq:{test:interactive}:" + part }

// mend looks through the whole queue.
func (b strandedBundle) mend() (all mended) {
	b.t.Helper()
	for list, keys := false, false; !list || !keys; {
		found, err := b.slice(b.t.Context())
		testkit.NoError(b.t, err)
		all.leases, all.pending, all.dropped = all.leases+found.leases, all.pending+found.pending,
			all.dropped+found.dropped
		list, keys = list || b.from == "0", keys || b.mender.key == "0"
	}
	return all
}

func (b strandedBundle) want(want mended) {
	b.t.Helper()
	if got := b.mend(); got != want {
		b.t.Errorf("mended %+v, want %+v", got, want)
	}
	if got := b.mend(); got != (mended{}) {
		b.t.Errorf("mended again: %+v", got)
	}
}

func TestAnActiveTaskWithoutALeaseGetsOneThatHasRunOut(t *testing.T) {
	t.Parallel()
	var ids []string
	for i := range 2*mendSlice + 10 {
		ids = append(ids, fmt.Sprint("task", i))
	}
	b := setupStranded(t, ids...)
	b.want(mended{})
	testkit.NoError(t, b.rdb.Del(t.Context(), b.at("lease")).Err())
	b.want(mended{leases: len(ids)})
	for _, lease := range b.rdb.ZRangeWithScores(t.Context(), b.at("lease"), 0, -1).Val() {
		if ago := time.Since(time.Unix(int64(lease.Score), 0)); ago < 0 || ago > 20*time.Second {
			t.Fatalf("the lease of %s ran out %s ago: a living worker has 30 s to extend it", lease.Member, ago)
		}
	}
}

func TestATaskThatStandsInNoListIsPendingAgain(t *testing.T) {
	t.Parallel()
	b := setupStranded(t, "done", "runs")
	b.rdb.LRem(t.Context(), b.at("active"), 0, "done") // as asynq does if the lease is missing
	b.rdb.ZRem(t.Context(), b.at("lease"), "done")
	b.want(mended{pending: 1})
	tasks, err := b.inspector.ListPendingTasks(b.queue)
	if err != nil || len(tasks) != 1 || tasks[0].ID != "done" {
		t.Errorf("pending are %v, %v", tasks, err)
	}
	for list, id := range map[string]string{
		"retry": "waits", "scheduled": "later", "archived": "old", "completed": "new",
	} {
		b.rdb.HSet(t.Context(), b.at("t:"+id), "state", "active")
		b.rdb.ZAdd(t.Context(), b.at(list), redis.Z{Score: 1, Member: id})
	}
	b.want(mended{}) // each stands in a list
}

// TestATaskWhoseEnqueuingBrokeOffIsPending, once it would be the next one: Redis refused to push it.
func TestATaskWhoseEnqueuingBrokeOffIsPending(t *testing.T) {
	t.Parallel()
	b := setupStranded(t)
	enqueue := func(rdb *redis.Client, id string, opts ...asynq.Option) error {
		client := asynq.NewClientFromRedisClient(rdb)
		opts = append(opts, asynq.Queue(b.queue), asynq.TaskID(id))
		_, err := client.Enqueue(asynq.NewTask("invite", []byte("{}")), opts...)
		return err
	}
	testkit.NoError(t, enqueue(b.rdb, "before"))
	rules := []any{"ACL", "SETUSER", "small", "on", ">x", "~*", "+@all", "-lpush", "-zadd"}
	testkit.NoError(t, b.rdb.Do(t.Context(), rules...).Err())
	small := redis.NewClient(&redis.Options{Addr: b.rdb.Options().Addr, Username: "small", Password: "x"})
	t.Cleanup(func() { _ = small.Close() })
	if err := enqueue(small, "half"); err == nil {
		t.Fatal("it was enqueued")
	}
	testkit.NoError(t, enqueue(b.rdb, "after"))
	b.want(mended{}) // before comes first
	testkit.NoError(t, b.inspector.DeleteTask(b.queue, "before"))
	b.want(mended{pending: 1})
	tasks, err := b.inspector.ListPendingTasks(b.queue)
	if err != nil || len(tasks) != 2 || tasks[0].ID != "half" {
		t.Errorf("pending are %v, %v", tasks, err)
	}
	later := asynq.ProcessIn(time.Hour)
	testkit.NoError(t, enqueue(b.rdb, "later", later))
	if err := enqueue(small, "half later", later); err == nil {
		t.Fatal("it was scheduled")
	}
	b.want(mended{dropped: 1})
	testkit.NoError(t, enqueue(b.rdb, "half later", later)) // its id is free
	b.want(mended{})
}

// TestATaskThatWasPutBackHasNoneSearched: it is the next one, and has waited for longer than all the others.
func TestATaskThatWasPutBackHasNoneSearched(t *testing.T) {
	t.Parallel()
	b := setupStranded(t)
	client := asynq.NewClientFromRedisClient(b.rdb)
	for i := range 200 {
		info, err := client.Enqueue(asynq.NewTask("invite", nil), asynq.Queue(b.queue))
		testkit.NoError(t, err)
		testkit.NoError(t, b.rdb.HSet(t.Context(), b.at("t:"+info.ID), "pending_since", i+2).Err())
	}
	testkit.NoError(t, b.rdb.HSet(t.Context(), b.at("t:half"), "state", "pending", "pending_since", 1).Err())
	b.want(mended{pending: 1})
	testkit.NoError(t, b.rdb.ConfigResetStat(t.Context()).Err())
	b.want(mended{})
	if stats := b.rdb.Info(t.Context(), "commandstats").Val(); strings.Contains(stats, "cmdstat_lpos:") {
		t.Errorf("lists were searched: %s", stats)
	}
}

func TestAnIDWithoutATaskIsDropped(t *testing.T) {
	t.Parallel()
	b := setupStranded(t, "gone", "runs")
	b.rdb.Del(t.Context(), b.at("t:gone"))
	b.rdb.ZAdd(t.Context(), b.at("lease"), redis.Z{Score: 1, Member: "leased"})
	b.want(mended{dropped: 2})
	active := b.rdb.LRange(t.Context(), b.at("active"), 0, -1).Val()
	leased := b.rdb.ZRange(t.Context(), b.at("lease"), 0, -1).Val()
	if want := []string{"runs"}; !slices.Equal(active, want) || !slices.Equal(leased, want) {
		t.Errorf("active are %q, leased %q", active, leased)
	}
}
