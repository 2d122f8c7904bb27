// Command chaos proves that no recipient is invited twice and none is lost, whatever breaks. It runs the real
// binaries, a real redis-server and the sandbox Clerk as processes, breaks them at instants drawn from a seed, and
// compares the sandbox's own ledger with what was asked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes; they are those of Usher's commands.
const (
	exitDone        = 0
	exitFailed      = 1 // something did not hold, or could not be played
	exitUsage       = 2
	exitInterrupted = 130
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are what the command line says.
type options struct {
	seed      uint64 // of the first run; the others count up from it
	seeds     int
	json      bool
	old       binaries // of an earlier build; none if it is empty
	scenarios []scenario
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(
		&o.seed,
		"seed",
		uint64(rand.Uint32()),
		"draw everything random from this `number`; default: another one each time",
	)
	flags.IntVar(&o.seeds, "seeds", 1, "play each scenario with this `many` seeds, counting up")
	flags.BoolVar(&o.json, "json", false, "print JSON, one object a line")
	short := flags.Bool("short", false, "play a small storm only, which takes less than a minute")
	old := flags.String(
		"old",
		"",
		"play mixed too, with the worker and the enqueue of an earlier build in this `folder`",
	)
	only := flags.String("only", "", "play only the scenario of this `name`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.seeds < 1:
		return o, fmt.Errorf("-seeds %d: want at least 1", o.seeds)
	}
	all := scenarios()
	if *short {
		all = shortScenarios()
	}
	var err error
	if o.scenarios, err = choose(all, *only); err != nil {
		return o, err
	}
	o.old = binaries(*old)
	if o.old == "" && *only == mixed {
		return o, fmt.Errorf("-only %s: want -old too", mixed)
	}
	return o, o.old.check()
}

// run is main without the process: it gives the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintln(stderr, "chaos:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	held, err := perform(ctx, o, newPrinter(stdout, o.json), stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "chaos: interrupted")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "chaos:", err)
		return exitFailed
	case !held:
		return exitFailed
	}
	return exitDone
}
