// Package taskstest gives producers a client for their own tests. It is the real client with a Redis of its own in
// memory, so it answers as the real one does. It records what is enqueued, and a test decides how each task ends.
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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// Enqueued is one task as a producer asked for it.
type Enqueued struct {
	Task tasks.Task // as the client returned it
	// Recipients of an invite (one) or bulk-invite, normalized; of a bulk, those that were new to its campaign.
	Recipients []tasks.Recipient
	// InvitationID, EmailAddress or Campaign is what a revoke asks for.
	InvitationID, EmailAddress, Campaign string
}

// Client is a [tasks.Client] that records what is enqueued. Use New. It is safe for concurrent use.
type Client struct {
	*tasks.Client
	redis *miniredis.Miniredis
	rdb   *redis.Client

	known sync.Map // recipients of campaigns

	mu       sync.Mutex
	enqueued []Enqueued
	outage   error
}

// New starts a client; Close ends it. New panics if it finds no free port on the loopback interface.
func New() *Client {
	c := &Client{redis: miniredis.NewMiniRedis()}
	err := c.redis.Start()
	c.rdb = redis.NewClient(&redis.Options{Addr: c.redis.Addr(), Limiter: (*limiter)(c)})
	if err == nil {
		c.Client, err = tasks.NewClient(tasks.Redis(c.rdb))
	}
	if err != nil {
		panic("taskstest: starting a Redis in memory: " + err.Error())
	}
	return c
}

// Close ends the client and its Redis.
func (c *Client) Close() error {
	defer c.redis.Close()
	return c.rdb.Close()
}

// limiter is asked before every command.
type limiter Client

func (l *limiter) Allow() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outage
}

func (*limiter) ReportResult(error) {}

// FailWith makes every later call return an error, as if Redis were away; nil ends that.
func (c *Client) FailWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outage = err
}

// Enqueued returns everything that was enqueued, in order.
func (c *Client) Enqueued() []Enqueued {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.enqueued)
}

// Invited returns every recipient that was enqueued, alone or in a bulk, in order.
func (c *Client) Invited() (all []tasks.Recipient) {
	for _, e := range c.Enqueued() {
		all = append(all, e.Recipients...)
	}
	return all
}

// Forget marks an address as forgotten on request: inviting it is [tasks.ErrForgotten].
func (c *Client) Forget(address string) error {
	tombstones := store.NewTombstones(c.rdb, tasks.DefaultNamespace)
	_, err := tombstones.Set(context.Background(), store.IDOf(address))
	return err
}

// Finish ends a task as a worker would: as done, or as change says. The recipients of a bulk-invite that have no
// outcome yet are sent then, except as many as change adds to Bulk.Dead and to Bulk.Skipped.
func (c *Client) Finish(id string, change func(*tasks.Task)) error {
	ctx := context.Background()
	task, err := c.Status(ctx, id)
	if err != nil {
		return err
	}
	bulk := task.Bulk
	if bulk != nil {
		task.Bulk = new(*bulk)
	}
	task.State = tasks.StateDone
	change(&task)
	switch {
	case bulk == nil:
		return c.end(ctx, task)
	case task.State == tasks.StateCancelled:
		_, err = c.Cancel(ctx, bulk.Campaign)
		return err
	}
	return c.settle(ctx, bulk, task.Bulk.Dead-bulk.Dead, task.Bulk.Skipped-bulk.Skipped)
}

func (c *Client) end(ctx context.Context, task tasks.Task) error {
	records := record.NewStore(c.rdb, tasks.DefaultNamespace)
	r, _, err := records.Get(ctx, task.ID)
	if err != nil {
		return err
	}
	r.Type, r.Queue, r.State, r.EndedAt = task.Type, task.Queue, record.State(task.State), time.Now()
	r.Attempts, r.InvitationID, r.Revoked = task.Attempts, task.InvitationID, task.Revoked
	r.EnqueuedAt = task.EnqueuedAt
	r.Error, r.Skipped = failureOf(task.Error), failureOf(task.Skipped)
	return records.Put(ctx, task.ID, r)
}

func failureOf(f *tasks.Failure) *fate.Failure {
	if f == nil {
		return nil
	}
	return &fate.Failure{
		Reason: fate.Reason(f.Reason), HTTPStatus: f.HTTPStatus, Code: f.Code, Message: f.Message, TraceID: f.TraceID,
	}
}

// settle gives the recipients of a campaign that have no outcome yet theirs.
func (c *Client) settle(ctx context.Context, bulk *tasks.Bulk, dead, skipped int) error {
	ledgers := ledger.New(c.rdb, tasks.DefaultNamespace)
	_, err1 := ledgers.Start(ctx, bulk.Campaign)
	batch, err2 := ledgers.TakeToAsk(ctx, bulk.Campaign, bulk.Remaining, time.Hour, ledger.Waiting)
	outcomes := make([]ledger.Outcome, len(batch.Rows))
	for i, row := range batch.Rows {
		decision := fate.Decision{Next: fate.Sent, Intent: fate.IntentUnchanged}
		switch {
		case i < dead:
			decision.Next, decision.Cause = fate.Dead, &fate.Failure{}
		case i < dead+skipped:
			decision.Next, decision.Cause = fate.Skipped, &fate.Failure{Code: fate.CodeUser}
		}
		outcomes[i] = ledger.Outcome{Row: row, Decision: decision, At: batch.Now}
	}
	_, err3 := ledgers.Settle(ctx, bulk.Campaign, outcomes)
	_, err4 := ledgers.Advance(ctx, bulk.Campaign, 0)
	return errors.Join(err1, err2, err3, err4)
}

// recorded records a task that the real client has enqueued.
func (c *Client) recorded(e Enqueued) func(tasks.Task, error) (tasks.Task, error) {
	return func(task tasks.Task, err error) (tasks.Task, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case err == nil:
			e.Task = task
			c.enqueued = append(c.enqueued, e)
		case c.outage != nil && len(tasks.Faults(err)) == 0:
			err = c.outage // asynq hides it
		}
		return task, err
	}
}

// Invite is [tasks.Client.Invite].
func (c *Client) Invite(ctx context.Context, r tasks.Recipient, opts ...tasks.Option) (tasks.Task, error) {
	e := Enqueued{Recipients: []tasks.Recipient{r.Normalize()}}
	return c.recorded(e)(c.Client.Invite(ctx, r, opts...))
}

// BulkInvite is [tasks.Client.BulkInvite].
func (c *Client) BulkInvite(ctx context.Context, list tasks.BulkRequest, opts ...tasks.Option) (tasks.Task, error) {
	task, err := c.Client.BulkInvite(ctx, list, opts...)
	if err != nil {
		return task, err
	}
	ids := make([]store.AddressID, len(list.Recipients))
	for i, r := range list.Recipients {
		ids[i] = store.IDOf(r.EmailAddress)
	}
	found, err := ledger.New(c.rdb, tasks.DefaultNamespace).Find(ctx, task.Bulk.Campaign, ids)
	e := Enqueued{}
	for i, r := range list.Recipients {
		if _, taken := found[ids[i]]; !taken {
			continue // the address was forgotten
		}
		if _, known := c.known.LoadOrStore(task.Bulk.Campaign+string(ids[i][:]), true); !known {
			e.Recipients = append(e.Recipients, r.Normalize())
		}
	}
	return c.recorded(e)(task, err)
}

// Revoke is [tasks.Client.Revoke].
func (c *Client) Revoke(ctx context.Context, id string, opts ...tasks.Option) (tasks.Task, error) {
	return c.recorded(Enqueued{InvitationID: id})(c.Client.Revoke(ctx, id, opts...))
}

// RevokeEmail is [tasks.Client.RevokeEmail].
func (c *Client) RevokeEmail(ctx context.Context, address string, opts ...tasks.Option) (tasks.Task, error) {
	e := Enqueued{EmailAddress: strings.TrimSpace(address)}
	return c.recorded(e)(c.Client.RevokeEmail(ctx, address, opts...))
}

// RevokeCampaign is [tasks.Client.RevokeCampaign].
func (c *Client) RevokeCampaign(ctx context.Context, name string, opts ...tasks.Option) (tasks.Task, error) {
	return c.recorded(Enqueued{Campaign: name})(c.Client.RevokeCampaign(ctx, name, opts...))
}

// SyncList is [tasks.Client.SyncList].
func (c *Client) SyncList(ctx context.Context, opts ...tasks.Option) (tasks.Task, error) {
	return c.recorded(Enqueued{})(c.Client.SyncList(ctx, opts...))
}
