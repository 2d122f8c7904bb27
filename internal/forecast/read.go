package forecast

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/ratelimit"
)

// Kept keeps what was read last for whoever asks soon afterwards: a page and those that are open beside it ask for the
// same. The zero one is ready.
type Kept struct {
	mu     sync.Mutex
	limits kept[withPolicy]
	all    kept[Outlook]
}

type withPolicy struct {
	outlook Outlook
	policy  policy.Policy
}

// keep is for how long a reading is kept.
const keep = time.Second

// kept is one reading. Failures are not kept.
type kept[T any] struct {
	value T
	until time.Time
}

func (k *kept[T]) read(read func() (T, error)) (T, error) {
	if time.Now().Before(k.until) {
		return k.value, nil
	}
	value, err := read()
	if err == nil {
		k.value, k.until = value, time.Now().Add(keep)
	}
	return value, err
}

type keptKey struct{}

// Keeping gives a context in which Read and ReadLimits of one namespace give for a second what they have read.
func Keeping(ctx context.Context, in *Kept) context.Context {
	return context.WithValue(ctx, keptKey{}, in)
}

// Read reads what the forecasts of a namespace are made from, once for all its campaigns.
func Read(ctx context.Context, rdb redis.UniversalClient, namespace string) (Outlook, error) {
	in, keeps := ctx.Value(keptKey{}).(*Kept)
	if !keeps {
		in = &Kept{}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.all.read(func() (Outlook, error) {
		read, err := in.readLimits(ctx, rdb, namespace)
		if err != nil {
			return read.outlook, err
		}
		paused, err := read.outlook.pausedDrivers(ctx, rdb, namespace)
		if err != nil {
			return read.outlook, err
		}
		standings, err := ledger.New(rdb, namespace).Outlook(ctx)
		for _, s := range standings {
			c := read.outlook.campaign(s, read.policy.LooksUp())
			if s.State == ledger.Running && paused != nil {
				c.Held = paused
			}
			read.outlook.Campaigns = append(read.outlook.Campaigns, c)
		}
		return read.outlook, err
	})
}

// ReadLimits reads all but the campaigns, and gives what the workers have announced of their policy.
func ReadLimits(ctx context.Context, rdb redis.UniversalClient, namespace string) (Outlook, policy.Policy, error) {
	in, keeps := ctx.Value(keptKey{}).(*Kept)
	if !keeps {
		in = &Kept{}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	read, err := in.readLimits(ctx, rdb, namespace)
	return read.outlook, read.policy, err
}

func (k *Kept) readLimits(ctx context.Context, rdb redis.UniversalClient, namespace string) (withPolicy, error) {
	return k.limits.read(func() (read withPolicy, err error) {
		read.outlook, read.policy, err = readLimits(ctx, rdb, namespace)
		return read, err
	})
}

func readLimits(ctx context.Context, rdb redis.UniversalClient, namespace string) (Outlook, policy.Policy, error) {
	o := Outlook{At: time.Now()}
	p, known, err := policy.Announced(ctx, rdb, namespace)
	if err != nil {
		return o, p, err
	}
	restored, err := store.ReadRestoration(ctx, store.Open(rdb, namespace))
	if err != nil {
		return o, p, err
	}
	if err := o.readLimits(ctx, rdb, namespace, p); err != nil {
		return o, p, err
	}
	if err := o.readInvites(ctx, rdb, namespace); err != nil {
		return o, p, err
	}
	if err := o.readWorkers(ctx, rdb, namespace, known); err != nil {
		return o, p, err
	}
	switch {
	case restored.Stands():
		o.Trouble = &Standstill{Reason: Restored, Since: restored.At, Message: store.SaysRestored}
		if o.Idle != nil {
			o.Trouble.Message = o.Idle.Message + "; " + store.SaysRestored
		}
	case o.Idle != nil:
		o.Trouble = o.Idle
	}
	return o, p, nil
}

// pausedDrivers is the standstill of the campaigns whose queue is paused; nil if it is not. One that a worker works on
// goes on, so that the queue is looked at only while none does.
func (o *Outlook) pausedDrivers(
	ctx context.Context, rdb redis.UniversalClient, namespace string,
) (*Standstill, error) {
	const kind = "bulk-invite"
	if slices.ContainsFunc(o.Workers, func(w store.Worker) bool { return w.Active[kind] > 0 }) {
		return nil, nil
	}
	drivers, err := queues.Count(ctx, rdb, namespace, queues.Campaign)
	if err != nil || !drivers.Paused || drivers.Active > 0 {
		return nil, err
	}
	return PausedIn(drivers), nil
}

func (o *Outlook) campaign(s ledger.Standing, looksUp bool) Campaign {
	c := Campaign{
		Name: s.Name, Remaining: s.Remaining(), InCalls: s.InCalls, Alone: s.Singles, Done: s.Settled(),
		Start: s.StartedAt.Sub(o.At), Unsure: s.Unsure + s.Asked,
	}
	c.Asking = o.asking(c)
	if s.State == ledger.Scheduled {
		c.Start = s.ScheduledAt.Sub(o.At)
	}
	switch ready := s.InCalls + s.Singles + s.Ready; {
	case s.State != ledger.Running || ready > 0:
	case s.Waiting > 0 && looksUp:
		c.Held = &Standstill{Reason: LookUp, Message: saysLookUp}
	case s.Waiting == 0 && c.Unsure > 0:
		c.Held, c.HeldUntil = &Standstill{Reason: Doubt, Message: saysDoubt}, c.Asking
	case s.Waiting == 0 && s.Later > 0 && s.Doubted:
		c.Held, c.HeldUntil = &Standstill{Reason: Doubt, Message: saysDoubt}, s.NextDue.Sub(o.At)
	case s.Waiting == 0 && s.Later > 0:
		c.Held, c.HeldUntil = &Standstill{Reason: Backoff, Message: saysBackoff}, s.NextDue.Sub(o.At)
	}
	return c
}

// asking is how long Clerk is asked what became of a campaign's unsure recipients: as if all that it has sent was made
// since their calls, and nobody else asked anything.
func (o *Outlook) asking(c Campaign) time.Duration {
	if c.Unsure <= 0 || o.Reads.N <= 0 {
		return 0
	}
	const statuses = 2 // each asks for revoked invitations, too
	list := statuses + c.Done/(policy.ListPage-policy.ListOverlap)
	whole, rest := c.Unsure/policy.LostSize, c.Unsure%policy.LostSize
	calls := whole*list + min(list, statuses*rest)
	return bounded(time.Duration(float64(calls) / float64(o.Reads.N) * float64(o.Reads.Window)))
}

// readLimits reads which places are used, and whether Clerk refuses a key.
func (o *Outlook) readLimits(ctx context.Context, rdb redis.UniversalClient, namespace string, p policy.Policy) error {
	usages, err := ratelimit.ReadFrees(ctx, rdb, namespace)
	if err != nil {
		return err
	}
	o.Create = Places{N: p.Create.N, Window: p.Create.Window}
	o.Bulk = Places{N: p.Bulk.N, Window: p.Bulk.Window}
	o.Overall = Places{N: p.Overall.N, Window: p.Overall.Window}
	reads, _ := p.Wants(policy.Read, "")
	o.Reads = Places{N: reads[0].Max, Window: p.Overall.Window}
	wants, _ := p.Wants(policy.CreateCampaign, "")
	campaigns := wants[0]
	if campaigns.Share != "" {
		o.Share = Places{N: max(0, campaigns.Max), Window: p.Create.Window}
		o.Reserved = campaigns.Max <= 0
	}
	limits := map[string]*Places{
		policy.LimitCreate: &o.Create, policy.LimitBulk: &o.Bulk, policy.LimitOverall: &o.Overall,
	}
	o.Usages, o.Rests = usages, policy.Standstills(usages)
	for _, s := range o.Rests {
		if s.KeyRefused() || s.StopsCreates() {
			o.Trouble = rest(s)
		}
	}
	for i, u := range usages {
		if i == 0 {
			o.At = u.At
		}
		if limit := limits[u.Name]; limit != nil {
			limit.Frees, limit.Blocked = o.spans(u.Frees), u.BlockedUntil.Sub(o.At)
		}
		if u.Name != campaigns.Limit {
			continue
		}
		invites := u.InFlight
		for _, share := range u.Shares {
			if share.Name == campaigns.Share {
				o.Share.Frees = o.spans(share.Frees)
				invites -= share.InFlight
			}
		}
		o.Invites = -max(0, invites) // they are still in their queue, and wait for no call
	}
	return nil
}

// spans returns how long after the reading some instants come.
func (o *Outlook) spans(instants []time.Time) []time.Duration {
	spans := make([]time.Duration, len(instants))
	for i, at := range instants {
		spans[i] = at.Sub(o.At)
	}
	return spans
}

// readInvites reads how many invites wait.
func (o *Outlook) readInvites(ctx context.Context, rdb redis.UniversalClient, namespace string) (err error) {
	o.Interactive, err = queues.Count(ctx, rdb, namespace, queues.Interactive)
	o.Invites = max(0, o.Invites+o.Interactive.Pending+o.Interactive.Active)
	return err
}

// readWorkers reads whether a worker runs that can work. It tells it if none ever has.
func (o *Outlook) readWorkers(ctx context.Context, rdb redis.UniversalClient, namespace string, ever bool) error {
	workers, _, err := store.NewWorkers(rdb, namespace).List(ctx)
	if err != nil {
		return err
	}
	if o.Workers = workers; !ever {
		o.Idle = &Standstill{Reason: NoWorker, Message: saysNeverRan}
		return nil
	}
	lives, err := anyLives(rdb, namespace, workers)
	if err != nil {
		return err
	}
	if !lives {
		o.Idle = &Standstill{Reason: NoWorker, Message: saysNoWorker}
		for _, w := range workers {
			if w.SeenAt.After(o.Idle.Since) {
				o.Idle.Since = w.SeenAt
			}
		}
	}
	if full(ctx, rdb) { // then no worker can say that it lives, either
		if o.Idle == nil {
			o.Idle = &Standstill{}
		}
		o.Idle.Reason, o.Idle.Message = FullRedis, saysFull
	}
	return nil
}

// anyLives tells whether a worker runs. One of an earlier version says nothing of itself.
func anyLives(rdb redis.UniversalClient, namespace string, workers []store.Worker) (bool, error) {
	if slices.ContainsFunc(workers, store.Worker.Lives) {
		return true, nil
	}
	servers, err := asynq.NewInspectorFromRedisClient(rdb).Servers()
	if err != nil {
		return false, fmt.Errorf("reading which workers run: %w", err)
	}
	return slices.ContainsFunc(servers, func(s *asynq.ServerInfo) bool {
		_, drives := s.Queues[queues.Name(namespace, queues.Campaign)]
		return drives && s.Status == "active"
	}), nil
}

// full tells whether Redis takes no writes because its memory is used up. A Redis that does not tell is taken to have
// room.
func full(ctx context.Context, rdb redis.UniversalClient) bool {
	info := rdb.InfoMap(ctx, "memory").Item
	used, err1 := strconv.ParseInt(info("Memory", "used_memory"), 10, 64)
	most, err2 := strconv.ParseInt(info("Memory", "maxmemory"), 10, 64)
	beside, _ := strconv.ParseInt(info("Memory", "mem_not_counted_for_evict"), 10, 64)
	return err1 == nil && err2 == nil && most > 0 && used-beside > most
}
