package main

import (
	"context"
	"fmt"
	"net/http"

	"example.com/usher/clerkclient/clerktest"
)

const (
	blamePeople = 60
	blameGuilty = 4
	// blameTwice of them are refused with codes that no table knows, which are believed when they come again.
	blameTwice = 2
)

// playBlame invites sixty, four of whom only Clerk refuses, for reasons of their own and naming nobody.
func playBlame(ctx context.Context, s *stage) error {
	guilty := map[string]string{} // the code of each refusal by address
	for i, number := range s.rng("guilty").Perm(blamePeople)[:blameGuilty] {
		code := fmt.Sprintf("form_refused_%d", i+1)
		if i < blameTwice {
			code = fmt.Sprintf("refused_%d", i+1)
		}
		guilty[address(number)] = code
		if err := s.clerk.reject(ctx, address(number), http.StatusUnprocessableEntity, code); err != nil {
			return err
		}
	}
	var w work
	everybody := span{from: 0, to: blamePeople}
	if err := s.askCampaign(ctx, &w, everybody); err != nil {
		return err
	}
	if err := s.startWorkers(1); err != nil {
		return err
	}
	if err := s.bear(s.untilEnded(ctx, w, workLimit)); err != nil {
		return err
	}
	want := onceEach(everybody)
	for email := range guilty {
		want[email] = 0
	}
	if err := s.checkWork(ctx, w, want, blameGuilty); err != nil {
		return err
	}
	if err := s.checkCauses(ctx, guilty); err != nil {
		return err
	}
	return s.checkRefusals(ctx)
}

// checkCauses wants a dead letter for each of the guilty, with its own refusal.
func (s *stage) checkCauses(ctx context.Context, guilty map[string]string) error {
	letters, err := s.enqueue(ctx, "", "dead-letter", "list")
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, letter := range letters {
		email := fmt.Sprint(letter["email_address"])
		found[email] = true
		got := fmt.Sprintf("%v %v %v", letter["reason"], letter["http_status"], letter["code"])
		if want := fmt.Sprintf("rejected %d %s", http.StatusUnprocessableEntity, guilty[email]); got != want {
			s.wrong("the dead letter of %s says %s, want %s", who(email), got, want)
		}
	}
	for email := range guilty {
		if !found[email] {
			s.wrong("there is no dead letter of %s", who(email))
		}
	}
	return nil
}

// checkRefusals wants no more calls refused than it takes to tell the guilty from the others.
func (s *stage) checkRefusals(ctx context.Context) error {
	requests, err := s.clerk.Requests(ctx, 0)
	if err != nil {
		return err
	}
	refused := map[clerktest.Endpoint]int{}
	for _, r := range requests {
		refused[r.Endpoint] += oneIf(r.Status == http.StatusUnprocessableEntity)
	}
	creates, bulks := refused[clerktest.Create], refused[clerktest.Bulk]
	s.note("refused: %d creates, %d bulks", creates, bulks)
	if want := blameGuilty + blameTwice; creates != want || bulks > blameGuilty {
		s.wrong("%d creates and %d bulks were refused, want %d and at most %d", creates, bulks, want, blameGuilty)
	}
	return nil
}
