package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/peoplefile"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
)

type deadRetryCommand struct {
	LettersFlags
	everyFlag
	DryRun    bool     `help:"Only show which ones."`
	Set       []string `sep:"none" placeholder:"FIELD=V" help:"Send it with this field changed. Repeatable."`
	From      string   `placeholder:"FILE" help:"Send what a corrected file of dead-letter export says; - is stdin."`
	Unchanged bool     `help:"With --from: retry rows too that say nothing new."`

	IgnoreColumns bool `help:"With --from: ignore columns that are no field."`
	WaitFlags

	change peoplefile.Correction
}

// AfterApply wants dead letters to be chosen, or a file, and reads the fields to change.
func (c *deadRetryCommand) AfterApply() (err error) {
	switch {
	case c.From != "" && (c.chosen() || c.All || len(c.Set) > 0):
		return usage("--from says which dead letters and how: give no other choice and no --set")
	case c.From == "" && !c.chosen() && !c.All:
		return usage("say which dead letters: by id, --code, --campaign, --reason, --all, or --from a file")
	case c.From == "" && (c.Unchanged || c.IgnoreColumns):
		return usage("--unchanged and --ignore-columns need --from")
	case c.DryRun && c.Wait:
		return usage("--dry-run retries nothing, so there is nothing to --wait for")
	}
	if c.change, err = peoplefile.ParseCorrection(c.Set); err != nil {
		return usage("--set: %v", err)
	}
	return nil
}

func (c *deadRetryCommand) Run(a *app) error {
	switch {
	case c.From != "":
		return c.file(a)
	case len(c.Set) == 0:
		return c.asTheyAre(a)
	}
	var letters []deadletter.Entry
	unreadable, err := store.SplitPartial(c.read(a, func(e deadletter.Entry) error {
		letters = append(letters, e)
		return nil
	}))
	if err != nil {
		return err
	}
	if len(letters) > 1 && c.change.Email() {
		return usage("--set email_address: %s cannot have one address", plural(len(letters), "dead letter"))
	}
	plan, err := a.desk.PlanChange(a.ctx, letters, c.change)
	if err == nil {
		err = faultsOf("", plan)
	}
	if err != nil {
		return err
	}
	retried, ended, err := c.carryOut(a, plan, func(m desk.Mend, task string) { c.tell(a, m, task) })
	if err == nil && !c.DryRun {
		a.retriedAlready(len(letters) - len(retried))
	}
	c.tellEnded(a, retried, ended)
	return errors.Join(a.endedAgain(ended, err), unreadable)
}

// retriedAlready tells of letters that somebody else has retried meanwhile.
func (a *app) retriedAlready(n int) {
	a.out.sayIf(n > 0, "%s retried already.", plural(n, "dead letter"))
}

// asTheyAre retries letters some at a time, as they are read: there may be many.
func (c *deadRetryCommand) asTheyAre(a *app) error {
	var retried []desk.Retried
	count, gone := 0, 0
	if c.DryRun {
		err := c.read(a, func(e deadletter.Entry) error {
			count++
			c.tell(a, desk.Mend{Letter: e}, "")
			return nil
		})
		a.out.say("%s would be retried.", plural(count, "dead letter"))
		return err
	}
	found, err := a.desk.RetryLetters(a.ctx, c.letters(), func(done []desk.Retried, passed int) {
		for _, r := range done {
			c.tell(a, r.Mend, r.TaskID)
		}
		if count += len(done); count > 0 {
			a.work.parts(count, "dead letter", "retried")
		}
		if gone += passed; c.Wait {
			retried = append(retried, done...)
		}
	})
	unreadable, err := store.SplitPartial(c.judge(a, found, err))
	a.out.say("%s retried.", plural(count, "dead letter"))
	a.retriedAlready(gone)
	if err != nil {
		return errors.Join(desk.PartlyDone(count, err), unreadable)
	}
	c.begun(a, count)
	if !c.Wait {
		return unreadable
	}
	ended, err := c.await(a, retried)
	c.tellEnded(a, retried, ended)
	return errors.Join(a.endedAgain(ended, err), unreadable)
}

// tell tells of a letter that is retried, or would be. What is waited for is told of to a program when it has ended.
func (c *deadRetryCommand) tell(a *app, m desk.Mend, task string) {
	answer := view{"id": m.Letter.ID, "dry_run": c.DryRun}
	if task != "" {
		answer["task_id"] = task
	}
	if c.DryRun {
		wouldRetry(a, m)
		if m.As != nil {
			answer["email_address"] = m.As.EmailAddress
		}
	}
	if !c.Wait {
		a.out.object(answer)
	}
}

// tellEnded tells a program how each of the letters has ended that were waited for, as far as that is known.
func (c *deadRetryCommand) tellEnded(a *app, retried []desk.Retried, ended *desk.Ended) {
	if ended == nil {
		return
	}
	for _, r := range retried {
		a.out.object(view{
			"id": r.Letter.ID, "dry_run": false, "task_id": r.TaskID, "state": known(ended.States[r.Letter.ID]),
		})
	}
}

// wouldRetry tells a person of a letter that would be retried, and to whom it would go.
func wouldRetry(a *app, m desk.Mend) {
	whom := aboutWhom(m.Letter)
	if m.As != nil && m.As.EmailAddress != whom {
		whom += " → " + m.As.EmailAddress
	}
	a.out.say("%s  %s  %s", m.Letter.ID, whom, codeOr(m.Letter.Failure.Code))
}

// carryOut sends again what is planned, tells how many there were and, with --wait, stays until they have ended.
func (c *deadRetryCommand) carryOut(
	a *app, plan desk.MendPlan, told func(m desk.Mend, task string),
) (retried []desk.Retried, ended *desk.Ended, err error) {
	if c.DryRun {
		for _, m := range plan.Retry {
			told(m, "")
		}
		a.out.say("%s would be retried.", plural(len(plan.Retry), "dead letter"))
		return nil, nil, nil
	}
	count := 0
	retried, err = a.desk.CarryOut(a.ctx, plan, func(r desk.Retried) {
		count++
		a.work.parts(count, "dead letter", "retried")
		told(r.Mend, r.TaskID)
	})
	a.out.say("%s retried.", plural(len(retried), "dead letter"))
	if err != nil {
		return retried, nil, err
	}
	c.begun(a, len(retried))
	if !c.Wait {
		return retried, nil, nil
	}
	ended, err = c.await(a, retried)
	return retried, ended, err
}

// begun notes that dead letters are sent again, and says so if no worker runs.
func (c *deadRetryCommand) begun(a *app, n int) {
	if n > 0 {
		a.work.did("%s retried: enqueue find tells what becomes of that", plural(n, "dead letter"))
		a.warnIdle("what was retried waits")
	}
}

// await stays until letters that were retried have their outcome.
func (c *deadRetryCommand) await(a *app, retried []desk.Retried) (*desk.Ended, error) {
	ctx, cancel := context.WithTimeoutCause(a.ctx, c.longest, errTimeout)
	defer cancel()
	var waits atomic.Value // the id of the task that is waited for
	waits.Store("")
	stop := a.tellStandstills(ctx, func() string { return waits.Load().(string) })
	defer stop()
	e, err := a.desk.AwaitRetried(ctx, retried, func(task string) { waits.Store(task) })
	return &e, err
}

// endedAgain tells what became of dead letters that were waited for.
func (a *app) endedAgain(e *desk.Ended, err error) error {
	if err != nil || e == nil || len(e.States) == 0 {
		return err
	}
	a.out.say("Done: %d sent, %d dead%s, %d cancelled.", e.Sent, len(e.Dead), skipped(e.Skipped), e.Cancelled)
	if n := len(e.Dead); n > 0 {
		return ended("dead again: %s, such as %s (enqueue dead-letter show)", plural(n, "dead letter"), e.Dead[0])
	}
	if e.Cancelled > 0 {
		return ended("%d cancelled", e.Cancelled)
	}
	return nil
}

// file sends again what a corrected file says.
func (c *deadRetryCommand) file(a *app) error {
	opts := peoplefile.Options{Name: c.From, IgnoreColumns: c.IgnoreColumns}
	keys, passedOver := []string{desk.ColumnID, desk.ColumnFailedAt}, strings.Split(letterColumns+",retrying", ",")
	var rows []peoplefile.Correction
	var err error
	if c.From == "-" {
		opts.Name = "standard input"
		rows, err = peoplefile.ReadCorrections(a.stdin, opts, keys, passedOver)
	} else {
		a.readingFrom(c.From)
		rows, err = peoplefile.ReadCorrectionsFile(c.From, opts, keys, passedOver)
	}
	if err != nil {
		return &usageError{error: err}
	}
	plan, err := a.desk.PlanFile(a.ctx, rows, c.Unchanged)
	if err == nil {
		err = faultsOf(opts.Name, plan)
	}
	if err != nil {
		return err
	}
	count := 0
	_, ended, err := c.carryOut(a, plan, func(m desk.Mend, task string) {
		if task == "" {
			wouldRetry(a, m)
		} else {
			count++
		}
	})
	gone := len(plan.Gone)
	if err == nil && !c.DryRun {
		gone += len(plan.Retry) - count // somebody else was faster
	}
	a.out.sayIf(len(plan.Unchanged) > 0, "%s: %s unchanged, and not retried (--unchanged retries them too).", opts.Name,
		plural(len(plan.Unchanged), "row"))
	a.out.sayIf(gone > 0, "%s: %s retried already.", opts.Name, plural(gone, "row"))
	answer := view{
		"retried": count, "unchanged": len(plan.Unchanged), "gone": gone, "faults": []badRow{},
		"dry_run": c.DryRun,
	}
	if ended != nil {
		maps.Copy(answer, view{
			"sent": ended.Sent, "dead": len(ended.Dead), "skipped": ended.Skipped, "cancelled": ended.Cancelled,
		})
	}
	if c.DryRun {
		answer["retried"], answer["would_retry"] = 0, len(plan.Retry)
	}
	a.out.object(answer)
	return a.endedAgain(ended, err)
}

// faultsOf is nothing if a plan has no faults, and else names each, by its line in a file or by its id.
func faultsOf(file string, plan desk.MendPlan) error {
	if len(plan.Faults) == 0 {
		return nil
	}
	faulty := &usageError{more: view{
		"retried": 0, "unchanged": len(plan.Unchanged), "gone": len(plan.Gone), "faults": plan.Faults,
	}}
	lines, about := map[int]bool{}, []string{}
	for _, f := range plan.Faults {
		reason := f.Reason
		if f.Field != "" {
			reason = f.Field + ": " + reason
		}
		if f.Line > 0 {
			lines[f.Line] = true
			faulty.rows = append(faulty.rows, badRow{f.Line, cmp.Or(f.Field, "row"), f.Reason})
			continue
		}
		about = append(about, "dead letter "+f.ID+": "+reason)
	}
	if file != "" {
		faulty.error = fmt.Errorf("%s: %s; nothing was retried", file, plural(len(lines), "bad row"))
	} else {
		faulty.error = fmt.Errorf("nothing was retried: %s", strings.Join(about, "; "))
	}
	return faulty
}
