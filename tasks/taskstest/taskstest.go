// Package taskstest gives producers a client for their own tests: it checks and records what is enqueued, in memory and
// without a Redis, and answers as the real one does.
//
// A producer declares the methods that it uses as an interface of its own, which both clients satisfy:
//
//	type inviter interface {
//		Invite(ctx context.Context, r tasks.Recipient, opts ...tasks.Option) (tasks.Task, error)
//	}
package taskstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"example.com/usher/internal/queues"
	"example.com/usher/tasks"
)

// Enqueued is one task as a producer asked for it.
type Enqueued struct {
	Task tasks.Task
	// Recipients of an invite (one) or bulk-invite, normalized; of a bulk, those that are new to its campaign.
	Recipients []tasks.Recipient
	// InvitationID, EmailAddress or Campaign is what a revoke asks for.
	InvitationID, EmailAddress, Campaign string
	// Whole is whether a sync-list reads all of Clerk's list.
	Whole bool
	// Options as the producer gave them; At is zero for a task that runs at once.
	Options tasks.Options

	asked []tasks.Recipient // of a bulk, those that the campaign knew before too
}

// Client records tasks. The zero value is not ready; use New. It is safe for concurrent use.
type Client struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	order     []string
	tasks     map[string]*Enqueued
	campaigns map[string]*campaign
	err       error
}

// New gives a client that has recorded nothing.
func New() *Client {
	return &Client{tasks: map[string]*Enqueued{}, campaigns: map[string]*campaign{}, changed: make(chan struct{})}
}

// FailWith makes every later call return an error, as if Redis were away; nil ends that.
func (c *Client) FailWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// Enqueued gives everything that was enqueued, in order.
func (c *Client) Enqueued() []Enqueued {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Enqueued, 0, len(c.order))
	for _, id := range c.order {
		all = append(all, *c.tasks[id])
	}
	return all
}

// Invited gives every recipient that was enqueued, alone or in a bulk, in order.
func (c *Client) Invited() []tasks.Recipient {
	var all []tasks.Recipient
	for _, e := range c.Enqueued() {
		all = append(all, e.Recipients...)
	}
	return all
}

// Finish changes what is known of a task, as a worker would: its state, invitation id, error, counts.
func (c *Client) Finish(id string, change func(*tasks.Task)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.tasks[id]
	if !ok {
		return fmt.Errorf("%s: %w", id, tasks.ErrNotFound)
	}
	found.Task.State = tasks.StateDone
	change(&found.Task)
	if found.Task.Bulk != nil {
		c.campaigns[found.Task.Bulk.Campaign].follow(found.Task)
	}
	c.announce()
	return nil
}

// announce wakes those that wait. The client is locked.
func (c *Client) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Invite records an invite task.
func (c *Client) Invite(_ context.Context, r tasks.Recipient, opts ...tasks.Option) (tasks.Task, error) {
	r = r.Normalize()
	if err := r.Validate(); err != nil {
		return tasks.Task{}, err
	}
	return c.record(tasks.TypeInvite, queues.Interactive, Enqueued{Recipients: []tasks.Recipient{r}}, opts)
}

// Revoke records a revoke task.
func (c *Client) Revoke(_ context.Context, invitationID string, opts ...tasks.Option) (tasks.Task, error) {
	if err := tasks.ValidateInvitationID(invitationID); err != nil {
		return tasks.Task{}, err
	}
	return c.record(tasks.TypeRevoke, queues.Housekeeping, Enqueued{InvitationID: invitationID}, opts)
}

// RevokeEmail records a revoke task for an address.
func (c *Client) RevokeEmail(_ context.Context, address string, opts ...tasks.Option) (tasks.Task, error) {
	address = tasks.Recipient{EmailAddress: address}.Normalize().EmailAddress
	if err := (tasks.Recipient{EmailAddress: address}).Validate(); err != nil {
		return tasks.Task{}, err
	}
	return c.record(tasks.TypeRevoke, queues.Housekeeping, Enqueued{EmailAddress: address}, opts)
}

// RevokeCampaign records a revoke task for a campaign, which need not be known.
func (c *Client) RevokeCampaign(_ context.Context, name string, opts ...tasks.Option) (tasks.Task, error) {
	if err := tasks.ValidateCampaign(name); err != nil {
		return tasks.Task{}, err
	}
	return c.record(tasks.TypeRevoke, queues.Housekeeping, Enqueued{Campaign: name}, opts)
}

// SyncList records a sync-list task.
func (c *Client) SyncList(_ context.Context, opts ...tasks.Option) (tasks.Task, error) {
	return c.record(tasks.TypeSyncList, queues.Housekeeping, Enqueued{}, opts)
}

// SyncListWhole records a sync-list task that reads all of Clerk's list.
func (c *Client) SyncListWhole(_ context.Context, opts ...tasks.Option) (tasks.Task, error) {
	return c.record(tasks.TypeSyncList, queues.Housekeeping, Enqueued{Whole: true}, opts)
}

func (c *Client) record(kind string, lane queues.Lane, e Enqueued, opts []tasks.Option) (tasks.Task, error) {
	options, err := tasks.Resolve(opts...)
	if err != nil {
		return tasks.Task{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return tasks.Task{}, c.err
	}
	if known, task, err := c.exists(options.ID, kind, e); known {
		return task, err
	}
	return c.put(kind, lane, e, options), nil
}

// exists tells whether an id of the producer's own is known already, and what the real client answers then. The client is locked.
func (c *Client) exists(id, kind string, e Enqueued) (bool, tasks.Task, error) {
	known, ok := c.tasks[id]
	if !ok {
		return false, tasks.Task{}, nil
	}
	asked := func(e Enqueued) []tasks.Recipient {
		if e.asked != nil {
			return e.asked
		}
		return e.Recipients
	}
	if known.Task.Type != kind || known.InvitationID != e.InvitationID || known.EmailAddress != e.EmailAddress ||
		known.Campaign != e.Campaign || known.Whole != e.Whole || !reflect.DeepEqual(asked(*known), asked(e)) {
		return true, tasks.Task{}, fmt.Errorf("%s: %w", id, tasks.ErrConflict)
	}
	return true, known.Task, fmt.Errorf("%s: %w", id, tasks.ErrExists)
}

// put records a task. The client is locked.
func (c *Client) put(kind string, lane queues.Lane, e Enqueued, options tasks.Options) tasks.Task {
	id := options.ID
	if id == "" {
		id = fmt.Sprintf("task-%d", len(c.order)+1)
	}
	e.Options = options
	e.Task.ID, e.Task.Type, e.Task.Queue = id, kind, queues.Name(tasks.DefaultNamespace, lane)
	e.Task.State = tasks.StatePending
	if options.At.After(time.Now()) {
		e.Task.State, e.Task.ScheduledAt = tasks.StateScheduled, options.At
	}
	c.order = append(c.order, id)
	c.tasks[id] = &e
	return e.Task
}

// Status tells what is known of a recorded task, or ErrNotFound.
func (c *Client) Status(_ context.Context, id string) (tasks.Task, error) {
	task, _, err := c.look(id)
	return task, err
}

// Wait returns when Finish has ended the task, or with the context's error.
func (c *Client) Wait(ctx context.Context, id string) (tasks.Task, error) {
	for {
		task, changed, err := c.look(id)
		if err != nil || task.State.Ended() {
			return task, err
		}
		select {
		case <-ctx.Done():
			return task, ctx.Err()
		case <-changed:
		}
	}
}

func (c *Client) look(id string) (tasks.Task, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return tasks.Task{}, nil, c.err
	}
	found, ok := c.tasks[id]
	if !ok {
		known := slices.Sorted(maps.Keys(c.tasks))
		return tasks.Task{}, nil, errors.Join(fmt.Errorf("%s: %w", id, tasks.ErrNotFound), fmt.Errorf("recorded are %q", known))
	}
	return found.Task, c.changed, nil
}

// Close does nothing; it is there because the real client has one.
func (c *Client) Close() error { return nil }
