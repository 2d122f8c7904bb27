package tasks_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// unnamed is a list of one without a name, and earlierName what earlier versions called it.
func unnamed() tasks.BulkRequest {
	return tasks.BulkRequest{Recipients: []tasks.Recipient{{EmailAddress: "late0@example.com"}}}
}

const earlierName = "bulk-d32e09076dd8b0411489"

func producer(t *testing.T, rdb redis.UniversalClient, namespace string) *tasks.Client {
	t.Helper()
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace(namespace))
	testkit.NoError(t, err)
	return client
}

// held is all that Redis holds.
func held(t *testing.T, rdb *redis.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range rdb.Keys(t.Context(), "*").Val() {
		all[key] = rdb.Dump(t.Context(), key).Val()
	}
	return all
}

// TestTheNameOfAnUnnamedListIsKeyed: it cannot be found by trying addresses, and stays the same in its namespace.
func TestTheNameOfAnUnnamedListIsKeyed(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t).Addr)
	names := map[string]bool{}
	for _, namespace := range []string{"one", "two"} {
		first, err := producer(t, rdb, namespace).BulkInvite(ctx, unnamed())
		testkit.NoError(t, err)
		again, err := producer(t, rdb, namespace).BulkInvite(ctx, unnamed()) // another process
		testkit.NoError(t, err)
		name := first.Bulk.Campaign
		if again.ID != first.ID || again.Bulk.Campaign != name || again.Bulk.Added != 0 || again.Bulk.Known != 1 {
			t.Errorf("the second time: %+v, %+v", again, again.Bulk)
		}
		names[name] = true
	}
	if len(names) != 2 || !strings.HasPrefix(slices.Collect(maps.Keys(names))[0], "bulk-") {
		t.Errorf("two namespaces call it %v", names)
	}
	for key, value := range held(t, rdb) {
		if plain := strings.TrimPrefix(earlierName, "bulk-"); strings.Contains(key+value, plain) {
			t.Errorf("%s holds the plain name", key)
		}
	}
}

// TestAnUnnamedListOfAnEarlierVersionIsFound: its campaign goes on, or is refused as any that was deleted.
func TestAnUnnamedListOfAnEarlierVersionIsFound(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t).Addr)
	client, ledgers := producer(t, rdb, "test"), ledger.New(rdb, "test")
	earlier := unnamed()
	earlier.Campaign = earlierName
	_, err := client.BulkInvite(ctx, earlier)
	testkit.NoError(t, err)
	again, err := client.BulkInvite(ctx, unnamed())
	if err != nil || again.Bulk.Campaign != earlierName || again.Bulk.Added != 0 || again.Bulk.Known != 1 {
		t.Errorf("%+v, %v", again.Bulk, err)
	}
	if name, err := client.Name(ctx, unnamed()); name != earlierName || err != nil {
		t.Errorf("it is called %s, %v", name, err)
	}

	campaign, err := ledgers.Cancel(ctx, earlierName)
	testkit.NoError(t, err)
	if _, err := client.BulkInvite(ctx, unnamed()); len(tasks.Faults(err)) == 0 {
		t.Errorf("a cancelled one: %v", err)
	}
	testkit.NoError(t, ledgers.Delete(ctx, campaign, true))
	_, err = client.BulkInvite(ctx, unnamed())
	if faults := tasks.Faults(err); len(faults) != 1 || !strings.Contains(faults[0].Reason, "was deleted") {
		t.Errorf("a deleted one: %v", err)
	}
}

// TestAnUploadThatAnEarlierVersionHasBegunIsFinished: it had taken the producer's id, and the name in it counts.
func TestAnUploadThatAnEarlierVersionHasBegunIsFinished(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t).Addr)
	client := producer(t, rdb, "test")
	earlier := unnamed()
	earlier.Campaign = earlierName
	_, err := client.BulkInvite(ctx, earlier, tasks.ID("own"))
	testkit.NoError(t, err)
	for key := range held(t, rdb) {
		if key != store.Keys("test").Record("own") {
			testkit.NoError(t, rdb.Del(ctx, key).Err())
		}
	}
	again, err := client.BulkInvite(ctx, unnamed(), tasks.ID("own"))
	if !errors.Is(err, tasks.ErrExists) || again.Bulk == nil || again.Bulk.Campaign != earlierName ||
		again.Bulk.Added != 1 {
		t.Errorf("%+v, %v", again.Bulk, err)
	}
}

// TestAskingForANameWritesNothing: before there is a key for it, it is not known.
func TestAskingForANameWritesNothing(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t).Addr)
	client := producer(t, rdb, "test")
	if name, err := client.Name(ctx, unnamed()); name != "" || err != nil || len(held(t, rdb)) != 0 {
		t.Errorf("%q, %v; it has written %v", name, err, held(t, rdb))
	}
	made, err := client.MakeName(ctx, unnamed())
	testkit.NoError(t, err)
	before := held(t, rdb)
	known, err := producer(t, rdb, "test").Name(ctx, unnamed())
	if known != made || err != nil || fmt.Sprint(held(t, rdb)) != fmt.Sprint(before) {
		t.Errorf("%q and %q, %v", made, known, err)
	}
	if task, err := client.BulkInvite(ctx, unnamed()); err != nil || task.Bulk.Campaign != made {
		t.Errorf("%+v, %v, want %s", task.Bulk, err, made)
	}
}

// TestARedisThatIsFullIsNotGivenAKeyForNames, as it takes nothing else of the list.
func TestARedisThatIsFullIsNotGivenAKeyForNames(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t, "--maxmemory-policy", "noeviction").Addr)
	client := producer(t, rdb, "test")
	testkit.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	if _, err := client.BulkInvite(ctx, unnamed()); !store.IsFull(err) || len(held(t, rdb)) != 0 {
		t.Errorf("%v; it has written %v", err, held(t, rdb))
	}
	testkit.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "0").Err())
	if task, err := client.BulkInvite(ctx, unnamed()); err != nil || task.Bulk.Added != 1 {
		t.Errorf("when there is room: %+v, %v", task.Bulk, err)
	}
}

// TestWhatIsForLaterIsEnqueuedByARepetition: Redis refused the last step of enqueuing it, and the repetition, or a
// worker that finishes an upload, finds its id taken.
func TestWhatIsForLaterIsEnqueuedByARepetition(t *testing.T) {
	t.Parallel()
	ctx, rdb := t.Context(), testkit.Client(t, testkit.RunRedis(t).Addr)
	testkit.NoError(t, rdb.Do(ctx, "ACL", "SETUSER", "small", "on", ">x", "~*", "&*", "+@all", "-zadd").Err())
	small := redis.NewClient(&redis.Options{Addr: rdb.Options().Addr, Username: "small", Password: "x"})
	t.Cleanup(func() { _ = small.Close() })
	later := []tasks.Option{tasks.ID("mine"), tasks.At(time.Now().Add(time.Hour))}
	ada := tasks.Recipient{EmailAddress: "ada@example.com"}
	if _, err := producer(t, small, "test").Invite(ctx, ada, later...); err == nil {
		t.Fatal("it was scheduled")
	}
	for range 2 {
		task, err := producer(t, rdb, "test").Invite(ctx, ada, later...)
		if task.State != tasks.StateScheduled || err != nil && !errors.Is(err, tasks.ErrExists) {
			t.Errorf("repeated: %+v, %v", task, err)
		}
		if n := rdb.ZCard(ctx, "asynq:{test:interactive}:scheduled").Val(); n != 1 {
			t.Errorf("%d tasks are scheduled", n)
		}
	}
}
