package main

import (
	"errors"
	"time"

	"example.com/usher/internal/desk"
	"example.com/usher/internal/store"
	"example.com/usher/tasks"
)

type findCommand struct {
	What string `arg:"" name:"address-or-id" help:"An address, an id (of a task, dead letter or invitation), or a campaign."`
}

func (c *findCommand) Run(a *app) error {
	story, err := a.desk.Find(a.ctx, c.What)
	unreadable, err := store.SplitPartial(err)
	if _, noAddress := errors.AsType[*tasks.InvalidError](err); noAddress {
		err = usage("%s is no e-mail address, and no id or name of anything that is known: give the whole address, as in "+
			"enqueue find ada@example.com", c.What)
	}
	if err != nil {
		return errors.Join(err, unreadable)
	}
	if story.Address != "" {
		a.out.say("%s", story.Address)
	}
	var rows []view
	for _, e := range story.Events {
		rows = append(rows, view{"at": known(e.At), "what": e.What, "details": details(e)})
	}
	a.out.table("Nothing is known of it.", "at,what,details", rows)
	for _, next := range story.GoesOn {
		a.out.say("%s has taken its place; the story goes on there: enqueue find %s", next.Address, next.Address)
	}
	a.out.sayIf(!story.Forgotten.IsZero(), "It was forgotten on request at %s.", local(story.Forgotten))
	a.out.sayIf(story.Address != "" && story.SyncedAt.IsZero(), "What Clerk says of it is not known: "+
		"the directory was never synced (enqueue sync-list).")
	a.out.sayIf(!story.SyncedAt.IsZero(), "What Clerk says of it is as synced at %s.", local(story.SyncedAt))
	answer := viewOf(story)
	answer["events"], answer["goes_on"] = views(story.Events, viewOf), views(story.GoesOn, viewOf)
	a.out.object(answer)
	return unreadable
}

// details tells of an event what is not in its time and its kind.
func details(e desk.Event) string {
	text := ""
	add := func(prefix, value string) {
		if value == "" {
			return
		}
		if text != "" {
			text += ", "
		}
		text += prefix + value
	}
	add("campaign ", e.Campaign)
	add(map[string]string{
		"": "task ", tasks.TypeRevoke: "revocation task ", tasks.TypeDelete: "deletion task ",
	}[e.Type], e.TaskID)
	add("invitation ", e.InvitationID)
	add("dead letter ", e.DeadLetter)
	add("other address ", e.Address)
	add("by ", e.By)
	if e.Recipients > 0 {
		add("", plural(e.Recipients, "recipient"))
	}
	if e.Invitations > 0 && e.InvitationID == "" {
		add("", plural(e.Invitations, "invitation"))
	}
	if f := e.Failure; f != nil && f.Message == "" {
		add("", f.Code) // no more is kept of it
	} else if f != nil {
		add("", cause(tasks.FailureOf(*f)))
	}
	switch {
	case e.What == string(tasks.StateCancelled) && !e.Until.IsZero():
		add("scheduled for ", local(e.Until))
	case e.Until.After(time.Now()):
		add("until ", clockTime(e.Until))
	}
	return text
}
