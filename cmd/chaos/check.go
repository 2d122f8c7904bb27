package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/policy"
	"example.com/usher/tasks"
)

// calmDown is how long the workers may still do something wrong after all is done: what is late has come by then.
const calmDown = 2 * time.Second

// checkWork compares what Clerk sent with what was asked, and what the tasks say with what Clerk sent. dead is how
// many are refused for good.
func (s *stage) checkWork(ctx context.Context, w work, want map[string]int, dead int) error {
	if err := policy.Sleep(ctx, s.scenario.setting.settle+calmDown); err != nil {
		return err
	}
	sent, err := s.clerk.Ledger(ctx)
	if err != nil {
		return err
	}
	for _, entry := range sent {
		s.count(func(t *tally) { t.LateCommits += oneIf(entry.Late) })
	}
	for _, violation := range misdelivered(sent, want) {
		s.wrong("%s", violation)
	}
	if err := s.checkCampaign(ctx, w, dead); err != nil {
		return err
	}
	if err := s.checkInvites(ctx, w, sent); err != nil {
		return err
	}
	return s.checkDeadLetters(ctx, dead)
}

// misdelivered tells who was not sent an invitation, or more than was asked. want is how many by address.
func misdelivered(sent []clerktest.Sent, want map[string]int) []string {
	got := map[string][]clerktest.Sent{}
	for _, entry := range sent {
		got[entry.Folded] = append(got[entry.Folded], entry)
	}
	var missing, wrong []string
	for _, email := range slices.Sorted(maps.Keys(want)) {
		if len(got[email]) < want[email] {
			missing = append(missing, email)
		}
	}
	if len(missing) > 0 {
		wrong = append(
			wrong,
			fmt.Sprintf("%d of %d were not sent what was asked: %s", len(missing), len(want), everyone(missing)),
		)
	}
	excess := map[string][]string{} // those invited by the same requests, together
	for email, entries := range got {
		if len(entries) > want[email] {
			what := fmt.Sprintf("sent %d, want %d: %s", len(entries), want[email], how(entries))
			excess[what] = append(excess[what], email)
		}
	}
	if n := len(slices.Concat(slices.Collect(maps.Values(excess))...)); n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d were sent more than was asked", n))
	}
	for _, what := range slices.Sorted(maps.Keys(excess)) {
		wrong = append(wrong, everyone(excess[what])+" "+what)
	}
	return wrong
}

// how tells by which requests somebody was invited.
func how(entries []clerktest.Sent) string {
	ways := make([]string, len(entries))
	for i, entry := range entries {
		kind := map[bool]string{true: "bulk", false: "create"}[entry.Bulk]
		late := map[bool]string{true: ", late"}[entry.Late]
		ways[i] = fmt.Sprintf(
			"request %d (%s%s) at %s",
			entry.Request,
			kind,
			late,
			entry.At.UTC().Format("15:04:05.000"),
		)
	}
	return strings.Join(ways, ", ")
}

// everyone names addresses by their numbers.
func everyone(emails []string) string {
	const most = 20
	var numbers []string
	for _, email := range slices.Sorted(slices.Values(emails)) {
		numbers = append(numbers, who(email))
	}
	if len(numbers) > most {
		numbers = append(numbers[:most], "…")
	}
	return strings.Join(numbers, ", ")
}

// checkCampaign compares the campaign's counters with what they must be.
func (s *stage) checkCampaign(ctx context.Context, w work, dead int) error {
	if w.driver == "" {
		return nil
	}
	task, err := s.enqueueOne(ctx, "", "status", w.driver)
	if err != nil {
		return err
	}
	got := fmt.Sprintf(
		"%v: %v recipients, %v sent, %v dead, %v remaining",
		task["state"],
		task["recipients"],
		task["sent"],
		task["dead"],
		task["remaining"],
	)
	want := fmt.Sprintf(
		"%v: %v recipients, %v sent, %v dead, %v remaining",
		tasks.StateDone,
		w.bulk.size(),
		w.bulk.size()-dead,
		dead,
		0,
	)
	if got != want {
		s.wrong("the campaign is %s; want %s", got, want)
	}
	return nil
}

// checkInvites wants every invite task done, with an invitation that Clerk sent to its address.
func (s *stage) checkInvites(ctx context.Context, w work, sent []clerktest.Sent) error {
	addresses := map[string]string{}
	for _, entry := range sent {
		addresses[entry.InvitationID] = entry.Folded
	}
	for _, id := range slices.Sorted(maps.Keys(w.invites)) {
		task, err := s.client.Status(ctx, id)
		if err != nil {
			return fmt.Errorf("looking up an invite: %w", err)
		}
		if email := w.invites[id]; task.State != tasks.StateDone || addresses[task.InvitationID] != email {
			s.wrong(
				"the invite of %s is %s with invitation %q, which went to %s",
				who(email),
				task.State,
				task.InvitationID,
				cmp.Or(addresses[task.InvitationID], "nobody"),
			)
		}
	}
	return nil
}

func (s *stage) checkDeadLetters(ctx context.Context, want int) error {
	letters, err := s.enqueue(ctx, "", "dead-letter", "list")
	if err != nil {
		return err
	}
	if len(letters) == want {
		return nil
	}
	var about []string
	for _, letter := range letters {
		about = append(
			about,
			fmt.Sprintf(
				"%s: %v %v %v",
				who(fmt.Sprint(letter["email_address"])),
				letter["reason"],
				letter["http_status"],
				letter["code"],
			),
		)
	}
	s.wrong("there are %d dead letters, want %d: %s", len(letters), want, strings.Join(about, "; "))
	return nil
}

// checkLogs looks for what no worker may log: a data race, a panic, or the key.
func (s *stage) checkLogs() error {
	logs, err := filepath.Glob(filepath.Join(s.dir, "worker-*.log"))
	if err != nil {
		return fmt.Errorf("looking for logs: %w", err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return fmt.Errorf("reading a log: %w", err)
		}
		for _, sign := range []string{"DATA RACE", "panic: ", "fatal error: ", clerkKey} {
			if strings.Contains(string(text), sign) {
				s.wrong("%s has %q", filepath.Base(path), sign)
			}
		}
	}
	return nil
}
