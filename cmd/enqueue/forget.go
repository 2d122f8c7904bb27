package main

import (
	"context"
	"time"

	"example.com/usher/internal/erasure"
	"example.com/usher/tasks"
)

type forgetCommand struct {
	Address string `arg:"" help:"The address to forget."`
	Lift    bool   `help:"Let the address be written down again. What was removed does not come back."`
	Yes     bool   `help:"Do not ask."`
}

// forgetPatience is how long forget stays for tasks at work. asynq takes up to two minutes to give up those of a worker that has died.
const forgetPatience = 3 * time.Minute

// Run is called by kong.
func (c *forgetCommand) Run(a *app) error {
	if err := (tasks.Recipient{EmailAddress: c.Address}).Normalize().Validate(); err != nil {
		return err
	}
	eraser := erasure.New(a.rdb, a.namespace)
	if c.Lift {
		return c.lift(a, eraser)
	}
	if !c.Yes {
		if err := a.confirm("Remove this address from campaigns, queues, results, dead letters and the directory for good?"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(a.ctx, forgetPatience)
	defer cancel()
	removed, err := eraser.Forget(ctx, c.Address, func(left string) { a.out.note("Waiting: %s.", left) })
	if a.ctx.Err() != nil {
		err = context.Canceled
	}
	if err != nil {
		return err
	}
	a.out.say("Forgotten. Removed: from %s, %s, %s in queues, %s, %s of the directory's copies, %s.",
		plural(removed.Campaigns, "campaign"), plural(removed.Uploads, "upload"), plural(removed.Tasks, "task"), plural(removed.DeadLetters, "dead letter"),
		plural(removed.Invitations, "row"), plural(removed.Intents, "intent"))
	a.out.say("Clerk still has its invitations and users. Redis's own files keep what was removed until it rewrites them (BGREWRITEAOF).")
	return a.out.object(map[string]any{"forgotten": true, "removed": removed})
}

func (c *forgetCommand) lift(a *app, eraser *erasure.Eraser) error {
	lifted, err := eraser.Lift(a.ctx, c.Address)
	if err != nil {
		return err
	}
	if lifted {
		a.out.say("The address may be written down again.")
	} else {
		a.out.say("The address was not forgotten.")
	}
	return a.out.object(map[string]any{"forgotten": false, "lifted": lifted})
}
