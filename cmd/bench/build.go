package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"example.com/usher/internal/testkit"
)

// The workers of the sides. Usher's is built, and is also the sandbox Clerk. The earlier build's is in its folder. The
// baseline's is this program itself, with its name for the only argument.
const (
	usherWorker    = "worker"
	earlierWorker  = "worker-before"
	baselineWorker = "baseline"
)

// Why a side has no figure although nothing went wrong.
var (
	errNoEarlier  = errors.New("there is no earlier build") // -old names none
	errNoBaseline = errors.New("the baseline does nothing like it")
)

// absent tells whether a side has no figure because there is nothing to measure.
func absent(err error) bool { return errors.Is(err, errNoEarlier) || errors.Is(err, errNoBaseline) }

func (b *bench) build(ctx context.Context) (err error) {
	if testkit.Race {
		return errors.New("the race detector would be measured too: run bench without it")
	}
	if b.self, err = os.Executable(); err != nil {
		return fmt.Errorf("looking for the baseline's program: %w", err)
	}
	if err := testkit.Build(ctx, b.dir, "example.com/usher/cmd/worker", "example.com/usher/cmd/enqueue"); err != nil {
		return fmt.Errorf("building Usher's commands: %w", err)
	}
	return nil
}

func (b *bench) usher() string { return filepath.Join(b.dir, usherWorker) }

// enqueue is the command that enqueues for a worker of Usher's.
func (b *bench) enqueue(worker string) string {
	if worker == earlierWorker {
		return filepath.Join(b.old, "enqueue")
	}
	return filepath.Join(b.dir, "enqueue")
}

// worker says how to run a worker.
func (b *bench) worker(name string, env []string) testkit.Command {
	c := testkit.Command{Name: name, Path: b.usher(), Env: env, Dir: b.dir}
	switch name {
	case baselineWorker:
		c.Path, c.Args = b.self, []string{baselineWorker}
	case earlierWorker:
		c.Path = filepath.Join(b.old, usherWorker)
	case bullWorker:
		c.Path, c.Args = b.bull.node, []string{b.bull.script, "work"}
	}
	return c
}
