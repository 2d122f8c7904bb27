package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/worker"
	"example.com/usher/tasks"
)

// workerFlags are the worker's settings. They are text here, and read in one place, so that every fault is told alike.
type workerFlags struct {
	settings.Redis
	settings.Clerk

	LimitCreate  string `env:"USHER_LIMIT_CREATE" default:"100/1h" help:"Single invitations that Clerk allows (N/duration; 0: no limit)."`
	LimitBulk    string `env:"USHER_LIMIT_BULK" default:"25/1h" help:"Bulk calls that Clerk allows."`
	LimitOverall string `env:"USHER_LIMIT_OVERALL" placeholder:"RATE" help:"All calls. Default: half of Clerk's limit, 500/10s with a live key and 50/10s with a test key."`
	Reserve      string `env:"USHER_RESERVE" default:"20" help:"Single permits in every window that only invite tasks may use."`
	Timeout      string `env:"USHER_TIMEOUT" default:"30s" help:"Longest time for one call to Clerk."`
	Settle       string `env:"USHER_SETTLE" default:"30s" help:"How long after its deadline a lost request may still commit at Clerk."`
	FastRetry    bool   `env:"USHER_FAST_RETRY" default:"true" negatable:"" help:"Repeat a single create at once that Clerk has answered with a 500 or 503."`
	MaxAttempts  string `env:"USHER_MAX_ATTEMPTS" default:"20" help:"Transient failures before a dead letter."`
	BackoffMin   string `env:"USHER_BACKOFF_MIN" default:"1s" help:"Wait after the first failed attempt; it doubles, with full jitter."`
	BackoffMax   string `env:"USHER_BACKOFF_MAX" default:"30m" help:"Longest wait between attempts."`
	BulkMetadata string `env:"USHER_BULK_METADATA" default:"as-asked" help:"May a recipient with metadata ride in a bulk: as-asked, always, never."`

	Keep         string `env:"USHER_KEEP" default:"90d" help:"How long campaigns are kept that are over (0: for ever)."`
	ScheduleFile string `env:"USHER_SCHEDULE_FILE" placeholder:"PATH" help:"YAML file of tasks that repeat. Default: none do."`

	adminFlags
	LogLevel  string `env:"USHER_LOG_LEVEL" default:"info" help:"trace, debug, info, warn or error."`
	LogFormat string `env:"USHER_LOG_FORMAT" placeholder:"FORMAT" help:"json or console. Default: console on a terminal, json elsewhere."`

	Strict bool `env:"USHER_STRICT" help:"Refuse to start with a Redis that may lose what it is given."`

	Sandbox      bool   `help:"Run against an embedded Redis and a sandbox Clerk; nothing is kept. REDIS_URL and CLERK_… are ignored."`
	SandboxSpeed string `default:"600" placeholder:"N" help:"With --sandbox: how many times shorter an hour is."`
}

// checked are the settings after reading.
type checked struct {
	policy    policy.Policy
	keep      time.Duration // of campaigns
	clerk     settings.Instance
	admin     adminConfig
	schedules []schedule.Schedule
	level     zerolog.Level
	console   bool
	speed     int
}

// sandboxSettle is enough for the sandbox Clerk, which is prompt.
const sandboxSettle = time.Second

// memoryLimit is how much memory may be in use before garbage is collected more often.
const memoryLimit = 64 << 20

type runCommand struct{}

// Run is called by kong.
func (*runCommand) Run(ctx context.Context, c *workerFlags, out *streams) error {
	if os.Getenv("GOGC") == "" {
		// A call leaves much garbage, and little lives long: collecting it less often saves a tenth of the work.
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(memoryLimit)
	}
	if c.Sandbox {
		c.Redis.UseSandbox()
		c.Clerk.UseSandbox()
	}
	s, err := c.read(out.stderr)
	if err != nil {
		return err
	}
	stderr := out.stderr
	if s.console {
		stderr = zerolog.ConsoleWriter{Out: stderr, TimeFormat: time.TimeOnly}
	}
	log := zerolog.New(stderr).Level(s.level).With().Timestamp().Logger()
	redis.SetLogger(&redisLog{log})
	log = log.Hook(worker.NewTroubles(log))
	for _, warning := range settings.UnknownVariables(os.Environ()) {
		log.Warn().Str("fault", warning).Msg("a variable has no effect")
	}
	if c.Sandbox {
		stop, err := startSandbox(ctx, s, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	rdb, err := c.Open()
	if err != nil {
		return err
	}
	defer rdb.Close()
	return c.serve(ctx, rdb, s, log)
}

// faults gathers what is wrong with settings, so that all of it is told at once.
type faults []error

// noting gives the value of a setting that was read, and notes what was wrong with it.
func noting[T any](bad *faults) func(T, error) T {
	return func(value T, err error) T {
		*bad = append(*bad, err)
		return value
	}
}

func (c *workerFlags) read(stderr io.Writer) (s checked, err error) {
	var bad faults
	text := noting[string](&bad)
	s.clerk = noting[settings.Instance](&bad)(c.Instance())
	s.policy = c.readPolicy(s.clerk.Kind, &bad)
	s.keep = noting[time.Duration](&bad)(settings.Duration("USHER_KEEP", c.Keep))
	s.admin = noting[adminConfig](&bad)(c.adminFlags.read())
	if c.ScheduleFile != "" {
		if s.schedules, err = schedule.Read(c.ScheduleFile); err != nil {
			const want = "a file of schedules without faults: %s"
			bad = append(bad, settings.Fault("USHER_SCHEDULE_FILE", c.ScheduleFile, want, oneLine(err)))
		}
	}
	level := text(settings.OneOf("USHER_LOG_LEVEL", c.LogLevel, "trace", "debug", "info", "warn", "error"))
	s.level, _ = zerolog.ParseLevel(level)
	file, isFile := stderr.(*os.File)
	s.console = isFile && isatty.IsTerminal(file.Fd())
	if c.LogFormat != "" {
		s.console = text(settings.OneOf("USHER_LOG_FORMAT", c.LogFormat, "json", "console")) == "console"
	}
	s.speed = noting[int](&bad)(settings.Int("--sandbox-speed", c.SandboxSpeed, 1, 100_000))
	if c.Sandbox && s.speed > 0 {
		s.policy.Create.Window /= time.Duration(s.speed)
		s.policy.Bulk.Window /= time.Duration(s.speed)
		s.policy.SettlingTime = min(s.policy.SettlingTime, sandboxSettle)
	}
	return s, errors.Join(bad...)
}

func (c *workerFlags) readPolicy(keyKind string, bad *faults) policy.Policy {
	rate, number, duration := noting[settings.Rate](bad), noting[int](bad), noting[time.Duration](bad)
	metadata := noting[string](bad)(settings.OneOf("USHER_BULK_METADATA", c.BulkMetadata,
		string(policy.MetadataAsAsked), string(policy.MetadataAlways), string(policy.MetadataNever)))
	p := policy.Policy{
		Create:       rate(settings.ParseRate("USHER_LIMIT_CREATE", c.LimitCreate)),
		Bulk:         rate(settings.ParseRate("USHER_LIMIT_BULK", c.LimitBulk)),
		Overall:      policy.Default(keyKind).Overall,
		Reserve:      number(settings.Int("USHER_RESERVE", c.Reserve, 0, 1_000_000)),
		Timeout:      duration(positive("USHER_TIMEOUT", c.Timeout)),
		SettlingTime: duration(settings.Duration("USHER_SETTLE", c.Settle)),
		MaxAttempts:  number(settings.Int("USHER_MAX_ATTEMPTS", c.MaxAttempts, 1, 10_000)),
		BackoffMin:   duration(positive("USHER_BACKOFF_MIN", c.BackoffMin)),
		BackoffMax:   duration(positive("USHER_BACKOFF_MAX", c.BackoffMax)),
		BulkMetadata: policy.BulkMetadata(metadata),
		FastRetry:    c.FastRetry,
	}
	if c.LimitOverall != "" {
		p.Overall = rate(settings.ParseRate("USHER_LIMIT_OVERALL", c.LimitOverall))
	}
	if !p.Create.Off() && p.Reserve >= p.Create.N {
		*bad = append(*bad, settings.Fault("USHER_RESERVE", c.Reserve, "less than the create limit of %s", p.Create))
	}
	if p.BackoffMax > 0 && p.BackoffMin > p.BackoffMax {
		const want = "at most USHER_BACKOFF_MAX, %s"
		*bad = append(*bad, settings.Fault("USHER_BACKOFF_MIN", c.BackoffMin, want, c.BackoffMax))
	}
	return p
}

// positive reads a duration that is not 0.
func positive(name, text string) (time.Duration, error) {
	d, err := settings.Duration(name, text)
	if err == nil && d == 0 {
		err = settings.Fault(name, text, "more than 0")
	}
	return d, err
}

// redisLog lets go-redis write into our log. What it says is about connections.
type redisLog struct{ log zerolog.Logger }

func (l *redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Debug().Str("from", "redis").Msg(fmt.Sprintf(format, args...))
}

// serve runs the worker and its admin address until the context ends or one of them fails. When the key's file holds
// a new key, the worker is started anew with it.
func (c *workerFlags) serve(ctx context.Context, rdb redis.UniversalClient, s checked, log zerolog.Logger) error {
	registry := prometheus.NewRegistry()
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	budgets := worker.NewBudgets(rdb, c.Namespace)
	registry.MustRegister(collectors.NewGoCollector(), process, budgets, worker.NewState(rdb, c.Namespace))
	health, metrics := worker.NewHealth(), worker.NewMetrics(registry, settings.Version())
	registry.MustRegister(health)
	health.Observe(rdb)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing() // /readyz answers that the worker is stopping until it has stopped
	if s.admin.addr != "" {
		*s.admin.log = log
		s.admin.notReady, s.admin.restored = health.NotReady, health.Restored
		s.admin.rests, s.admin.metrics = budgets.Standstills, registry
		seen, err := c.Open() // whose commands are counted
		if err != nil {
			return err
		}
		defer seen.Close()
		if err := s.admin.servePages(ctx, seen, c.Instance, c.Namespace, c.Sandbox, log); err != nil {
			return err
		}
		defer s.admin.finish()
		listener, err := s.admin.listen(ctx)
		if err != nil {
			return err
		}
		go func() {
			if err := s.admin.serve(serving, listener); err != nil {
				cancel(err)
			}
		}()
		log.Info().Str("addr", s.admin.addr).Bool("tls", s.admin.tls != nil).Msg("admin address")
	}
	go health.Watch(serving, rdb, c.Namespace)
	for {
		err := c.work(ctx, rdb, s, health, metrics, log)
		if errors.Is(err, worker.ErrKeyChanged) {
			if s.clerk, err = c.Instance(); err == nil {
				log.Info().Msg("the secret key has changed; starting anew with it")
				continue
			}
		}
		if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	}
}

// work runs one worker with one key.
func (c *workerFlags) work(
	ctx context.Context, rdb redis.UniversalClient, s checked, health *worker.Health, metrics *worker.Metrics,
	log zerolog.Logger,
) error {
	clerk, err := clerkclient.New(clerkclient.Config{
		Key: s.clerk.Key, BaseURL: s.clerk.URL, Version: settings.Version(), Timeout: s.policy.Timeout,
	})
	if err != nil {
		return settings.Fault("CLERK_API_URL", s.clerk.URL, "%v", err)
	}
	defer clerk.Close()
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace(c.Namespace))
	if err != nil {
		return err
	}
	once, err := c.OpenOnce()
	if err != nil {
		return err
	}
	defer once.Close()
	health.Observe(once)
	w, err := worker.New(worker.Config{
		Redis: rdb, RedisOnce: once, Namespace: c.Namespace, Clerk: clerk, KeyFingerprint: clerk.KeyFingerprint(),
		Policy: s.policy,
		KeyChanged: func() bool {
			now, err := c.Instance()
			return err == nil && now.Key != s.clerk.Key
		},
		Base: s.clerk.URL, Embedded: c.Sandbox, Strict: c.Strict, Health: health, Metrics: metrics, Log: log,
		Keep:      s.keep,
		Schedules: schedule.NewRunner(rdb, c.Namespace, s.schedules, client, log),
	})
	if err != nil {
		return err
	}
	if err = w.Run(ctx, s.clerk.Kind); errors.Is(err, worker.ErrBase) {
		return settings.Fault("CLERK_API_URL", s.clerk.URL, "the base of Clerk's API, as in %s: %v",
			clerkclient.DefaultBaseURL, err)
	}
	return err
}
