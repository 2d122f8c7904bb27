package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

const (
	pairs     = 4
	twinLimit = 3 * time.Minute
)

// playTwins invites addresses twice, by two tasks. Of each pair the first is delivered, and soon afterwards the
// second one's first call fails before Clerk has done anything.
func playTwins(ctx context.Context, s *stage) error {
	rng := s.rng("twins")
	if err := s.startWorkers(1); err != nil {
		return err
	}
	want := map[string]int{}
	for number := range pairs {
		want[address(number)] = 2
		if err := s.playTwin(ctx, number, "first"); err != nil {
			return err
		}
		if err := policy.Sleep(ctx, between(rng, 0, 2*time.Second)); err != nil {
			return err
		}
		reset := map[string]any{"kind": "reset", "endpoint": "create", "email_address": address(number), "times": 1}
		if err := s.clerk.inject(ctx, "reset", reset); err != nil {
			return err
		}
		if err := s.playTwin(ctx, number, "second"); err != nil {
			return err
		}
	}
	if err := s.checkWork(ctx, work{}, want, 0); err != nil {
		return err
	}
	return s.checkTwins(ctx)
}

func twinID(number int, which string) string { return fmt.Sprintf("twin-%d-%s", number, which) }

// playTwin asks for one of a pair and waits for its end.
func (s *stage) playTwin(ctx context.Context, number int, which string) error {
	id := twinID(number, which)
	if _, err := s.client.Invite(ctx, recipient(number), tasks.ID(id)); err != nil {
		return fmt.Errorf("asking for the %s of no. %d: %w", which, number, err)
	}
	return s.bear(s.untilEnded(ctx, work{invites: map[string]string{id: address(number)}}, twinLimit))
}

// checkTwins wants each task's record to name one of its address's invitations, and the two another one each.
func (s *stage) checkTwins(ctx context.Context) error {
	sent, err := s.clerk.Ledger(ctx)
	if err != nil {
		return err
	}
	for number := range pairs {
		var ids, told []string
		for _, entry := range sent {
			if entry.Folded == address(number) {
				ids = append(ids, entry.InvitationID)
			}
		}
		for _, which := range []string{"first", "second"} {
			task, err := s.enqueueOne(ctx, "", "status", twinID(number, which))
			if err != nil {
				return err
			}
			told = append(told, fmt.Sprint(task["invitation_id"]))
		}
		slices.Sort(ids)
		slices.Sort(told)
		if !slices.Equal(ids, told) {
			s.wrong("the tasks of no. %d name the invitations %v, but Clerk made %v", number, told, ids)
		}
	}
	return s.checkStruck(ctx)
}

// checkStruck wants each second one's call to have failed: otherwise nothing was proved.
func (s *stage) checkStruck(ctx context.Context) error {
	requests, err := s.clerk.Requests(ctx, 0)
	if err != nil {
		return err
	}
	struck := 0
	for _, r := range requests {
		struck += oneIf(r.FaultID != 0)
	}
	if struck != pairs {
		s.wrong("%d calls failed, want %d", struck, pairs)
	}
	return nil
}
