package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/store/queues"
)

// asynq polls: an idle server asks for a task, sleeps, and asks again. This file lets it wait instead. The client that
// asynq's servers get knows asynq's dequeue script. When the queue is empty it sends, before the script,
//
//	BLMOVE asynq:{QUEUE}:pending asynq:{QUEUE}:pending RIGHT RIGHT 4
//
// which puts the task that would be next back to where it was: it changes nothing, and Redis answers at the moment at
// which there is a task, whoever enqueued it and however. Nobody has to announce tasks, and no wake can be missed.
// asynq itself may then ask again at once after an empty answer.
//
// While tasks are always ready it takes several at once, and answers the next dequeues with them (taken.go).
//
// It also knows the script that makes tasks pending whose time has come, and leaves out those calls for which
// nothing is due; and the one that tells what a server does, which it puts into fewer commands.
const (
	// lookPatience is how long Redis lets a look wait for a task.
	lookPatience = 4 * time.Second
	// lookGrace is how much later the answer may come. A Redis that hangs does not close its connections.
	lookGrace = time.Second
	// lookShort is how long Redis lets a look wait where something between closes connections on which nothing moves.
	// go-redis knows no shorter wait. Who closes one sooner than after lookCut does it for another reason.
	lookShort = time.Second
	lookCut   = 500 * time.Millisecond
	// lookAgain is how soon a worker looks again after another one took the task. All workers that wait see each task,
	// and one of them gets it. So one that gets tasks sees them all, and the others ask for few in vain.
	lookAgain = 450 * time.Millisecond
	// A lookout that found tasks so many times in a row, each in such a time, does not look before it takes the next.
	enoughReady = 3
	readyAtOnce = 5 * time.Millisecond
	// lookForbidden is for how long a worker polls after Redis has refused to let it wait.
	lookForbidden = 5 * time.Second
	// quickCheck is how soon asynq asks again after an empty answer.
	quickCheck = time.Millisecond

	// delaysKept is how long it counts that no task waits for its time. Three servers ask at about the same time.
	delaysKept = 500 * time.Millisecond

	heldErrorMin, heldErrorMax = 100 * time.Millisecond, time.Second
)

// wake lets asynq's servers wait. Its lookouts are for the queues of this worker.
type wake struct {
	redis    redis.UniversalClient
	once     redis.UniversalClient // attempts each command once: a dequeue that is repeated takes a second task
	lookouts map[string]*lookout   // by key of the pending tasks
	delays   map[string]*delays    // by keys of the tasks that wait for their time
	stopping <-chan struct{}
	log      zerolog.Logger
	polls    atomic.Bool // Redis does not let it wait; all lookouts meet that, and one tells
	short    atomic.Bool // waits are cut; one of the lookouts tells that too
}

// newWake lets the servers of a worker wait.
func newWake(w *Worker) *wake {
	k := &wake{
		redis: w.Redis, once: w.RedisOnce, lookouts: map[string]*lookout{}, delays: map[string]*delays{},
		stopping: w.accepting.Done(), log: w.Log,
	}
	_, cluster := w.Redis.(*redis.ClusterClient)
	all := &delays{redis: w.Redis}
	for _, l := range lanes {
		queue := queues.Name(w.Namespace, l.name)
		pending := queues.Key(queue, "pending")
		k.lookouts[pending] = &lookout{
			wake: k, key: pending, pickup: l.pickup, room: l.room, next: w.handler, taken: taken{redis: k.once},
		}
		if cluster { // queues are on different nodes
			all = &delays{redis: w.Redis}
		}
		for _, set := range []string{queues.Key(queue, "scheduled"), queues.Key(queue, "retry")} {
			all.sets, k.delays[set] = append(all.sets, set), all
		}
	}
	return k
}

// handler counts the handlers of a lane that run.
func (k *wake) handler(namespace string, lane queues.Lane) asynq.Handler {
	return k.lookouts[queues.Key(queues.Name(namespace, lane), "pending")]
}

// putBack puts back the tasks that wait for their handlers. The servers must have stopped.
func (k *wake) putBack(ctx context.Context) {
	for _, l := range k.lookouts {
		l.taken.putBack(ctx)
	}
}

// servers is the Redis that asynq's servers get.
type servers struct {
	unheard
	wake *wake
}

// EvalSha lets a dequeue wait, and leaves out what would make nothing pending.
func (s servers) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return s.wake.run(ctx, keys, args, func(rdb redis.UniversalClient) *redis.Cmd {
		return rdb.EvalSha(ctx, sha, keys, args...)
	})
}

// Eval is EvalSha for a script that Redis does not have yet.
func (s servers) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return s.wake.run(ctx, keys, args, func(rdb redis.UniversalClient) *redis.Cmd {
		return rdb.Eval(ctx, script, keys, args...)
	})
}

// run answers a script of asynq's.
func (k *wake) run(
	ctx context.Context, keys []string, args []any, send func(redis.UniversalClient) *redis.Cmd,
) *redis.Cmd {
	switch scriptOf(keys, args) {
	case dequeues:
		if l := k.lookouts[keys[0]]; l != nil {
			return l.dequeue(ctx, keys, args, func() *redis.Cmd { return send(k.once) })
		}
	case forwards:
		if d := k.delays[keys[0]]; d != nil && !d.due(ctx, keys[0]) {
			return redis.NewCmdResult(int64(0), nil)
		}
	case heartbeats:
		return heartbeatScript.Run(ctx, k.redis, keys, args...)
	}
	return send(k.redis)
}

// script is one of asynq's.
type script int

const (
	unknown script = iota
	dequeues
	forwards
	heartbeats
)

// scriptOf knows asynq's scripts by their keys.
func scriptOf(keys []string, args []any) script {
	are := func(parts ...string) bool {
		if len(keys) != len(parts) {
			return false
		}
		for i, part := range parts {
			if !strings.HasSuffix(keys[i], "}:"+part) {
				return false
			}
		}
		return true
	}
	switch {
	case are("pending", "paused", "active", "lease"):
		return dequeues
	case are("scheduled", "pending"), are("retry", "pending"):
		return forwards
	case len(keys) == 2 && len(args) >= 2 &&
		strings.HasPrefix(keys[0], "asynq:servers:") && strings.HasPrefix(keys[1], "asynq:workers:"):
		return heartbeats
	}
	return unknown
}

// delays knows whether any task of some queues waits for its time.
type delays struct {
	redis redis.UniversalClient
	sets  []string

	mu   sync.Mutex
	none time.Time // when there was none
}

// due tells whether a set may have a task whose time has come.
func (d *delays) due(ctx context.Context, set string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.none) < delaysKept {
		return false
	}
	if some, err := d.redis.Exists(ctx, d.sets...).Result(); err == nil && some == 0 {
		d.none = time.Now()
		return false
	}
	first, err := d.redis.ZRangeWithScores(ctx, set, 0, 0).Result()
	return err != nil || len(first) > 0 && int64(first[0].Score) <= time.Now().Unix()
}

// heartbeatScript does what asynq's own one does, with one command for all tasks at work instead of one for each.
//
// KEYS[1] -> asynq:servers:{HOST:PID:ID}
// KEYS[2] -> asynq:workers:{HOST:PID:ID}
// --
// ARGV[1] -> for how long they are kept (s)
// ARGV[2] -> the server
// ARGV[3], [5] … -> id of each task at work
// ARGV[4], [6] … -> what is told of it
var heartbeatScript = redis.NewScript(`
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
redis.call('DEL', KEYS[2])
if #ARGV > 3 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 3))
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return redis.status_reply('OK')
`)

// lookout looks for tasks of one queue. asynq dequeues one after the other, so it needs no lock.
type lookout struct {
	*wake
	key       string
	pickup    time.Duration // how often it asks where it may not wait
	room      int64         // with fewer handlers at work it may take several tasks at once
	ready     int           // how many looks in a row did not have to wait
	failures  int           // in a row
	cuts      int           // waits in a row that were cut
	forbidden time.Time     // until when it polls
	next      asynq.Handler
	working   atomic.Int64 // handlers that run
	taken     taken
}

// ProcessTask counts the handlers that run.
func (l *lookout) ProcessTask(ctx context.Context, task *asynq.Task) error {
	l.working.Add(1)
	defer l.working.Add(-1)
	return l.next.ProcessTask(ctx, task)
}

// dequeue answers a dequeue. It returns late while there is no task, and after an error, after which asynq would ask
// again at once. While tasks are always ready it does not look, and takes several if there is room for all.
func (l *lookout) dequeue(ctx context.Context, keys []string, args []any, send func() *redis.Cmd) *redis.Cmd {
	if message := l.taken.next(ctx); message != "" {
		return redis.NewCmdResult(message, nil)
	}
	looks := l.ready < enoughReady
	if looks {
		began := time.Now()
		there, err := l.look(ctx)
		if err != nil {
			return l.fail(err)
		}
		if l.ready++; time.Since(began) > readyAtOnce {
			l.ready = 0
		}
		if !there {
			return redis.NewCmdResult(nil, redis.Nil)
		}
	}
	if !looks && l.working.Load() < l.room {
		send = func() *redis.Cmd {
			answer, more := l.taken.take(ctx, keys, args)
			if !more {
				l.ready = 0
			}
			return answer
		}
	}
	answer := send()
	switch err := answer.Err(); {
	case err == nil:
		l.failures = 0
	case errors.Is(err, redis.Nil):
		l.ready, l.failures = 0, 0
		if looks && l.forbidden.IsZero() { // another worker was faster, or the queue is paused
			l.pause(lookAgain/2 + rand.N(lookAgain))
		}
	case !redis.HasErrorPrefix(err, "NOSCRIPT"): // asynq sends the script itself after that
		return l.fail(err)
	}
	return answer
}

// fail answers with an error, later each time.
func (l *lookout) fail(err error) *redis.Cmd {
	l.pause(min(heldErrorMin<<min(l.failures, 10), heldErrorMax))
	l.failures++
	return redis.NewCmdResult(nil, err)
}

func (l *lookout) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-l.stopping:
	}
}

// look waits until there is a task, for a while. Where Redis does not let it wait, it says that there may be one, as
// often as asynq asks by itself.
func (l *lookout) look(ctx context.Context) (bool, error) {
	if time.Now().Before(l.forbidden) {
		l.pause(l.pickup/2 + rand.N(l.pickup))
		return true, nil
	}
	done, began, patience := make(chan error, 1), time.Now(), l.patience()
	go func() {
		ctx, cancel := context.WithTimeout(ctx, patience+lookGrace)
		defer cancel()
		done <- l.once.BLMove(ctx, l.key, l.key, "RIGHT", "RIGHT", patience).Err()
	}()
	select {
	case <-l.stopping:
		return false, nil
	case err := <-done:
		if waited := time.Since(began); waited >= lookCut && isCut(err) {
			l.cut(err, waited)
			return false, nil
		}
		l.cuts = 0
		switch {
		case errors.Is(err, redis.Nil):
			return false, nil
		case isRefusal(err):
			l.forbid(err)
			return true, nil
		case err == nil && !l.forbidden.IsZero():
			l.forbidden = time.Time{}
			if l.polls.CompareAndSwap(true, false) {
				l.log.Info().Msg("Redis lets a worker wait for tasks again")
			}
		}
		return err == nil, err
	}
}

// patience is how long a look waits.
func (k *wake) patience() time.Duration {
	if k.short.Load() {
		return lookShort
	}
	return lookPatience
}

// forbid lets the lookout poll for a while.
func (l *lookout) forbid(err error) {
	if l.polls.CompareAndSwap(false, true) {
		l.log.Warn().Err(err).Str("command", "BLMOVE").
			Msg("Redis does not let a worker wait for tasks; it asks several times a second")
	}
	l.forbidden = time.Now().Add(lookForbidden)
}

// isCut tells whether a connection was closed.
func isCut(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

// cut notes that a connection was closed on which a look had waited. A Redis that ends does that once. A proxy does it
// again and again: then looks become shorter than its timeout, or where that does not help, the lookout polls.
func (l *lookout) cut(err error, waited time.Duration) {
	switch l.cuts++; {
	case l.cuts == 1:
	case waited > lookShort+lookCut:
		if l.short.CompareAndSwap(false, true) {
			l.log.Warn().Err(err).Float64("after_seconds", waited.Round(time.Millisecond).Seconds()).
				Msg("a proxy before Redis closes idle connections; a worker waits for tasks for a second at a time")
		}
	default:
		l.forbid(err)
	}
}

// isRefusal tells whether Redis refuses this command, and not every one because of the state that it is in.
func isRefusal(err error) bool {
	for _, state := range []string{
		"LOADING", "READONLY", "MASTERDOWN", "UNBLOCKED", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS",
	} {
		if redis.HasErrorPrefix(err, state) {
			return false
		}
	}
	return answeredWithError(err)
}

// errShape means that asynq dequeues in a way that wake does not know.
var errShape = errors.New("asynq dequeues with a script that is not known")

// checkShape tells whether it is known how asynq dequeues. It runs a server without any Redis.
func checkShape(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{
		MaxRetries: -1, DialerRetries: 1, // go-redis tries five times by itself, which takes most of a second
		Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed },
	})
	defer rdb.Close()
	known := make(chan struct{})
	empty := emptyQueues{unheard{rdb}, sync.OnceFunc(func() { close(known) })}
	server := asynq.NewServerFromRedisClient(empty, asynq.Config{
		TaskCheckInterval: quickCheck, Logger: &asynqLog{zerolog.Nop()}, ShutdownTimeout: quickCheck, Concurrency: 1,
	})
	if err := server.Start(asynq.NotFoundHandler()); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	defer server.Shutdown()
	select {
	case <-known:
		return nil
	case <-ctx.Done():
		return errShape
	}
}

// emptyQueues answers every script with nothing, and tells when it sees a dequeue.
type emptyQueues struct {
	unheard
	known func()
}

// EvalSha is the first that asynq tries.
func (e emptyQueues) EvalSha(_ context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	if scriptOf(keys, args) == dequeues {
		e.known()
	}
	return redis.NewCmdResult(nil, redis.Nil)
}
