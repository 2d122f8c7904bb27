package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/visible"
	"example.com/usher/tasks"
)

type campaignCommand struct {
	List   campaignListCommand   `cmd:"" aliases:"ls" help:"List campaigns, the newest first."`
	Status campaignStatusCommand `cmd:"" help:"Show one campaign."`
	Watch  campaignWatchCommand  `cmd:"" help:"Show how a campaign goes on, until it is over (exit 3: cancelled)."`
	Pause  campaignPauseCommand  `cmd:"" help:"Let a campaign make no more calls, until it is resumed."`
	Resume campaignResumeCommand `cmd:"" help:"Let a paused campaign go on."`
	Cancel campaignCancelCommand `cmd:"" help:"Stop a campaign for good."`
	Export campaignExportCommand `cmd:"" help:"Write what became of each recipient, as CSV or JSON lines."`
	Delete campaignDeleteCommand `cmd:"" help:"Delete a campaign that is over, with what became of its recipients."`
}

// campaignName is the argument of commands about one campaign.
type campaignName struct {
	Name string `arg:"" help:"The campaign's name."`
}

type campaignListCommand struct {
	State string `placeholder:"S" help:"Only uploading, scheduled, running, paused, cancelled or finished ones."`
	PageFlags
	listFlag
}

func (c *campaignListCommand) Run(a *app) (err error) {
	none := "No campaigns."
	if c.State != "" {
		c.State, err = settings.OneOf("--state", c.State,
			"uploading", "scheduled", "running", "paused", "cancelled", "finished")
		if err != nil {
			return err
		}
		none = "No campaign is " + c.State + "."
	}
	_, _, err = c.list(a.out, none, campaignFields, a.campaigns(tasks.CampaignState(c.State)))
	return err
}

// campaigns reads the campaigns in a state, or all if that is empty, the newest first.
func (a *app) campaigns(state tasks.CampaignState) rows {
	return func(write func(view) error) error {
		return a.desk.EachCampaign(a.ctx, func(campaign tasks.Campaign) error {
			if state != "" && campaign.State != state {
				return nil
			}
			return write(campaignView(campaign))
		})
	}
}

type campaignStatusCommand struct{ campaignName }

func (c *campaignStatusCommand) Run(a *app) error { return a.toCampaign(c.Name, a.desk.Campaign) }

type campaignPauseCommand struct{ campaignName }

func (c *campaignPauseCommand) Run(a *app) error { return a.toCampaign(c.Name, a.desk.Pause) }

type campaignResumeCommand struct{ campaignName }

func (c *campaignResumeCommand) Run(a *app) error { return a.toCampaign(c.Name, a.desk.Resume) }

type campaignCancelCommand struct {
	campaignName
	Yes bool `help:"Do not ask."`
}

func (c *campaignCancelCommand) Run(a *app) error {
	campaign, err := a.desk.Campaign(a.ctx, c.Name)
	if err != nil {
		return err
	}
	if !campaign.State.Over() { // or else there is nothing to ask
		left := plural(campaign.Remaining, "recipient")
		if err := a.confirm(c.Yes, "Cancel campaign "+c.Name+" with "+left+" to go?"); err != nil {
			return err
		}
	}
	return a.toCampaign(c.Name, a.desk.Cancel)
}

// toCampaign does something to a campaign and shows how it stands then.
func (a *app) toCampaign(name string, do func(context.Context, string) (tasks.Campaign, error)) error {
	campaign, err := do(a.ctx, name)
	if err != nil {
		return err
	}
	a.tellCampaign(campaign)
	a.out.object(campaignView(campaign))
	return nil
}

// tellCampaign tells a person how a campaign stands.
func (a *app) tellCampaign(c tasks.Campaign) {
	a.out.say("Campaign %s is %s: %s, %d sent%s, %d remaining, %d dead%s.", c.Name, c.State,
		plural(c.Recipients, "recipient"), c.Sent, skipped(c.Skipped), c.Remaining, c.Dead,
		counted(": ", c.DeadByCode, ""))
	a.out.sayIf(c.State == tasks.CampaignScheduled, "It starts at %s.", local(c.ScheduledAt))
	a.out.sayIf(c.Unsure > 0, "Of %s nobody knows whether the last call has invited them; Clerk is asked about them.",
		plural(c.Unsure, "recipient"))
	if c.Standstill != nil && c.State == tasks.CampaignRunning {
		a.out.say("It makes no call at present: %s.", standstillWords(c.Standstill))
	}
	if !c.ETA.IsZero() {
		a.out.say("It should end at %s, %s.", local(c.ETA), c.Assumption)
	} else if c.Assumption != "" {
		a.out.say("%s", sentence(c.Assumption))
	}
}

// skipped tells how many recipients were skipped, if there are any.
func skipped(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d skipped", n)
}

// tally tells what became of the recipients of a campaign.
func tally(sent, dead, skip, remaining int) string {
	return fmt.Sprintf("%d sent, %d dead%s, %d remaining", sent, dead, skipped(skip), remaining)
}

// campaignFields are what a list of campaigns shows a person.
const campaignFields = "campaign,state,recipients,sent,dead,skipped,remaining,eta,standstill"

func campaignView(c tasks.Campaign) view {
	v := viewOf(c)
	v["standstill"] = standstillView(c.Standstill)
	return v
}

type campaignExportCommand struct {
	campaignName
	CSV bool `name:"csv" help:"Write CSV, which is the default; with --json, JSON lines."`
	outputFlag
}

func (c *campaignExportCommand) Run(a *app) error {
	if c.CSV && a.out.json {
		return usage("--csv and --json exclude each other")
	}
	each, err := a.desk.Recipients(a.ctx, c.Name)
	if err != nil {
		return err // before a file is made
	}
	const columns = "email_address,outcome,invitation_id,settled_at,cause,message,attempts,invitation_status," +
		"synced_at,mended_from"
	return c.export(a.out, columns, func(write func(view) error) error {
		return each(func(r desk.Recipient) error { return write(viewOf(r)) })
	})
}

type campaignDeleteCommand struct {
	campaignName
	WithDeadLetters  bool `xor:"letters" help:"Delete its dead letters too."`
	RetryDeadLetters bool `xor:"letters" help:"Let its dead letters go on as invites of their own."`
	DryRun           bool `help:"Only show what would be deleted."`
	Yes              bool `help:"Do not ask."`
}

func (c *campaignDeleteCommand) Run(a *app) (err error) {
	found, err := a.desk.Deletable(a.ctx, c.Name)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("campaign %s with %s and %s", c.Name, plural(found.Recipients(), "recipient"),
		plural(found.DeadLetters, "dead letter"))
	answer := view{
		"campaign": c.Name, "dry_run": c.DryRun, "recipients": found.Recipients(), "dead_letters": found.DeadLetters,
		"retried": 0, "deleted_at": known(found.DeletedAt),
	}
	switch deleted := !found.DeletedAt.IsZero(); {
	case deleted:
		answer["recipients"], answer["dead_letters"] = nil, nil
		a.out.say("Campaign %s was deleted at %s.", c.Name, local(found.DeletedAt))
		if !c.DryRun { // it may have been broken off
			_, err = a.desk.DeleteCampaign(a.ctx, found)
		}
	case c.DryRun:
		a.out.say("This would be deleted: %s. Nothing was done.", what)
	default:
		err = c.delete(a, found, what, answer)
	}
	if err == nil {
		a.out.object(answer)
	}
	return err
}

// delete deletes the campaign and says so in the answer.
func (c *campaignDeleteCommand) delete(a *app, found desk.Deletable, what string, answer view) error {
	const gone = "Who was invited is not known any more then, and nobody can use its name again."
	if err := a.confirm(c.Yes, "Delete "+what+" for good? "+gone); err != nil {
		return err
	}
	if found.DeadLetters > 0 {
		if err := c.judgeLetters(a, found.DeadLetters); err != nil {
			return err
		}
	}
	if c.RetryDeadLetters && found.DeadLetters > 0 {
		retried, err := a.desk.RetryAlone(a.ctx, c.Name)
		if err != nil {
			return err
		}
		a.out.say("%s retried, each as an invite of its own.", plural(retried, "dead letter"))
		found.DeadLetters, answer["dead_letters"], answer["retried"] = 0, 0, retried
	}
	at, err := a.desk.DeleteCampaign(a.ctx, found)
	if err != nil {
		return err
	}
	answer["deleted_at"] = at
	a.out.say("Deleted: campaign %s with %s and %s.", c.Name, plural(found.Recipients(), "recipient"),
		plural(found.DeadLetters, "dead letter"))
	return nil
}

// judgeLetters finds out what is to become of dead letters that stand.
func (c *campaignDeleteCommand) judgeLetters(a *app, letters int) error {
	switch {
	case c.WithDeadLetters || c.RetryDeadLetters:
		return nil
	case c.Yes || !terminal(a.stdin) || a.out.json:
		return usage("%s of campaign %s would go too: repeat it with --with-dead-letters, or with --retry-dead-letters "+
			"to let them go on as invites of their own", plural(letters, "dead letter"), c.Name)
	}
	answer, err := a.ask("Delete the dead letters too (d), or retry them as invites of their own (r)? [d/r/N] ")
	switch c.WithDeadLetters, c.RetryDeadLetters = answer == "d", answer == "r"; {
	case err != nil:
		return err
	case answer != "d" && answer != "r":
		return errNotConfirmed
	}
	return nil
}

type campaignWatchCommand struct{ campaignName }

func (c *campaignWatchCommand) Run(a *app) error {
	if _, err := a.desk.Campaign(a.ctx, c.Name); err != nil {
		return err // a watch bears with it only once it has begun
	}
	campaign, err := a.watch(a.ctx, c.Name, true)
	if err != nil {
		return err
	}
	a.tellCampaign(campaign)
	if campaign.State == tasks.CampaignCancelled {
		return ended("campaign %s was cancelled", campaign.Name)
	}
	return nil
}

// watch shows how a campaign goes on until it is over. A program is shown changes only if they are the answer.
func (a *app) watch(ctx context.Context, name string, answer bool) (tasks.Campaign, error) {
	p := progress{out: a.out, silent: a.out.json && !answer, bar: !a.out.json && terminal(a.out.stderr)}
	campaign, err := a.desk.Watch(ctx, name, p.show)
	if p.bar {
		fmt.Fprintln(a.out.stderr)
	}
	return campaign, err
}

// progress shows how a campaign goes on: to a program an object whenever something has changed, on a terminal a bar,
// and elsewhere a line at every tenth of the way, and when the campaign is paused, resumed or stands still for another
// reason.
type progress struct {
	out         *output
	silent, bar bool
	last        string // what was told, but for figures that waver
	standstill  string // the last that was news
}

func (p *progress) show(c tasks.Campaign, perHour float64) error {
	done := c.Settled()
	line := fmt.Sprintf("%d of %s: %s", done, plural(c.Recipients, "recipient"), progressWords(c, perHour))
	now := fmt.Sprint(c.State, c.Recipients, c.Sent, c.Dead, c.Skipped, news(c.Standstill))
	if !p.out.json {
		p.standstill = cmp.Or(news(c.Standstill), p.standstill)
		now = fmt.Sprint(c.State, done*10/max(1, c.Recipients), p.standstill)
	}
	switch {
	case p.silent:
	case p.bar:
		const width = 24
		full := min(width, done*width/max(1, c.Recipients))
		bar := strings.Repeat("█", full) + strings.Repeat("░", width-full)
		line = visible.Text(line) // the terminal cuts what is too long
		fmt.Fprintf(p.out.stderr, "\r\x1b[K\x1b[?7l%s %s\x1b[?7h", bar, line)
	case now == p.last:
	case p.out.json:
		v := campaignView(c)
		v["recipients_per_hour"] = known(math.Round(perHour))
		p.out.object(v)
	default:
		p.out.note("%s", line)
	}
	p.last = now
	return nil
}

// progressWords tells on one line how far a campaign is.
func progressWords(c tasks.Campaign, perHour float64) string {
	words := []string{tally(c.Sent, c.Dead, c.Skipped, c.Remaining)}
	if c.State != tasks.CampaignRunning {
		return words[0] + ", " + string(c.State)
	}
	if c.Unsure > 0 {
		words = append(words, fmt.Sprintf("%d asked about", c.Unsure))
	}
	end := c.Assumption
	if !c.ETA.IsZero() {
		end = "ETA " + clockTime(c.ETA)
		if standstill := news(c.Standstill); standstill != "" {
			words = append(words, standstill)
		}
	}
	if perHour > 0 {
		words = append(words, forecast.Pace(perHour))
	}
	return strings.Join(append(words, end), ", ")
}
