// Command enqueue puts tasks into Redis for Usher's workers, and shows what became of them.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // images have no zone files

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9/logging"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/visible"
	"example.com/usher/tasks"
)

const description = `Enqueues invitations, revocations and synchronizations for Usher's workers, and shows what became
of them.

Exit: 0 done; 1 it could not be done; 2 bad usage or input, nothing was enqueued; 3 waited, and it ended dead or
cancelled; 4 --wait-timeout passed; 130 interrupted (the task stays).`

type grammar struct {
	Version        kong.VersionFlag `help:"Print the version and exit."`
	settings.Redis `group:"everywhere"`
	Sandbox        bool `group:"everywhere" help:"Use the Redis of a worker that runs with --sandbox."`
	JSON           bool `name:"json" group:"everywhere" help:"Answer with one JSON object, or one a line for lists."`

	Invite      inviteCommand      `cmd:"" help:"Invite one address."`
	BulkInvite  bulkCommand        `cmd:"" help:"Invite every address in a file: CSV, JSON, JSON lines or .xlsx."`
	ResumeCalls resumeCommand      `cmd:"" help:"Ask Clerk now whether it serves calls again that rest."`
	Delete      deleteCommand      `cmd:"" help:"Delete an invitation, or all of an address, at Clerk for good."`
	Revoke      revokeCommand      `cmd:"" help:"Revoke an invitation, or all pending ones of an address or campaign."`
	SyncList    syncCommand        `cmd:"" help:"Copy Clerk's list of invitations into the directory."`
	Status      statusCommand      `cmd:"" help:"Show queues, limits, campaigns and dead letters, or one task."`
	Task        taskCommand        `cmd:"" help:"List tasks that have not ended, or cancel some."`
	Find        findCommand        `cmd:"" help:"Tell everything about one address or one task, in order of time."`
	Campaign    campaignCommand    `cmd:"" help:"List, show, watch, pause, resume, cancel, export or delete campaigns."`
	DeadLetter  deadLetterCommand  `cmd:"" help:"List, show, retry, delete or export dead letters."`
	Schedule    scheduleCommand    `cmd:"" help:"List, check, run, pause, resume or remove tasks that repeat."`
	Invitations invitationsCommand `cmd:"" help:"Show the directory: Clerk's invitations as last synced."`
	Forget      forgetCommand      `cmd:"" help:"Remove an address from everything that is kept of it, for good."`
	Restore     restoreCommand     `cmd:"" help:"Go on after Redis was restored from a copy: nobody is invited again."`
	Serve       serveCommand       `cmd:"" help:"Serve HTTP, for programs in any language."`
	Completion  completionCommand  `cmd:"" help:"Write what lets a shell complete commands and flags."`
	Help        helpCommand        `cmd:"" help:"Show what a command does, and its flags."`
}

func main() {
	debug.SetGCPercent(25) // a file is held whole until it is checked: less memory is worth a few milliseconds
	logging.Disable()      // Redis's errors reach the user as the command's own
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command until it ends or the context does, and gives the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	w := &work{}
	command := func(stdout, stderr io.Writer) int { return w.run(ctx, args, stdin, stdout, stderr) }
	return untilInterrupted(ctx, w, stdout, stderr, command, func(stderr io.Writer, e *interruptedError) int {
		out := &output{stdout: io.Discard, stderr: stderr, json: slices.Contains(args, "--json")}
		return out.fail(e)
	})
}

// run runs the command.
func (w *work) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	exited := false
	parser := kong.Must(&g, kong.Name("enqueue"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Vars{"version": settings.Version(), "clerk_key": "Only --dry-run asks Clerk."},
		kong.Exit(func(int) { exited = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.ExplicitGroups([]kong.Group{{Key: "everywhere", Title: "Flags of every command:"}}))
	if completes(parser, stderr) {
		return settings.ExitDone
	}
	parsed, err := parser.Parse(words(args))
	if exited {
		return settings.ExitDone
	}
	out := &output{
		stdout: stdout, stderr: stderr, work: w, json: g.JSON || err != nil && slices.Contains(args, "--json"),
	}
	if err != nil {
		return out.fail(&usageError{error: plainly(err)})
	}
	w.begin(parsed)
	warnings(out)
	if out.sandbox = g.Sandbox; g.Sandbox {
		g.UseSandbox()
		g.BulkInvite.UseSandbox()
		g.Revoke.UseSandbox()
		g.Delete.UseSandbox()
		g.Serve.UseSandbox()
	}
	rdb, err := g.Open()
	if err != nil {
		return out.fail(err)
	}
	defer rdb.Close()
	db := store.Open(rdb, g.Namespace)
	w.check = func(ctx context.Context) error { return store.CheckRights(ctx, db) }
	rdb.AddHook(w)
	d, err := desk.New(rdb, g.Namespace, actor())
	if err != nil {
		return out.fail(err)
	}
	whole, err := w.intoFile(parsed, out)
	if err != nil {
		return out.fail(err)
	}
	answers := bufio.NewReader(io.LimitReader(stdin, 1024))
	stdin = &input{Reader: stdin, name: "standard input", tell: out.note, silent: !terminal(stdin)}
	err = parsed.Run(&app{ctx, g.Namespace, d, stdin, answers, out, w, g.Sandbox})
	if isInterrupted(ctx, err) {
		err = w.interrupted()
	}
	return out.fail(w.explain(ctx, db, whole(err)))
}

// actor is who runs the command: the user and the machine, as far as they are known.
func actor() string {
	host, _ := os.Hostname()
	if who, err := user.Current(); err == nil {
		return who.Username + "@" + host
	}
	return host
}

// AfterApply refuses a flag or an argument without a value. A script gives one when its variable is not set, and it
// would be taken as not given. kong calls it before those of the flags.
func (*grammar) AfterApply(parsed *kong.Context) error {
	for _, step := range parsed.Path {
		value := step.Positional
		if step.Flag != nil {
			value = step.Flag.Value
		}
		if value == nil || !empty(value.Target) {
			continue
		}
		leave := ", or leave it out"
		if step.Flag == nil && value.Required {
			leave = ""
		}
		return fmt.Errorf("%s is empty: give it a value%s", strings.Trim(value.ShortSummary(), "[] ."), leave)
	}
	return nil
}

// empty tells whether a value, or one of several, is a text without a character.
func empty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.String:
		return strings.TrimSpace(value.String()) == ""
	case reflect.Slice:
		for i := range value.Len() {
			if empty(value.Index(i)) {
				return true
			}
		}
	}
	return false
}

// app is what every command works with.
type app struct {
	ctx       context.Context
	namespace string
	desk      *desk.Desk
	stdin     io.Reader
	answers   *bufio.Reader // of a person, read from stdin
	out       *output
	work      *work
	sandbox   bool
}

// terminal tells whether a person sits at a stream.
func terminal(stream any) bool {
	if played, ok := stream.(interface{ Terminal() bool }); ok {
		return played.Terminal() // in tests
	}
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// confirm asks before something that cannot be undone, unless that was answered with --yes. Elsewhere than on a
// terminal --yes is needed.
func (a *app) confirm(yes bool, question string) error {
	switch {
	case yes:
		return nil
	case !terminal(a.stdin) || a.out.json:
		return usage("%s Nobody can be asked here: repeat it with --yes", question)
	}
	answer, err := a.ask(question + " [y/N] ")
	if err == nil && !affirmed(answer) {
		err = errNotConfirmed
	}
	return err
}

// affirmed tells whether a person has answered yes.
func affirmed(answer string) bool { return answer == "y" || answer == "yes" }

var errNotConfirmed = errors.New("not confirmed; nothing was done")

// ask asks a person and gives the answer in lower case.
func (a *app) ask(question string) (answer string, err error) {
	a.work.onlyRead()
	fmt.Fprint(a.out.stderr, visible.Text(question))
	answered := make(chan string, 1)
	go func() { // a read cannot be interrupted; it ends with the process
		line, _ := a.answers.ReadString('\n')
		answered <- line
	}()
	select {
	case <-a.ctx.Done():
		fmt.Fprintln(a.out.stderr)
		return "", a.ctx.Err()
	case line := <-answered:
		return strings.ToLower(strings.TrimSpace(line)), nil
	}
}

// RecipientFlags are the options of an invitation; in a bulk, the defaults of its rows. kong calls AfterApply when it
// has read them.
type RecipientFlags struct {
	RedirectURL    string `name:"redirect-url" placeholder:"URL" help:"Where the link in the e-mail leads."`
	Metadata       string `placeholder:"JSON" help:"Public metadata, a JSON object."`
	ExpiresInDays  *int   `placeholder:"N" help:"Days until the invitation expires, 1 to 365. Default: 30."`
	NoNotify       bool   `help:"Create the invitation without sending an e-mail."`
	IgnoreExisting bool   `help:"Invite although an invitation exists already."`
	TemplateSlug   string `placeholder:"S" help:"E-mail template: invitation or waitlist_invitation."`
	OnDuplicate    string `placeholder:"WHAT" help:"If one is pending: dead-letter (default), accept or resend it."`
	OnExistingUser string `placeholder:"WHAT" help:"If the address is a user's: dead-letter (default) or skip it."`

	recipient tasks.Recipient // all but its address
}

// AfterApply reads the flags.
func (f *RecipientFlags) AfterApply() error {
	invalid := func(field, reason string) error { return &tasks.InvalidError{Index: -1, Field: field, Reason: reason} }
	r := &f.recipient
	*r = tasks.Recipient{
		RedirectURL: f.RedirectURL, NoNotify: f.NoNotify, IgnoreExisting: f.IgnoreExisting,
		TemplateSlug: f.TemplateSlug, OnDuplicate: tasks.OnDuplicate(f.OnDuplicate),
		OnExistingUser: tasks.OnExistingUser(f.OnExistingUser),
	}
	if f.ExpiresInDays != nil {
		if r.ExpiresInDays = *f.ExpiresInDays; r.ExpiresInDays == 0 {
			return invalid("expires_in_days", "0 is not between 1 and 365")
		}
	}
	if f.Metadata == "" {
		return nil
	}
	err := peoplefile.DecodeJSON([]byte(f.Metadata), &r.PublicMetadata)
	if err != nil || r.PublicMetadata == nil {
		return invalid("public_metadata", `is not a JSON object such as {"plan":"pro"}`)
	}
	return nil
}

// TaskFlags say when a task runs and under which id, and whether its end is waited for. kong calls AfterApply when it
// has read them.
type TaskFlags struct {
	At string `xor:"when" placeholder:"T" help:"When to run: RFC 3339, or \"2026-12-01 09:00\" in TZ's time zone."`
	In string `xor:"when" placeholder:"D" help:"Run after a while, such as 90m, 1h30m or 2d."`
	ID string `name:"id" help:"An id of your own: repeating it with the same task adds nothing."`

	WaitFlags

	options []tasks.Option
	at      time.Time // zero for at once
}

// WaitFlags say whether a command stays. kong calls AfterApply when it has read them.
type WaitFlags struct {
	Wait        bool   `help:"Stay until it has ended."`
	WaitTimeout string `placeholder:"D" help:"With --wait: longest stay, such as 5m."`

	longest time.Duration // stay
}

// AfterApply reads the flags.
func (f *WaitFlags) AfterApply() (err error) {
	f.longest = settings.MaxDuration // as good as for ever
	if f.WaitTimeout == "" {
		return nil
	}
	if !f.Wait {
		return usage("--wait-timeout needs --wait")
	}
	f.longest, err = settings.Duration("--wait-timeout", f.WaitTimeout)
	return err
}

// AfterApply reads the flags, before anything is enqueued.
func (f *TaskFlags) AfterApply() (err error) {
	switch {
	case f.In != "":
		d, err := settings.Duration("--in", f.In)
		if err != nil {
			return err
		}
		f.at = time.Now().Add(d)
	case f.At != "":
		zone := time.Local // Go takes a TZ that it does not know for UTC, and says nothing
		if name := strings.TrimPrefix(os.Getenv("TZ"), ":"); name != "" {
			if zone, err = time.LoadLocation(name); err != nil {
				return settings.Fault("TZ", name, "a time zone such as Europe/Berlin")
			}
		}
		if f.at, err = settings.Instant(f.At, time.Now(), zone); err != nil {
			return err
		}
	}
	if strings.HasPrefix(f.ID, schedule.TaskPrefix) {
		return usage("--id %s: ids that begin with %s belong to schedules", f.ID, schedule.TaskPrefix)
	}
	f.options = []tasks.Option{tasks.ID(f.ID), tasks.At(f.at)}
	_, err = tasks.Resolve(f.options...)
	return err
}

// clerkOf gives the Clerk instance that the flags say: none if no key is set.
func clerkOf(flags settings.Clerk) (settings.Instance, error) {
	if !flags.HasKey() {
		return settings.Instance{}, nil
	}
	return flags.Instance()
}
