package main

import (
	"context"
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// app is what every command works with.
type app struct {
	ctx         context.Context
	namespace   string
	sandbox     bool
	rdb         redis.UniversalClient
	client      *tasks.Client
	ledgers     *ledger.Ledgers
	deadLetters *deadletter.Store
	stdin       io.Reader
	out         *output
}

func newApp(ctx context.Context, c common, stdin io.Reader, out *output) (*app, error) {
	if c.Sandbox {
		c.UseSandbox()
	}
	rdb, err := c.Open()
	if err != nil {
		return nil, err
	}
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace(c.Namespace))
	if err != nil {
		return nil, err
	}
	return &app{
		ctx: ctx, namespace: c.Namespace, sandbox: c.Sandbox, rdb: rdb, client: client, stdin: stdin, out: out,
		ledgers: ledger.New(rdb, c.Namespace), deadLetters: deadletter.NewStore(rdb, c.Namespace),
	}, nil
}

// noteUnbound warns about a namespace in which no worker has ever started. That is no fault, since a producer may start
// first, but the namespace may be misspelled.
func (a *app) noteUnbound() {
	n, err := a.rdb.Exists(a.ctx, store.Keys(a.namespace).KeyKind()).Result()
	if err == nil && n == 0 {
		a.out.note("Warning: no worker has started in namespace %s yet; the task waits for one.", a.namespace)
	}
}

func (a *app) close() { _ = a.rdb.Close() }

// terminal tells whether a person sits at a stream.
func terminal(stream any) bool {
	switch s := stream.(type) {
	case *os.File:
		return isatty.IsTerminal(s.Fd())
	case interface{ Terminal() bool }:
		return s.Terminal()
	}
	return false
}
