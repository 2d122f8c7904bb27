package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/ask"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

type revokeCommand struct {
	InvitationID string `arg:"" optional:"" help:"The invitation's id, inv_…."`
	Email        string `placeholder:"A" help:"Instead of an id: every pending invitation of this address."`
	Campaign     string `placeholder:"NAME" help:"Instead of an id: every pending invitation that this campaign has sent, and nobody else's."`
	DryRun       bool   `help:"Enqueue nothing, and show what would be revoked: as Clerk says if a key is set, else as last synced."`
	Yes          bool   `help:"With --email or --campaign: do not ask."`
	settings.Clerk
	timingFlags
	waitFlags
}

// Run is called by kong.
func (c *revokeCommand) Run(a *app) error {
	if err := c.checkTarget(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	campaign, err := c.head(a)
	switch {
	case err != nil:
		return err
	case c.DryRun:
		return c.dryRun(a, campaign)
	case c.InvitationID == "" && !c.Yes:
		if err := a.confirm(c.question(campaign)); err != nil {
			return err
		}
	case goesOn(campaign) != "":
		a.out.note("Note:%s", goesOn(campaign))
	}
	task, err := c.enqueue(a, opts)
	return a.enqueued(task, err, "revocation of "+c.target(), c.waitFlags)
}

func (c *revokeCommand) question(campaign *ledger.Campaign) string {
	sent := ""
	if campaign != nil {
		sent = fmt.Sprintf(", which has sent %d", campaign.Sent)
	}
	return "Revoke every pending invitation of " + c.target() + sent + "?" + goesOn(campaign)
}

func (c *revokeCommand) enqueue(a *app, opts []tasks.Option) (tasks.Task, error) {
	switch {
	case c.Email != "":
		return a.client.RevokeEmail(a.ctx, c.Email, opts...)
	case c.Campaign != "":
		return a.client.RevokeCampaign(a.ctx, c.Campaign, opts...)
	}
	return a.client.Revoke(a.ctx, c.InvitationID, opts...)
}

// checkTarget wants exactly one of an invitation, an address and a campaign, in its form.
func (c *revokeCommand) checkTarget() error {
	given := 0
	for _, target := range []string{c.InvitationID, c.Email, c.Campaign} {
		if target != "" {
			given++
		}
	}
	if given != 1 {
		return &usageError{errors.New("say what to revoke: the id of an invitation, or --email, or --campaign, and only one of them")}
	}
	return tasks.RevokePayload{
		InvitationID: c.InvitationID, EmailAddress: tasks.Recipient{EmailAddress: c.Email}.Normalize().EmailAddress, Campaign: c.Campaign,
	}.Validate()
}

func (c *revokeCommand) target() string {
	switch {
	case c.Campaign != "":
		return "campaign " + c.Campaign
	case c.Email != "":
		return c.Email
	}
	return c.InvitationID
}

// head is that of the campaign that it is about; nil if it is about none.
func (c *revokeCommand) head(a *app) (*ledger.Campaign, error) {
	if c.Campaign == "" {
		return nil, nil
	}
	campaign, err := a.ledgers.Get(a.ctx, c.Campaign)
	return &campaign, err
}

// goesOn tells of a campaign that will send more.
func goesOn(c *ledger.Campaign) string {
	if c == nil || c.State != ledger.Running && c.State != ledger.Scheduled && c.State != ledger.Paused {
		return ""
	}
	left := plural(c.Remaining(), "recipient")
	if c.State == ledger.Paused {
		return fmt.Sprintf(" The campaign is paused: what it sends to the other %s when it is resumed is not revoked.", left)
	}
	return fmt.Sprintf(" The campaign is %s and goes on with %s: cancel or pause it first if they shall not be invited.", c.State, left)
}

// dryRun shows what would be revoked.
func (c *revokeCommand) dryRun(a *app, campaign *ledger.Campaign) error {
	view := map[string]any{
		"dry_run": true, "invitation_id": orNull(c.InvitationID), "email_address": orNull(c.Email), "campaign": orNull(c.Campaign), "campaign_state": nil,
		"source": nil, "synced_at": nil, "would_revoke": nil, "invitations": []any{},
	}
	if campaign != nil {
		view["campaign_state"] = campaign.State
	}
	asker, err := a.asker(c.Clerk)
	if err != nil {
		return err
	}
	var found []clerkclient.Invitation
	if asker != nil {
		defer asker.close()
		found, err = c.ask(a, asker)
		view["source"], err = "clerk", asker.why(err)
	} else {
		var syncedAt time.Time
		if found, syncedAt, err = c.lookInDirectory(a); err != nil {
			return err
		}
		if syncedAt.IsZero() {
			a.out.say("What would be revoked is not known: no key is set to ask Clerk with (CLERK_SECRET_KEY), and the directory was never synced (enqueue sync-list).")
			return a.out.object(view)
		}
		view["source"], view["synced_at"] = "directory", timeOrNull(syncedAt)
		a.out.say("No key is set to ask Clerk with (CLERK_SECRET_KEY): this is as synced at %s, %s ago.", local(syncedAt), time.Since(syncedAt).Round(time.Second))
	}
	if err != nil {
		return err
	}
	c.show(a, found, campaign)
	view["would_revoke"], view["invitations"] = len(found), invitationViews(found)
	return a.out.object(view)
}

// listLag is how long Clerk's list may not show what it has made, as workers take it that are told nothing else.
const listLag = 30 * time.Second

// ask asks Clerk what is ask.
func (c *revokeCommand) ask(a *app, q *asker) ([]clerkclient.Invitation, error) {
	finder := ask.Finder{List: q.questions.Page, Redis: a.rdb, Namespace: a.namespace, Lag: listLag}
	switch {
	case c.Campaign != "":
		return finder.OfCampaign(q.ctx, c.Campaign)
	case c.Email != "":
		return finder.OfAddress(q.ctx, c.Email)
	}
	page, err := q.questions.Page(q.ctx, clerkclient.ListQuery{Status: "pending", Query: c.InvitationID})
	return slices.DeleteFunc(page.Invitations, func(inv clerkclient.Invitation) bool { return inv.ID != c.InvitationID }), err
}

// lookInDirectory finds what was pending when the directory was synced, and has not expired since.
func (c *revokeCommand) lookInDirectory(a *app) (found []clerkclient.Invitation, syncedAt time.Time, err error) {
	folded, now := tasks.FoldAddress(c.Email), time.Now()
	filter := directory.Filter{Status: "pending", Query: folded + c.InvitationID}
	copy, err := directory.New(a.rdb, a.namespace).Copy(a.ctx)
	if errors.Is(err, directory.ErrNoCopy) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	err = copy.Each(a.ctx, filter, func(inv directory.Invitation) error {
		mine := c.Email == "" || tasks.FoldAddress(inv.EmailAddress) == folded
		if mine && (inv.ExpiresAt == nil || inv.ExpiresAt.After(now)) {
			found = append(found, clerkclient.Invitation{ID: inv.ID, EmailAddress: inv.EmailAddress, CreatedAt: inv.CreatedAt})
		}
		return nil
	})
	if err == nil && c.Campaign != "" {
		found, err = ask.SentBy(a.ctx, a.ledgers, c.Campaign, found)
	}
	slices.SortFunc(found, func(x, y clerkclient.Invitation) int { return x.CreatedAt.Compare(y.CreatedAt) })
	return found, copy.SyncedAt, err
}

// show tells a person what would be revoked.
func (c *revokeCommand) show(a *app, found []clerkclient.Invitation, campaign *ledger.Campaign) {
	t := a.table("id", "address", "created")
	for _, inv := range found {
		created := "just now"
		if !inv.CreatedAt.IsZero() {
			created = local(inv.CreatedAt)
		}
		t.AppendRow(table.Row{inv.ID, inv.EmailAddress, created})
	}
	if len(found) > 0 {
		a.out.say("%s", t.Render())
	}
	a.out.say("%s of %s would be revoked. Nothing was enqueued.%s", plural(len(found), "pending invitation"), c.target(), goesOn(campaign))
}

func invitationViews(found []clerkclient.Invitation) []map[string]any {
	views := make([]map[string]any, 0, len(found))
	for _, inv := range found {
		views = append(views, map[string]any{"invitation_id": inv.ID, "email_address": inv.EmailAddress, "created_at": timeOrNull(inv.CreatedAt)})
	}
	return views
}
