package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// lookupsAtOnce is how many queries of one look-up are under way at once.
const lookupsAtOnce = 8

// asksOfAQuery is how often one of several queries is asked until it is answered: without it, all of them are in vain.
const asksOfAQuery = 3

// LookUp finds out before a call which recipients Clerk would refuse: a bulk permit is precious, and one bad address
// spoils a bulk for all. The results are in the order of the recipients: a refusal as Clerk would have made it, Alone, or Again for
// one of whom nothing is known. It is done as well as it can be: what could not be asked in time counts as good.
func (d *Dispatcher) LookUp(ctx context.Context, recipients []Recipient) []Result {
	asker := ctx
	ctx, cancel := context.WithTimeout(asker, policy.LookupPatience)
	defer cancel()
	started := time.Now()
	var users map[string]bool
	var pending map[string]string
	errs := d.severalAtOnce(2, func(i int) (err error) {
		if i == 0 {
			users, err = d.users(ctx, recipients)
			return about("users", err)
		}
		pending, err = d.pending(ctx, recipients)
		return about("pending invitations", err)
	})
	results := make([]Result, len(recipients))
	doomed := 0
	for i, r := range recipients {
		if results[i] = foretell(r, users, pending); results[i].Found {
			doomed++
		}
	}
	took := time.Since(started)
	failure := errors.Join(errs...)
	if asker.Err() != nil {
		failure = nil // it was given up
	}
	d.observer.LookedUp(took, failure != nil)
	if failure != nil && d.warned.seldom(policy.LookupWarning) {
		d.log.Warn().Err(failure).Int("recipients", len(recipients)).
			Msg("a look-up failed: recipients that Clerk refuses may cost bulk permits")
	}
	d.log.Debug().Int("recipients", len(recipients)).Int("doomed", doomed).Float64("duration_seconds", took.Seconds()).Msg("looked up")
	return results
}

// about says what was asked in vain.
func about(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("asking for %s: %w", what, err)
}

// lately remembers when something was said last.
type lately struct {
	mu   sync.Mutex
	said time.Time
}

// seldom tells whether it may be said again, and notes that it is: at most once in a while.
func (l *lately) seldom(every time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.said.IsZero() && time.Since(l.said) < every {
		return false
	}
	l.said = time.Now()
	return true
}

// foretell says what Clerk would answer about a recipient, from what is known of users and pending invitations.
func foretell(r Recipient, users map[string]bool, pending map[string]string) Result {
	id, isPending := pending[r.folded]
	switch {
	case r.ignoreExisting:
		// Whether Clerk admits users with it is not known, and spoiling a bulk is dear: alone it can be found out.
		return Result{Again: true, Alone: users[r.folded]}
	case users[r.folded]:
		return found(http.StatusUnprocessableEntity, "form_identifier_exists", "The address belongs to a user already.")
	case isPending:
		result := found(http.StatusBadRequest, CodeDuplicate, "A pending invitation for the address exists already.")
		result.InvitationID = id
		return result
	}
	return Result{Again: true}
}

func found(status int, code, message string) Result {
	return Result{Found: true, Refusal: &clerkclient.Error{Outcome: clerkclient.Rejected, Status: status, Code: code, Message: message}}
}

// questions puts questions to Clerk, which change nothing.
type questions struct {
	clerk Clerk
	put   put
	log   zerolog.Logger
	skew  skew
}

func (q *questions) users(ctx context.Context, recipients []Recipient) (map[string]bool, error) {
	addresses := make([]string, len(recipients))
	for i, r := range recipients {
		addresses[i] = r.folded
	}
	var found []string
	err := q.put(ctx, func(ctx context.Context) (err error) {
		found, _, err = q.clerk.UsersByEmail(ctx, addresses)
		return err
	})
	if err != nil {
		return nil, err
	}
	return set(found), nil
}

// pending asks for the pending invitations in the way that takes fewer calls: all of them, page by page, or those of each
// address. Whoever ignores existing ones is not asked about. It gives the invitations' ids by folded address; with an error, what is known all
// the same.
func (q *questions) pending(ctx context.Context, recipients []Recipient) (map[string]string, error) {
	var addresses []string
	for _, r := range recipients {
		if !r.ignoreExisting {
			addresses = append(addresses, r.spellings()...)
		}
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	first, err := q.page(ctx, clerkclient.ListQuery{Limit: policy.ListPage, Status: "pending"})
	if err != nil {
		return nil, err
	}
	if len(first.Invitations) < policy.ListPage {
		return idsOf(first.Invitations), nil
	}
	queries := pagesAfter(first)
	if first.TotalCount < 0 || len(queries) > len(addresses) {
		queries = queries[:0]
		for _, address := range addresses {
			queries = append(queries, clerkclient.ListQuery{Limit: policy.ListPage, Status: "pending", Query: address})
		}
	}
	more, err := q.askAll(ctx, queries)
	return idsOf(append(first.Invitations, more...)), err
}

// askAll asks several queries at once and gives what they found, and the error of the first that failed.
func (q *questions) askAll(ctx context.Context, queries []clerkclient.ListQuery) ([]clerkclient.Invitation, error) {
	pages := make([]clerkclient.Page, len(queries))
	errs := q.severalAtOnce(len(queries), func(i int) (err error) {
		pages[i], err = q.page(ctx, queries[i])
		for again := 1; err != nil && again < asksOfAQuery && ctx.Err() == nil; again++ {
			pages[i], err = q.page(ctx, queries[i])
		}
		return err
	})
	var invitations []clerkclient.Invitation
	for _, page := range pages {
		invitations = append(invitations, page.Invitations...)
	}
	return invitations, cmp.Or(errs...)
}

// severalAtOnce does n things, lookupsAtOnce of them at once, and returns the error of each when all are done.
func (q *questions) severalAtOnce(n int, do func(i int) error) []error {
	errs := make([]error, n)
	next := make(chan int)
	var doing sync.WaitGroup
	for range min(lookupsAtOnce, n) {
		doing.Go(func() {
			for i := range next {
				errs[i] = q.guarded(func() error { return do(i) })
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	doing.Wait()
	return errs
}

// errPanicked is why a question failed that panicked.
var errPanicked = errors.New("asking Clerk panicked; the log has the stack")

// guarded makes a panic an error: it would end the process, because whoever waits for a goroutine cannot recover its panic.
func (q *questions) guarded(do func() error) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			q.log.Error().Bytes("stack", debug.Stack()).Msgf("panic: %T", panicked)
			err = errPanicked
		}
	}()
	return do()
}

func pagesAfter(first clerkclient.Page) []clerkclient.ListQuery {
	var queries []clerkclient.ListQuery
	for offset := policy.ListPage; offset < first.TotalCount; offset += policy.ListPage {
		queries = append(queries, clerkclient.ListQuery{Limit: policy.ListPage, Offset: offset, Status: "pending"})
	}
	return queries
}

func (q *questions) page(ctx context.Context, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
	err = q.put(ctx, func(ctx context.Context) (err error) {
		var answer clerkclient.Answer
		page, answer, err = q.clerk.List(ctx, query)
		q.skew.observe(answer.Date)
		return err
	})
	return page, err
}

// idsOf gives the ids of invitations by their folded addresses.
func idsOf(invitations []clerkclient.Invitation) map[string]string {
	ids := make(map[string]string, len(invitations))
	for _, inv := range invitations {
		ids[tasks.FoldAddress(inv.EmailAddress)] = inv.ID
	}
	return ids
}

func set(items []string) map[string]bool {
	s := make(map[string]bool, len(items))
	for _, item := range items {
		s[item] = true
	}
	return s
}
