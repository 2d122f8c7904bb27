package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/queues"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

type statusCommand struct {
	TaskID string `arg:"" optional:"" name:"task-or-campaign" help:"Show this one. Default: the whole system."`
	PageFlags
}

// AfterApply refuses flags that would do nothing.
func (c *statusCommand) AfterApply() error {
	if c.TaskID != "" && (c.Limit != nil || c.All) {
		return usage("--limit and --all are about the campaigns of the whole system: leave %s out", c.TaskID)
	}
	return nil
}

func (c *statusCommand) Run(a *app) error {
	if c.TaskID != "" {
		return c.task(a)
	}
	o, err := a.desk.Overview(a.ctx)
	if err != nil {
		return err
	}
	if o.Standstill != nil {
		a.out.say("%s: %s.\n", o.Standstill.Stops(), standstillWords(o.Standstill))
	}
	workers := views(o.Workers, workerView)
	a.out.table("No worker runs.", "host,pid,version,key_kind,since,active,seen_at,state", workers)
	a.out.say("")
	queues, campaigns := views(o.Queues, queueView), []view{}
	_, more, unreadable := c.cut(a.out, a.campaigns(""), func(row view) error {
		campaigns = append(campaigns, row)
		return nil
	})
	a.out.table("", "queue,pending,active,scheduled,retry", queues)
	for _, q := range o.Queues {
		a.out.sayIf(q.Paused, "The queue %s is paused by another program, and workers take nothing from it.", q.Queue)
	}
	a.out.say("")
	resting := views(o.Resting, restView)
	var limits []view // that a person is shown
	for _, l := range o.Limits {
		allowed := "no limit"
		switch {
		case l.N > 0:
			allowed = plural(l.N, "call") + " in " + settings.FormatDuration(l.Window)
		case l.BlockedUntil.IsZero():
			continue // switched off
		}
		v := limitView(l, o.Reserve)
		v["allowed"], v["next_permit"] = allowed, shown(known(l.NextFree), "now", local)
		limits = append(limits, v)
	}
	const limitFields = "name,allowed,used,in_flight,reserve,blocked_until,next_permit"
	none := "No limits are known: no worker has run yet."
	if len(o.Limits) > 0 {
		none = "Calls have no limits."
	}
	a.out.table(none, limitFields, limits)
	if len(resting) > 0 {
		a.out.say("\nThese calls rest:")
		a.out.table("", "calls,since,next_probe_at,why", views(o.Resting, func(s policy.Standstill) view {
			row := restView(s)
			row["why"] = s.Says()
			return row
		}))
	}
	a.out.say("")
	a.out.table("No campaigns.", campaignFields, campaigns)
	if more {
		a.out.noteMore(len(campaigns))
	}
	a.out.say("\nDead letters: %d", o.DeadLetters)
	limit := func(l ratelimit.Usage) view { return limitView(l, o.Reserve) }
	a.out.object(view{
		"standstill": standstillView(o.Standstill), "workers": workers, "queues": queues,
		"limits": views(o.Limits, limit), "resting": resting, "campaigns": campaigns, "dead_letters": o.DeadLetters,
	})
	return unreadable
}

func workerView(w store.Worker) view {
	v := viewOf(w)
	v["state"] = map[bool]string{true: "lost", false: "running"}[w.Lost]
	delete(v, "stopped")
	delete(v, "lost")
	return v
}

func queueView(q queues.Waiting) view {
	return view{
		"queue": q.Queue, "pending": q.Pending, "active": q.Active, "scheduled": q.Scheduled, "retry": q.Retry,
		"paused": q.Paused,
	}
}

type resumeCommand struct {
	Calls string `arg:"" optional:"" help:"Which: create, revoke, delete, read or writes. Default: all that rest."`
}

func (c *resumeCommand) Run(a *app) (err error) {
	if c.Calls != "" {
		var known []string
		for _, limit := range policy.Rests() {
			known = append(known, policy.CallsOf(limit))
		}
		if c.Calls, err = settings.OneOf("calls", c.Calls, known...); err != nil {
			return err
		}
	}
	resumed, err := a.desk.ResumeCalls(a.ctx, c.Calls)
	if err != nil {
		return err
	}
	a.out.sayIf(len(resumed) == 0, "No calls rest.")
	if len(resumed) > 0 {
		a.out.say("One call goes first within seconds: %s.", strings.Join(resumed, ", "))
		a.warnIdle("the call waits for one")
	}
	a.out.object(view{"resumed": append([]string{}, resumed...)})
	return nil
}

// restView shows calls that rest while Clerk serves nobody.
func restView(s policy.Standstill) view {
	return view{"calls": s.Calls, "since": known(s.Since), "next_probe_at": known(s.NextProbe), "why": s.Why}
}

// limitView shows a limit, and which part of it is reserved for invites.
func limitView(l ratelimit.Usage, reserve int) view {
	if l.Name != policy.LimitCreate || l.N == 0 {
		reserve = 0
	}
	return view{
		"reserve": reserve,

		"name": l.Name, "limit": l.N, "window_seconds": l.Window.Seconds(), "used": l.Used, "in_flight": l.InFlight,
		"blocked_until": known(l.BlockedUntil), "next_permit_at": known(l.NextFree),
	}
}

// stateWords is the state of a task in a sentence.
func stateWords(s tasks.State) string {
	if s == tasks.StateRetry {
		return "to be tried again"
	}
	return string(s)
}

// task shows how a task stands.
func (c *statusCommand) task(a *app) error {
	t, err := a.desk.Status(a.ctx, c.TaskID)
	if errors.Is(err, tasks.ErrNotFound) {
		if campaign, err := a.desk.Campaign(a.ctx, c.TaskID); err == nil {
			a.tellCampaign(campaign)
			a.out.object(campaignView(campaign))
			return nil
		}
	}
	if err != nil {
		return err
	}
	after := ""
	if t.Attempts > 0 {
		after = " after " + plural(t.Attempts, "attempt")
	}
	a.out.say("Task %s (%s) is %s%s.", t.ID, t.Type, stateWords(t.State), after)
	starts := cmp.Or(map[tasks.State]string{
		tasks.StateScheduled: "starts", tasks.StateCancelled: "was to start",
	}[t.State], "runs again")
	a.out.sayIf(!t.ScheduledAt.IsZero(), "It %s at %s.", starts, local(t.ScheduledAt))
	waits, err := a.tellWaiting(t)
	if err != nil {
		return err
	}
	a.out.sayIf(t.State == tasks.StateCancelled && t.CancelledBy != "", "Cancelled by: %s", t.CancelledBy)
	a.out.sayIf(t.RetriedAs != "", "It was retried: enqueue status %s", t.RetriedAs)
	a.out.sayIf(t.CancelWanted, "It is to be cancelled: it ends when the outcome of its last call is known.")
	a.out.sayIf(t.InvitationID != "", "Invitation: %s", t.InvitationID)
	a.out.sayIf(t.Revoked > 0, "Revoked: %s", plural(t.Revoked, "invitation"))
	a.out.sayIf(t.Deleted > 0, "Deleted: %s", plural(t.Deleted, "invitation"))
	switch {
	case t.Error != nil && t.State == tasks.StateDead:
		a.out.say("Cause: %s", cause(t.Error))
	case t.Error != nil && t.Attempts == 0:
		a.out.say("Its last call failed, which does not count as an attempt so far: %s", t.Error.Message)
	case t.Error != nil:
		a.out.say("Its last call failed: %s", t.Error.Message)
	}
	if t.Skipped != nil {
		a.out.say("It was skipped, and nobody was invited: %s.", whySkipped(t.Skipped))
	}
	if b := t.Bulk; b != nil {
		a.out.say("Campaign %s: %s, %s.", b.Campaign, plural(b.Recipients, "recipient"),
			tally(b.Sent, b.Dead, b.Skipped, b.Remaining))
	}
	answer := taskView(t)
	maps.Copy(answer, waits)
	a.out.object(answer)
	return nil
}

type invitationsCommand struct {
	Status string `placeholder:"S" help:"Only those that are pending, accepted, revoked or expired."`
	Query  string `placeholder:"Q" help:"Only those with this in their address or id."`
	CSV    bool   `name:"csv" help:"Write CSV: all, unless there is a --limit."`
	rawFlag
	PageFlags
	listFlag
}

func (c *invitationsCommand) Run(a *app) (err error) {
	if c.CSV && a.out.json {
		return usage("--csv and --json exclude each other")
	}
	if c.Status != "" {
		c.Status, err = settings.OneOf("--status", c.Status, "pending", "accepted", "revoked", "expired")
		if err != nil {
			return err
		}
	}
	copy, err := a.desk.Directory.Copy(a.ctx)
	switch {
	case errors.Is(err, directory.ErrNoCopy): // there is nothing to list, which is not the same as an empty list
		tell := a.out.say
		if c.CSV {
			tell = a.out.note
		}
		if tell("%s", sentence(err.Error())); a.out.json && !a.out.told {
			a.out.failure("never_synced", err.Error(), []badRow{}, nil)
		}
		return nil
	case err != nil:
		return err
	}
	each := func(write func(view) error) error {
		filter := directory.Filter{Status: c.Status, Query: c.Query}
		return copy.Each(a.ctx, filter, func(inv clerkclient.Invitation) error {
			row := viewOf(inv)
			row["synced_at"] = known(copy.SyncedAt)
			return write(row)
		})
	}
	if c.CSV || a.out.into != nil && !a.out.json {
		const columns = "id,email_address,status,public_metadata,created_at,updated_at,expires_at,synced_at"
		return outputFlag{rawFlag: c.rawFlag}.export(a.out, columns, func(write func(view) error) error {
			c.All = c.Limit == nil
			a.out.given, _, err = c.cut(a.out, each, write)
			return err
		})
	}
	shown, more, err := c.list(a.out, "", "id,email_address,status,created_at,expires_at", each)
	if err != nil {
		return err
	}
	count := plural(shown, "invitation")
	if more {
		count = "The newest " + count
	}
	age := settings.FormatDuration(max(0, time.Since(copy.SyncedAt)).Truncate(time.Second))
	a.out.say("%s, as synced at %s, %s ago.", count, local(copy.SyncedAt), age)
	return nil
}

type forgetCommand struct {
	Address string `arg:"" optional:"" help:"The address to forget."`
	ErasureLog
	FromLog []string `placeholder:"FILE" help:"Repeat the erasures of a log: a copy of Redis was put back. Repeatable."`
	AtClerk bool     `help:"Have a worker delete its invitations at Clerk first, for good and in any status."`
	Lift    bool     `help:"Let the address be written down again. What was removed does not come back."`
	Yes     bool     `help:"Do not ask."`
}

func (c *forgetCommand) Run(a *app) error {
	if len(c.FromLog) > 0 {
		if c.Address != "" || c.AtClerk || c.Lift {
			return usage("--from-log goes without an address, --at-clerk and --lift")
		}
		return a.forgetAgain(c.FromLog, c.Yes)
	}
	if c.Address == "" {
		return usage("give the address to forget, or --from-log FILE")
	}
	a.desk.ErasureLog = c.ErasureLog.Path
	c.Address = tasks.CleanAddress(c.Address)
	if err := (tasks.Recipient{EmailAddress: c.Address}).Validate(); err != nil {
		return err
	}
	if c.Lift {
		lifted, err := a.desk.Lift(a.ctx, c.Address)
		if err == nil {
			a.out.sayIf(lifted, "The address may be written down again.")
			a.out.sayIf(!lifted, "The address was not forgotten.")
			a.out.object(view{"forgotten": false, "lifted": lifted})
		}
		return err
	}
	question := "Remove 1 address, " + c.Address + ", from campaigns, queues, results, dead letters and the directory " +
		"for good?"
	if c.AtClerk {
		question = "Delete " + a.asSynced(tasks.RevokePayload{EmailAddress: c.Address}, a.desk.AllAsSynced) +
			" of the address at Clerk, and r" + question[1:]
	}
	if err := a.confirm(c.Yes, question); err != nil {
		return err
	}
	again := "repeat it"
	if c.AtClerk {
		again = "repeat it, with --at-clerk"
	}
	waiting := a.waiting("the address is kept out", again)
	answer := view{"forgotten": true}
	var r desk.Removed
	var err error
	atClerk := "What Clerk has of it, invitations or a user, stays there. "
	if c.AtClerk {
		var deleted int
		deletes := func(task string) (ended func()) {
			waiting("task " + task + " deletes at Clerk")
			return a.tellStandstills(a.ctx, func() string { return task })
		}
		r, deleted, err = a.desk.ForgetAtClerk(a.ctx, c.Address, deletes, waiting)
		answer["deleted_at_clerk"] = deleted
		atClerk = fmt.Sprintf("Clerk has no invitation of it any more: %s deleted now. A user stays there. ",
			plural(deleted, "invitation"))
	} else {
		r, err = a.desk.Forget(a.ctx, c.Address, waiting)
	}
	if err != nil {
		return err
	}
	a.out.say("Forgotten. Removed: %s.", removedWords(r))
	a.out.say("%sRedis's own files keep what was removed until it rewrites them (BGREWRITEAOF).", atClerk)
	answer["removed"] = r
	a.out.object(answer)
	return nil
}
