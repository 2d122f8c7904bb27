package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
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
func Survey(ctx context.Context, caller *call.Caller, clerk Clerk, recipients []Recipient) ([]Finding, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	q := &questions{clerk: clerk, put: patiently(caller), log: caller.Log}
	chunks := slices.Collect(slices.Chunk(recipients, policy.LookupSize))
	users := make([]map[string]bool, len(chunks))
	var pending map[string]string
	errs := q.severalAtOnce(len(chunks)+1, func(i int) (err error) {
		if i == 0 {
			pending, err = q.pending(ctx, recipients)
		} else {
			users[i-1], err = q.users(ctx, chunks[i-1])
		}
		if err != nil {
			giveUp(err) // the first one counts
		}
		return err
	})
	findings := make([]Finding, len(recipients))
	for i, r := range recipients {
		chunk := i / policy.LookupSize
		findings[i].Refusal = foretell(r, users[chunk], pending).Refusal
		failed := errs[0] != nil || errs[1+chunk] != nil
		findings[i].Unknown = findings[i].Refusal == nil && !r.ignoreExisting && failed
	}
	return findings, cmp.Or(context.Cause(ctx), errors.Join(errs...))
}
