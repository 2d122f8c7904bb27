package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// trial says which invitations are timed, and behind what.
type trial struct {
	other   contender // whose the backlog is
	backlog int       // recipients; one only shows that the worker runs
	invites int       // that are timed
}

// latencyMeasurement times single invitations of both sides. The baseline's backlog is the same as its invitations: it
// has no other way.
func latencyMeasurement(when string, t trial) measurement {
	invite := "an invite " + when + ", from enqueued to its call at Clerk"
	return measurement{
		questions: latencyQuestions(invite),
		run: func(ctx context.Context, b *bench) []answer {
			usher := b.latencies(ctx, usherInvites(), t)
			before := b.latencies(ctx, usherInvites().before(), trial{t.other.before(), t.backlog, t.invites})
			plain := b.latencies(ctx, plainInvites(), trial{plainInvites(), t.backlog, t.invites})
			note := fmt.Sprintf("%d invites, one each %s, the call that succeeded", t.invites, inviteEvery)
			if t.backlog > 1 {
				note += fmt.Sprintf("; Usher keeps a reserve of %d, the baseline has one queue", reserve)
			}
			return latencyAnswers(usher, before, plain, note)
		},
	}
}

// latencyQuestions are two rows about how long something takes.
func latencyQuestions(what string) []question {
	return []question{{what + ": p50", "ms", "lower"}, {what + ": p95", "ms", "lower"}}
}

// latencyAnswers answer latencyQuestions.
func latencyAnswers(usher, before, baseline latencies, note string) []answer {
	return []answer{
		{usher.percentile(50), before.percentile(50), baseline.percentile(50), note},
		{usher.percentile(95), before.percentile(95), baseline.percentile(95), baseline.missingNote()},
	}
}

const (
	// reserve is how many single permits of a window are kept for invite tasks; as many are timed while it is closed.
	reserve     = 20
	inviteEvery = 150 * time.Millisecond
	inviteLimit = 30 * time.Second // how long the last of them is waited for
)

// latencies are how long invitations took; those that were not sent in time are infinite.
type latencies struct {
	ms      []float64
	missing int
	waited  time.Duration // at least, for each that is missing
	err     error
}

func (l latencies) percentile(p int) figure {
	value := percentile(l.ms, p)
	if l.err == nil && math.IsInf(value, 1) {
		return figure{value: float64(l.waited.Milliseconds()), atLeast: true}
	}
	return measured(value, l.err)
}

func (l latencies) missingNote() string {
	if l.missing == 0 {
		return ""
	}
	return fmt.Sprintf("%d of the baseline's %d were not sent within %s", l.missing, len(l.ms), inviteLimit)
}

// latencies times single invitations of c when the calls of the backlog have ceased: a large one has then used up
// Clerk's first window.
func (b *bench) latencies(ctx context.Context, c contender, t trial) latencies {
	const (
		limit = 30 * time.Second
		quiet = 700 * time.Millisecond
	)
	var result latencies
	setup := setup{create: hourCreate, bulk: hourBulk, reserve: reserve, latency: 60 * time.Millisecond}
	result.err = b.on(ctx, c, setup, func(s *stage) error {
		if err := t.other.enqueue(ctx, s, people("backlog", t.backlog)); err != nil {
			return err
		}
		if err := s.work(c.worker, 1); err != nil {
			return err
		}
		if err := s.untilSettled(ctx, limit, quiet); err != nil {
			return err
		}
		enqueued, err := s.inviteSteadily(ctx, c, t.invites)
		if err != nil {
			return err
		}
		return s.collect(ctx, enqueued, &result)
	})
	b.told(c.name, result.err, "p50 %s ms, p95 %s ms, %d not sent in time",
		result.percentile(50), result.percentile(95), result.missing)
	return result
}

// inviteSteadily enqueues one invitation after the other and tells when each was accepted.
func (s *stage) inviteSteadily(ctx context.Context, c contender, n int) (map[string]time.Time, error) {
	enqueued := map[string]time.Time{}
	for _, person := range people("timed", n) {
		if err := c.enqueue(ctx, s, []tasks.Recipient{person}); err != nil {
			return nil, err
		}
		enqueued[person.EmailAddress] = time.Now()
		if err := policy.Sleep(ctx, inviteEvery); err != nil {
			return nil, err
		}
	}
	return enqueued, nil
}

// collect waits for the invitations and reckons how long each took to the arrival of the call that made it.
func (s *stage) collect(ctx context.Context, enqueued map[string]time.Time, result *latencies) error {
	var arrived map[string]time.Time
	err := testkit.Poll(
		ctx,
		pollEvery,
		inviteLimit,
		"the invitations are made",
		func(ctx context.Context) (bool, error) {
			var err error
			arrived, err = s.arrivalsOf(ctx, enqueued)
			return len(arrived) == len(enqueued), err
		},
	)
	if err != nil && !errors.Is(err, testkit.ErrTooLate) {
		return err
	}
	last := slices.MaxFunc(slices.Collect(maps.Values(enqueued)), time.Time.Compare)
	result.waited = time.Since(last)
	for address, at := range enqueued {
		if came, ok := arrived[address]; ok {
			result.ms = append(result.ms, came.Sub(at).Seconds()*1000)
		} else {
			result.ms = append(result.ms, math.Inf(1))
			result.missing++
		}
	}
	return nil
}

// arrivalsOf tells when the calls arrived that made invitations for these addresses.
func (s *stage) arrivalsOf(ctx context.Context, addresses map[string]time.Time) (map[string]time.Time, error) {
	sent, err := s.clerk.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	requests, err := s.clerk.Requests(ctx, 0)
	if err != nil {
		return nil, err
	}
	at := map[int]time.Time{}
	for _, request := range requests {
		at[request.Number] = request.Arrived
	}
	arrived := map[string]time.Time{}
	for _, invitation := range sent {
		if _, timed := addresses[invitation.Address]; timed {
			arrived[invitation.Address] = at[invitation.Request]
		}
	}
	return arrived, nil
}
