package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/internal/api"
	"example.com/usher/internal/httpd"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/tokens"
)

type serveCommand struct {
	Addr              string   `env:"USHER_API_ADDR" default:"127.0.0.1:8081" help:"Where to listen. Other than loopback needs TLS or --behind-proxy."`
	TokensFile        string   `env:"USHER_API_TOKENS_FILE" placeholder:"PATH" help:"File of tokens, a line each: \"name: token [scope,…]\"; scopes are enqueue (the default), read and operate. Read again when it changes."`
	TLSCert           string   `name:"tls-cert" env:"USHER_API_TLS_CERT" placeholder:"PATH" help:"Certificate in PEM. Read again when it changes."`
	TLSKey            string   `name:"tls-key" env:"USHER_API_TLS_KEY" placeholder:"PATH" help:"Its key in PEM."`
	BehindProxy       bool     `help:"Listen without TLS on an address that is not loopback: a proxy in front has it."`
	PublicHost        []string `placeholder:"HOST" help:"Another name under which the server is asked. Repeatable."`
	NoAuth            bool     `help:"Ask for no token. Only on loopback."`
	RequestsPerSecond string   `default:"10000" placeholder:"N" help:"How many requests a second are served to one name."`
	Healthcheck       bool     `help:"Ask the running server whether it is ready, and exit."`
	LogLevel          string   `env:"USHER_LOG_LEVEL" default:"info" help:"debug, info, warn or error; debug has a line for each request."`
	ErasureLog
	settings.Clerk
}

// serving are the settings after reading.
type serving struct {
	addr      string
	loopback  bool
	tls       *tls.Config
	tokens    *tokens.File
	perSecond int
	hosts     []string
	log       zerolog.Logger
	clerk     settings.Instance
}

const (
	// stopTime is how long requests that are under way may take once the server stops.
	stopTime = 5 * time.Second
	// stopsWithin is how long the command takes then at most.
	stopsWithin = stopTime + 2*time.Second
	// memoryLimit is how much memory may be in use before garbage is collected more often.
	memoryLimit = 512 << 20
)

func (c *serveCommand) Run(a *app) error {
	addr, loopback, err := settings.ListenAddr("USHER_API_ADDR", c.Addr)
	if err == nil && addr == "" {
		err = settings.Fault("USHER_API_ADDR", c.Addr, "host:port such as 127.0.0.1:8081")
	}
	if err != nil {
		return err
	}
	if c.Healthcheck {
		return c.healthcheck(a, addr)
	}
	of, err := c.read(a, addr, loopback)
	if err != nil {
		return err
	}
	a.desk.ErasureLog = c.ErasureLog.Path
	listener, err := new(net.ListenConfig).Listen(a.ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return settings.Fault("USHER_API_ADDR", addr, "an address that can be listened on (%v)", errors.Unwrap(err))
	}
	if err != nil {
		return err
	}
	// Many small requests leave much garbage, and few things live long: collecting it less often saves a tenth of the
	// work. Large lists do live, and are bounded by the limit.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(memoryLimit)
	return of.serve(a, listener)
}

// read reads the settings.
func (c *serveCommand) read(a *app, addr string, loopback bool) (s serving, err error) {
	s.addr, s.loopback = addr, loopback
	level, err := settings.OneOf("USHER_LOG_LEVEL", c.LogLevel, "trace", "debug", "info", "warn", "error")
	if err != nil {
		return s, err
	}
	parsed, _ := zerolog.ParseLevel(level)
	s.log = zerolog.New(a.out.stderr).Level(parsed).With().Timestamp().Logger()
	if s.perSecond, err = settings.Int("--requests-per-second", c.RequestsPerSecond, 1, 1_000_000); err != nil {
		return s, err
	}
	if s.clerk, err = clerkOf(c.Clerk); err != nil {
		return s, err
	}
	if err = c.readTokens(&s, a.sandbox); err != nil {
		return s, err
	}
	if s.tls, err = httpd.TLS("USHER_API", c.TLSCert, c.TLSKey, s.warn); err != nil {
		return s, err
	}
	if !loopback && s.tls == nil && !c.BehindProxy {
		return s, settings.Fault("USHER_API_ADDR", addr, "a loopback address, or USHER_API_TLS_CERT and USHER_API_TLS_KEY, "+
			"or --behind-proxy: tokens and addresses would cross the network in the clear")
	}
	s.hosts = settings.Hosts(addr, c.PublicHost)
	return s, nil
}

// readTokens reads who may ask.
func (c *serveCommand) readTokens(s *serving, sandbox bool) (err error) {
	free := sandbox || c.NoAuth
	switch {
	case c.TokensFile != "" && c.NoAuth:
		return usage("--no-auth and USHER_API_TOKENS_FILE exclude each other")
	case c.TokensFile != "":
		s.tokens, err = tokens.Open(c.TokensFile, s.warn)
		return err
	case !free:
		return settings.Fault(tokens.Setting, "", "a file of tokens (or --no-auth on loopback)")
	case !s.loopback:
		return settings.Fault("USHER_API_ADDR", s.addr, "a loopback address, because no token is asked for")
	}
	return nil
}

func (s serving) warn(err error) { s.log.Warn().Err(err).Msg("a file cannot be used") }

// serve answers requests until the command is told to stop.
func (s serving) serve(a *app, listener net.Listener) error {
	life, end := context.WithCancel(a.ctx)
	defer end()
	rdb, namespace := a.desk.Connection()
	handler := api.New(life, api.Config{
		Redis: rdb, Namespace: namespace, Clerk: s.clerk, Tokens: s.tokens, Hosts: s.hosts, PerSecond: s.perSecond,
		ErasureLog: a.desk.ErasureLog, Log: s.log,
	})
	server := api.HTTPServer(handler)
	server.TLSConfig = s.tls
	server.ErrorLog = httpd.ErrorLog(s.log)
	a.work.serves(stopsWithin)
	stopped := make(chan error, 1)
	go func() {
		<-life.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(life), stopTime)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			err = server.Close()
		}
		stopped <- err
	}()
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	s.log.Info().Str("url", scheme+"://"+listener.Addr().String()).Str("version", settings.Version()).
		Bool("tokens", s.tokens != nil).Msg("serving")
	var err error
	if s.tls != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving HTTP: %w", err)
	}
	err = <-stopped
	handler.Wait()
	s.log.Info().Msg("stopped")
	return err
}

// healthcheck asks the server that runs on this machine.
func (c *serveCommand) healthcheck(a *app, addr string) error {
	said, err := httpd.AskReady(a.ctx, "server", addr, c.TLSCert != "")
	if err != nil {
		return err
	}
	a.out.say("%s", said)
	a.out.object(view{"ready": true})
	return nil
}
