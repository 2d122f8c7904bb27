// Command bench measures Usher against a plain asynq worker, both in one run and on one machine, and prints a table
// in which every figure stands beside its baseline. Where node is installed, BullMQ is the baseline of some. It starts
// what it needs (redis-server, the sandbox Clerk, the workers) and ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
)

// Exit codes; they are those of Usher's commands.
const (
	exitDone        = 0
	exitFailed      = 1 // something could not be measured; its row says why
	exitUsage       = 2
	exitInterrupted = 130
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are what the command line says.
type options struct {
	only *regexp.Regexp
	list bool
	json bool
	old  string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "measure only the rows whose name matches this regular `expression`")
	flags.BoolVar(&o.list, "list", false, "list the rows and measure nothing")
	flags.StringVar(&o.old, "old", "", "measure the worker and the enqueue of an earlier build in this `folder`, too")
	flags.BoolVar(&o.json, "json", false, "print one JSON object a row")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	for _, name := range []string{"worker", "enqueue"} {
		if _, err := exec.LookPath(filepath.Join(o.old, name)); o.old != "" && err != nil {
			return o, fmt.Errorf("-old: %w", err)
		}
	}
	return o, nil
}

// run is main without the process: it gives the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	if slices.Equal(args, []string{baselineWorker}) {
		return failure(serveBaseline(), stderr)
	}
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return exitUsage
	}
	chosen := choose(measurements(), o.only)
	if o.list {
		list(stdout, chosen)
		return exitDone
	}
	if len(chosen) == 0 {
		fmt.Fprintf(stderr, "bench: no row matches %q; -list names them\n", o.only)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := measure(ctx, chosen, o.old, stderr)
	switch {
	case ctx.Err() != nil && len(report.rows) == 0:
		return exitInterrupted
	case err != nil:
		return failure(err, stderr)
	}
	if err := report.print(stdout, o.json); err != nil {
		return failure(err, stderr)
	}
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case !report.complete():
		return exitFailed
	}
	return exitDone
}

// failure tells an error, if there is one, and gives the exit code.
func failure(err error, stderr io.Writer) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(stderr, "bench:", err)
	return exitFailed
}
