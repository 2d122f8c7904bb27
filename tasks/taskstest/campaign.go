package taskstest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/usher/internal/queues"
	"example.com/usher/tasks"
)

// campaign is what is known of one: how it stands, its addresses, and the tasks that have added to it.
type campaign struct {
	tasks.Campaign
	known   map[string]bool // folded addresses
	taskIDs []string
}

// BulkInvite records a bulk-invite task. Every call makes a task of its own; those the campaign has already are not added again.
func (c *Client) BulkInvite(_ context.Context, request tasks.BulkRequest, opts ...tasks.Option) (tasks.Task, error) {
	name, err := request.Name()
	if err != nil {
		return tasks.Task{}, err
	}
	options, err := tasks.Resolve(opts...)
	if err != nil {
		return tasks.Task{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return tasks.Task{}, c.err
	}
	asked := distinct(request.Recipients)
	if known, task, err := c.exists(options.ID, tasks.TypeBulkInvite, Enqueued{asked: asked}); known {
		return task, err
	}
	now, ok := c.campaigns[name]
	if !ok {
		now = &campaign{Campaign: tasks.Campaign{Name: name, DeadByCode: map[string]int{}}, known: map[string]bool{}}
	}
	if err := now.start(options.At); err != nil {
		return tasks.Task{}, err
	}
	c.campaigns[name] = now
	fresh := now.add(asked, options.At)
	bulk := now.bulk()
	bulk.Added, bulk.Known, bulk.Duplicates = len(fresh), len(asked)-len(fresh), len(request.Recipients)-len(asked)
	task := c.put(tasks.TypeBulkInvite, queues.Campaign, Enqueued{Recipients: fresh, asked: asked, Task: tasks.Task{Bulk: bulk}}, options)
	now.taskIDs = append(now.taskIDs, task.ID)
	return task, nil
}

// distinct gives recipients as they are enqueued, without repeated addresses.
func distinct(all []tasks.Recipient) []tasks.Recipient {
	seen := map[string]bool{}
	var once []tasks.Recipient
	for _, r := range all {
		if folded := tasks.FoldAddress(r.EmailAddress); !seen[folded] {
			seen[folded] = true
			once = append(once, r.Normalize())
		}
	}
	return once
}

// start begins or schedules a campaign that is new, and refuses what the real client does.
func (c *campaign) start(at time.Time) error {
	later := at.After(time.Now())
	if c.State == "" {
		c.begin(at, later)
		return nil
	}
	return c.State.Refuses(later)
}

func (c *campaign) begin(at time.Time, later bool) {
	c.FinishedAt = time.Time{}
	if later {
		c.State, c.ScheduledAt = tasks.CampaignScheduled, at
		return
	}
	c.State, c.ScheduledAt = tasks.CampaignRunning, time.Time{}
	if c.StartedAt.IsZero() {
		c.StartedAt = time.Now()
	}
}

// add adds those that are new, which reopens a finished campaign, and gives them.
func (c *campaign) add(recipients []tasks.Recipient, at time.Time) (fresh []tasks.Recipient) {
	for _, r := range recipients {
		if folded := tasks.FoldAddress(r.EmailAddress); !c.known[folded] {
			c.known[folded] = true
			fresh = append(fresh, r)
		}
	}
	c.Recipients += len(fresh)
	c.Remaining += len(fresh)
	if len(fresh) > 0 && c.State == tasks.CampaignFinished {
		c.begin(at, at.After(time.Now()))
	}
	return fresh
}

func (c *campaign) bulk() *tasks.Bulk {
	return &tasks.Bulk{Campaign: c.Name, Recipients: c.Recipients, Sent: c.Sent, Dead: c.Dead, Remaining: c.Remaining}
}

// follow takes over what Finish was told of one of its tasks.
func (c *campaign) follow(task tasks.Task) {
	c.Recipients, c.Sent, c.Dead, c.Remaining = task.Bulk.Recipients, task.Bulk.Sent, task.Bulk.Dead, task.Bulk.Remaining
	if task.State.Ended() {
		c.State, c.FinishedAt = tasks.CampaignFinished, time.Now()
	}
	if task.State == tasks.StateCancelled {
		c.State = tasks.CampaignCancelled
	}
}

// Campaign tells how a campaign stands, or ErrNotFound. It has no ETA.
func (c *Client) Campaign(_ context.Context, name string) (tasks.Campaign, error) {
	return c.control(name, func(*campaign) {})
}

// Campaigns tells how campaigns stand, the newest first, at most limit of them.
func (c *Client) Campaigns(_ context.Context, limit int) ([]tasks.Campaign, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	var all []tasks.Campaign
	seen := map[string]bool{}
	for _, id := range c.order {
		if bulk := c.tasks[id].Task.Bulk; bulk != nil && !seen[bulk.Campaign] {
			seen[bulk.Campaign] = true
			all = append(all, c.campaigns[bulk.Campaign].Campaign)
		}
	}
	slices.Reverse(all)
	return all[:min(max(0, limit), len(all))], nil
}

// Pause marks a campaign as paused.
func (c *Client) Pause(_ context.Context, name string) (tasks.Campaign, error) {
	return c.controlOpen(name, false, func(now *campaign) { now.State = tasks.CampaignPaused })
}

// Resume marks a paused campaign as running, or as scheduled if its time has not come.
func (c *Client) Resume(_ context.Context, name string) (tasks.Campaign, error) {
	return c.controlOpen(name, false, func(now *campaign) {
		if now.State == tasks.CampaignPaused {
			now.begin(now.ScheduledAt, now.ScheduledAt.After(time.Now()))
		}
	})
}

// Cancel marks a campaign and its tasks as cancelled.
func (c *Client) Cancel(_ context.Context, name string) (tasks.Campaign, error) {
	return c.controlOpen(name, true, func(now *campaign) {
		if now.State != tasks.CampaignCancelled {
			now.State, now.FinishedAt = tasks.CampaignCancelled, time.Now()
		}
		for _, id := range now.taskIDs {
			c.tasks[id].Task.State = tasks.StateCancelled
		}
		c.announce()
	})
}

// controlOpen does something to a campaign that is not over. What is cancelled may be cancelled again.
func (c *Client) controlOpen(name string, again bool, do func(*campaign)) (tasks.Campaign, error) {
	var over error
	now, err := c.control(name, func(now *campaign) {
		if now.State == tasks.CampaignFinished || now.State == tasks.CampaignCancelled && !again {
			over = fmt.Errorf("%s is %s: %w", name, now.State, tasks.ErrCampaignOver)
			return
		}
		do(now)
	})
	if over != nil {
		return tasks.Campaign{}, over
	}
	return now, err
}

func (c *Client) control(name string, do func(*campaign)) (tasks.Campaign, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return tasks.Campaign{}, c.err
	}
	now, ok := c.campaigns[name]
	if !ok {
		return tasks.Campaign{}, fmt.Errorf("campaign %s: %w", name, tasks.ErrNotFound)
	}
	do(now)
	return now.Campaign, nil
}
