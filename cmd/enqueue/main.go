// Command enqueue puts tasks into Redis for Usher's workers, and shows what became of them.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // images have no zone files

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/settings"
)

const description = `Enqueues invitations, revocations and synchronizations for Usher's workers, and shows what became of them.

Exit: 0 done; 1 it could not be done; 2 bad usage or input, nothing was enqueued; 3 waited, and it ended dead or cancelled;
4 --wait-timeout passed; 130 interrupted (the task stays).`

type grammar struct {
	Version kong.VersionFlag `help:"Print the version and exit."`
	common

	Invite      inviteCommand      `cmd:"" help:"Invite one address."`
	BulkInvite  bulkCommand        `cmd:"" help:"Invite every address in a file: CSV, a JSON array or JSON lines."`
	Revoke      revokeCommand      `cmd:"" help:"Revoke a pending invitation, or all pending ones of an address or a campaign."`
	SyncList    syncCommand        `cmd:"" help:"Copy Clerk's list of invitations into the directory."`
	Status      statusCommand      `cmd:"" help:"Show queues, limits, campaigns and dead letters, or one task."`
	Campaign    campaignCommand    `cmd:"" help:"List, show, watch, pause, resume, cancel or export campaigns."`
	DeadLetter  deadLetterCommand  `cmd:"" help:"List, show, retry, delete or export dead letters."`
	Schedule    scheduleCommand    `cmd:"" help:"List the tasks that repeat."`
	Invitations invitationsCommand `cmd:"" help:"Show the directory: Clerk's invitations as last synced."`
	Forget      forgetCommand      `cmd:"" help:"Remove an address from everything that is kept of it, for good."`
}

// common are the flags of every command.
type common struct {
	settings.Redis
	Sandbox bool `help:"Use the Redis of a worker that runs with --sandbox."`
	JSON    bool `name:"json" help:"Answer with one JSON object, or one a line for lists."`
}

func main() {
	debug.SetGCPercent(50)   // a list is held whole until it is checked: less memory is worth more here than a few milliseconds
	redis.SetLogger(quiet{}) // its errors reach the user as the command's own
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// quiet logs nothing.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// run runs one command until it ends or the context does, and gives the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	exited := false
	vars := kong.Vars{"version": settings.Version(), "clerk_key": "Only --dry-run asks Clerk."}
	parser, err := kong.New(&g, kong.Name("enqueue"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), vars, kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}))
	if err != nil {
		fmt.Fprintln(stderr, "enqueue:", err)
		return settings.ExitFailed
	}
	parsed, err := parser.Parse(args)
	if exited {
		return settings.ExitDone
	}
	out := &output{stdout: stdout, stderr: stderr, json: g.JSON || err != nil && slices.Contains(args, "--json")}
	if err == nil {
		err = emptyValue(parsed)
	}
	if err != nil {
		return out.fail(&usageError{err})
	}
	app, err := newApp(ctx, g.common, stdin, out)
	if err != nil {
		return out.fail(err)
	}
	defer app.close()
	return out.fail(parsed.Run(app))
}

// emptyValue refuses a flag or an argument that was given as nothing, which a script does when a variable of its is not set: it would be taken
// as not given.
func emptyValue(parsed *kong.Context) error {
	for _, step := range parsed.Path {
		var value *kong.Value
		name := ""
		switch {
		case step.Flag != nil:
			value, name = step.Flag.Value, "--"+step.Flag.Name
		case step.Positional != nil:
			value, name = step.Positional, step.Positional.Summary()
		}
		if value != nil && value.Target.Kind() == reflect.String && strings.TrimSpace(value.Target.String()) == "" {
			return fmt.Errorf("%s is empty: give it a value, or leave it out", name)
		}
	}
	return nil
}
