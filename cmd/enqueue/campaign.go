package main

import (
	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/internal/ledger"
)

type campaignCommand struct {
	List   campaignListCommand   `cmd:"" help:"List campaigns, the newest first."`
	Status campaignStatusCommand `cmd:"" help:"Show one campaign."`
	Pause  campaignPauseCommand  `cmd:"" help:"Let a campaign make no more calls, until it is resumed."`
	Resume campaignResumeCommand `cmd:"" help:"Let a paused campaign go on."`
	Cancel campaignCancelCommand `cmd:"" help:"Stop a campaign for good."`
}

// campaignName is the argument of commands about one campaign.
type campaignName struct {
	Name string `arg:"" help:"The campaign's name."`
}

type campaignListCommand struct{}

// Run is called by kong.
func (campaignListCommand) Run(a *app) error {
	campaigns, err := a.ledgers.List(a.ctx, campaignsShown)
	if err != nil {
		return err
	}
	if a.out.json {
		for _, view := range campaignViews(campaigns) {
			if err := a.out.object(view); err != nil {
				return err
			}
		}
		return nil
	}
	a.campaignTable(campaigns)
	return nil
}

type campaignStatusCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignStatusCommand) Run(a *app) error {
	campaign, err := a.ledgers.Get(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignPauseCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignPauseCommand) Run(a *app) error {
	campaign, err := a.ledgers.Pause(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignResumeCommand struct{ campaignName }

// Run is called by kong.
func (c *campaignResumeCommand) Run(a *app) error {
	campaign, err := a.ledgers.Resume(a.ctx, c.Name)
	return a.showCampaign(campaign, err)
}

type campaignCancelCommand struct {
	campaignName
	Yes bool `help:"Do not ask."`
}

// Run is called by kong.
func (c *campaignCancelCommand) Run(a *app) error {
	campaign, err := a.ledgers.Get(a.ctx, c.Name)
	if err == nil && !c.Yes {
		err = a.confirm("Cancel campaign " + campaign.Name + " with " + plural(campaign.Remaining(), "recipient") + " to go?")
	}
	if err == nil {
		campaign, err = a.ledgers.Cancel(a.ctx, c.Name)
	}
	return a.showCampaign(campaign, err)
}

// showCampaign shows how a campaign stands.
func (a *app) showCampaign(c ledger.Campaign, err error) error {
	switch {
	case err != nil:
		return err
	case a.out.json:
		return a.out.object(campaignViews([]ledger.Campaign{c})[0])
	}
	a.out.say("Campaign %s is %s: %s, %d sent, %d dead, %d remaining.", c.Name, c.State, plural(c.Recipients, "recipient"), c.Sent, c.Dead, c.Remaining())
	return nil
}

func (a *app) campaignTable(campaigns []ledger.Campaign) {
	t := a.table("campaign", "state", "recipients", "sent", "dead", "remaining")
	for _, c := range campaigns {
		t.AppendRow(table.Row{c.Name, c.State, c.Recipients, c.Sent, c.Dead, c.Remaining()})
	}
	a.out.say("%s\n", t.Render())
}
