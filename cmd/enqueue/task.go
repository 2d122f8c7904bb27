package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/desk"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/tasks"
)

type inviteCommand struct {
	Address string `arg:"" help:"The address to invite."`
	RecipientFlags
	TaskFlags
}

func (c *inviteCommand) Run(a *app) error {
	c.recipient.EmailAddress = c.Address
	a.repeatsByID(c.ID, "enqueue find "+c.recipient.Normalize().EmailAddress+" tells")
	task, err := a.desk.Invite(a.ctx, c.recipient, c.options...)
	what := "invitation of " + c.recipient.Normalize().EmailAddress
	if errors.Is(err, tasks.ErrExists) {
		moved, address, err := a.desk.MovedTo(a.ctx, task.ID)
		if err != nil {
			return err
		}
		if moved {
			what += " (mended, it goes to " + cmp.Or(address, "another address") + ")"
		}
	}
	return a.enqueued(task, err, what, c.TaskFlags)
}

type syncCommand struct {
	TaskFlags
}

func (c *syncCommand) Run(a *app) error {
	task, err := a.desk.SyncList(a.ctx, c.options...)
	return a.enqueued(task, err, "synchronization of the directory", c.TaskFlags)
}

// enqueued tells that a task was enqueued, and waits for its end if that was asked. A program is told more.
func (a *app) enqueued(task tasks.Task, err error, what string, flags TaskFlags, more ...view) error {
	exists := errors.Is(err, tasks.ErrExists)
	switch {
	case task.State == tasks.StateDead && errors.Is(err, tasks.ErrConflict):
		return fmt.Errorf("%w, which is dead: %s; %s", err, cause(task.Error), mendIt(task))
	case err != nil && !exists:
		return err
	}
	a.work.did("the %s is enqueued and stays so: enqueue status %s", what, task.ID)
	when := ""
	if task.State == tasks.StateScheduled {
		when = " for " + local(task.ScheduledAt)
	}
	switch {
	case exists:
		a.out.say("The %s exists already: task %s, %s%s.", what, task.ID, stateWords(task.State), when)
	case when != "":
		a.out.say("Scheduled the %s%s: task %s.", what, when, task.ID)
	default:
		a.out.say("Enqueued the %s: task %s.", what, task.ID)
	}
	answer := view{"exists": exists}
	for _, fields := range more {
		maps.Copy(answer, fields)
	}
	err = a.finish(task, flags, false, answer)
	if exists && err == nil && task.State == tasks.StateCancelled {
		return ended("task %s was cancelled before; give another --id to ask anew", task.ID)
	}
	if task.State == tasks.StateDead && (err == nil || isEnded(err)) {
		return ended("task %s is dead: %s; %s", task.ID, cause(task.Error), mendIt(task))
	}
	return err
}

// repeatsByID notes how an invite can be repeated safely: with an id it can, and else a look tells whether to.
func (a *app) repeatsByID(id, look string) {
	if id != "" {
		a.work.repeats("repeat it with the same --id: that adds nothing twice")
		return
	}
	a.work.repeats("do not just repeat it: %s (with an --id repeating it is safe)", look)
}

// mendIt says how a dead task is mended.
func mendIt(task tasks.Task) string {
	if task.Error != nil && task.Error.Reason == tasks.ReasonArchived {
		return "it has no dead letter"
	}
	return fmt.Sprintf("mend it: enqueue dead-letter retry %s --set FIELD=VALUE (or without --set, as it is)", task.ID)
}

// finish answers with a task as it stands or, with --wait, as it has ended.
func (a *app) finish(task tasks.Task, flags TaskFlags, failOnDead bool, more view) (err error) {
	a.warnIdle("what was enqueued waits")
	if flags.Wait {
		task, err = a.await(task, flags)
	}
	answer := taskView(task)
	maps.Copy(answer, more)
	if task.Bulk != nil {
		delete(answer, "invitation_id") // its recipients have them
	}
	a.out.object(answer) // if the wait has failed the task goes on, and this is how to find it
	if err != nil || !flags.Wait {
		return err
	}
	return a.ending(task, failOnDead)
}

// await stays until a task has ended, and shows how far a bulk is.
func (a *app) await(task tasks.Task, flags TaskFlags) (tasks.Task, error) {
	ctx, cancel := context.WithTimeoutCause(a.ctx, flags.longest, errTimeout)
	defer cancel()
	if task.Bulk != nil {
		if _, err := a.watch(ctx, task.Bulk.Campaign, false); err != nil {
			return task, err
		}
	}
	stop := a.tellStandstills(ctx, func() string { return task.ID })
	ended, err := a.desk.Wait(ctx, task.ID)
	stop()
	if err != nil {
		ended = task
	}
	return ended, err
}

// ending tells a person how a task has ended. That it is dead or was cancelled is an endedError.
func (a *app) ending(t tasks.Task, failOnDead bool) error {
	switch b := t.Bulk; {
	case b != nil:
		recipients := plural(b.Recipients, "recipient")
		a.out.say("Campaign %s is %s: %s, %d sent, %d dead%s.", b.Campaign, t.State, recipients, b.Sent, b.Dead,
			skipped(b.Skipped))
		if b.Dead > 0 && !a.out.json {
			if err := a.tellDead(b.Campaign, b.Dead); err != nil {
				return err
			}
		}
		switch {
		case t.State == tasks.StateCancelled:
			return ended("campaign %s was cancelled", b.Campaign)
		case t.State != tasks.StateDone, failOnDead && b.Dead > 0:
			return ended("campaign %s has %s", b.Campaign, plural(b.Dead, "dead letter"))
		}
	case t.State == tasks.StateCancelled:
		return ended("task %s was cancelled", t.ID)
	case t.State != tasks.StateDone:
		return ended("task %s is dead: %s", t.ID, cause(t.Error))
	case t.Skipped != nil:
		a.out.say("Done: skipped, nobody was invited: %s.", whySkipped(t.Skipped))
	case t.Type == tasks.TypeInvite:
		a.out.say("Done: invitation %s.", t.InvitationID)
	case t.Type == tasks.TypeRevoke && t.InvitationID == "":
		a.out.say("Done: %s revoked.", plural(t.Revoked, "invitation"))
	case t.Type == tasks.TypeDelete:
		a.out.say("Done: %s deleted.", plural(t.Deleted, "invitation"))
	default:
		a.out.say("Done.")
	}
	return nil
}

// whySkipped tells why an invite is done without an invitation.
func whySkipped(f *tasks.Failure) string {
	return "the address belongs to a user already (" + f.Code + ")"
}

// deadShown is how many dead letters of a campaign are shown after its end.
const deadShown = 10

// tellDead tells a person who of a campaign is dead: how many of each cause, and the first of them.
func (a *app) tellDead(campaign string, n int) error {
	c, err := a.desk.Campaign(a.ctx, campaign)
	if err != nil {
		return err
	}
	a.out.say("\nDead: %s.", counted("", c.DeadByCode, ""))
	var rows []view
	letters, most := LettersFlags{Campaign: campaign}, deadShown
	_, _, err = PageFlags{Limit: &most}.cut(a.out, func(write func(view) error) error {
		return letters.read(a, func(e deadletter.Entry) error {
			return write(view{"id": e.ID, "for": aboutWhom(e), "cause": causeOf(e), "code": e.Failure.Code})
		})
	}, func(row view) error {
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(rows, func(a, b view) int { return cmp.Compare(a["code"].(string), b["code"].(string)) })
	a.out.table("", "id,for,cause", rows)
	more := ""
	if n > len(rows) {
		more = fmt.Sprintf("… and %d more. ", n-len(rows))
	}
	a.out.say("%sAll of them: enqueue dead-letter list --campaign %s", more, campaign)
	return nil
}

func taskView(t tasks.Task) view {
	v := viewOf(t)
	delete(v, "bulk")
	if t.RetriedAs == "" {
		delete(v, "retried_as")
	}
	if t.Bulk != nil {
		delete(v, "cancel_wanted")
		delete(v, "cancelled_by")
		bulk := viewOf(*t.Bulk)
		for _, field := range []string{"campaign", "recipients", "sent", "dead", "skipped", "remaining"} {
			v[field] = bulk[field]
		}
	}
	if t.Type != tasks.TypeInvite && t.Bulk == nil {
		delete(v, "skipped")
	}
	if t.Type != tasks.TypeRevoke {
		delete(v, "revoked")
	}
	if t.Type != tasks.TypeDelete {
		delete(v, "deleted")
	}
	return v
}

type revokeCommand struct {
	InvitationID string `arg:"" optional:"" help:"The invitation's id, inv_…."`
	Email        string `placeholder:"A" help:"Instead of an id: every pending invitation of this address."`
	Campaign     string `placeholder:"NAME" help:"Instead of an id: every pending invitation that this campaign sent."`
	AndScheduled bool   `help:"With --email: cancel invites of the address that are scheduled or wait, too."`
	DryRun       bool   `help:"Show what would be revoked: as Clerk says if a key is set, else as last synced."`
	Yes          bool   `help:"With --email or --campaign: do not ask."`
	settings.Clerk
	TaskFlags
}

// AfterApply wants exactly one of an invitation, an address and a campaign.
func (c *revokeCommand) AfterApply() error {
	c.Email = tasks.CleanAddress(c.Email)
	targets := []string{c.InvitationID, c.Email, c.Campaign}
	if len(slices.DeleteFunc(targets, func(target string) bool { return target == "" })) != 1 {
		return usage("say what to revoke: the id of an invitation, or --email, or --campaign, and only one of them")
	}
	if c.AndScheduled && c.Email == "" {
		return usage("--and-scheduled needs --email")
	}
	return c.payload().Validate()
}

func (c *revokeCommand) payload() tasks.RevokePayload {
	return tasks.RevokePayload{InvitationID: c.InvitationID, EmailAddress: c.Email, Campaign: c.Campaign}
}

func (c *revokeCommand) Run(a *app) (err error) {
	var campaign tasks.Campaign
	target, sent := c.Email+c.InvitationID, ""
	if c.Campaign != "" {
		if campaign, err = a.desk.Campaign(a.ctx, c.Campaign); err != nil {
			return err
		}
		target, sent = "campaign "+c.Campaign, fmt.Sprintf(", which has sent %d", campaign.Sent)
	}
	goesOn := goesOn(campaign)
	if c.DryRun {
		return c.dryRun(a, target, goesOn, campaign.State)
	}
	count := ""
	if !c.Yes && c.Email != "" && terminal(a.stdin) {
		count = ": " + a.asSynced(c.payload(), a.desk.PendingAsSynced)
	}
	question := "Revoke every pending invitation of " + target + sent + count + "?" + goesOn
	if err := a.confirm(c.Yes || c.InvitationID != "", question); err != nil {
		return err
	}
	more := view{}
	if c.Email != "" {
		if more, err = c.cancelAwaited(a); err != nil {
			return err
		}
	}
	if goesOn != "" && c.Yes {
		a.out.note("Note:%s", goesOn)
	}
	var task tasks.Task
	switch {
	case c.Email != "":
		task, err = a.desk.RevokeEmail(a.ctx, c.Email, c.options...)
	case c.Campaign != "":
		task, err = a.desk.RevokeCampaign(a.ctx, c.Campaign, c.options...)
	default:
		task, err = a.desk.Revoke(a.ctx, c.InvitationID, c.options...)
	}
	return a.enqueued(task, err, "revocation of "+target, c.TaskFlags, more)
}

// cancelAwaited cancels the invites of the address that have not ended, if --and-scheduled or a person says so, and
// else names them. It gives what a program is told of it.
func (c *revokeCommand) cancelAwaited(a *app) (view, error) {
	invites, campaigns, err := a.desk.Awaited(a.ctx, c.Email)
	if err = a.warnPartial(err); err != nil {
		return nil, err
	}
	if len(campaigns) > 0 {
		slices.Sort(campaigns)
		a.out.note("Campaigns are still to send to this address, and go on (enqueue campaign cancel NAME): %s.",
			first(campaigns, mostLines, func(name string) string { return name }))
	}
	ids, named := []string{}, ""
	for _, t := range invites {
		ids = append(ids, t.ID)
		named += "\n  task " + t.ID + ", " + stateWords(t.State)
		if !t.ScheduledAt.IsZero() {
			named += " for " + local(t.ScheduledAt)
		}
	}
	answer := view{"tasks_cancelled": []string{}, "tasks_left": ids, "campaigns_left": append([]string{}, campaigns...)}
	if len(ids) == 0 {
		return answer, nil
	}
	question := "Not sent yet: " + plural(len(ids), "invite") + " of this address:" + named + "\n"
	if !c.AndScheduled && !c.Yes && terminal(a.stdin) && !a.out.json {
		reply, err := a.ask(question + "Cancel them too? [y/N] ")
		if err != nil {
			return nil, err
		}
		c.AndScheduled = affirmed(reply)
	}
	if !c.AndScheduled {
		a.out.note("%sThey stay, and are sent. To cancel them: enqueue task cancel %s", question, strings.Join(ids, " "))
		return answer, nil
	}
	done, err := a.cancelTasks(ids)
	if err != nil {
		return nil, err
	}
	done.tell(a)
	answer["tasks_cancelled"] = append([]string{}, append(done.cancelled, done.wanted...)...)
	answer["tasks_left"] = append([]string{}, done.begun...)
	return answer, nil
}

// asSynced tells how many invitations there are, as far as the directory knows.
func (a *app) asSynced(
	of tasks.RevokePayload, find func(context.Context, tasks.RevokePayload) (desk.Affected, error),
) string {
	r, err := find(a.ctx, of)
	if err != nil || r.Source == "" {
		return "an unknown number of invitations"
	}
	return plural(len(r.Invitations), "invitation") + " as synced at " + clockTime(r.SyncedAt)
}

// goesOn tells of a campaign that will send more.
func goesOn(c tasks.Campaign) string {
	left := plural(c.Remaining, "recipient")
	switch c.State {
	case tasks.CampaignPaused:
		return " The campaign is paused: what it sends to the other " + left + " when it is resumed is not revoked."
	case tasks.CampaignUploading, tasks.CampaignRunning, tasks.CampaignScheduled:
		return fmt.Sprintf(" The campaign is %s and goes on with %s: "+
			"cancel or pause it first if they shall not be invited.", c.State, left)
	}
	return ""
}

// dryRun shows what would be revoked.
func (c *revokeCommand) dryRun(a *app, target, goesOn string, state tasks.CampaignState) error {
	clerk, err := clerkOf(c.Clerk)
	if err != nil {
		return err
	}
	r, err := a.desk.RehearseRevocation(a.ctx, clerk, c.payload())
	if err != nil {
		return err
	}
	if c.Email != "" {
		invites, _, err := a.desk.Awaited(a.ctx, c.Email)
		if err = a.warnPartial(err); err != nil {
			return err
		}
		verb := map[bool]string{true: "cancelled", false: "left, to be sent"}[c.AndScheduled]
		a.out.sayIf(len(invites) > 0, "Not sent yet, and would be %s: %s of this address.", verb,
			plural(len(invites), "invite"))
	}
	a.affected(r, "revoke", "pending invitation", target, goesOn, view{
		"dry_run": true, "invitation_id": known(c.InvitationID), "email_address": known(c.Email),
		"campaign": known(c.Campaign), "campaign_state": known(state),
	})
	return nil
}

// affected shows which invitations a task would revoke or delete.
func (a *app) affected(r desk.Affected, verb, kind, target, more string, answer view) {
	const noKey = "no key is set to ask Clerk with (CLERK_SECRET_KEY)"
	found := views(r.Invitations, foundView)
	answer["source"], answer["synced_at"], answer["invitations"] = known(r.Source), known(r.SyncedAt), found
	answer["would_"+verb] = len(found)
	switch r.Source {
	case "":
		a.out.say("What would be %sd is not known: %s, "+
			"and the directory was never synced (enqueue sync-list).", verb, noKey)
		answer["would_"+verb] = nil
	case "directory":
		age := time.Since(r.SyncedAt).Round(time.Second)
		a.out.say("N%s: this is as synced at %s, %s ago.", noKey[1:], local(r.SyncedAt), age)
	}
	if r.Source != "" {
		a.out.table("", "invitation_id,email_address,created_at", found)
		a.out.say("%s of %s would be %sd. Nothing was enqueued.%s", plural(len(found), kind), target, verb, more)
	}
	a.out.object(answer)
}

type deleteCommand struct {
	InvitationID string `arg:"" optional:"" help:"The invitation's id, inv_…."`
	Email        string `placeholder:"A" help:"Instead of an id: every invitation of this address, in any status."`
	DryRun       bool   `help:"Show what would be deleted: as Clerk says if a key is set, else as last synced."`
	Yes          bool   `help:"Do not ask."`
	settings.Clerk
	TaskFlags
}

// AfterApply wants either an invitation or an address.
func (c *deleteCommand) AfterApply() error {
	c.Email = tasks.CleanAddress(c.Email)
	if (c.InvitationID == "") == (c.Email == "") {
		return usage("say what to delete: the id of an invitation, or --email, and only one of them")
	}
	return c.payload().Validate()
}

func (c *deleteCommand) payload() tasks.DeletePayload {
	return tasks.DeletePayload{InvitationID: c.InvitationID, EmailAddress: c.Email}
}

func (c *deleteCommand) Run(a *app) (err error) {
	target := c.Email + c.InvitationID
	if c.DryRun {
		clerk, err := clerkOf(c.Clerk)
		if err != nil {
			return err
		}
		r, err := a.desk.RehearseDeletion(a.ctx, clerk, c.payload())
		if err == nil {
			a.affected(r, "delete", "invitation", target, "", view{
				"dry_run": true, "invitation_id": known(c.InvitationID), "email_address": known(c.Email),
			})
		}
		return err
	}
	what := "1 invitation, " + c.InvitationID
	if c.Email != "" {
		what = "every invitation of " + c.Email + ", in any status"
		if !c.Yes && terminal(a.stdin) {
			what += ": " + a.asSynced(tasks.RevokePayload{EmailAddress: c.Email}, a.desk.AllAsSynced)
		}
	}
	if err := a.confirm(c.Yes, "Delete "+what+", at Clerk for good?"); err != nil {
		return err
	}
	var task tasks.Task
	if c.Email != "" {
		task, err = a.desk.DeleteEmail(a.ctx, c.Email, c.options...)
	} else {
		task, err = a.desk.Delete(a.ctx, c.InvitationID, c.options...)
	}
	return a.enqueued(task, err, "deletion of "+target, c.TaskFlags)
}

func foundView(inv clerkclient.Invitation) view {
	return view{"invitation_id": inv.ID, "email_address": inv.EmailAddress, "created_at": known(inv.CreatedAt)}
}
