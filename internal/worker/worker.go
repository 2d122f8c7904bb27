// Package worker runs tasks: it takes them from their queues, makes the calls they ask for, and ends each as done, as a
// dead letter, or with a later attempt.
package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/call"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/ratelimit"
)

// Config is what a worker is made of.
type Config struct {
	Redis          redis.UniversalClient
	Namespace      string
	Clerk          Clerk
	KeyFingerprint string // of the key that Clerk is called with; workers with one key pause together
	Policy         policy.Policy
	// KeyChanged tells whether there is another key by now; it is asked while Clerk refuses this one.
	KeyChanged func() bool
	Embedded   bool // Redis keeps nothing, and everybody knows
	Strict     bool // Redis must be set up to keep everything
	Health     *Health
	Metrics    *Metrics
	Schedules  *schedule.Runner // may be nil
	Log        zerolog.Logger
}

// Worker runs the tasks of one namespace.
type Worker struct {
	namespace   string
	rdb         redis.UniversalClient
	policy      policy.Policy
	clerk       Clerk
	limiter     *ratelimit.Limiter
	caller      *call.Caller
	questions   *ask.Questions
	dispatcher  *dispatch.Dispatcher
	records     *record.Store
	intents     *intent.Tasks
	ledgers     *ledger.Ledgers
	deadLetters *deadletter.Store
	directory   *directory.Directory
	keyChanged  func() bool
	memory      memory
	embedded    bool
	strict      bool
	health      *Health
	metrics     *Metrics
	schedules   *schedule.Runner
	log         zerolog.Logger

	accepting context.Context // ends when the worker begins to stop: nothing waits any longer
	flight    context.Context // ends policy.CallGrace later: no call is under way any longer
	settling  context.Context // ends policy.SettleGrace later: nothing is written any longer
	abandoned chan struct{}   // closed when asynq has put back what is unfinished

	stopAccepting, cutFlight, cutSettling context.CancelFunc
}

// New makes a worker; Run starts it.
func New(c Config) (*Worker, error) {
	limiter, err := ratelimit.New(c.Redis, c.Namespace, c.Policy.Limits(c.KeyFingerprint)...)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		namespace: c.Namespace, rdb: c.Redis, policy: c.Policy, clerk: c.Clerk, limiter: limiter,
		records: record.NewStore(c.Redis, c.Namespace), intents: intent.NewTasks(c.Redis, c.Namespace), ledgers: ledger.New(c.Redis, c.Namespace),
		deadLetters: deadletter.NewStore(c.Redis, c.Namespace), directory: directory.New(c.Redis, c.Namespace),
		keyChanged: c.KeyChanged, memory: memory{c.Redis, c.Namespace}, embedded: c.Embedded, strict: c.Strict, health: c.Health, metrics: c.Metrics, schedules: c.Schedules, log: c.Log, abandoned: make(chan struct{}),
	}
	w.accepting, w.stopAccepting = context.WithCancel(context.Background())
	w.flight, w.cutFlight = context.WithCancel(context.Background())
	w.settling, w.cutSettling = context.WithCancel(context.Background())
	w.caller = &call.Caller{
		Limiter: limiter, Policy: c.Policy, Key: c.KeyFingerprint, Gate: call.NewKeyGate(), Life: w.flight,
		Observer: w, Log: c.Log,
	}
	w.questions = ask.New(c.Clerk, ask.Once(w.caller), w, c.Log)
	w.dispatcher = dispatch.New(w.caller, c.Clerk, w.questions, w.intents, w.ledgers)
	return w, nil
}

// Called is told of every call.
func (w *Worker) Called(kind policy.Call, outcome clerkclient.Outcome, t call.Timing) {
	w.metrics.called(kind, outcome, t)
}

// LookedUp is told how long each look-up took, and whether it failed.
func (w *Worker) LookedUp(took time.Duration, failed bool) {
	w.metrics.lookUps.Observe(took.Seconds())
	if failed {
		w.metrics.lookUpsFailed.Inc()
	}
}

// lane says how one kind of work is run. Handlers block while they wait for a permit, so a lane's concurrency is how much
// may wait at once; calls are bounded by permits.
type lane struct {
	name        policy.Lane
	concurrency int
	pickup      time.Duration // how often an idle lane looks for a task
}

func lanes() []lane {
	return []lane{
		{policy.Interactive, 200, 200 * time.Millisecond},
		{policy.Campaign, 500, 500 * time.Millisecond},
		{policy.Housekeeping, 20, 500 * time.Millisecond},
	}
}

// delayedCheck is how often tasks are looked for whose time has come.
const delayedCheck = time.Second

// Run works until the context ends, and then stops within 8 seconds: what waits stops waiting, a call under way may go on
// for a while, and what is unfinished is put back at the head of its queue. It returns policy.ErrNamespace if the namespace
// belongs to the other kind of key, ErrRedis if Redis
// is not what a strict worker wants, and ErrKeyChanged when it has stopped because there is a new key.
func (w *Worker) Run(ctx context.Context, keyKind string) error {
	if err := w.bind(ctx, keyKind); err != nil || ctx.Err() != nil {
		return err // nothing is started in a namespace that was not checked
	}
	servers := make([]*asynq.Server, 0, len(lanes()))
	for _, l := range lanes() {
		server := w.server(l)
		if err := server.Start(w); err != nil {
			return err
		}
		servers = append(servers, server)
	}
	w.health.started()
	go w.sweep(w.accepting)
	if w.schedules != nil {
		go w.schedules.Run(w.accepting)
	}
	if !w.embedded {
		go w.watchMemory(w.accepting)
	}
	ctx, changed := context.WithCancelCause(ctx)
	defer changed(nil)
	go w.watchKey(w.accepting, changed)
	w.log.Info().Str("namespace", w.namespace).Str("key", keyKind).Stringer("limit_create", w.policy.Create).
		Stringer("limit_bulk", w.policy.Bulk).Stringer("limit_overall", w.policy.Overall).Int("reserve", w.policy.Reserve).Msg("worker runs")
	<-ctx.Done()
	w.stop(servers)
	if errors.Is(context.Cause(ctx), ErrKeyChanged) {
		return ErrKeyChanged
	}
	return nil
}

func (w *Worker) server(l lane) *asynq.Server {
	return asynq.NewServerFromRedisClient(w.rdb, asynq.Config{
		Concurrency:              l.concurrency,
		Queues:                   map[string]int{policy.Queue(w.namespace, l.name): 1},
		TaskCheckInterval:        l.pickup,
		DelayedTaskCheckInterval: delayedCheck,
		RetryDelayFunc:           retryDelay,
		IsFailure:                isFailure,
		ShutdownTimeout:          policy.LanesGrace,
		Logger:                   &asynqLog{w.log},
		LogLevel:                 asynq.WarnLevel,
	})
}

func (w *Worker) stop(servers []*asynq.Server) {
	w.log.Info().Msg("worker stops")
	w.health.stopped()
	w.stopAccepting()
	flight := time.AfterFunc(policy.CallGrace, w.cutFlight)
	settling := time.AfterFunc(policy.LanesGrace, w.cutSettling)
	var stopping sync.WaitGroup
	for _, server := range servers {
		stopping.Go(server.Shutdown)
	}
	stopping.Wait()
	flight.Stop()
	settling.Stop()
	w.cutFlight()
	w.cutSettling()
	close(w.abandoned)
	w.log.Info().Msg("worker stopped")
}

func (w *Worker) stopping() bool { return w.accepting.Err() != nil }

// untilStop gives a context that also ends when the worker begins to stop.
func (w *Worker) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(w.accepting, cancel)
	return ctx, func() {
		detach()
		cancel()
	}
}
