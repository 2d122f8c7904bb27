package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/store"
)

const (
	// interruptGrace is how long a command may take to end by itself after a signal. A read of a pipe, a file that
	// nobody writes and a Redis that hangs cannot be interrupted: the process ends without them.
	interruptGrace = 400 * time.Millisecond
	// waitsForRedis is after how long a person is told that Redis does not answer.
	waitsForRedis = 2 * time.Second
)

// work is a command under way: what it has done so far, in case it is interrupted. Safe for concurrent use.
type work struct {
	mu      sync.Mutex
	command string // its path, such as campaign pause; empty before it is known
	dryRun  bool
	asked   bool          // a request to Redis that may change something was made
	open    int           // requests under way; to connect takes some of its own
	since   time.Time     // since when there are any; zero if there are none
	done    string        // what is certain to be done
	left    bool          // more than that was asked, and must be asked again
	again   string        // how to repeat it safely, if that depends on its arguments
	made    string        // a file that is not whole yet, and would be in the way of repeating the command
	grace   time.Duration // how long it may take to stop, if that is longer than for others

	// check gives an error if Redis would refuse a step of the command. It is asked before the first one that may
	// change something; nil once there was no error.
	check func(context.Context) error
}

// serves notes that the command ends in its own time, once it is told to.
func (w *work) serves(stops time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grace = stops
}

// stops is how long the command may take to stop.
func (w *work) stops() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(interruptGrace, w.grace)
}

// begin notes which command it is.
func (w *work) begin(parsed *kong.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.command = pathOf(parsed.Selected())
	for _, flag := range parsed.Flags() {
		w.dryRun = w.dryRun || flag.Name == "dry-run" && flag.Target.Bool()
	}
}

// pathOf is the path of a command without its arguments.
func pathOf(n *kong.Node) string {
	var names []string
	for ; n != nil && n.Type == kong.CommandNode; n = n.Parent {
		names = append(names, n.Name)
	}
	slices.Reverse(names)
	return strings.Join(names, " ")
}

// did notes what is certain to be done.
func (w *work) did(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.left = fmt.Sprintf(format, args...), false
}

// begun notes what is certain to be done of something that repeating the command goes on with.
func (w *work) begun(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.left = fmt.Sprintf(format, args...), true
}

// parts notes how many of several things are certain to be done, such as 2 dead letters that are retried.
func (w *work) parts(n int, noun, done string) {
	w.begun("%s %s for certain, and perhaps some more; repeat it for the rest: nothing is %s twice", plural(n, noun), done,
		done)
}

// onlyRead notes that what was asked of Redis so far has changed nothing.
func (w *work) onlyRead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = false
}

// repeats notes how the command can be repeated safely.
func (w *work) repeats(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = fmt.Sprintf(format, args...)
}

// makes notes a file that is to be removed if the command is interrupted; none when it is whole.
func (w *work) makes(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made = path
}

// hangs tells whether a request to Redis has had no answer for a while.
func (w *work) hangs() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.since.IsZero() && time.Since(w.since) >= waitsForRedis/2
}

// What is known of a command that was interrupted.
const (
	outcomeDone    = "done"
	outcomeBegun   = "begun"
	outcomeNothing = "nothing"
	outcomeUnknown = "unknown"
)

// interrupted tells what has become of the command, for a program in one word.
func (w *work) interrupted() *interruptedError {
	outcome, told := w.became("an answer of Redis was not waited for")
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.made != "" {
		_ = os.Remove(w.made)
	}
	return &interruptedError{outcome, told}
}

// became tells what has become of the command that did not end as it should. why is why nobody knows it.
func (w *work) became(why string) (outcome, told string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes, again := howToRepeat(w.command)
	if w.again != "" {
		again = w.again
	}
	switch {
	case w.left:
		return outcomeBegun, w.done
	case w.done != "":
		return outcomeDone, w.done
	case !changes || w.dryRun || !w.asked:
		return outcomeNothing, "nothing was " + verbOf(w.command)
	}
	return outcomeUnknown, "unknown whether anything was " + verbOf(w.command) + ", because " + why + "; " + again
}

// brokenOffError is an error of Redis itself, at which a command broke off, and what has become of the command.
type brokenOffError struct {
	error
	outcome, told string
}

func (e *brokenOffError) Unwrap() error { return e.error }

// explain says of an error of Redis itself what has become of the command, if it is one that changes something. It
// names the right that is missing.
func (w *work) explain(ctx context.Context, db store.DB, err error) error {
	err = store.NameRights(ctx, db, err)
	if changes, _ := howToRepeat(w.command); err == nil || !changes || w.dryRun {
		return err
	}
	why := ""
	switch kind, _ := desk.Explain(err); kind {
	case desk.NoRight:
		why = "Redis has refused a step of it"
	case desk.NoRedis:
		why = "Redis has not answered"
	default:
		return err
	}
	outcome, told := w.became(why)
	return &brokenOffError{err, outcome, told}
}

// checking marks the requests of a check.
type checking struct{}

// checked fails if Redis would refuse a step of the command. So nothing is changed then that the command cannot finish.
func (w *work) checked(ctx context.Context, cmds []redis.Cmder) error {
	w.mu.Lock()
	check := w.check
	changes, _ := howToRepeat(w.command)
	none := check == nil || !changes || w.dryRun
	w.mu.Unlock()
	if none || ctx.Value(checking{}) != nil || !slices.ContainsFunc(cmds, mayChange) {
		return nil
	}
	if err := check(context.WithValue(ctx, checking{}, true)); err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check = nil
	return nil
}

// verbOf says in a word what a command does.
func verbOf(command string) string {
	if slices.Contains([]string{"invite", "bulk-invite", "revoke", "delete", "sync-list"}, command) {
		return "enqueued"
	}
	return "changed"
}

// howToRepeat tells whether a command changes anything, and how to repeat it if nobody knows whether it has.
func howToRepeat(command string) (changes bool, again string) {
	const harmless = "repeat it: that does nothing twice"
	switch command {
	case "status", "find", "campaign list", "campaign status", "campaign watch", "campaign export", "dead-letter list",
		"dead-letter show", "dead-letter export", "schedule list", "schedule check", "task list", "invitations",
		"completion", "help", "serve":
		return false, ""
	case "bulk-invite":
		return true, "repeat it with the same file and options: that adds nothing twice"
	case "revoke", "delete":
		return true, "repeat it: what is gone already stays gone"
	case "sync-list", "resume-calls", "campaign pause", "campaign resume", "campaign cancel", "campaign delete",
		"dead-letter retry", "dead-letter delete", "task cancel", "schedule pause", "schedule resume", "schedule remove",
		"forget", "restore":
		return true, harmless
	}
	return true, "enqueue status and enqueue find tell"
}

// interruptedError says that a command was interrupted, and what has become of it.
type interruptedError struct{ outcome, told string }

func (e *interruptedError) Error() string { return "interrupted; " + e.told }

// Is tells that it is the end of a context.
func (e *interruptedError) Is(target error) bool { return target == context.Canceled }

// reading are commands of Redis that change nothing.
var reading = []string{
	"hello", "auth", "client", "select", "ping", "info", "time", "cluster", "command", "config", "exists", "get", "mget",
	"hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hexists", "hscan", "zrange", "zrangebyscore", "zrevrange",
	"zcard", "zcount", "zscore", "zmscore", "zscan", "llen", "lrange", "lindex", "lpos", "scan", "sismember", "smembers",
	"srandmember", "sscan", "ttl", "pttl", "getrange",
}

// DialHook is for go-redis.
func (w *work) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook is for go-redis.
func (w *work) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := w.checked(ctx, []redis.Cmder{cmd}); err != nil {
			return err
		}
		defer w.request(ctx, cmd)()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is for go-redis.
func (w *work) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := w.checked(ctx, cmds); err != nil {
			return err
		}
		defer w.request(ctx, cmds...)()
		return next(ctx, cmds)
	}
}

// mayChange tells whether a command of Redis may change something.
func mayChange(cmd redis.Cmder) bool {
	name := strings.ToLower(cmd.Name())
	if strings.HasPrefix(name, "eval") && len(cmd.Args()) > 1 {
		script, _ := cmd.Args()[1].(string)
		return !store.OnlyReads(script)
	}
	return !slices.Contains(reading, name)
}

// request notes a request, and gives what notes its answer.
func (w *work) request(ctx context.Context, cmds ...redis.Cmder) (answered func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open++; w.open == 1 {
		w.since = time.Now()
	}
	w.asked = w.asked || ctx.Value(checking{}) == nil && slices.ContainsFunc(cmds, mayChange)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.open--; w.open == 0 {
			w.since = time.Time{}
		}
	}
}

// stream is where a command writes until it is abandoned.
type stream struct {
	mu     sync.Mutex
	to     io.Writer
	closed bool
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return len(p), nil
	}
	return s.to.Write(p)
}

// Terminal tells whether a person sits at it.
func (s *stream) Terminal() bool { return terminal(s.to) }

// newFile is for newFile.
func (s *stream) newFile() bool { return newFile(s.to) }

// close lets nothing more through, unless a write is under way that does not end.
func (s *stream) close() {
	if s.mu.TryLock() {
		s.closed = true
		s.mu.Unlock()
	}
}

// untilInterrupted runs a command until it ends, or until it has not ended a moment after the context did, and gives
// the exit code.
func untilInterrupted(
	ctx context.Context, w *work, stdout, stderr io.Writer, command func(stdout, stderr io.Writer) int,
	abandoned func(stderr io.Writer, e *interruptedError) int,
) int {
	out, told := &stream{to: stdout}, &stream{to: stderr}
	exit := make(chan int, 1)
	go func() { exit <- command(out, told) }()
	slow := time.NewTicker(waitsForRedis)
	defer slow.Stop()
	for ctx.Err() == nil {
		select {
		case code := <-exit:
			return code
		case <-slow.C:
			if terminal(stderr) && w.hangs() {
				fmt.Fprintln(told, "Waiting for Redis … (Ctrl-C stops)")
				slow.Stop()
			}
		case <-ctx.Done():
		}
	}
	select {
	case code := <-exit:
		return code
	case <-time.After(w.stops()):
	}
	out.close()
	told.close()
	return abandoned(stderr, w.interrupted())
}

// input tells a person at a terminal what a command waits for, when it begins to read.
type input struct {
	io.Reader
	name   string
	tell   func(format string, args ...any)
	silent bool
}

func (i *input) Read(p []byte) (int, error) {
	if !i.silent {
		i.silent = true
		i.tell("Reading from %s … (Ctrl-D ends it, Ctrl-C stops)", i.name)
	}
	return i.Reader.Read(p)
}

// Terminal tells whether a person sits at it.
func (i *input) Terminal() bool { return terminal(i.Reader) }

// readingFrom tells a person at a terminal that a file is read from which nothing may come for a while.
func (a *app) readingFrom(path string) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() && terminal(a.out.stderr) {
		a.out.note("Reading from %s … (Ctrl-C stops)", path)
	}
}

// isInterrupted tells whether a command failed because it was interrupted.
func isInterrupted(ctx context.Context, err error) bool {
	return err != nil && (errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled))
}
