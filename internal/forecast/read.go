package forecast

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/ratelimit"
)

// Why nothing can be foretold.
const (
	troubleNeverRan = "no worker was ever started, so that its limits are not known"
	troubleNoWorker = "no worker runs"
	troubleKey      = "Clerk refuses the workers' key"
)

// Read reads what a forecast rests on, once for all campaigns of a namespace.
func Read(ctx context.Context, rdb redis.UniversalClient, namespace string) (Outlook, error) {
	o := Outlook{At: time.Now()}
	standings, err := ledger.New(rdb, namespace).Outlook(ctx)
	if err != nil {
		return o, err
	}
	p, known, err := policy.Announced(ctx, rdb, namespace)
	if err != nil {
		return o, err
	}
	for _, s := range standings {
		o.Campaigns = append(o.Campaigns, campaignOf(s, p.LooksUp()))
	}
	if !known {
		o.Trouble = troubleNeverRan
		return o, nil
	}
	if err := o.readLimits(ctx, rdb, namespace, p); err != nil {
		return o, err
	}
	return o, o.readWorkers(rdb, namespace)
}

// Why recipients of a campaign are not ready for a call.
const (
	heldLookUp  = "its recipients are being looked up"
	heldRetries = "its recipients wait for another attempt, because calls have failed"
)

func campaignOf(s ledger.Standing, looksUp bool) Campaign {
	c := Campaign{Name: s.Name, Remaining: s.Remaining(), InCalls: s.InCalls, Alone: s.Alone, Done: s.Sent + s.Dead, Start: s.StartedAt}
	if s.State == ledger.Scheduled {
		c.Start = s.ScheduledAt
	}
	switch ready := s.InCalls + s.Alone + s.Ready; {
	case s.State != ledger.Running || ready > 0:
	case s.Waiting > 0 && looksUp:
		c.Held = heldLookUp
	case s.Waiting == 0 && s.Later > 0:
		c.Held, c.HeldUntil = heldRetries, s.NextDue
	}
	return c
}

// readLimits reads how the limits stand, and whether Clerk refuses a key.
func (o *Outlook) readLimits(ctx context.Context, rdb redis.UniversalClient, namespace string, p policy.Policy) error {
	usages, err := ratelimit.ReadFrees(ctx, rdb, namespace)
	if err != nil {
		return err
	}
	o.Create = Places{N: p.Create.N, Window: p.Create.Window}
	o.Bulk = Places{N: p.Bulk.N, Window: p.Bulk.Window}
	o.Overall = Places{N: p.Overall.N, Window: p.Overall.Window}
	wants, _ := p.Wants(policy.CreateCampaign, "")
	share := wants[0]
	if share.Share != "" {
		o.Share, o.Reserved = Places{N: max(0, share.Max), Window: p.Create.Window}, share.Max <= 0
	}
	limits := map[string]*Places{policy.LimitCreate: &o.Create, policy.LimitBulk: &o.Bulk, policy.LimitOverall: &o.Overall}
	for _, u := range usages {
		o.At = u.At // Redis's clock
		if limit := limits[u.Name]; limit != nil {
			limit.BlockedUntil, limit.Frees = u.BlockedUntil, u.Frees
		} else if strings.HasPrefix(u.Name, policy.KeyLimit("")) && !u.BlockedUntil.IsZero() {
			o.Trouble = troubleKey
		}
		if u.Name != share.Limit {
			continue
		}
		flying := u.InFlight
		for _, s := range u.Shares {
			if s.Name == share.Share {
				o.Share.Frees = s.Frees
				flying -= s.InFlight
			}
		}
		o.Invites = -max(0, flying) // those in calls of their own are still in the queue
	}
	return nil
}

// readWorkers reads how many invites wait, and whether a worker runs that drives campaigns.
func (o *Outlook) readWorkers(rdb redis.UniversalClient, namespace string) error {
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	used, err := inspector.Queues() // a queue exists from its first task on
	if err != nil {
		return fmt.Errorf("reading the queues: %w", err)
	}
	if interactive := policy.Queue(namespace, policy.Interactive); slices.Contains(used, interactive) {
		invites, err := inspector.GetQueueInfo(interactive)
		if err != nil {
			return fmt.Errorf("reading the queue of invites: %w", err)
		}
		o.Invites += invites.Pending + invites.Active
	}
	o.Invites = max(0, o.Invites)
	servers, err := inspector.Servers()
	if err != nil {
		return fmt.Errorf("reading which workers run: %w", err)
	}
	for _, server := range servers {
		if _, drives := server.Queues[policy.Queue(namespace, policy.Campaign)]; drives && server.Status == "active" {
			return nil
		}
	}
	o.Trouble = troubleNoWorker
	return nil
}
