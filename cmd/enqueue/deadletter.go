package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/retry"
	"example.com/usher/tasks"
)

type deadLetterCommand struct {
	List   deadListCommand   `cmd:"" help:"List dead letters, the oldest first."`
	Show   deadShowCommand   `cmd:"" help:"Show one dead letter with its history and payload."`
	Retry  deadRetryCommand  `cmd:"" help:"Try dead letters again, through the same limits."`
	Delete deadDeleteCommand `cmd:"" help:"Delete dead letters for good."`
	Export deadExportCommand `cmd:"" help:"Write dead letters as CSV, or with --json as JSON lines."`
}

// selector chooses dead letters; all that is given must match.
type selector struct {
	IDs      []string `arg:"" optional:"" name:"id" help:"Dead letters by id."`
	All      bool     `help:"Every dead letter."`
	Code     string   `placeholder:"C" help:"Those with this code, such as duplicate_record."`
	Campaign string   `placeholder:"NAME" help:"Those of this campaign."`
}

func (s *selector) given() bool {
	return len(s.IDs) > 0 || s.All || s.Code != "" || s.Campaign != ""
}

func (s *selector) matches(e deadletter.Entry) bool {
	return (len(s.IDs) == 0 || slices.Contains(s.IDs, e.ID)) &&
		(s.Code == "" || s.Code == e.Failure.Code) && (s.Campaign == "" || s.Campaign == e.Campaign)
}

// each calls do for what is selected, page by page; an id that is not there is an error, after all others were done.
func (s *selector) each(a *app, do func(deadletter.Entry) error) error {
	if len(s.IDs) == 0 {
		return a.deadLetters.Each(a.ctx, func(e deadletter.Entry) error {
			if !s.matches(e) {
				return nil
			}
			return do(e)
		})
	}
	var missing []error
	for _, id := range s.IDs {
		e, err := a.deadLetters.Get(a.ctx, id)
		if errors.Is(err, deadletter.ErrNotFound) {
			missing = append(missing, err)
			continue
		}
		if err == nil && s.matches(e) {
			err = do(e)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(missing...)
}

type deadListCommand struct{ selector }

// Run is called by kong.
func (c *deadListCommand) Run(a *app) error {
	var entries []deadletter.Entry
	err := c.each(a, func(e deadletter.Entry) error {
		if a.out.json {
			return a.out.object(deadView(e))
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil || a.out.json {
		return err
	}
	if len(entries) == 0 {
		a.out.say("No dead letters.")
		return nil
	}
	return a.deadTable(entries)
}

// deadView is what --json answers of a dead letter.
func deadView(e deadletter.Entry) map[string]any {
	return map[string]any{
		"id": e.ID, "task_id": e.TaskID, "type": e.Type, "campaign": orNull(e.Campaign), "email_address": orNull(e.EmailAddress),
		"invitation_id": orNull(e.InvitationID), "reason": e.Failure.Reason, "http_status": orNull(e.Failure.HTTPStatus),
		"code": orNull(e.Failure.Code), "message": orNull(e.Failure.Message), "trace_id": orNull(e.Failure.TraceID),
		"attempts": e.Attempts, "failed_at": timeOrNull(e.FailedAt), "retrying": e.Next != "",
	}
}

func (a *app) deadTable(entries []deadletter.Entry) error {
	t := a.table("id", "for", "cause", "failed at")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "cause", WidthMax: 48, WidthMaxEnforcer: text.WrapSoft}})
	for _, e := range entries {
		t.AppendRow(table.Row{e.ID, aboutWhom(e), causeOf(e), local(e.FailedAt)})
	}
	a.out.say("%s", t.Render())
	return nil
}

func causeOf(e deadletter.Entry) string {
	f := e.Failure
	return cause(&tasks.Failure{Reason: string(f.Reason), HTTPStatus: f.HTTPStatus, Code: f.Code, Message: f.Message})
}

func aboutWhom(e deadletter.Entry) string {
	if e.Type == tasks.TypeRevoke && e.Campaign != "" {
		return "campaign " + e.Campaign
	}
	return e.EmailAddress + e.InvitationID
}

type deadShowCommand struct {
	ID string `arg:"" help:"The dead letter's id."`
}

// Run is called by kong.
func (c *deadShowCommand) Run(a *app) error {
	e, err := a.deadLetters.Get(a.ctx, c.ID)
	if err != nil {
		return err
	}
	view := deadView(e)
	view["queue"], view["payload"] = e.Queue, e.Payload // bytes, in base64
	history := make([]map[string]any, 0, len(e.History))
	for _, h := range e.History {
		history = append(history, map[string]any{
			"at": timeOrNull(h.At), "http_status": orNull(h.HTTPStatus), "code": orNull(h.Code), "message": orNull(h.Message), "trace_id": orNull(h.TraceID),
			"found_before_sending": h.FoundBeforeSending,
		})
	}
	view["history"] = history
	if a.out.json {
		return a.out.object(view)
	}
	a.out.say("Dead letter %s", e.ID)
	a.out.say("  task      %s (%s)", e.TaskID, e.Type)
	if e.Campaign != "" {
		a.out.say("  campaign  %s", e.Campaign)
	}
	a.out.say("  for       %s", aboutWhom(e))
	a.out.say("  cause     %s", causeOf(e))
	if e.Failure.TraceID != "" {
		a.out.say("  trace id  %s", e.Failure.TraceID)
	}
	a.out.say("  failed    %s, after %s", local(e.FailedAt), plural(e.Attempts, "attempt"))
	for _, h := range e.History {
		found := ""
		if h.FoundBeforeSending {
			found = " (found by a look-up; no call was made)"
		}
		a.out.say("    %s  %d %s: %s%s", local(h.At), h.HTTPStatus, h.Code, h.Message, found)
	}
	a.out.say("  payload   %q", e.Payload)
	return nil
}

// changeFlags are those of commands that change dead letters.
type changeFlags struct {
	selector
	DryRun bool `help:"Only show which ones."`
}

// change does something to all that is selected and tells how many there were.
func (c *changeFlags) change(a *app, verb string, do func(deadletter.Entry) (map[string]any, error)) error {
	if !c.given() {
		return &usageError{errors.New("say which dead letters: by id, --code, --campaign or --all")}
	}
	count := 0
	err := c.each(a, func(e deadletter.Entry) error {
		count++
		view := map[string]any{"id": e.ID, "dry_run": c.DryRun}
		if !c.DryRun {
			more, err := do(e)
			if err != nil {
				return err
			}
			for k, v := range more {
				view[k] = v
			}
		} else {
			a.out.say("%s  %s  %s", e.ID, aboutWhom(e), e.Failure.Code)
		}
		return a.out.object(view)
	})
	if c.DryRun {
		verb = "would be " + verb
	}
	a.out.say("%s %s.", plural(count, "dead letter"), verb)
	return err
}

type deadRetryCommand struct{ changeFlags }

// Run is called by kong.
func (c *deadRetryCommand) Run(a *app) error {
	retrier := retry.New(a.rdb, a.namespace, tasks.DriverTask)
	return c.change(a, "retried", func(e deadletter.Entry) (map[string]any, error) {
		next, err := retrier.Retry(a.ctx, e.ID)
		return map[string]any{"task_id": next}, err
	})
}

type deadDeleteCommand struct {
	changeFlags
	Yes bool `help:"Do not ask."`
}

// Run is called by kong.
func (c *deadDeleteCommand) Run(a *app) error {
	if c.given() && !c.DryRun && !c.Yes {
		if err := a.confirm("Delete these dead letters for good?"); err != nil {
			return err
		}
	}
	return c.change(a, "deleted", func(e deadletter.Entry) (map[string]any, error) {
		_, err := retry.New(a.rdb, a.namespace, tasks.DriverTask).Delete(a.ctx, e.ID)
		return nil, err
	})
}

// confirm asks on a terminal; elsewhere --yes is needed.
func (a *app) confirm(question string) error {
	if !terminal(a.stdin) || a.out.json {
		return &usageError{errors.New("this cannot be undone: repeat it with --yes")}
	}
	fmt.Fprintf(a.out.stderr, "%s [y/N] ", question)
	answered := make(chan string, 1)
	go func() { // a read cannot be interrupted; it ends with the process
		answer, _ := bufio.NewReader(io.LimitReader(a.stdin, 64)).ReadString('\n')
		answered <- answer
	}()
	select {
	case <-a.ctx.Done():
		fmt.Fprintln(a.out.stderr)
		return a.ctx.Err()
	case answer := <-answered:
		if !strings.EqualFold(strings.TrimSpace(answer), "y") {
			return errors.New("not confirmed; nothing was done")
		}
		return nil
	}
}

type deadExportCommand struct {
	selector
	outputFlag
}

// Run is called by kong.
func (c *deadExportCommand) Run(a *app) (err error) {
	into, end, err := c.open(a.out.stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	a.out.stdout = into
	if a.out.json {
		return c.each(a, func(e deadletter.Entry) error { return a.out.object(deadView(e)) })
	}
	w := csv.NewWriter(a.out.stdout)
	header := []string{"id", "task_id", "type", "campaign", "email_address", "invitation_id", "reason", "http_status", "code", "message", "trace_id", "attempts", "failed_at"}
	if err := w.Write(header); err != nil {
		return err
	}
	err = c.each(a, func(e deadletter.Entry) error {
		return w.Write([]string{
			e.ID, e.TaskID, e.Type, e.Campaign, e.EmailAddress, e.InvitationID, string(e.Failure.Reason), strconv.Itoa(e.Failure.HTTPStatus),
			e.Failure.Code, e.Failure.Message, e.Failure.TraceID, strconv.Itoa(e.Attempts), e.FailedAt.UTC().Format(time.RFC3339Nano),
		})
	})
	w.Flush()
	return errors.Join(err, w.Error())
}
