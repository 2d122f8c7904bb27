package worker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/testkit"
)

// user gives a client of a user with some rights.
func user(t *testing.T, server *testkit.Redis, rules ...any) *redis.Client {
	t.Helper()
	args := append([]any{"ACL", "SETUSER", "small", "reset", "on", ">x", "~*"}, rules...)
	testkit.NoError(t, testkit.Client(t, server.Addr).Do(t.Context(), args...).Err())
	small := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "small", Password: "x"})
	t.Cleanup(func() { _ = small.Close() })
	return small
}

// TestAWorkerIsNotReadyWhileRedisRefusesWhatItNeeds: asynq takes tasks, and tells of itself, with ZADD.
func TestAWorkerIsNotReadyWhileRedisRefusesWhatItNeeds(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	small := user(t, server, "+@all", "-zadd", "-info", "-config")
	health := NewHealth()
	health.Observe(small)
	health.started()
	w := &Worker{Config: Config{Redis: small, Namespace: "test"}, asynqLog: &asynqLog{}}
	begun := make(chan struct{}, 9)
	mux := asynq.NewServeMux()
	mux.HandleFunc("kind", func(_ context.Context, _ *asynq.Task) error { begun <- struct{}{}; return nil })
	asked := asynq.NewServerFromRedisClient(unheard{small}, asynq.Config{
		Queues: map[string]int{queues.Name("test", queues.Interactive): 1}, Logger: w.asynqLog,
		TaskCheckInterval: 50 * time.Millisecond,
	})
	testkit.NoError(t, asked.Start(mux))
	t.Cleanup(asked.Shutdown)
	testkit.Eventually(t, "it is not ready", func() bool {
		small.Info(t.Context(), "server") // that is refused is borne
		health.seeRedis()
		return strings.Contains(health.NotReady(), "Redis refuses what a worker needs: NOPERM")
	})
	user(t, server, "+@all")
	producer := asynq.NewClientFromRedisClient(testkit.Client(t, server.Addr))
	_, err := producer.Enqueue(asynq.NewTask("kind", nil), asynq.Queue(queues.Name("test", queues.Interactive)))
	testkit.NoError(t, err)
	<-begun
	testkit.Eventually(t, "it is ready again", func() bool {
		health.seeRedis()
		return health.NotReady() == ""
	})
}

// TestARefusalThatIsNotClerksDoesNotBlameTheKey: a proxy or a firewall has answered.
func TestARefusalThatIsNotClerksDoesNotBlameTheKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refusal clerkclient.Error
		says    string
	}{
		{clerkclient.Error{Status: 401, Code: "clerk_key_invalid"}, "Clerk refuses the secret key"},
		{clerkclient.Error{Status: 403, NotClerk: true}, "something else than Clerk's API refuses calls (403): is " +
			"CLERK_API_URL right, or is it a proxy or a firewall?"},
	} {
		health := NewHealth()
		health.started()
		if health.refuses(&test.refusal); health.NotReady() != test.says {
			t.Errorf("%+v: %q", test.refusal, health.NotReady())
		}
	}
}

// TestARefusalMustLast: one that is not repeated, or of what may be refused, is none.
func TestARefusalMustLast(t *testing.T) {
	t.Parallel()
	small := user(t, testkit.RunRedis(t), "+@all", "-zadd", "-info")
	var r refusals
	small.AddHook(&r)
	small.Info(t.Context(), "server")
	small.ZAdd(t.Context(), "zset", redis.Z{Member: "x"})
	small.Incr(t.Context(), "count")
	if len(r.now) != 1 || r.why() != "" {
		t.Errorf("%v, %q", r.now, r.why())
	}
	age := func(d time.Duration) {
		for name, at := range r.now {
			at.since = at.since.Add(-d)
			r.now[name] = at
		}
	}
	age(refusedOnce)
	small.ZAdd(t.Context(), "zset", redis.Z{Member: "x"})
	if !strings.Contains(r.why(), "zadd") {
		t.Errorf("after %s: %q", refusedOnce, r.why())
	}
}

// TestARightThatIsBackIsSeenAtOnce: one script shows that Redis takes them all again. Some run once a minute.
func TestARightThatIsBackIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	small := user(t, server, "+@all", "-eval", "-evalsha")
	health := NewHealth()
	health.Observe(small)
	health.started()
	seldom := func() { _ = redis.NewScript("return 1").Run(t.Context(), small, nil).Err() }
	often := func() { _ = redis.NewScript("return 2").Run(t.Context(), small, nil).Err() }
	seldom()
	for name, at := range health.refusals.now {
		at.since = at.since.Add(-refusedOnce)
		health.refusals.now[name] = at
	}
	seldom()
	if got := health.NotReady(); !strings.Contains(got, "eval") {
		t.Fatalf("%q", got)
	}
	user(t, server, "+@all")
	often()
	if got := health.NotReady(); got != "" {
		t.Errorf("after the right is back: %q", got)
	}
}

// TestWithoutPingTheMissingRightIsNamed: Redis is there all the same.
func TestWithoutPingTheMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	small := user(t, testkit.RunRedis(t), "+@all", "-ping")
	health := NewHealth()
	health.Observe(small)
	health.started()
	go health.Watch(t.Context(), small, "test")
	testkit.Eventually(t, "it is not ready", func() bool { return health.NotReady() != "" })
	if got := health.NotReady(); !strings.Contains(got, "PING; ACL SETUSER small +ping gives its user the right") {
		t.Errorf("%q", got)
	}
}

// TestAScriptsMissingRightIsNamed while it is missing. When it is back the worker is ready, though nothing is tried.
func TestAScriptsMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	small := user(t, server, "+@all", "-hset")
	health := NewHealth()
	health.Observe(small)
	health.started()
	script := redis.NewScript("return redis.call('HSET', KEYS[1], 'field', 1)")
	refuse := func() { _ = script.Run(t.Context(), small, []string{"key"}).Err() }
	refuse()
	for name, at := range health.refusals.now {
		at.since = at.since.Add(-refusedOnce)
		health.refusals.now[name] = at
	}
	refuse()
	go health.Watch(t.Context(), small, "test")
	testkit.Eventually(t, "the right is named", func() bool {
		return health.NotReady() ==
			"Redis refuses what a worker needs: HSET; ACL SETUSER small +hset gives its user the right"
	})
	user(t, server, "+@all")
	testkit.Eventually(t, "it is ready", func() bool { return health.NotReady() == "" })
}
