// Package schedule lets tasks repeat: it reads a file of schedules, and has each tick of each enqueued exactly once,
// however many workers read the file.
//
// A tick is an instant at which a schedule is due. A script on Redis's clock takes it: the schedule's next instant
// moves on, and the tick is pending. Whoever took it enqueues its task, under an id that is made of the schedule's
// name and the instant, and confirms it. A tick that stays pending is finished by another worker in the same way;
// the id makes one task of both.
package schedule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/settings"
	"example.com/usher/tasks"
)

// Schedule is a task that repeats.
type Schedule struct {
	Name     string
	Cron     string
	TimeZone string // an IANA name
	Task     string // a type of the tasks package

	path      string // of its file
	digest    string // tells the schedule from what another file says under its name
	times     timetable
	recipient tasks.Recipient // of an invite; of a bulk-invite, what its rows do not say
	list      list
}

// list is where the recipients of a bulk-invite are.
type list struct {
	path          string // as it is opened
	file          string // as the schedule names it
	campaign      string
	emailColumn   string
	ignoreColumns bool
	skipInvalid   bool
	more          reading
}

// reading is what else a schedule may say of how its list is read.
type reading struct {
	Map             map[string]string // columns by the fields that they set
	Sheet, Encoding string
	NoHeader, Split bool
	IncludeOptedOut bool
}

// digestVersion is part of every digest: a version of Usher that means something else by the same file counts it up.
const digestVersion = 1

// digest leaves out where the file of a list lies: that may differ between machines.
func digest(s Schedule) (string, error) {
	parts := []any{digestVersion, s.Cron, s.TimeZone, s.Task, s.recipient,
		s.list.file, s.list.campaign, s.list.emailColumn, s.list.ignoreColumns, s.list.skipInvalid}
	if !reflect.ValueOf(s.list.more).IsZero() { // an earlier version of Usher knows no more keys
		parts = append(parts, s.list.more)
	}
	data, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("encoding schedule %s: %w", s.Name, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// Next gives the first instants after another at which the schedule is due, at most n.
func (s Schedule) Next(after time.Time, n int) (ticks []time.Time) {
	for len(ticks) < n {
		if after = s.times.after(after); after.IsZero() {
			break
		}
		ticks = append(ticks, after)
	}
	return ticks
}

// TaskPrefix begins the ids of the tasks of ticks. The command lets nobody choose such an id.
const TaskPrefix = "schedule."

// taskID is the id of a tick's task.
func (s Schedule) taskID(tick time.Time) string {
	return TaskPrefix + s.Name + "." + strconv.FormatInt(tick.Unix(), 10)
}

// Enqueuer enqueues; *tasks.Client is one.
type Enqueuer interface {
	Invite(ctx context.Context, recipient tasks.Recipient, opts ...tasks.Option) (tasks.Task, error)
	BulkInvite(ctx context.Context, request tasks.BulkRequest, opts ...tasks.Option) (tasks.Task, error)
	SyncList(ctx context.Context, opts ...tasks.Option) (tasks.Task, error)
}

// futile is why a tick came to nothing: trying it again would bring the same.
type futile struct{ error }

func (f *futile) Unwrap() error { return f.error }

// enqueue enqueues the task of a tick and gives its id; repeating it makes no second one. A *futile error ends the
// tick.
func (s Schedule) enqueue(ctx context.Context, to Enqueuer, tick time.Time) (id string, err error) {
	var task tasks.Task
	id = s.taskID(tick)
	switch s.Task {
	case tasks.TypeInvite:
		task, err = to.Invite(ctx, s.recipient, tasks.ID(id))
	case tasks.TypeBulkInvite:
		var recipients []tasks.Recipient
		if recipients, err = s.list.read(s.recipient); err != nil {
			return "", &futile{err}
		}
		// The ledger knows whom it has, so that a repeated upload needs no id, and the file may have changed since
		// the first.
		task, err = to.BulkInvite(ctx, tasks.BulkRequest{Campaign: s.list.campaign, Recipients: recipients})
	default:
		task, err = to.SyncList(ctx, tasks.ID(id))
	}
	_, invalid := errors.AsType[*tasks.InvalidError](err)
	switch {
	case err == nil, errors.Is(err, tasks.ErrExists):
		return task.ID, nil
	case errors.Is(err, tasks.ErrConflict):
		err = fmt.Errorf("the tick was enqueued before, as an earlier schedule of this name has it: %w", err)
		return id, &futile{err}
	case invalid, errors.Is(err, tasks.ErrForgotten):
		return "", &futile{err}
	}
	return "", err
}

// read reads the whole list.
func (l list) read(defaults tasks.Recipient) ([]tasks.Recipient, error) {
	info, err := os.Stat(l.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", l.file)
	}
	file, err := peoplefile.ReadFile(l.path, peoplefile.Options{
		Name: l.file, Defaults: defaults, EmailColumn: l.emailColumn, IgnoreColumns: l.ignoreColumns,
		Map: l.more.Map, Sheet: l.more.Sheet, Encoding: l.more.Encoding, NoHeader: l.more.NoHeader,
		Split: l.more.Split, IncludeOptedOut: l.more.IncludeOptedOut, MaxRows: tasks.MaxRecipients,
	})
	if fault, is := errors.AsType[*peoplefile.Error](err); is {
		fault.Reason = settings.FlagsAsKeys(fault.Reason)
	}
	if err != nil {
		return nil, err
	}
	if bad := file.BadRows(); bad > 0 && !l.skipInvalid {
		const format = "%s has bad rows (%d), the first at %s; correct them, or set skip_invalid: true"
		return nil, fmt.Errorf(format, l.file, bad, settings.FlagsAsKeys(file.Invalid[0].String()))
	}
	if len(file.Guesses) > 0 {
		return nil, fmt.Errorf("%s can be read in more than one way: %s", l.file, settle(file.Guesses))
	}
	if len(file.Rows) == 0 {
		return nil, fmt.Errorf("%s has no valid row", l.file)
	}
	return file.Recipients(), nil
}

// settle says what is guessed, and what makes it certain. Nobody is there to be asked.
func settle(guesses []peoplefile.Guess) string {
	remedy := "correct the list"
	if flags, all := peoplefile.Certain(guesses); all {
		keys := make([]string, len(flags))
		for i, flag := range flags {
			keys[i] = flag.Key()
		}
		remedy = "set " + strings.Join(keys, ", ")
	}
	return guesses[0].String() + "; " + remedy
}
