package main

import (
	"cmp"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"example.com/usher/internal/schedule"
)

type scheduleCommand struct {
	List scheduleListCommand `cmd:"" help:"List the schedules of the workers' files, with their next and last runs."`
}

type scheduleListCommand struct{}

// Run is called by kong.
func (scheduleListCommand) Run(a *app) error {
	standings, err := schedule.List(a.ctx, a.rdb, a.namespace)
	if err != nil {
		return err
	}
	if !a.out.json {
		a.scheduleTable(standings)
		return nil
	}
	for _, s := range standings {
		err := a.out.object(map[string]any{
			"name": s.Name, "cron": s.Cron, "timezone": s.TimeZone, "task": s.Task, "next_at": timeOrNull(s.Next), "last_at": timeOrNull(s.Last),
			"last_task_id": orNull(s.LastTask), "last_error": orNull(s.LastError), "pending": s.Pending,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) scheduleTable(standings []schedule.Standing) {
	shown := func(t time.Time, none string) string {
		if t.IsZero() {
			return none
		}
		return local(t)
	}
	if len(standings) == 0 {
		a.out.say("No schedules.")
		return
	}
	t := a.table("schedule", "cron", "time zone", "task", "next", "last run", "last task", "error")
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "error", WidthMax: 48, WidthMaxEnforcer: text.WrapSoft}})
	for _, s := range standings {
		t.AppendRow(table.Row{s.Name, s.Cron, s.TimeZone, s.Task, shown(s.Next, "never: in no worker's file"), shown(s.Last, "-"),
			cmp.Or(s.LastTask, "-"), cmp.Or(s.LastError, "-")})
	}
	a.out.say("%s", t.Render())
}
