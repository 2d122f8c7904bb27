// Package ask puts questions to Clerk that change nothing: whether Clerk would refuse a recipient, what became of
// calls whose answers were lost, which invitations of an address or a campaign are pending, and what stands in
// Clerk's lists.
package ask

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/call"
	"example.com/usher/internal/policy"
)

// Clerk is what is asked.
type Clerk interface {
	List(ctx context.Context, query clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error)
	UsersByEmail(ctx context.Context, addresses []string) ([]string, clerkclient.Answer, error)
}

// Observer is told of every look-up.
type Observer interface {
	LookedUp(took time.Duration, failed bool)
}

// Questions puts questions to Clerk.
type Questions struct {
	clerk    Clerk
	put      Put
	observer Observer
	log      zerolog.Logger
	rarely   zerolog.Logger // says one thing a minute

	mu     sync.Mutex
	behind time.Duration // how far Clerk's clock is behind ours, by the dates of its answers
	dated  bool          // an answer had a date
}

// New gives a way to put questions. The observer is told of each LookUp; without one it may be nil.
func New(clerk Clerk, put Put, observer Observer, log zerolog.Logger) *Questions {
	once := &zerolog.BurstSampler{Burst: 1, Period: policy.LookupWarning}
	return &Questions{clerk: clerk, put: put, observer: observer, log: log, rarely: log.Sample(once)}
}

// Put puts a question by one call, or by as many as it takes.
type Put func(ctx context.Context, question func(ctx context.Context) error) error

// Once puts each question by one call. The call ends early when the question's context does.
func Once(caller *call.Caller) Put {
	return func(ctx context.Context, question func(ctx context.Context) error) error {
		_, err := caller.Do(ctx, policy.Read, func(flight context.Context) error {
			flight, cancel := context.WithCancel(flight)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			return question(flight)
		})
		return err
	}
}

// ErrPatience means that Clerk did not answer while somebody can be expected to wait.
var ErrPatience = fmt.Errorf("no answer from Clerk within %s", policy.AskPatience)

// Patiently puts questions for somebody who waits for the answers. While Clerk throttles it waits, and it repeats a
// question that failed a few times. Its error is a *clerkclient.Error, an ErrPatience, or the context's cause.
func Patiently(caller *call.Caller) Put {
	put := Once(caller)
	return func(ctx context.Context, question func(ctx context.Context) error) error {
		asking, cancel := context.WithTimeoutCause(ctx, policy.AskPatience, ErrPatience)
		defer cancel()
		var last error // what Clerk said
		for tries := 1; ; {
			err := put(asking, question)
			refusal, answered := errors.AsType[*clerkclient.Error](err)
			switch {
			case err == nil:
				return nil
			case ctx.Err() == nil && asking.Err() != nil && last != nil:
				return fmt.Errorf("%w: %w", ErrPatience, last)
			case asking.Err() != nil:
				return context.Cause(asking)
			case answered && refusal.Outcome == clerkclient.Throttled:
				last = err // the limiter holds it back
				continue
			case !answered, refusal.Outcome != clerkclient.Transient, tries == policy.AskTries:
				return err
			}
			last = err
			_ = policy.Sleep(asking, policy.AskPause<<tries)
			tries++
		}
	}
}

// Page asks for a page of Clerk's list of invitations.
func (q *Questions) Page(ctx context.Context, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
	err = q.put(ctx, func(ctx context.Context) (err error) {
		var answer clerkclient.Answer
		page, answer, err = q.clerk.List(ctx, query)
		q.NoteDate(answer.Date)
		return err
	})
	return page, err
}

// NoteDate learns how far Clerk's clock is behind ours from an answer that has just arrived. The smallest difference
// is the nearest to the truth: the rest is the time that the answer took and the fraction of a second that a date
// leaves out.
func (q *Questions) NoteDate(date time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if behind := time.Since(date); !date.IsZero() && (!q.dated || behind < q.behind) {
		q.behind, q.dated = behind, true
	}
}

// earliest is the smallest created_at, on Clerk's clock, of an invitation that a call since an instant may have made.
func (q *Questions) earliest(since time.Time) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return since.Add(-min(max(q.behind, 0), policy.MaxSkew) - policy.SkewMargin)
}

// OnOurClock gives an instant of Clerk's clock on ours, as far as its answers have shown how far it is behind.
func (q *Questions) OnOurClock(at time.Time) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return at.Add(min(max(q.behind, 0), policy.MaxSkew))
}

// queryTries is how often a query is put until it is answered, where all of a question is in vain without it.
const queryTries = 3

// insist puts a query until it is answered, a few times.
func (q *Questions) insist(ctx context.Context, query clerkclient.ListQuery) (page clerkclient.Page, err error) {
	page, err = q.Page(ctx, query)
	for tries := 1; err != nil && tries < queryTries && ctx.Err() == nil; tries++ {
		page, err = q.Page(ctx, query)
	}
	return page, err
}

// pages asks several queries at once. It gives the invitations that it found, and the first error.
func (q *Questions) pages(ctx context.Context, queries []clerkclient.ListQuery) ([]clerkclient.Invitation, error) {
	pages := make([]clerkclient.Page, len(queries))
	errs := call.Several(q.log, len(queries), queriesAtOnce, func(i int) (err error) {
		pages[i], err = q.insist(ctx, queries[i])
		return err
	})
	var invitations []clerkclient.Invitation
	for _, page := range pages {
		invitations = append(invitations, page.Invitations...)
	}
	return invitations, cmp.Or(errs...)
}

// queriesAtOnce is how many queries of one question are under way at once.
const queriesAtOnce = 8
