package ask

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// Finding is what a look-up says of a recipient.
type Finding struct {
	fate.LookUp
	// Unknown means that too little was answered to know whether Clerk would refuse the recipient.
	Unknown bool
}

// LookUp finds out before a call which recipients Clerk would refuse: a bulk permit is precious, and one bad address
// spoils a bulk for all. It does what it can in the time that it has; what was not answered counts as good.
func (q *Questions) LookUp(ctx context.Context, recipients []tasks.Recipient) []Finding {
	started := time.Now()
	asking, cancel := context.WithTimeout(ctx, policy.LookupPatience)
	defer cancel()
	findings, failure := q.find(asking, recipients, func(error) {}, nil)
	if ctx.Err() != nil {
		failure = nil // nobody waits for it any more
	}
	took := time.Since(started)
	q.observer.LookedUp(took, failure != nil)
	if failure != nil {
		q.rarely.Warn().Err(failure).Int("recipients", len(recipients)).
			Msg("a look-up failed: recipients that Clerk refuses may cost bulk permits")
	}
	q.log.Debug().Int("recipients", len(recipients)).Float64("duration_seconds", took.Seconds()).Msg("looked up")
	return findings
}

// Progress is how far a survey has come.
type Progress struct {
	Answered, Questions int // calls, or several that answer one question
	Users               int // recipients found so far whose addresses belong to users
}

// Survey looks up any number of recipients for somebody who waits for it, and tells them, if they listen, of each
// answer. Where a question fails it asks no more, and the error says why.
func (q *Questions) Survey(
	ctx context.Context, recipients []tasks.Recipient, told func(Progress),
) ([]Finding, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	findings, err := q.find(ctx, recipients, giveUp, told) // the first failure is the cause
	return findings, cmp.Or(context.Cause(ctx), err)
}

// find asks which recipients belong to users, as many to a call as Clerk takes, and which have pending invitations.
// The findings are in the order of the recipients. It tells failed of each question that fails, and told, unless that
// is nil, of each that is answered.
func (q *Questions) find(
	ctx context.Context, recipients []tasks.Recipient, failed func(error), told func(Progress),
) ([]Finding, error) {
	chunks := slices.Collect(slices.Chunk(recipients, policy.LookupSize))
	answered := counting(1+len(chunks), told)
	users := make([][]string, len(chunks))
	var pending map[string]string
	errs := call.Several(q.log, 1+len(chunks), queriesAtOnce, func(i int) (err error) {
		what := "users"
		if i > 0 {
			if users[i-1], err = q.users(ctx, chunks[i-1]); err == nil {
				answered(len(users[i-1]))
			}
		} else {
			what = "pending invitations"
			if pending, err = q.pending(ctx, recipients); err == nil {
				answered(0)
			}
		}
		if err != nil {
			err = fmt.Errorf("asking for %s: %w", what, err)
			failed(err)
		}
		return err
	})
	findings := make([]Finding, len(recipients))
	for i, r := range recipients {
		chunk := i / policy.LookupSize
		findings[i] = foretell(r, users[chunk], pending)
		unanswered := errs[0] != nil || errs[1+chunk] != nil
		findings[i].Unknown = unanswered && findings[i].Refusal == nil && !r.IgnoreExisting
	}
	return findings, errors.Join(errs...)
}

// counting counts the answers to questions, and the users that they name.
func counting(questions int, told func(Progress)) (answered func(users int)) {
	if told == nil {
		return func(int) {}
	}
	var mu sync.Mutex
	p := Progress{Questions: questions}
	return func(users int) {
		mu.Lock()
		defer mu.Unlock()
		p.Answered++
		p.Users += users
		told(p)
	}
}

// foretell says what Clerk would answer about a recipient, from what is known of users and pending invitations.
func foretell(r tasks.Recipient, users []string, pending map[string]string) Finding {
	folded := tasks.FoldAddress(r.EmailAddress)
	isUser := slices.Contains(users, folded)
	id, isPending := pending[folded]
	switch {
	case r.IgnoreExisting:
		// It is not known whether Clerk then admits users. One call alone finds out; a bulk would be spoiled.
		return Finding{LookUp: fate.LookUp{Alone: isUser}}
	case isUser:
		return refused(422, fate.CodeUser, "The address belongs to a user already.")
	case isPending:
		f := refused(400, fate.CodeDuplicate, "A pending invitation for the address exists already.")
		f.PendingID = id
		return f
	}
	return Finding{}
}

func refused(status int, code, message string) Finding {
	return Finding{LookUp: fate.LookUp{Refusal: &fate.Failure{
		HTTPStatus: status, Code: code, Message: message, FoundBeforeSending: true,
	}}}
}

// users asks which recipients belong to users.
func (q *Questions) users(ctx context.Context, recipients []tasks.Recipient) ([]string, error) {
	addresses := make([]string, len(recipients))
	for i, r := range recipients {
		addresses[i] = tasks.FoldAddress(r.EmailAddress)
	}
	return q.Users(ctx, addresses)
}

// Users asks which of some addresses, folded, belong to users, by as few calls as Clerk takes. There may be none.
func (q *Questions) Users(ctx context.Context, addresses []string) (users []string, err error) {
	for some := range slices.Chunk(addresses, policy.LookupSize) {
		var found []string
		err := q.put(ctx, func(ctx context.Context) (err error) {
			found, _, err = q.clerk.UsersByEmail(ctx, some)
			return err
		})
		if err != nil {
			return nil, err
		}
		users = append(users, found...)
	}
	return users, nil
}

// pending asks for pending invitations in the way that takes fewer calls: all of them, or those of each address. It
// does not ask about recipients that ignore existing ones. It gives the invitations' ids by folded address, as far as
// they are known when there is an error.
func (q *Questions) pending(ctx context.Context, recipients []tasks.Recipient) (map[string]string, error) {
	var queries []clerkclient.ListQuery
	for _, r := range recipients {
		if !r.IgnoreExisting {
			queries = append(queries, queriesOf(r.EmailAddress, "pending")...)
		}
	}
	if len(queries) == 0 {
		return nil, nil
	}
	first, err := q.Page(ctx, clerkclient.ListQuery{Limit: policy.ListPage, Status: "pending"})
	if err != nil {
		return nil, err
	}
	found := first.Invitations
	if len(found) == policy.ListPage {
		var pages []clerkclient.ListQuery
		for offset := policy.ListPage; offset < first.TotalCount; offset += policy.ListPage {
			pages = append(pages, clerkclient.ListQuery{Limit: policy.ListPage, Offset: offset, Status: "pending"})
		}
		if first.TotalCount >= 0 && len(pages) <= len(queries) {
			queries = pages
		}
		var more []clerkclient.Invitation
		more, err = q.pages(ctx, queries)
		found = append(found, more...)
	}
	ids := make(map[string]string, len(found))
	for _, inv := range found {
		ids[tasks.FoldAddress(inv.EmailAddress)] = inv.ID
	}
	return ids, err
}

// spellings are those under which Clerk may list an address: it is not known whether Clerk keeps upper case, and
// whether a query heeds it.
func spellings(address string) []string {
	return slices.Compact([]string{tasks.FoldAddress(address), address})
}

// queriesOf asks for the invitations of an address.
func queriesOf(address, status string) (queries []clerkclient.ListQuery) {
	for _, spelling := range spellings(address) {
		queries = append(queries, clerkclient.ListQuery{Limit: policy.ListPage, Status: status, Query: spelling})
	}
	return queries
}
