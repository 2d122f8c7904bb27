package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/httpd"
	"example.com/usher/internal/page"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/tokens"
)

const (
	headerTimeout = 5 * time.Second
	answerTimeout = 10 * time.Second
	finishGrace   = 300 * time.Millisecond
)

// adminFlags say where the worker answers operators.
type adminFlags struct {
	AdminAddr      string   `env:"USHER_ADMIN_ADDR" default:"127.0.0.1:8080" help:"Address for health, metrics and pages, or off. Other than loopback needs a token."`
	AdminToken     string   `env:"USHER_ADMIN_TOKEN" placeholder:"TOKEN" help:"Asked for by /metrics, and beyond loopback by every page. It logs in there as an operator named admin."`
	AdminTokenFile string   `env:"USHER_ADMIN_TOKEN_FILE" placeholder:"PATH" help:"File that holds the token."`
	TokensFile     string   `name:"tokens-file" env:"USHER_API_TOKENS_FILE" placeholder:"PATH" help:"File of more tokens for the pages; that of enqueue serve."`
	AdminTLSCert   string   `name:"admin-tls-cert" env:"USHER_ADMIN_TLS_CERT" placeholder:"PATH" help:"Certificate in PEM, to serve all of it by https. Read again when it changes."`
	AdminTLSKey    string   `name:"admin-tls-key" env:"USHER_ADMIN_TLS_KEY" placeholder:"PATH" help:"Its key in PEM."`
	BehindProxy    bool     `help:"Serve the pages beyond loopback without TLS: a proxy in front has it."`
	PublicHost     []string `placeholder:"HOST" help:"Another name under which browsers reach the pages. Repeatable."`
}

// adminConfig is what the admin address serves: whether the worker lives, whether it is ready, and its metrics.
type adminConfig struct {
	addr     string
	loopback bool
	token    string                     // asked for by everything but /healthz and /readyz; empty asks for none
	notReady func() string              // the reason why the worker is not ready, or nothing
	rests    func() []policy.Standstill // which calls Clerk serves nobody
	restored func() bool                // Redis was restored from a copy, and work rests
	metrics  prometheus.Gatherer

	tokens      *tokens.File
	tls         *tls.Config // nil: none
	log         *zerolog.Logger
	behindProxy bool
	hosts       []string
	pages       *page.Server // nil: none are served
}

func (a *adminFlags) read() (c adminConfig, err error) {
	var loopback bool
	if c.addr, loopback, err = settings.ListenAddr("USHER_ADMIN_ADDR", a.AdminAddr); err != nil {
		return c, err
	}
	if c.token, err = settings.Secret("USHER_ADMIN_TOKEN", a.AdminToken, a.AdminTokenFile); err != nil {
		return c, err
	}
	if c.addr != "" && !loopback && c.token == "" {
		const want = "a token, because USHER_ADMIN_ADDR %s can be reached from other machines"
		return c, settings.Fault("USHER_ADMIN_TOKEN", "", want, c.addr)
	}
	c.loopback, c.behindProxy = loopback, a.BehindProxy
	c.hosts = settings.Hosts(c.addr, a.PublicHost)
	none := zerolog.Nop() // until the settings of the log are known
	c.log = &none
	warn := func(err error) { c.log.Warn().Err(err).Msg("a file cannot be used") }
	if c.tls, err = httpd.TLS("USHER_ADMIN", a.AdminTLSCert, a.AdminTLSKey, warn); err != nil {
		return c, err
	}
	if a.TokensFile != "" {
		c.tokens, err = tokens.Open(a.TokensFile, warn)
	}
	return c, err
}

// secure tells whether browsers reach the pages by https.
func (c *adminConfig) secure() bool { return c.tls != nil || c.behindProxy }

// servePages adds the pages to what is served. Beyond loopback they need TLS: a session must not be readable on its
// way.
func (c *adminConfig) servePages(
	life context.Context, rdb redis.UniversalClient, clerk func() (settings.Instance, error), namespace string,
	sandbox bool, log zerolog.Logger,
) error {
	if !c.loopback && !c.secure() {
		log.Warn().Str("addr", c.addr).
			Msg("no pages are served beyond loopback without USHER_ADMIN_TLS_CERT or --behind-proxy")
		return nil
	}
	config := page.Config{
		Redis: rdb, Namespace: namespace, Tokens: c.tokens, AdminToken: c.token, Hosts: c.hosts, Secure: c.secure(),
		Version: settings.Version(), Log: log, Clerk: clerk,
	}
	switch {
	case sandbox:
		config.Anonymous = page.Operator
	case c.loopback && !c.behindProxy:
		config.Anonymous = page.Viewer
	}
	pages, err := page.New(life, config)
	if err == nil {
		c.pages = pages
	}
	return err
}

// listen takes the address. One that cannot be taken is a bad setting.
func (c adminConfig) listen(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.addr)
	if err != nil {
		const want = "an address that is free (--admin-addr; off for none): %v"
		return nil, settings.Fault("USHER_ADMIN_ADDR", c.addr, want, err)
	}
	return listener, nil
}

// serve answers until the context ends.
func (c adminConfig) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           c.handler(),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
		TLSConfig: c.tls, ErrorLog: httpd.ErrorLog(*c.log),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	serve := server.Serve
	if c.tls != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin address: %w", err)
	}
	return nil
}

// finish waits a moment for actions on the pages. The end of their life has cut them short, and they note how far they
// came.
func (c adminConfig) finish() {
	if c.pages == nil {
		return
	}
	finished := make(chan struct{})
	go func() { c.pages.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(finishGrace):
	}
}

func (c adminConfig) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", c.readiness)
	mux.Handle("GET /metrics", c.guard(promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{})))
	if c.pages != nil {
		mux.Handle("/", c.pages)
	}
	return mux
}

// readiness answers whether the worker is ready, and what holds calls back all the same.
func (c adminConfig) readiness(w http.ResponseWriter, _ *http.Request) {
	if reason := c.notReady(); reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	var words, buts []string
	if c.restored() {
		buts = append(buts, store.SaysRestored)
	}
	rests := c.rests()
	for _, s := range rests {
		words = append(words, s.String())
	}
	why := "calls rest: " + strings.Join(words, ", ")
	if slices.ContainsFunc(rests, policy.Standstill.NoRight) {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	if len(rests) > 0 {
		buts = append(buts, why)
	}
	if len(buts) > 0 {
		fmt.Fprintln(w, "ready, but "+strings.Join(buts, "; "))
		return
	}
	fmt.Fprintln(w, "ready")
}

// guard asks for the token, if there is one.
func (c adminConfig) guard(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(c.token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(token))
		if c.token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			const needs = "this needs the header Authorization: Bearer with the token in USHER_ADMIN_TOKEN"
			http.Error(w, needs, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// healthCommand asks the admin address of the running worker whether that is ready.
type healthCommand struct{}

func (*healthCommand) Run(ctx context.Context, flags *workerFlags, out *streams) error {
	addr, _, err := settings.ListenAddr("USHER_ADMIN_ADDR", flags.AdminAddr)
	if err != nil {
		return err
	}
	if addr == "" {
		return settings.Fault("USHER_ADMIN_ADDR", "off", "an address: without one the worker cannot be asked")
	}
	answer, err := httpd.AskReady(ctx, "worker", addr, flags.AdminTLSCert != "")
	if err != nil {
		return err
	}
	fmt.Fprintln(out.stdout, answer)
	return nil
}
