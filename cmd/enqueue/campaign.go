package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/tasks"
)

type campaignCommand struct {
	List   campaignListCommand   `cmd:"" help:"List campaigns, the newest first."`
	Status campaignStatusCommand `cmd:"" help:"Show one campaign."`
	Watch  campaignWatchCommand  `cmd:"" help:"Show how a campaign goes on, until it is finished (exit 0) or cancelled (exit 3)."`
	Pause  campaignPauseCommand  `cmd:"" help:"Let a campaign make no more calls, until it is resumed."`
	Resume campaignResumeCommand `cmd:"" help:"Let a paused campaign go on."`
	Cancel campaignCancelCommand `cmd:"" help:"Stop a campaign for good."`
	Export campaignExportCommand `cmd:"" help:"Write what became of each recipient, as CSV, or with --json as JSON lines."`
}

// campaignName is the argument of commands about one campaign.
type campaignName struct {
	Name string `arg:"" help:"The campaign's name."`
}

type campaignListCommand struct {
	State string `enum:",scheduled,running,paused,cancelled,finished" default:"" placeholder:"S" help:"Only those in this state: scheduled, running, paused, cancelled or finished."`
}

// campaignsSearched bounds what is read to find campaigns in a state.
const campaignsSearched = 1000

// Run is called by kong.
func (c *campaignListCommand) Run(a *app) error {
	most := campaignsShown
	if c.State != "" {
		most = campaignsSearched
	}
	campaigns, err := a.client.Campaigns(a.ctx, most)
	if err != nil {
		return err
	}
	campaigns = slices.DeleteFunc(campaigns, func(campaign tasks.Campaign) bool {
		return c.State != "" && string(campaign.State) != c.State
	})
	for _, view := range campaignViews(campaigns) {
		if err := a.out.object(view); err != nil {
			return err
		}
	}
	if len(campaigns) == 0 {
		a.out.say("No campaigns.")
		return nil
	}
	a.campaignTable(campaigns)
	return nil
}

type campaignStatusCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignStatusCommand) Run(a *app) error {
	campaign, err := a.client.Campaign(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignPauseCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignPauseCommand) Run(a *app) error {
	campaign, err := a.client.Pause(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignResumeCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignResumeCommand) Run(a *app) error {
	campaign, err := a.client.Resume(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignCancelCommand struct {
	campaignName
	Yes bool `help:"Do not ask."`
}

// Run is called by kong.
func (c *campaignCancelCommand) Run(a *app) error {
	campaign, err := a.client.Campaign(a.ctx, c.Name)
	if err == nil && !c.Yes {
		err = a.confirm("Cancel campaign " + campaign.Name + " with " + plural(campaign.Remaining, "recipient") + " to go?")
	}
	if err == nil {
		campaign, err = a.client.Cancel(a.ctx, c.Name)
	}
	return a.showCampaign(campaign, err)
}

// showCampaign shows how a campaign stands.
func (a *app) showCampaign(c tasks.Campaign, err error) error {
	switch {
	case err != nil:
		return err
	case a.out.json:
		return a.out.object(campaignView(c))
	}
	a.out.say("Campaign %s is %s: %s, %d sent, %d remaining, %s.", c.Name, c.State, plural(c.Recipients, "recipient"), c.Sent, c.Remaining, deadWords(c))
	if c.State == tasks.CampaignScheduled {
		a.out.say("It starts at %s.", local(c.ScheduledAt))
	}
	if note := standstill(c); note != "" && c.State == tasks.CampaignRunning {
		a.out.say("It makes no call at present: %s.", note)
	}
	switch {
	case !c.ETA.IsZero():
		a.out.say("It should end at %s, %s.", local(c.ETA), c.Assumption)
	case c.Assumption != "":
		a.out.say("%s", sentence(c.Assumption))
	}
	return nil
}

// deadWords tells how many are dead and of what, the most frequent cause first.
func deadWords(c tasks.Campaign) string {
	codes := slices.SortedFunc(maps.Keys(c.DeadByCode), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.DeadByCode[b], c.DeadByCode[a]), cmp.Compare(a, b))
	})
	var causes []string
	for _, code := range codes {
		causes = append(causes, fmt.Sprintf("%d %s", c.DeadByCode[code], cmp.Or(code, "without a code")))
	}
	if len(causes) == 0 {
		return fmt.Sprintf("%d dead", c.Dead)
	}
	return fmt.Sprintf("%d dead: %s", c.Dead, strings.Join(causes, ", "))
}

// standstill says why a campaign makes no call now, and until when.
func standstill(c tasks.Campaign) string {
	if c.Standstill == "" || c.NextCallAt.IsZero() {
		return c.Standstill
	}
	return c.Standstill + ", next call at " + clockTime(c.NextCallAt)
}

// clockTime shows a time as short as can be: without the day if it is today.
func clockTime(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

func campaignViews(campaigns []tasks.Campaign) []map[string]any {
	views := make([]map[string]any, 0, len(campaigns))
	for _, c := range campaigns {
		views = append(views, campaignView(c))
	}
	return views
}

// campaignView is what --json answers of a campaign.
func campaignView(c tasks.Campaign) map[string]any {
	return map[string]any{
		"campaign": c.Name, "state": c.State, "recipients": c.Recipients, "sent": c.Sent, "dead": c.Dead, "remaining": c.Remaining,
		"dead_by_code": c.DeadByCode, "forgotten": c.Forgotten, "eta": timeOrNull(c.ETA), "eta_assumption": orNull(c.Assumption),
		"standstill": orNull(c.Standstill), "next_call_at": timeOrNull(c.NextCallAt),
		"scheduled_at": timeOrNull(c.ScheduledAt), "started_at": timeOrNull(c.StartedAt), "finished_at": timeOrNull(c.FinishedAt),
	}
}

func (a *app) campaignTable(campaigns []tasks.Campaign) {
	t := a.table("campaign", "state", "recipients", "sent", "dead", "remaining", "should end at", "stands still")
	for _, c := range campaigns {
		t.AppendRow(table.Row{c.Name, c.State, c.Recipients, c.Sent, c.Dead, c.Remaining, orDash(c.ETA), cmp.Or(standstill(c), "-")})
	}
	a.out.say("%s", t.Render())
}
