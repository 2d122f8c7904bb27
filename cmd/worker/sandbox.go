package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/settings"
)

// What Clerk allows an hour (documented), and a test key in 10 seconds.
const (
	clerkCreates       = 100
	clerkBulks         = 25
	clerkOverallTest   = 100
	clerkOverallWindow = 10 * time.Second
)

// startSandbox starts an embedded Redis and a sandbox Clerk whose hours are shorter.
func startSandbox(ctx context.Context, s checked, log zerolog.Logger) (stop func(), err error) {
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(settings.SandboxRedisAddr); err != nil {
		return nil, fmt.Errorf("the sandbox's Redis cannot listen (does another sandbox run?): %w", err)
	}
	hour := time.Hour / time.Duration(s.speed)
	sandbox := clerktest.New(clerktest.Config{
		Key: settings.SandboxKey, Create: clerktest.Limit{N: clerkCreates, Window: hour}, Bulk: clerktest.Limit{N: clerkBulks, Window: hour},
		Overall:    clerktest.Limit{N: clerkOverallTest, Window: clerkOverallWindow},
		MinLatency: 30 * time.Millisecond, MaxLatency: 150 * time.Millisecond,
	})
	sandbox.LoadDemo()
	stopClerk, err := listen(ctx, settings.SandboxClerkAddr, sandbox)
	if err != nil {
		redis.Close()
		return nil, fmt.Errorf("the sandbox Clerk cannot listen (does another sandbox run?): %w", err)
	}
	log.Warn().Str("redis", settings.SandboxRedisAddr).Str("clerk", settings.SandboxClerkAddr).Str("hour", settings.FormatDuration(hour)).
		Msg("sandbox: REDIS_URL and CLERK_* are ignored, no e-mail is sent, and nothing is kept")
	return func() {
		stopClerk()
		redis.Close()
	}, nil
}

// listen serves a sandbox Clerk, its control included.
func listen(ctx context.Context, addr string, sandbox *clerktest.Sandbox) (stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: sandbox.Mux(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return func() {
		sandbox.Close()
		_ = server.Close()
	}, nil
}

// clerkCommand serves a sandbox Clerk in a process of its own.
type clerkCommand struct {
	Listen     string `default:"127.0.0.1:6398" help:"Where to listen. Loopback only: whoever reaches it controls it."`
	Key        string `default:"" help:"The only secret key accepted. Default: every one."`
	Create     string `default:"100/1h" help:"Limit of single creates (N/duration; 0: none)."`
	Bulk       string `default:"25/1h" help:"Limit of bulk calls."`
	Overall    string `default:"100/10s" help:"Limit of all calls."`
	Fixed      bool   `help:"Fixed windows instead of sliding ones."`
	MinLatency string `default:"0s" help:"Shortest time before an answer."`
	MaxLatency string `default:"0s" help:"Longest time before an answer."`
	Seed       uint64 `default:"1" help:"Makes ids and latencies repeatable."`
}

// Run is called by kong.
func (c *clerkCommand) Run(ctx context.Context, out *streams) error {
	config, addr, err := c.read()
	if err != nil {
		return err
	}
	stop, err := listen(ctx, addr, clerktest.New(config))
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(out.stdout, "sandbox Clerk: http://%s/v1 (control: http://%s/_sandbox/)\n", addr, addr)
	<-ctx.Done()
	return nil
}

func (c *clerkCommand) read() (clerktest.Config, string, error) {
	config := clerktest.Config{Key: c.Key, FixedWindow: c.Fixed, Seed: c.Seed}
	addr, loopback, err := settings.ListenAddr("--listen", c.Listen)
	if err == nil && !loopback {
		err = &settings.Error{Name: "--listen", Got: settings.Show(c.Listen), Want: "an address of this machine only, such as 127.0.0.1:6398"}
	}
	errs := []error{err}
	limit := func(name, text string, into *clerktest.Limit) {
		rate, err := settings.ParseRate(name, text)
		*into = clerktest.Limit{N: rate.N, Window: rate.Window}
		errs = append(errs, err)
	}
	limit("--create", c.Create, &config.Create)
	limit("--bulk", c.Bulk, &config.Bulk)
	limit("--overall", c.Overall, &config.Overall)
	duration := func(name, text string, into *time.Duration) {
		d, err := settings.Duration(name, text)
		*into = d
		errs = append(errs, err)
	}
	duration("--min-latency", c.MinLatency, &config.MinLatency)
	duration("--max-latency", c.MaxLatency, &config.MaxLatency)
	if config.MaxLatency < config.MinLatency {
		config.MaxLatency = config.MinLatency
	}
	return config, addr, errors.Join(errs...)
}
