// Package worker is what runs tasks: it takes them from their queues, watches Redis and the secret key, gives
// campaigns their drivers, and stops in time. What becomes of a task is decided in package handle.
package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/call"
	"example.com/usher/internal/handle"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/retention"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/queues"
	"example.com/usher/ratelimit"
)

// Config is what a worker is made of.
type Config struct {
	Redis          redis.UniversalClient
	RedisOnce      redis.UniversalClient // the same; it attempts each command once, and ends it when its context ends
	Namespace      string
	Clerk          handle.Clerk
	KeyFingerprint string // of the key that Clerk is called with; workers with one key pause together
	Policy         policy.Policy
	// KeyChanged tells whether there is another key by now; it is asked while Clerk refuses this one.
	KeyChanged func() bool
	// Base is the base URL of Clerk's API. It is checked at the first start with it, unless it is empty.
	Base      string
	Embedded  bool // Redis keeps nothing, and everybody knows
	Strict    bool // Redis must be set up to keep everything
	Health    *Health
	Metrics   *Metrics
	Schedules *schedule.Runner // may be nil
	Keep      time.Duration    // of campaigns that are over; 0: for ever
	Log       zerolog.Logger
}

// Worker runs the tasks of one namespace.
type Worker struct {
	Config
	caller   *call.Caller
	handler  *handle.Handler
	asynqLog *asynqLog
	memory   memory // as seen at the start
	count    *store.Memory

	accepting context.Context // ends when the worker begins to stop: nothing waits any longer
	flight    context.Context // ends policy.CallGrace later: no call is under way any longer
	writing   context.Context // ends policy.LanesGrace later: nothing is written any longer
	abandoned chan struct{}   // closed when asynq has put back what is unfinished

	stopAccepting, cutFlight, cutWriting context.CancelFunc
}

// New makes a worker; Run starts it.
func New(c Config) (*Worker, error) {
	limiter, err := ratelimit.New(c.Redis, c.Namespace, c.Policy.Limits(c.KeyFingerprint)...)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		Config: c, count: store.NewMemory(), abandoned: make(chan struct{}),
		asynqLog: &asynqLog{c.Log.Hook(newAsynqTroubles(c.Log))},
	}
	w.accepting, w.stopAccepting = context.WithCancel(context.Background())
	w.flight, w.cutFlight = context.WithCancel(context.Background())
	w.writing, w.cutWriting = context.WithCancel(context.Background())
	w.caller = &call.Caller{
		Limiter: limiter, Policy: c.Policy, Key: c.KeyFingerprint, Gate: call.NewKeyGate(),
		Restored: new(call.Gate), Life: w.flight,
		Observer: c.Metrics, Log: c.Log,
	}
	life := handle.Life{Accepting: w.accepting, Writing: w.writing, Abandoned: w.abandoned}
	w.handler = handle.New(c.Redis, c.Namespace, w.count, c.Clerk, w.caller, life, c.Metrics)
	return w, nil
}

// lane says how one kind of work is run. Handlers block while they wait for a permit, so a lane's concurrency is how
// much may wait at once; calls are bounded by permits.
type lane struct {
	name        queues.Lane
	concurrency int
	pickup      time.Duration // how often an idle lane looks for a task
	room        int64         // with fewer handlers at work several tasks are taken at once; 0: never
}

var lanes = []lane{
	{queues.Interactive, 200, 200 * time.Millisecond, 100},
	{queues.Campaign, 500, 500 * time.Millisecond, 0},
	{queues.Housekeeping, 20, 500 * time.Millisecond, 0},
}

// delayedCheck is how often tasks are looked for whose time has come.
const delayedCheck = time.Second

// Run works until the context ends, and then stops within 8 seconds: what waits stops waiting, a call under way may
// go on for a while, and what is unfinished is put back at the head of its queue. It returns policy.ErrNamespace if
// the namespace belongs to the other kind of key, ErrCommands if Redis lacks a command, ErrRedis if it is not what a
// strict worker wants, ErrBase if what answers is not Clerk, and ErrKeyChanged when it has stopped because there is a
// new key.
func (w *Worker) Run(ctx context.Context, keyKind string) error {
	if err := w.bind(ctx, keyKind); err != nil || ctx.Err() != nil {
		return err // nothing is started in a namespace that was not checked
	}
	if err := w.checkBase(ctx, basePause); err != nil {
		return err
	}
	wake := newWake(w)
	rdb := servers{unheard{w.Redis}, wake}
	known := checkShape(ctx)
	if known != nil {
		w.Log.Warn().Err(known).Msg("tasks are asked for several times a second")
	}
	servers := make([]*asynq.Server, 0, len(lanes))
	for _, l := range lanes {
		if known == nil {
			l.pickup = quickCheck
		}
		server := w.server(rdb, l)
		if err := server.Start(wake.handler(w.Namespace, l.name)); err != nil {
			return err
		}
		servers = append(servers, server)
	}
	w.Health.started()
	go w.announce(keyKind)
	go w.sweep(w.accepting)
	go w.handler.StopInvites(w.accepting)
	if w.Schedules != nil {
		go w.Schedules.Run(w.accepting)
	}
	if !w.Embedded {
		go w.watchMemory(w.accepting)
		go w.mendQueues(w.accepting)
		go retention.New(w.Redis, w.Namespace, w.Keep, w.Log).Run(w.accepting)
	}
	ctx, changed := context.WithCancelCause(ctx)
	defer changed(nil)
	go w.watchKey(w.accepting, changed)
	w.Log.Info().Str("namespace", w.Namespace).Str("key", keyKind).Stringer("limit_create", w.Policy.Create).
		Stringer("limit_bulk", w.Policy.Bulk).Stringer("limit_overall", w.Policy.Overall).
		Int("reserve", w.Policy.Reserve).Msg("worker runs")
	<-ctx.Done()
	w.stop(servers, wake)
	if errors.Is(context.Cause(ctx), ErrKeyChanged) {
		return ErrKeyChanged
	}
	return nil
}

func (w *Worker) server(rdb redis.UniversalClient, l lane) *asynq.Server {
	return asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              l.concurrency,
		Queues:                   map[string]int{queues.Name(w.Namespace, l.name): 1},
		TaskCheckInterval:        l.pickup,
		DelayedTaskCheckInterval: delayedCheck,
		RetryDelayFunc:           handle.RetryDelay,
		IsFailure:                handle.IsFailure,
		ShutdownTimeout:          policy.LanesGrace,
		Logger:                   w.asynqLog,
		LogLevel:                 asynq.WarnLevel,
	})
}

// asynqLog lets asynq write into our log.
type asynqLog struct{ log zerolog.Logger }

func (l *asynqLog) Debug(args ...any) { l.log.Debug().Str("from", "asynq").Msg(fmt.Sprint(args...)) }
func (l *asynqLog) Info(args ...any)  { l.log.Info().Str("from", "asynq").Msg(fmt.Sprint(args...)) }
func (l *asynqLog) Warn(args ...any)  { l.log.Warn().Str("from", "asynq").Msg(fmt.Sprint(args...)) }
func (l *asynqLog) Error(args ...any) { l.log.Error().Str("from", "asynq").Msg(fmt.Sprint(args...)) }

// Fatal does not end the process: that is the command's to decide.
func (l *asynqLog) Fatal(args ...any) { l.Error(args...) }

func (w *Worker) stop(servers []*asynq.Server, wake *wake) {
	w.Log.Info().Msg("worker stops")
	w.Health.stopping.Store(true)
	w.stopAccepting()
	time.AfterFunc(policy.CallGrace, w.cutFlight)
	time.AfterFunc(policy.LanesGrace, w.cutWriting)
	var stopping sync.WaitGroup
	for _, server := range servers {
		stopping.Go(server.Shutdown)
	}
	stopped := make(chan struct{})
	go func() {
		stopping.Wait()
		wake.putBack(w.writing)
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(policy.StopGrace): // asynq waits for the answer to whatever it has asked Redis
		w.Log.Warn().Msg("Redis has not answered in time, so not all tasks are put back; " +
			"those that are not run again when their leases have run out, within two minutes")
	}
	w.cutFlight()
	w.cutWriting()
	close(w.abandoned)
	last, end := context.WithTimeout(context.Background(), tallyGrace)
	defer end()
	w.Metrics.tally.write(last, store.NewTally(w.Redis, w.Namespace))
	w.Log.Info().Msg("worker stopped")
}
