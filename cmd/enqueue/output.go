package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Exit codes beside those of settings.
const (
	exitDead        = 3
	exitTimeout     = 4
	exitInterrupted = 130
)

var (
	errDead    = errors.New("it ended dead or cancelled")
	errTimeout = errors.New("--wait-timeout passed; the task goes on")
)

// usageError is bad usage or bad input: nothing was enqueued.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// badRow is what is wrong with one row of a file.
type badRow struct {
	Line   int    `json:"line"`
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// rowsError names every bad row.
type rowsError struct {
	file string
	rows []badRow
}

func (e *rowsError) Error() string {
	return fmt.Sprintf("%s: %d faults in its rows, so nothing was enqueued; correct them, or leave those rows out with --skip-invalid", e.file, len(e.rows))
}

// output writes what a command has to say: sentences for a person, or JSON for a program.
type output struct {
	stdout, stderr io.Writer
	json           bool
	failed         error // the first that writing to stdout met
}

// say writes a line for a person; with --json, nothing.
func (o *output) say(format string, args ...any) {
	if o.json {
		return
	}
	if _, err := fmt.Fprintf(o.stdout, format+"\n", args...); err != nil && o.failed == nil {
		o.failed = err
	}
}

// note writes a line about the way there, which is no part of the answer.
func (o *output) note(format string, args ...any) {
	if !o.json {
		fmt.Fprintf(o.stderr, format+"\n", args...)
	}
}

// object writes one JSON object; without --json, nothing.
func (o *output) object(v any) error {
	if !o.json {
		return nil
	}
	encoder := json.NewEncoder(o.stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// fail tells an error and gives the exit code that belongs to it.
func (o *output) fail(err error) int {
	if err == nil {
		err = o.failed
	}
	if err == nil {
		return settings.ExitDone
	}
	exit, code, message := verdict(err)
	rows := []badRow{}
	if faulty, ok := errors.AsType[*rowsError](err); ok {
		rows = faulty.rows
	}
	if o.json {
		encoder := json.NewEncoder(o.stderr)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(map[string]any{"code": code, "message": message, "rows": rows})
		return exit
	}
	for _, row := range rows {
		fmt.Fprintf(o.stderr, "line %d: %s: %s\n", row.Line, row.Field, row.Reason)
	}
	fmt.Fprintln(o.stderr, "enqueue:", message)
	return exit
}

// verdict turns an error into an exit code, a word for programs and a line for people.
func verdict(err error) (exit int, code, message string) {
	message = strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	is := func(target error) bool { return errors.Is(err, target) }
	_, setting := errors.AsType[*settings.Error](err)
	_, invalid := errors.AsType[*tasks.InvalidError](err)
	_, usage := errors.AsType[*usageError](err)
	_, rows := errors.AsType[*rowsError](err)
	_, network := errors.AsType[net.Error](err)
	_, file := errors.AsType[*fs.PathError](err) // which is a net.Error too
	switch {
	case is(errDead):
		return exitDead, "dead", message
	case is(errTimeout):
		return exitTimeout, "timeout", message
	case is(context.Canceled):
		return exitInterrupted, "interrupted", "interrupted; what was enqueued stays enqueued"
	case is(tasks.ErrConflict):
		return settings.ExitUsage, "conflict", message
	case is(tasks.ErrForgotten):
		return settings.ExitUsage, "forgotten", message
	case setting:
		return settings.ExitUsage, "setting", message
	case invalid, rows:
		return settings.ExitUsage, "invalid", message
	case usage:
		return settings.ExitUsage, "usage", message
	case is(tasks.ErrNotFound), is(deadletter.ErrNotFound), is(ledger.ErrNotFound):
		return settings.ExitFailed, "not_found", message
	case is(ledger.ErrOver):
		return settings.ExitFailed, "over", message
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"):
		return settings.ExitFailed, "redis_unavailable", "Redis refuses the user or the password (is REDIS_URL right?): " + message
	case file:
		return settings.ExitFailed, "failed", message
	case network, is(redis.ErrPoolTimeout), is(io.EOF):
		return settings.ExitFailed, "redis_unavailable", "Redis cannot be reached (is it running, and REDIS_URL right?): " + message
	}
	return settings.ExitFailed, "failed", message
}

// orNull is what JSON shows of a value that may be unknown.
func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// local shows a time as the person's clock has it, with its offset.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 -07:00") }

// plural gives a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sentence makes one of a text that is not empty.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] + "." }

// outputFlag says where an export goes.
type outputFlag struct {
	Output string `short:"o" placeholder:"PATH" help:"Write to this file, which must not exist. Default: standard output."`
}

// open gives where to write, and what to do in the end.
func (f outputFlag) open(stdout io.Writer) (into io.Writer, end func() error, err error) {
	if f.Output == "" {
		return stdout, func() error { return nil }, nil
	}
	file, err := os.OpenFile(f.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, &usageError{err}
	}
	return file, file.Close, nil
}
