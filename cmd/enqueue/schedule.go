package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/usher/internal/schedule"
)

type scheduleCommand struct {
	List   scheduleListCommand   `cmd:"" aliases:"ls" help:"List the schedules of the workers' files, with their next and last runs."`
	Check  scheduleCheckCommand  `cmd:"" help:"Check a file of schedules, and show when they would run. Needs no Redis."`
	Run    scheduleRunCommand    `cmd:"" help:"Have a worker enqueue the task of a schedule once, now."`
	Pause  schedulePauseCommand  `cmd:"" help:"Let a schedule enqueue nothing, until it is resumed."`
	Resume scheduleResumeCommand `cmd:"" help:"Let a paused schedule go on with its next tick."`
	Remove scheduleRemoveCommand `cmd:"" help:"Forget a schedule that is in no worker's file any more."`
}

// scheduleName is the argument of commands about one schedule.
type scheduleName struct {
	Name string `arg:"" help:"The schedule's name."`
}

type scheduleListCommand struct {
	PageFlags
	listFlag
}

func (c *scheduleListCommand) Run(a *app) error {
	const fields = "name,state,cron,timezone,task,next_at,last_at,last_task_id,last_error"
	_, _, err := c.list(a.out, "No schedules.", fields, func(write func(view) error) error {
		return a.desk.EachSchedule(a.ctx, func(s schedule.Standing) error { return write(scheduleView(s)) })
	})
	return err
}

// scheduleView has some fields under two names: programs know either.
func scheduleView(s schedule.Standing) view {
	return view{
		"schedule": s.Name, "next": known(s.Next), "last_run": known(s.Last), "last_task": known(s.LastTask),
		"error": known(s.LastError),
		"name":  s.Name, "cron": s.Cron, "timezone": s.TimeZone, "task": s.Task, "pending": s.Pending,
		"next_at": known(s.Next), "last_at": known(s.Last), "last_task_id": known(s.LastTask),
		"last_error": known(s.LastError), "state": string(s.State), "kept_by": known(s.KeptBy),
	}
}

type scheduleCheckCommand struct {
	File string `arg:"" help:"The file."`
}

// ticksShown is how many of its next instants are shown of a schedule.
const ticksShown = 3

func (c *scheduleCheckCommand) Run(a *app) error {
	schedules, err := schedule.Read(c.File)
	if err != nil {
		return faultsOfSchedules(c.File, err)
	}
	var rows []view
	now := time.Now()
	for _, s := range schedules {
		row := view{"schedule": s.Name, "cron": s.Cron, "timezone": s.TimeZone, "task": s.Task}
		ticks := []time.Time{}
		for i, tick := range s.Next(now, ticksShown) {
			ticks = append(ticks, tick.UTC())
			row[[]string{"next", "then", "and_then"}[i]] = tick.Format("2006-01-02 15:04:05 -07:00")
		}
		a.out.object(view{
			"schedule": s.Name, "cron": s.Cron, "timezone": s.TimeZone, "task": s.Task, "next_ticks": ticks,
		})
		rows = append(rows, row)
	}
	a.out.table("", "schedule,cron,timezone,task,next,then,and_then", rows)
	a.out.say("%s: %s, no fault. A worker takes the file with --schedule-file.", c.File,
		plural(len(schedules), "schedule"))
	return nil
}

// faultsOfSchedules names everything that is wrong with a file, by line.
func faultsOfSchedules(path string, err error) error {
	faulty := &usageError{}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, one := range all {
		fault, ok := errors.AsType[*schedule.Fault](one)
		switch {
		case ok && fault.Line == 0:
			return usage("%s: %s", path, fault.Reason)
		case !ok:
			return usage("%s: %w", path, err)
		}
		reason := fault.Reason
		if fault.Schedule != "" {
			reason = "schedule " + fault.Schedule + ": " + reason
		}
		faulty.rows = append(faulty.rows, badRow{fault.Line, cmp.Or(fault.Field, "file"), reason})
	}
	faulty.error = fmt.Errorf("%s: %s; a worker would not start with it", path, plural(len(faulty.rows), "fault"))
	return faulty
}

type scheduleRunCommand struct{ scheduleName }

func (c *scheduleRunCommand) Run(a *app) error {
	tick, s, err := a.desk.Schedules.Run(a.ctx, c.Name, func() {
		a.work.did("a worker is asked to enqueue the task of schedule %s, once: enqueue schedule list", c.Name)
		a.warnIdle("the task is enqueued once one does")
	})
	if errors.Is(err, schedule.ErrUnderWay) {
		a.warnIdle("that tick waits for one")
	}
	if err != nil {
		return err
	}
	if s.LastError != "" {
		return fmt.Errorf("schedule %s: nothing was enqueued: %s", s.Name, s.LastError)
	}
	a.out.say("Schedule %s has enqueued its task, %s, once: task %s.", s.Name, s.Task, s.LastTask)
	a.out.object(view{"schedule": s.Name, "tick": known(tick), "task": s.Task, "task_id": s.LastTask})
	return nil
}

type schedulePauseCommand struct{ scheduleName }

func (c *schedulePauseCommand) Run(a *app) error { return a.toSchedule(c.Name, a.desk.Schedules.Pause) }

type scheduleResumeCommand struct{ scheduleName }

func (c *scheduleResumeCommand) Run(a *app) error {
	return a.toSchedule(c.Name, a.desk.Schedules.Resume)
}

// toSchedule does something to a schedule and shows how it stands then.
func (a *app) toSchedule(name string, do func(context.Context, string) (schedule.Standing, error)) error {
	s, err := do(a.ctx, name)
	if err != nil {
		return err
	}
	switch s.State {
	case schedule.Paused:
		a.out.say("Schedule %s is paused: its ticks are passed over until it is resumed.", s.Name)
	case schedule.Active:
		a.out.say("Schedule %s is active: its next tick is at %s.", s.Name, local(s.Next))
	default:
		a.out.say("Schedule %s is in no worker's file, so it does nothing anyway.", s.Name)
	}
	a.out.object(scheduleView(s))
	return nil
}

type scheduleRemoveCommand struct{ scheduleName }

func (c *scheduleRemoveCommand) Run(a *app) error {
	s, err := a.desk.Schedules.Remove(a.ctx, c.Name)
	if err != nil {
		return err
	}
	a.out.say("Schedule %s is removed. It was in no worker's file any more.", s.Name)
	a.out.sayIf(s.Pending, "Its last tick had begun; whether that was enqueued is not known (enqueue find).")
	a.out.object(view{"schedule": s.Name, "removed": true, "pending": s.Pending})
	return nil
}
