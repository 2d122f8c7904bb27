package retention_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/retention"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/retry"
	"example.com/usher/internal/testkit"
	"example.com/usher/internal/worker"
	"example.com/usher/tasks"
)

// permanent are the keys that may stay for ever, however long and with whatever keys and names the workers run:
// docs/operations.md has the list.
var permanent = []string{
	"usher:campaigns", "usher:policy", "usher:key-kind", "usher:bases", "usher:secret",
	"usher:{limits}:figures",
	"usher:{directory}:meta", "usher:{directory}:copies", "usher:{directory}:copy:2-*",
	"usher:{schedule}:names",
	"usher:{once}:redis", "usher:{once}:lost", "usher:{once}:seen", "usher:{once}:restored", "usher:{once}:forgotten",
	"usher:{once}:keeping:since",
	"usher:{once}:running", "usher:{once}:moving", "usher:{once}:deleting",
	"usher:{once}:deleted:*", "usher:{once}:d:index",
	"asynq:queues", "asynq:{usher:*}:processed", "asynq:{usher:*}:failed",
}

func isPermanent(key string) bool {
	return slices.ContainsFunc(permanent, func(pattern string) bool {
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		return regexp.MustCompile("^" + strings.Join(parts, "[^:]*") + "$").MatchString(key)
	})
}

// clerk creates what it is asked for, but nobody whose address begins with dead.
type clerk struct{}

func (clerk) one(p *invitation.CreateParams) (clerkclient.Invitation, error) {
	if strings.HasPrefix(p.EmailAddress, "dead") {
		return clerkclient.Invitation{}, &clerkclient.Error{
			Outcome: clerkclient.Rejected, Status: 422, Code: "form_identifier_exists", Sent: true,
		}
	}
	return clerkclient.Invitation{ID: "inv_" + p.EmailAddress, EmailAddress: p.EmailAddress}, nil
}

func (c clerk) Create(
	_ context.Context, p *invitation.CreateParams,
) (clerkclient.Invitation, clerkclient.Answer, error) {
	inv, err := c.one(p)
	return inv, clerkclient.Answer{}, err
}

func (c clerk) CreateBulk(
	_ context.Context, ps []*invitation.CreateParams,
) (made []clerkclient.Invitation, _ clerkclient.Answer, err error) {
	for _, p := range ps {
		inv, oneErr := c.one(p)
		if made = append(made, inv); oneErr != nil {
			return nil, clerkclient.Answer{}, oneErr
		}
	}
	return made, clerkclient.Answer{}, nil
}

func (clerk) Revoke(context.Context, string) (clerkclient.Invitation, clerkclient.Answer, error) {
	return clerkclient.Invitation{}, clerkclient.Answer{}, nil
}

func (clerk) Delete(context.Context, string) (clerkclient.Answer, error) {
	return clerkclient.Answer{}, nil
}

func (clerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	return clerkclient.Page{}, clerkclient.Answer{}, nil
}

func (clerk) UsersByEmail(context.Context, []string) ([]string, clerkclient.Answer, error) {
	return nil, clerkclient.Answer{}, nil
}

// runWorker runs a worker with a key of its own until the context ends, and tells when it is ready.
func runWorker(ctx context.Context, t *testing.T, rdb redis.UniversalClient, key string, ready func()) {
	health := worker.NewHealth()
	w, err := worker.New(worker.Config{
		Redis: rdb, RedisOnce: rdb, Namespace: "usher", Clerk: clerk{}, KeyFingerprint: key,
		Policy: policy.Policy{
			Timeout: 30 * time.Second, MaxAttempts: 20, BackoffMin: time.Millisecond, BackoffMax: time.Millisecond,
		},
		KeyChanged: func() bool { return false }, Health: health,
		Metrics: worker.NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.Nop(), Keep: keep,
	})
	testkit.NoError(t, err)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	go health.Watch(ctx, rdb, "usher") // or else one that takes long to start would not be ready any more
	waiting.Go(func() {
		for health.NotReady() != "" && policy.Sleep(ctx, time.Millisecond) == nil {
		}
		ready()
	})
	if err := w.Run(ctx, "test"); err != nil {
		t.Error(err)
	}
}

// TestEverythingButAListEnds starts workers, each with a key of its own, and makes campaigns and tasks. Half a year
// later nothing of them stays but what is on a list, and the stubs of the campaigns.
func TestEverythingButAListEnds(t *testing.T) {
	t.Parallel()
	starts, campaigns, invites := 20, 30, 300
	if testkit.Long {
		starts, campaigns, invites = 1000, 1000, 10_000
	}
	ctx := t.Context()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	client, err := tasks.NewClient(tasks.Redis(rdb))
	testkit.NoError(t, err)
	began := time.Now()
	tell := func(what string) { t.Logf("%6.1f s: %s", time.Since(began).Seconds(), what) }

	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	workers.Go(func() { runWorker(working, t, rdb, "first", func() {}) })
	each := func(n, atOnce int, do func(i int)) {
		var all sync.WaitGroup
		for from := range atOnce {
			all.Go(func() {
				for i := from; i < n; i += atOnce {
					do(i)
				}
			})
		}
		all.Wait()
	}
	each(campaigns, 8, func(i int) {
		var list []tasks.Recipient
		for _, who := range []string{"a", "b", "dead"} {
			list = append(list, tasks.Recipient{EmailAddress: fmt.Sprintf("%s%d@example.com", who, i)})
		}
		request := tasks.BulkRequest{Campaign: fmt.Sprintf("campaign%d", i), Recipients: list}
		if _, err := client.BulkInvite(ctx, request, tasks.ID(fmt.Sprintf("bulk%d", i))); err != nil {
			t.Error(err)
		}
	})
	tell("campaigns are enqueued")
	each(invites, 8, func(i int) {
		if _, err := client.Invite(ctx, tasks.Recipient{EmailAddress: fmt.Sprintf("i%d@example.com", i)},
			tasks.ID(fmt.Sprintf("invite%d", i))); err != nil {
			t.Error(err)
		}
	})
	tell("invites are enqueued")
	testkit.Eventually(t, "all is done", func() bool {
		info := 0
		for _, lane := range queues.Lanes() {
			for _, list := range []string{"pending", "active"} {
				info += int(rdb.LLen(ctx, "asynq:{"+queues.Name("usher", lane)+"}:"+list).Val())
			}
		}
		return info == 0 && rdb.SCard(ctx, store.Keys("usher").Running()).Val() == 0
	})
	tell("all is done")
	each(starts, 50, func(i int) {
		starting, stop := context.WithCancel(ctx)
		runWorker(starting, t, rdb, fmt.Sprint("key", i), stop)
	})
	tell("workers have started and stopped")
	stop()
	workers.Wait()
	for i := range starts { // as asynq leaves it when a worker is killed
		name := fmt.Sprintf("asynq:servers:{host:%d:x}", i)
		rdb.ZAdd(ctx, "asynq:servers", redis.Z{Score: float64(began.Unix()), Member: name})
		rdb.ZAdd(ctx, "asynq:workers", redis.Z{Score: float64(began.Unix()), Member: name})
	}

	b := bundle{ledger.New(rdb, "usher"), rdb, &testkit.Buffer{}}
	deleteLetters(t, rdb)
	pass := func() {
		rdb.Del(ctx, store.Keys("usher").Keeping())
		testkit.NoError(t, retention.New(rdb, "usher", keep, zerolog.New(b.log)).Ahead(200*day).Turn(ctx))
	}
	testkit.NoError(t, rdb.Set(ctx, store.Keys("usher").KeepingSince(), began.UnixMilli(), 0).Err())
	pass()
	tell("campaigns are deleted")
	t.Logf("permanent: %s", strings.Join(permanent, " "))
	ending, staying := 0, 0
	eachKey(t, rdb, func(key string, ttl time.Duration) {
		switch {
		case ttl >= 0:
			ending++
			testkit.NoError(t, rdb.PExpire(ctx, key, time.Second).Err())
		case isPermanent(key):
			staying++
		default:
			t.Errorf("%s stays, and is not on the list", key)
		}
	})
	t.Logf("%d keys expire, %d are permanent", ending, staying)
	testkit.Eventually(t, "what expires is gone", func() bool {
		left := 0
		eachKey(t, rdb, func(string, time.Duration) { left++ })
		return left <= staying
	})
	starting, stopStarting := context.WithCancel(ctx)
	runWorker(starting, t, rdb, "last", stopStarting) // it forgets the keys of those before it
	stubs := 0
	eachKey(t, rdb, func(key string, ttl time.Duration) {
		size := sizeOf(t, rdb, key)
		switch {
		case strings.HasPrefix(key, "usher:{once}:deleted:"):
			stubs += size
		case ttl < 0 && size > 10:
			t.Errorf("%s has grown to %d", key, size)
		}
	})
	if stubs != campaigns {
		t.Errorf("%d campaigns have left %d stubs", campaigns, stubs)
	}
}

// deleteLetters deletes every dead letter, as a person does.
func deleteLetters(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	retrier := retry.New(rdb, "usher")
	testkit.NoError(t, deadletter.NewStore(rdb, "usher").Each(t.Context(), deadletter.Filter{}, func(e deadletter.Entry) error {
		_, err := retrier.Delete(t.Context(), e.ID)
		return err
	}))
}

func eachKey(t *testing.T, rdb redis.UniversalClient, do func(key string, ttl time.Duration)) {
	t.Helper()
	keys := rdb.Scan(t.Context(), 0, "", 1000).Iterator()
	for keys.Next(t.Context()) {
		if ttl := rdb.PTTL(t.Context(), keys.Val()).Val(); ttl != -2 { // it has just expired
			do(keys.Val(), ttl)
		}
	}
	testkit.NoError(t, keys.Err())
}

// sizeOf is how many members a key has.
func sizeOf(t *testing.T, rdb redis.UniversalClient, key string) int {
	t.Helper()
	var n int64
	var err error
	switch rdb.Type(t.Context(), key).Val() {
	case "hash":
		n, err = rdb.HLen(t.Context(), key).Result()
	case "set":
		n, err = rdb.SCard(t.Context(), key).Result()
	case "zset":
		n, err = rdb.ZCard(t.Context(), key).Result()
	case "list":
		n, err = rdb.LLen(t.Context(), key).Result()
	}
	testkit.NoError(t, err)
	return int(n)
}
