package dispatch

import (
	"context"
	"slices"
	"sync"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
)

// Finding is what a survey tells of a recipient.
type Finding struct {
	// Refusal is what Clerk would answer; nil if nothing is known to stand in the way.
	Refusal *clerkclient.Error
	// Unknown: Clerk could not be asked about the recipient.
	Unknown bool
}

// Survey looks up any number of recipients as LookUp does, for somebody who waits for it: it asks until it is answered. Where that fails it
// asks no more; the error says why, and the recipients about whom too little is known are unknown.
func Survey(ctx context.Context, caller *Caller, clerk Clerk, recipients []Recipient) ([]Finding, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	q := &questions{clerk: clerk, put: caller.Ask}
	var users []usersAnswer
	var pending map[string]string
	var unasked error
	var asking sync.WaitGroup
	asking.Go(func() {
		if pending, unasked = q.pending(ctx, recipients); unasked != nil {
			giveUp(unasked) // the first one counts
		}
	})
	asking.Go(func() { users = q.allUsers(ctx, recipients, giveUp) })
	asking.Wait()
	findings := make([]Finding, len(recipients))
	for i, r := range recipients {
		users := users[i/policy.LookupSize]
		findings[i].Refusal = foretell(r, users.taken, pending).Refusal
		findings[i].Unknown = findings[i].Refusal == nil && !r.ignoreExisting && (users.err != nil || unasked != nil)
	}
	return findings, context.Cause(ctx)
}

// usersAnswer tells which of some addresses belong to users.
type usersAnswer struct {
	taken map[string]bool
	err   error
}

// allUsers asks which addresses belong to users, several calls at once, each for the next of the recipients.
func (q *questions) allUsers(ctx context.Context, recipients []Recipient, giveUp context.CancelCauseFunc) []usersAnswer {
	chunks := slices.Collect(slices.Chunk(recipients, policy.LookupSize))
	users := make([]usersAnswer, len(chunks))
	severalAtOnce(len(chunks), func(i int) {
		taken, err := q.users(ctx, chunks[i])
		if users[i] = (usersAnswer{taken, err}); err != nil {
			giveUp(err)
		}
	})
	return users
}
