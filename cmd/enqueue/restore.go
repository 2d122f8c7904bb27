package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
)

// ErasureLog says where erasures are noted.
type ErasureLog struct {
	Path string `name:"erasure-log" env:"USHER_ERASURE_LOG" placeholder:"PATH" help:"File to which each erasure is added before it is said to be done; for --from-log."`
}

// waiting gives what tells a person what a removal waits for: kept says what is certain already, again what to do if
// the command is broken off.
func (a *app) waiting(kept, again string) func(left string) {
	told := false
	return func(left string) {
		a.work.begun("%s from now on, but not all of it is removed (%s): %s", kept, left, again)
		a.out.note("Waiting: %s.", left)
		if !told {
			told = true
			a.warnIdle("this waits for one")
		}
	}
}

func removedWords(r desk.Removed) string {
	return fmt.Sprintf("from %s, %s, %s in queues, %s, %s of the directory's copies, %s",
		plural(r.Campaigns, "campaign"), plural(r.Uploads, "upload"), plural(r.Tasks, "task"),
		plural(r.DeadLetters, "dead letter"), plural(r.Invitations, "row"), plural(r.Intents, "intent"))
}

// readErasures reads erasure logs. A fault in one is bad input: nothing was done.
func (a *app) readErasures(paths []string) ([]store.Erasure, error) {
	erasures, err := a.desk.ReadErasures(a.ctx, paths)
	if fault, ok := errors.AsType[*desk.LogError](err); ok {
		return nil, &usageError{error: fault}
	}
	if missing, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, usage("%v; nothing was done", missing)
	}
	return erasures, err
}

// forgetAgain repeats the erasures of logs.
func (a *app) forgetAgain(paths []string, yes bool) error {
	erasures, err := a.readErasures(paths)
	if err != nil {
		return err
	}
	if err := a.confirm(yes, "Remove every address that is forgotten by the log, for good?"); err != nil {
		return err
	}
	r, err := a.repeatErasures(erasures, true)
	if err == nil {
		a.out.object(view{"addresses": r.Addresses, "held": r.Held, "removed": r.Removed})
	}
	return err
}

// repeatErasures repeats erasures and says what has come of it, if they are those of a log.
func (a *app) repeatErasures(erasures []store.Erasure, logged bool) (desk.Repeated, error) {
	r, err := a.desk.ForgetAgain(a.ctx, erasures, a.waiting("the addresses are kept out", "repeat it"))
	if err == nil && logged {
		if len(erasures) == 0 {
			a.out.note("The log is empty: look whether it is the right file.")
		}
		a.out.say("Addresses that are forgotten by the log: %d. Redis held something of %d. Removed: %s.",
			r.Addresses, r.Held, removedWords(r.Removed))
	}
	return r, err
}

type restoreCommand struct {
	FromLog     []string `placeholder:"FILE" help:"Erasure log: what was forgotten since the copy was made is forgotten again. Repeatable."`
	NoLog       bool     `help:"Nobody was forgotten since the copy was made."`
	Again       bool     `help:"A copy was put back once more, after the last restore had ended."`
	ErasureLog  string   `env:"USHER_ERASURE_LOG" placeholder:"PATH" help:"With --no-log: the erasure log, which must be empty."`
	WithoutList bool     `help:"Go on although Clerk's list was not copied since."`
	Yes         bool     `help:"Let work go on without asking."`
}

// errRests means that work rests, because nobody has said that it may go on.
var errRests = errors.New("work rests still: look at what goes on, then repeat the command with --yes")

func (c *restoreCommand) Run(a *app) error {
	if c.NoLog == (len(c.FromLog) > 0) {
		return usage("give --from-log FILE, or --no-log if nobody was forgotten since the copy was made")
	}
	if info, err := os.Stat(c.ErasureLog); c.NoLog && err == nil && info.Size() > 0 {
		return usage("--no-log, although %s has erasures: give --from-log %[1]s; nothing was done", c.ErasureLog)
	}
	erasures, err := a.readErasures(c.FromLog)
	if err != nil {
		return err
	}
	last, bound, err := a.desk.LastRestore(a.ctx)
	switch {
	case err != nil:
		return err
	case !bound:
		return usage("no worker has ever worked in namespace %s of this Redis: was the copy read, and is --namespace "+
			"right? Nothing was done", a.namespace)
	case !last.Ended.IsZero() && !c.Again:
		return usage("a restore ended at %s: --again begins another one, if a copy was put back since; nothing was done",
			local(last.Ended))
	}
	restored, err := a.desk.BeginRestore(a.ctx)
	if err != nil {
		return err
	}
	a.work.begun("work rests, and nobody is invited: repeat it")
	a.out.say("Work rests since %s: nothing is changed at Clerk.", local(restored.At))
	repeated, err := a.repeatErasures(erasures, len(c.FromLog) > 0)
	if err != nil {
		return err
	}
	answer := view{"restored_at": restored.At, "forgotten": repeated, "invitations": nil, "ended": false}
	if !c.WithoutList {
		n, err := a.desk.SyncOnce(a.ctx, restored, func(task string) {
			a.out.note("Waiting: task %s copies Clerk's list.", task)
			a.warnIdle("start one now")
		})
		if err != nil {
			return err
		}
		answer["invitations"] = n
		a.out.say("Clerk's list is copied: %s.", plural(n, "invitation"))
	}
	if err := a.showUnfinished(answer); err != nil {
		return err
	}
	return c.end(a, restored, answer)
}

// showUnfinished shows what goes on when the restoration ends.
func (a *app) showUnfinished(answer view) error {
	u, err := a.desk.Unfinished(a.ctx)
	if err != nil {
		return err
	}
	rows, goOn, stay := []view{}, []view{}, []view{}
	for _, c := range u.Campaigns {
		row := view{"campaign": c.Name, "state": c.State, "remaining": c.Remaining()}
		rows = append(rows, row)
		if c.State == ledger.Paused {
			stay = append(stay, row)
		} else {
			goOn = append(goOn, row)
		}
	}
	const fields = "campaign,state,remaining"
	a.out.say("This goes on when work does. If something of it was cancelled or paused since the copy was made, do " +
		"that again first.")
	a.out.table("No campaign goes on.", fields, goOn)
	if len(stay) > 0 {
		a.out.say("These campaigns stay paused until enqueue campaign resume:")
		a.out.table("", fields, stay)
	}
	a.out.say("Other tasks that have not ended: %d (enqueue task list). Dead letters: %d.", u.Tasks, u.DeadLetters)
	answer["campaigns"], answer["tasks"], answer["dead_letters"] = rows, u.Tasks, u.DeadLetters
	return nil
}

// end lets work go on, if somebody says so.
func (c *restoreCommand) end(a *app, restored store.Restoration, answer view) error {
	if !c.Yes {
		if !terminal(a.stdin) || a.out.json {
			a.out.object(answer)
			return errRests
		}
		if said, err := a.ask("Let work go on? [y/N] "); err != nil || !affirmed(said) {
			return errors.Join(err, errRests)
		}
	}
	if err := a.desk.EndRestore(a.ctx, restored); err != nil {
		return err
	}
	a.work.did("work goes on")
	a.out.say("Work goes on. Whoever was enqueued before is looked up before the next call. Of whom nobody can know " +
		"whether they were invited become dead letters: enqueue dead-letter list --code unknown_after_restore")
	answer["ended"] = true
	a.out.object(answer)
	return nil
}
