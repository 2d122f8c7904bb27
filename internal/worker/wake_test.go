package worker

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/testkit"
)

func TestAsynqDequeuesAsIsKnown(t *testing.T) {
	t.Parallel()
	testkit.NoError(t, checkShape(t.Context()))
}

// redisError is an answer of Redis that refuses.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// fakeRedis answers dequeues and looks as it is told.
type fakeRedis struct {
	dequeues, looks   int
	onDequeue, onLook func() error
}

func (f *fakeRedis) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fakeRedis) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *fakeRedis) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		var err error
		if cmd.Name() == "blmove" {
			f.looks++
			err = f.onLook()
		} else {
			f.dequeues++
			err = f.onDequeue()
		}
		cmd.SetErr(err)
		return err
	}
}

// watch runs a test with a lookout in a bubble of time.
func watch(t *testing.T, test func(t *testing.T, f *fakeRedis, l *lookout, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "192.0.2.1:6379", MaxRetries: -1})
		defer rdb.Close()
		f := &fakeRedis{}
		rdb.AddHook(f)
		stopping, stop := context.WithCancel(t.Context())
		k := &wake{once: rdb, stopping: stopping.Done(), log: zerolog.Nop()}
		test(t, f, &lookout{wake: k, key: "asynq:{q}:pending", pickup: 200 * time.Millisecond}, stop)
		stop()
		time.Sleep(lookPatience) // a look that was left ends by itself
	})
}

func dequeue(t *testing.T, l *lookout) (took time.Duration, err error) {
	t.Helper()
	began := time.Now()
	answer := l.dequeue(t.Context(), nil, nil, func() *redis.Cmd {
		return l.once.EvalSha(t.Context(), "sha", []string{l.key})
	})
	return time.Since(began), answer.Err()
}

func nothing() error { return redis.Nil }
func found() error   { return nil }

// nothingFor answers after a look's patience that there is no task.
func nothingFor() error {
	time.Sleep(lookPatience)
	return redis.Nil
}

func TestAnEmptyQueueIsWatchedNotAsked(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		f.onDequeue, f.onLook = nothing, nothingFor
		for range 10 {
			if _, err := dequeue(t, l); !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
		}
		if f.dequeues != 0 || f.looks != 10 {
			t.Errorf("%d dequeues, %d looks", f.dequeues, f.looks)
		}
		f.onDequeue, f.onLook = found, func() error { time.Sleep(time.Second); return nil }
		for range 10 {
			if took, err := dequeue(t, l); took != time.Second || err != nil {
				t.Errorf("a dequeue took %v: %v", took, err)
			}
		}
		if f.dequeues != 10 || f.looks != 20 {
			t.Errorf("%d dequeues, %d looks", f.dequeues, f.looks)
		}
	})
}

// TestTasksThatAreReadyAreTakenWithoutALook: until there is none.
func TestTasksThatAreReadyAreTakenWithoutALook(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		f.onDequeue, f.onLook = found, found
		for range 100 {
			_, _ = dequeue(t, l)
		}
		if f.dequeues != 100 || f.looks != enoughReady {
			t.Errorf("%d dequeues, %d looks", f.dequeues, f.looks)
		}
		f.onDequeue, f.onLook = nothing, nothingFor
		for range 10 {
			_, _ = dequeue(t, l)
		}
		if f.dequeues != 101 || f.looks != enoughReady+9 {
			t.Errorf("when there are no more: %d dequeues, %d looks", f.dequeues, f.looks)
		}
	})
}

// TestWhoGetsNoTaskWaitsBeforeItLooksAgain: another worker was faster, or the queue is paused.
func TestWhoGetsNoTaskWaitsBeforeItLooksAgain(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		f.onDequeue, f.onLook = nothing, found
		began := time.Now()
		for time.Since(began) < time.Minute {
			_, _ = dequeue(t, l)
		}
		if f.dequeues > 3*60 {
			t.Errorf("%d dequeues in vain in a minute", f.dequeues)
		}
	})
}

func TestAnErrorIsHeldLongerEachTime(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		broken := errors.New("connection refused")
		f.onLook = found
		f.onDequeue = func() error { return broken }
		for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			if took, err := dequeue(t, l); took != want*time.Millisecond || !errors.Is(err, broken) {
				t.Errorf("it took %v, not %v ms: %v", took, int(want), err)
			}
		}
		f.onDequeue = nothing
		_, _ = dequeue(t, l)
		f.onLook = func() error { return redisError("LOADING Redis is loading the dataset in memory") }
		if took, err := dequeue(t, l); took != heldErrorMin || !redis.HasErrorPrefix(err, "LOADING") {
			t.Errorf("after a success it took %v: %v", took, err)
		}
		f.onDequeue, f.onLook = func() error { return redisError("NOSCRIPT No matching script") }, found
		if took, _ := dequeue(t, l); took != 0 {
			t.Errorf("the script was asked for after %v", took)
		}
	})
}

// TestAWorkerThatMayNotWaitAsks: as often as asynq by itself, and after a while it tries to wait again.
func TestAWorkerThatMayNotWaitAsks(t *testing.T) {
	for _, refusal := range []redisError{
		"NOPERM this user has no permissions to run the 'blmove' command", "ERR unknown command 'blmove'",
		"OOM command not allowed when used memory > 'maxmemory'.",
	} {
		watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
			f.onDequeue, f.onLook = nothing, func() error { return refusal }
			began := time.Now()
			for time.Since(began) < time.Minute {
				_, _ = dequeue(t, l)
			}
			if f.dequeues < 60*2 || f.dequeues > 60*10 || f.looks > 60/5+1 {
				t.Errorf("%s: %d dequeues, %d looks in a minute", refusal, f.dequeues, f.looks)
			}
			f.onLook = nothingFor
			time.Sleep(lookForbidden)
			before := f.dequeues
			for range 3 {
				_, _ = dequeue(t, l)
			}
			if f.dequeues > before {
				t.Errorf("%s: it asks after it may wait again", refusal)
			}
		})
	}
}

// TestThatAWorkerMayNotWaitIsToldOnce: by one of its lookouts, and so is that it may again.
func TestThatAWorkerMayNotWaitIsToldOnce(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		var told strings.Builder
		l.log = zerolog.New(&told)
		others := []*lookout{l, {wake: l.wake, key: "asynq:{r}:pending", pickup: l.pickup}}
		f.onDequeue, f.onLook = nothing, func() error { return redisError("NOPERM no permissions to run 'blmove'") }
		all := func() {
			for _, l := range others {
				_, _ = dequeue(t, l)
			}
			time.Sleep(lookForbidden)
		}
		all()
		all()
		f.onLook = found
		all()
		all()
		if n := strings.Count(told.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, told.String())
		}
	})
}

// TestAWaitThatIsCutIsMadeShorter: a proxy closes connections on which nothing moves. That is no error, and costs no
// task any time.
func TestAWaitThatIsCutIsMadeShorter(t *testing.T) {
	for _, c := range []struct {
		timeout time.Duration // of the proxy
		err     error         // by which it is seen
		told    string
		looks   int // at most in a minute, and at least half of it
		asks    int // the same of dequeues
	}{
		{3 * time.Second, io.EOF, "before Redis closes idle connections", 62, 0},
		{lookPatience, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, "before Redis closes idle connections", 62, 0},
		{lookShort, io.EOF, "it asks several times a second", 15, 60 * 10},
	} {
		watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
			var told strings.Builder
			l.log = zerolog.New(&told)
			f.onDequeue, f.onLook = nothing, func() error {
				if l.patience() < c.timeout {
					time.Sleep(l.patience())
					return redis.Nil
				}
				time.Sleep(c.timeout)
				return c.err
			}
			for began := time.Now(); time.Since(began) < time.Minute; {
				if _, err := dequeue(t, l); !errors.Is(err, redis.Nil) {
					t.Fatalf("%s: %v", c.timeout, err)
				}
			}
			if strings.Count(told.String(), "\n") != 1 || !strings.Contains(told.String(), c.told) {
				t.Errorf("%s: told\n%s", c.timeout, told.String())
			}
			if f.looks > c.looks || f.looks < c.looks/2 || f.dequeues > c.asks || f.dequeues < c.asks/4 {
				t.Errorf("%s: %d looks and %d dequeues in a minute", c.timeout, f.looks, f.dequeues)
			}
		})
	}
}

// TestARedisThatEndsOnceCutsNothingShort: only who cuts two waits in a row is taken for a proxy.
func TestARedisThatEndsOnceCutsNothingShort(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, _ func()) {
		for range 5 {
			f.onLook = func() error { time.Sleep(3 * time.Second); return io.EOF }
			_, _ = dequeue(t, l)
			f.onLook = func() error { return &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} }
			_, _ = dequeue(t, l)
			f.onLook = func() error { return io.EOF } // it begins, or a proxy has no Redis
			if took, err := dequeue(t, l); took < heldErrorMin || !errors.Is(err, io.EOF) {
				t.Errorf("after %v: %v", took, err)
			}
		}
		if l.patience() != lookPatience || !l.forbidden.IsZero() {
			t.Error("its looks have become shorter")
		}
	})
}

func TestAWorkerThatStopsLetsGoAtOnce(t *testing.T) {
	watch(t, func(t *testing.T, f *fakeRedis, l *lookout, stop func()) {
		f.onDequeue, f.onLook = nothing, nothingFor
		time.AfterFunc(time.Second, stop)
		if took, err := dequeue(t, l); took != time.Second || !errors.Is(err, redis.Nil) {
			t.Errorf("it let go after %v: %v", took, err)
		}
		f.onDequeue, l.ready = func() error { return errors.New("broken") }, enoughReady
		if took, _ := dequeue(t, l); took != 0 {
			t.Errorf("an error was held for %v", took)
		}
	})
}

// TestTasksOfAPlainProducerAreSeenAtOnce: on a real Redis, where nobody announces anything. The worker has not asked
// in vain meanwhile, and looking at the queue changes nothing in it.
func TestTasksOfAPlainProducerAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	server := testkit.RunRedis(t)
	rdb := testkit.Client(t, server.Addr)
	accepting, stop := context.WithCancel(t.Context())
	served := servers{unheard{rdb}, newWake(&Worker{
		Config: Config{Redis: rdb, RedisOnce: rdb, Namespace: "usher", Log: zerolog.Nop()}, accepting: accepting,
	})}
	queue := "usher:interactive"
	asynqServer := asynq.NewServerFromRedisClient(served, asynq.Config{
		Queues: map[string]int{queue: 1}, TaskCheckInterval: quickCheck, Concurrency: 1, LogLevel: asynq.FatalLevel,
		DelayedTaskCheckInterval: 10 * time.Millisecond,
	})
	ran := make(chan string)
	testkit.NoError(t, asynqServer.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		ran <- string(task.Payload())
		return nil
	})))
	t.Cleanup(func() { stop(); asynqServer.Shutdown() })
	client := asynq.NewClientFromRedisClient(rdb)
	enqueue := func(payload string, options ...asynq.Option) {
		t.Helper()
		_, err := client.Enqueue(asynq.NewTask("x", []byte(payload)), append(options, asynq.Queue(queue))...)
		testkit.NoError(t, err)
	}
	for range 3 {
		testkit.Eventually(t, "it waits", func() bool {
			clients, err := rdb.Info(t.Context(), "clients").Result()
			return err == nil && strings.Contains(clients, "blocked_clients:1\r")
		})
		for _, task := range []string{"a", "b", "c"} {
			enqueue(task)
		}
		for _, want := range []string{"a", "b", "c"} {
			if got := <-ran; got != want {
				t.Errorf("%s ran, not %s", got, want)
			}
		}
	}
	enqueue("due", asynq.ProcessIn(time.Second))
	if got := <-ran; got != "due" {
		t.Errorf("%s ran", got)
	}
}

// TestAHeartbeatTellsOfEachTaskAtWork: as asynq's own script does.
func TestAHeartbeatTellsOfEachTaskAtWork(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	served := servers{unheard{rdb}, newWake(&Worker{
		Config: Config{Redis: rdb, RedisOnce: rdb, Namespace: "usher", Log: zerolog.Nop()}, accepting: t.Context(),
	})}
	keys := []string{"asynq:servers:{h:1:x}", "asynq:workers:{h:1:x}"}
	for _, want := range []map[string]string{{"a": "1", "b": "2"}, {"b": "3"}} {
		args := []any{10.0, "server"}
		for id, text := range want {
			args = append(args, id, []byte(text))
		}
		testkit.NoError(t, served.EvalSha(t.Context(), "asynq's", keys, args...).Err())
		if got := rdb.HGetAll(t.Context(), keys[1]).Val(); !maps.Equal(got, want) {
			t.Errorf("it tells of %v, not of %v", got, want)
		}
		for _, key := range keys {
			if left := rdb.TTL(t.Context(), key).Val(); left <= 0 || left > 10*time.Second {
				t.Errorf("%s is kept for %v", key, left)
			}
		}
	}
}
