package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// work is what was asked of the workers.
type work struct {
	campaign string // its name, and the task that drives it; empty if there is none
	driver   string
	bulk     span
	invites  map[string]string // their addresses by task
}

// producer is enqueue of a build with arguments.
func (s *stage) producer(build binaries, stdin string, args ...string) testkit.Command {
	return testkit.Command{
		Name: "enqueue", Path: build.enqueue(), Args: append(args, "--json"), Stdin: stdin,
		Env: []string{"REDIS_URL=" + s.redis.URL()}, Dir: s.dir,
	}
}

// enqueue runs the command and reads the objects that it answers, one a line.
func (s *stage) enqueue(ctx context.Context, stdin string, args ...string) ([]map[string]any, error) {
	out, err := testkit.Run(ctx, s.producer(s.commands, stdin, args...))
	if err != nil {
		return nil, err
	}
	if out.Exit != 0 {
		return nil, fmt.Errorf("enqueue %s: exit %d: %s", strings.Join(args, " "), out.Exit, out.Stderr)
	}
	var objects []map[string]any
	for line := range strings.Lines(out.Stdout) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			return nil, fmt.Errorf("enqueue %s answers no object: %w", strings.Join(args, " "), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// enqueueOne is enqueue for a command that answers one object.
func (s *stage) enqueueOne(ctx context.Context, stdin string, args ...string) (map[string]any, error) {
	objects, err := s.enqueue(ctx, stdin, args...)
	if err == nil && len(objects) != 1 {
		err = fmt.Errorf("enqueue %s answers %d objects, want one", strings.Join(args, " "), len(objects))
	}
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// askCampaign asks for a span in one bulk-invite.
func (s *stage) askCampaign(ctx context.Context, w *work, people span) error {
	w.campaign, w.bulk = s.scenario.name, people
	answer, err := s.enqueueOne(ctx, people.file(), "bulk-invite", "-", "--campaign", w.campaign)
	if err != nil {
		return err
	}
	w.driver = fmt.Sprint(answer["task_id"])
	return nil
}

func inviteID(number int) string { return fmt.Sprintf("invite-%04d", number) }

// askInvites asks for each of a span in an invite of its own.
func (s *stage) askInvites(ctx context.Context, w *work, people span) error {
	if w.invites == nil {
		w.invites = map[string]string{}
	}
	for number := people.from; number < people.to; number++ {
		id := inviteID(number)
		ids := []string{id}
		if people.wish != nil && people.recipient(number).IgnoreExisting {
			ids = append(ids, id+"-again") // a second task for one address
		}
		for _, id := range ids {
			if _, err := s.client.Invite(ctx, people.recipient(number), tasks.ID(id)); err != nil {
				return fmt.Errorf("asking for no. %d: %w", number, err)
			}
			w.invites[id] = address(number)
		}
	}
	return nil
}

// untilEnded waits until every task has ended. Workers must not end meanwhile; Redis may be away.
func (s *stage) untilEnded(ctx context.Context, w work, limit time.Duration) error {
	open := map[string]bool{}
	if w.driver != "" {
		open[w.driver] = true
	}
	for id := range w.invites {
		open[id] = true
	}
	err := testkit.Poll(ctx, pollSeldom, limit, "every task has ended", func(ctx context.Context) (bool, error) {
		for id := range open {
			task, err := s.client.Status(ctx, id)
			if err == nil && task.State.Ended() {
				delete(open, id)
			}
		}
		return len(open) == 0, s.workersAlive()
	})
	if errors.Is(err, testkit.ErrTooLate) {
		return fmt.Errorf("%w; open: %s", err, w.openText(open))
	}
	return err
}

// openText names tasks that have not ended.
func (w work) openText(open map[string]bool) string {
	var names []string
	if open[w.driver] {
		names = append(names, "the campaign")
	}
	var invited []string
	for id, address := range w.invites {
		if open[id] {
			invited = append(invited, address)
		}
	}
	if len(invited) > 0 {
		names = append(names, "invites of "+everyone(invited))
	}
	return strings.Join(names, ", ")
}
