package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// contender is a way to have a list of recipients invited.
type contender struct {
	name    string
	worker  string
	list    bool                                      // it enqueues all recipients at once
	begin   func(ctx context.Context, s *stage) error // starts what it enqueues with; may be nil
	enqueue func(ctx context.Context, s *stage, people []tasks.Recipient) error
}

// usherCampaign invites a list with one bulk-invite task.
func usherCampaign() contender {
	enqueue := func(ctx context.Context, s *stage, people []tasks.Recipient) error {
		_, err := s.usher.BulkInvite(ctx, tasks.BulkRequest{Campaign: "bench", Recipients: people})
		return err
	}
	return contender{name: "Usher, a campaign", worker: usherWorker, list: true, enqueue: enqueue}
}

// usherInvites invites each with an invite task.
func usherInvites() contender {
	enqueue := func(ctx context.Context, s *stage, people []tasks.Recipient) error {
		return each(people, func(person tasks.Recipient) error {
			_, err := s.usher.Invite(ctx, person)
			return err
		})
	}
	return contender{name: "Usher, invite tasks", worker: usherWorker, enqueue: enqueue}
}

// before is the same with the worker of the earlier build. A campaign is also enqueued by that build. Invites are not:
// its enqueue takes them one by one, which is too slow here.
func (c contender) before() contender {
	if c.list {
		c.enqueue = enqueueBefore
	}
	c.name, c.worker = c.name+", before", earlierWorker
	return c
}

// enqueueBefore enqueues a campaign by the earlier build.
func enqueueBefore(ctx context.Context, s *stage, people []tasks.Recipient) error {
	var file strings.Builder
	file.WriteString("email_address\n")
	for _, person := range people {
		fmt.Fprintln(&file, person.EmailAddress)
	}
	out, err := testkit.Run(ctx, testkit.Command{
		Name: "enqueue-before", Path: s.bench.enqueue(earlierWorker), Dir: s.bench.dir, Stdin: file.String(),
		Args: []string{"bulk-invite", "-", "--campaign", "bench"}, Env: []string{"REDIS_URL=" + s.redis.URL()},
	})
	if err == nil && out.Exit != 0 {
		err = fmt.Errorf("enqueue of the earlier build: exit %d: %s", out.Exit, out.Stderr)
	}
	return err
}

// plainInvites is the baseline: a task for each.
func plainInvites() contender {
	enqueue := func(ctx context.Context, s *stage, people []tasks.Recipient) error {
		return each(people, func(person tasks.Recipient) error {
			task, err := inviteTask(person)
			return s.put(ctx, task, err)
		})
	}
	return contender{name: "baseline, a task each", worker: baselineWorker, enqueue: enqueue}
}

// bulkSize is how many Clerk takes at once.
const bulkSize = 10

// plainBulks is the baseline with a task for ten, which is a call.
func plainBulks() contender {
	enqueue := func(ctx context.Context, s *stage, people []tasks.Recipient) error {
		for len(people) > 0 {
			n := min(bulkSize, len(people))
			task, err := bulkTask(people[:n])
			if err := s.put(ctx, task, err); err != nil {
				return err
			}
			people = people[n:]
		}
		return nil
	}
	return contender{name: "baseline, a task for ten", worker: baselineWorker, enqueue: enqueue}
}

func (s *stage) put(ctx context.Context, task *asynq.Task, err error) error {
	if err != nil {
		return err
	}
	if _, err := s.plain.EnqueueContext(ctx, task); err != nil {
		return fmt.Errorf("enqueuing with asynq: %w", err)
	}
	return nil
}

// producers is how many enqueue at once: Redis writes what came together to its disk together.
const producers = 16

// each does something for every recipient, several at a time, and returns the first error.
func each(people []tasks.Recipient, do func(tasks.Recipient) error) error {
	queue := make(chan tasks.Recipient)
	failed := make(chan error, producers)
	var running sync.WaitGroup
	for range producers {
		running.Go(func() {
			for person := range queue {
				if err := do(person); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	err := feed(queue, failed, people)
	running.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}

func feed(queue chan<- tasks.Recipient, failed <-chan error, people []tasks.Recipient) error {
	defer close(queue)
	for _, person := range people {
		select {
		case queue <- person:
		case err := <-failed:
			return err
		}
	}
	return nil
}

// people makes up a list of recipients.
func people(prefix string, n int) []tasks.Recipient {
	list := make([]tasks.Recipient, n)
	for i := range list {
		list[i] = tasks.Recipient{EmailAddress: fmt.Sprintf("%s%05d@example.com", prefix, i)}
	}
	return list
}
