package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// mixed is the name of the scenario that needs an earlier build.
const mixed = "mixed"

// playMixed is a storm over two builds of Usher on one Redis. Workers of both are killed, and every other start is of
// the earlier build. Producers of both ask for the work piece by piece. Half of them are killed, and the other build
// repeats what they did.
func playMixed(ctx context.Context, s *stage) error {
	size := fullStorm()
	campaign, invites := span{from: 0, to: size.campaign}, span{from: size.campaign, to: size.campaign + size.invites}
	w := work{campaign: mixed, driver: "bulk:" + mixed + ":1", bulk: campaign, invites: map[string]string{}}
	began := time.Now()
	broken, err := s.breakOut(ctx, size)
	if err != nil {
		return err
	}
	p := &producers{s: s, rng: s.rng("producers"), w: &w}
	if err = p.produce(ctx, campaign, invites); err == nil {
		err = s.untilEnded(ctx, w, size.limit)
	}
	if err := errors.Join(s.bear(err), broken.end()); err != nil {
		return err
	}
	s.note("%d recipients in %.0f s, %d workers started, %d runs of enqueue, %d of them killed",
		invites.to, time.Since(began).Seconds(), s.starts, p.runs, p.killed)
	if s.tally.RedisRestarts != 1 {
		s.wrong("Redis was restarted %d times, want once", s.tally.RedisRestarts)
	}
	return s.checkWork(ctx, w, onceEach(campaign, invites), 0)
}

// producers ask for work by the enqueue of both builds in turn.
type producers struct {
	s    *stage
	rng  *rand.Rand
	w    *work
	runs int // of enqueue, to the end or not

	killed int
}

// pieces is into how many parts the work is cut.
const pieces = 12

// produce asks for everybody, a piece of the campaign and some invites at a time. It pauses the campaign now and then.
func (p *producers) produce(ctx context.Context, campaign, invites span) error {
	for i := range pieces {
		people := campaign.piece(i)
		err := p.insist(ctx, people.file(), "bulk-invite", "-", "--ignore-existing", "--campaign", mixed)
		if err != nil {
			return err
		}
		people = invites.piece(i)
		for number := people.from; number < people.to; number++ {
			id := inviteID(number)
			if err := p.insist(ctx, "", "invite", address(number), "--ignore-existing", "--id", id); err != nil {
				return err
			}
			p.w.invites[id] = address(number)
		}
		if i%3 == 0 {
			if err := p.pause(ctx); err != nil {
				return err
			}
		}
		if err := policy.Sleep(ctx, between(p.rng, 0, 3*time.Second)); err != nil {
			return err
		}
	}
	return nil
}

// piece is one of the parts of a span.
func (s span) piece(i int) span {
	return span{from: s.from + s.size()*i/pieces, to: s.from + s.size()*(i+1)/pieces}
}

// next is enqueue of the build whose turn it is.
func (p *producers) next(stdin string, args ...string) testkit.Command {
	build := p.s.commands
	if p.runs++; p.runs%2 == 0 {
		build = p.s.old
	}
	return p.s.producer(build, stdin, args...)
}

// insist runs a command until it has done its work: Redis may be away. Half of the time one that is killed goes first.
func (p *producers) insist(ctx context.Context, stdin string, args ...string) error {
	if p.rng.IntN(2) == 0 {
		killed, err := testkit.Start(p.next(stdin, args...))
		if err != nil {
			return err
		}
		err = policy.Sleep(ctx, between(p.rng, 0, 100*time.Millisecond))
		p.killed += oneIf(killed.Alive() == nil)
		killed.Kill()
		if err != nil {
			return err
		}
	}
	what := fmt.Sprintf("enqueue %s is done", args[0])
	return testkit.Poll(ctx, pollSeldom, time.Minute, what, func(ctx context.Context) (bool, error) {
		out, err := testkit.Run(ctx, p.next(stdin, args...))
		return err == nil && out.Exit == 0, err
	})
}

// pause pauses the campaign by one build and resumes it by the other. One that has just finished is left alone.
func (p *producers) pause(ctx context.Context) error {
	if _, err := testkit.Run(ctx, p.next("", "campaign", "pause", mixed)); err != nil {
		return err
	}
	if err := policy.Sleep(ctx, between(p.rng, 0, time.Second)); err != nil {
		return err
	}
	const what = "the campaign is resumed"
	return testkit.Poll(ctx, pollSeldom, time.Minute, what, func(ctx context.Context) (bool, error) {
		if _, err := testkit.Run(ctx, p.next("", "campaign", "resume", mixed)); err != nil {
			return false, err
		}
		c, err := p.s.client.Campaign(ctx, mixed)
		return err == nil && c.State != tasks.CampaignPaused, nil
	})
}
