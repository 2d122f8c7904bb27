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

// startSandbox starts an embedded Redis and a sandbox Clerk whose hours are shorter.
func startSandbox(ctx context.Context, s checked, log zerolog.Logger) (stop func(), err error) {
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(settings.SandboxRedisAddr); err != nil {
		return nil, fmt.Errorf("the sandbox's Redis cannot listen (does another sandbox run?): %w", err)
	}
	hour := time.Hour / time.Duration(s.speed)
	config := clerktest.Documented(settings.SandboxKey)
	config.Create.Window, config.Bulk.Window = hour, hour
	config.MinLatency, config.MaxLatency = 30*time.Millisecond, 150*time.Millisecond
	sandbox := clerktest.New(config)
	sandbox.LoadDemo()
	stopClerk, err := listen(ctx, settings.SandboxClerkAddr, sandbox)
	if err != nil {
		redis.Close()
		return nil, fmt.Errorf("the sandbox Clerk cannot listen (does another sandbox run?): %w", err)
	}
	log.Warn().Str("redis", settings.SandboxRedisAddr).Str("clerk", settings.SandboxClerkAddr).
		Str("hour", settings.FormatDuration(hour)).
		Msg("sandbox: REDIS_URL and CLERK_* are ignored, no e-mail is sent, and nothing is kept")
	return func() {
		stopClerk()
		redis.Close()
	}, nil
}

// listen serves a sandbox Clerk and its control.
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

func (c *clerkCommand) Run(ctx context.Context, out *streams) error {
	addr, loopback, err := settings.ListenAddr("--listen", c.Listen)
	if err == nil && !loopback {
		err = settings.Fault("--listen", c.Listen, "an address of this machine only, such as 127.0.0.1:6398")
	}
	bad := faults{err}
	rate, duration := noting[settings.Rate](&bad), noting[time.Duration](&bad)
	config := clerktest.Config{
		Key: c.Key, FixedWindow: c.Fixed, Seed: c.Seed,
		Create:     clerktest.Limit(rate(settings.ParseRate("--create", c.Create))),
		Bulk:       clerktest.Limit(rate(settings.ParseRate("--bulk", c.Bulk))),
		Overall:    clerktest.Limit(rate(settings.ParseRate("--overall", c.Overall))),
		MinLatency: duration(settings.Duration("--min-latency", c.MinLatency)),
		MaxLatency: duration(settings.Duration("--max-latency", c.MaxLatency)),
	}
	if err := errors.Join(bad...); err != nil {
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
