package main

import (
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/ratelimit"
	"example.com/usher/tasks"
)

type statusCommand struct {
	TaskID string `arg:"" optional:"" help:"Show this task. Default: the whole system."`
}

// campaignsShown bounds what status lists.
const campaignsShown = 50

// Run is called by kong.
func (c *statusCommand) Run(a *app) error {
	if c.TaskID != "" {
		return a.taskStatus(c.TaskID)
	}
	queueRows, err := a.queues()
	if err != nil {
		return err
	}
	limits, err := ratelimit.ReadUsage(a.ctx, a.rdb, a.namespace)
	if err != nil {
		return err
	}
	campaigns, err := a.client.Campaigns(a.ctx, campaignsShown)
	if err != nil {
		return err
	}
	dead, err := a.deadLetters.Count(a.ctx)
	if err != nil {
		return err
	}
	if a.out.json {
		return a.out.object(map[string]any{
			"queues": queueRows, "limits": limitViews(limits), "campaigns": campaignViews(campaigns), "dead_letters": dead,
		})
	}
	a.statusTables(queueRows, limits, campaigns)
	a.out.say("Dead letters: %d", dead)
	return nil
}

func (a *app) taskStatus(id string) error {
	task, err := a.client.Status(a.ctx, id)
	if err != nil {
		return err
	}
	if a.out.json {
		view := taskView(task)
		if b := task.Bulk; b != nil {
			view["campaign"], view["recipients"], view["sent"], view["dead"], view["remaining"] = b.Campaign, b.Recipients, b.Sent, b.Dead, b.Remaining
		}
		return a.out.object(view)
	}
	if task.Bulk != nil {
		a.out.say("Task %s (%s) is %s.", task.ID, task.Type, task.State)
	} else {
		a.out.say("Task %s (%s) is %s after %s.", task.ID, task.Type, task.State, plural(task.Attempts, "attempt"))
	}
	if !task.ScheduledAt.IsZero() {
		a.out.say("It starts at %s.", local(task.ScheduledAt))
	}
	if task.InvitationID != "" {
		a.out.say("Invitation: %s", task.InvitationID)
	}
	if task.Revoked > 0 {
		a.out.say("Revoked: %s", plural(task.Revoked, "invitation"))
	}
	if task.Error != nil {
		a.out.say("Cause: %s", cause(task.Error))
	}
	if b := task.Bulk; b != nil {
		a.out.say("Campaign %s: %s, %d sent, %d dead, %d remaining.", b.Campaign, plural(b.Recipients, "recipient"), b.Sent, b.Dead, b.Remaining)
	}
	return nil
}

// queueView is how one queue stands.
type queueView struct {
	Queue     string `json:"queue"`
	Pending   int    `json:"pending"`
	Active    int    `json:"active"`
	Scheduled int    `json:"scheduled"`
	Retry     int    `json:"retry"`
}

func (a *app) queues() ([]queueView, error) {
	inspector := asynq.NewInspectorFromRedisClient(a.rdb)
	used, err := inspector.Queues() // a queue exists from its first task on
	if err != nil {
		return nil, err
	}
	views := make([]queueView, 0, len(policy.Lanes()))
	for _, lane := range policy.Lanes() {
		view := queueView{Queue: policy.Queue(a.namespace, lane)}
		if slices.Contains(used, view.Queue) {
			info, err := inspector.GetQueueInfo(view.Queue)
			if err != nil {
				return nil, err
			}
			view.Pending, view.Active, view.Scheduled, view.Retry = info.Pending, info.Active, info.Scheduled, info.Retry
		}
		views = append(views, view)
	}
	return views, nil
}

func limitViews(limits []ratelimit.Usage) []map[string]any {
	views := make([]map[string]any, 0, len(limits))
	for _, l := range limits {
		views = append(views, map[string]any{
			"name": l.Name, "limit": l.N, "window_seconds": l.Window.Seconds(), "used": l.Used, "in_flight": l.InFlight,
			"blocked_until": timeOrNull(l.BlockedUntil), "next_permit_at": timeOrNull(l.NextFree),
		})
	}
	return views
}

func (a *app) statusTables(queueRows []queueView, limits []ratelimit.Usage, campaigns []tasks.Campaign) {
	t := a.table("queue", "pending", "active", "scheduled", "retry")
	for _, q := range queueRows {
		t.AppendRow(table.Row{q.Queue, q.Pending, q.Active, q.Scheduled, q.Retry})
	}
	a.out.say("%s\n", t.Render())
	t = a.table("limit", "allowed", "used", "in flight", "blocked until", "next permit")
	for _, l := range limits {
		if l.N == 0 && l.BlockedUntil.IsZero() {
			continue // switched off, or there only to rest while Clerk refuses a key
		}
		t.AppendRow(table.Row{l.Name, allowed(l), l.Used, l.InFlight, orDash(l.BlockedUntil), nextPermit(l)})
	}
	a.out.say("%s\n", t.Render())
	if len(campaigns) == 0 {
		return
	}
	a.campaignTable(campaigns)
	a.out.say("")
}

func allowed(l ratelimit.Usage) string {
	if l.N == 0 {
		return "no limit"
	}
	return plural(l.N, "call") + " in " + settings.FormatDuration(l.Window)
}

func nextPermit(l ratelimit.Usage) string {
	if l.NextFree.IsZero() {
		return "now"
	}
	return local(l.NextFree)
}

func orDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return local(t)
}

// table is a table for a person to read.
func (a *app) table(columns ...any) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row(columns))
	return t
}
