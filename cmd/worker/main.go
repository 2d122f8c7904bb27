// Command worker runs Usher's tasks against Clerk.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // images have no zone files

	"github.com/alecthomas/kong"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/worker"
)

const description = `Runs Usher's tasks: invite, bulk-invite, revoke, delete and sync-list, against Clerk's API, ` +
	`as fast as its limits allow.
Without a command it runs until SIGTERM or SIGINT, and then stops within 8 seconds.

Every flag can also be set by the variable that its help names; a flag comes before its variable.`

type grammar struct {
	Version kong.VersionFlag `help:"Print the version and exit."`
	workerFlags

	Run          runCommand    `cmd:"" default:"1" hidden:"" help:"Run tasks until SIGTERM or SIGINT."`
	Healthcheck  healthCommand `cmd:"" help:"Ask the running worker whether it is ready (exit 0) or why not (exit 1)."`
	SandboxClerk clerkCommand  `cmd:"" help:"Serve only the sandbox Clerk, for tests of other programs."`
}

func main() {
	ctx, stop := untilSignal(os.Stderr)
	exit := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exit)
}

// run is main without the process: it stops when the context ends, and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var g grammar
	exited := false
	parser := kong.Must(&g, kong.Name("worker"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), kong.Vars{"version": settings.Version(), "clerk_key": "Required."},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}))
	sandbox := slices.Contains(args, sandboxClerk)
	if sandbox {
		hideFlags(parser.Model.Node)
	}
	parsed, err := parser.Parse(args)
	if err == nil && sandbox {
		err = refuseFlags(parsed)
	}
	if exited {
		return settings.ExitDone
	}
	if err != nil {
		fmt.Fprintln(stderr, "worker:", oneLine(err))
		return settings.ExitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(&g.workerFlags, &streams{stdout: stdout, stderr: stderr})
	return exitCode(parsed.Run(), stderr)
}

// sandboxClerk is the command that has no settings of a worker.
const sandboxClerk = "sandbox-clerk"

// isWorkers tells whether a flag that all commands have is a setting of the worker.
func isWorkers(f *kong.Flag) bool { return f.Name != "help" && f.Name != "version" }

// hideFlags leaves the worker's flags out of the help.
func hideFlags(root *kong.Node) {
	for _, flag := range root.Flags {
		flag.Hidden = flag.Hidden || isWorkers(flag)
	}
}

// refuseFlags refuses flags of the worker that were given to the sandbox Clerk: they would do nothing.
func refuseFlags(parsed *kong.Context) error {
	if parsed.Selected() == nil || parsed.Selected().Name != sandboxClerk {
		return nil
	}
	for _, step := range parsed.Path {
		if step.Flag != nil && isWorkers(step.Flag) && slices.Contains(parsed.Model.Flags, step.Flag) {
			return fmt.Errorf("--%s is a setting of the worker; %s has its own flags only", step.Flag.Name, sandboxClerk)
		}
	}
	return nil
}

// streams are where a command writes.
type streams struct{ stdout, stderr io.Writer }

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return settings.ExitDone
	}
	fmt.Fprintln(stderr, "worker:", oneLine(err))
	_, bad := errors.AsType[*settings.Error](err)
	for _, refusal := range []error{
		policy.ErrNamespace, worker.ErrRedis, worker.ErrLogin, worker.ErrCommands, worker.ErrDatabase,
	} {
		bad = bad || errors.Is(err, refusal)
	}
	if bad {
		return settings.ExitUsage
	}
	return settings.ExitFailed
}

func oneLine(err error) string { return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ") }

// echo is for how long a second signal is taken for the first one: some programs signal a process, and its group too.
const echo = 500 * time.Millisecond

// untilSignal gives a context that ends at the first SIGTERM or SIGINT; a second one ends the process at once.
func untilSignal(stderr io.Writer) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, func() {
		time.Sleep(echo)
		second := make(chan os.Signal, 1)
		signal.Notify(second, syscall.SIGTERM, os.Interrupt)
		<-second
		fmt.Fprintln(stderr, "worker: second signal: stopping at once")
		os.Exit(settings.ExitFailed)
	})
	return ctx, stop
}
