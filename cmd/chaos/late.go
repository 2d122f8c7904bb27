package main

import (
	"context"
	"errors"
	"time"
)

// playLate has Clerk carry out a fifth of the calls only after their client has given up, and show new invitations
// late. Both together stay within the settling time.
func playLate(ctx context.Context, s *stage) error {
	const most = 700 * time.Millisecond // two of it, and what noticing takes, are less than the settling time
	rng := s.rng("late")
	lag := between(rng, 100*time.Millisecond, most)
	if err := s.clerk.configure(ctx, map[string]any{"list_lag": lag.String()}); err != nil {
		return err
	}
	var faults []fault
	for range 3 {
		late := between(rng, 100*time.Millisecond, most)
		form := map[string]any{"kind": "hang", "late_commit": late.String()}
		faults = append(faults, fault{"hang with a late commit", 0.07, form})
	}
	if err := s.injectShares(ctx, faults); err != nil {
		return err
	}
	var w work
	campaign, invites := span{from: 0, to: 150}, span{from: 150, to: 200}
	if err := errors.Join(s.askCampaign(ctx, &w, campaign), s.askInvites(ctx, &w, invites)); err != nil {
		return err
	}
	if err := s.startWorkers(crew); err != nil {
		return err
	}
	if err := s.bear(s.untilEnded(ctx, w, workLimit)); err != nil {
		return err
	}
	s.note("list lag %d ms", lag.Milliseconds())
	if err := s.checkWork(ctx, w, onceEach(campaign, invites), 0); err != nil {
		return err
	}
	if s.tally.LateCommits == 0 {
		s.wrong("nothing was committed late")
	}
	return nil
}
