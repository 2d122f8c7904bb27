package handle

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/usher/internal/call"
	"example.com/usher/internal/dispatch"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/forecast"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/record"
	"example.com/usher/tasks"
)

// driver works through the ledger of one campaign: it has recipients looked up, offers the dispatcher those that are
// ready, and ends when the ledger says that nothing is left.
type driver struct {
	h          *Handler
	task       string // id of the task that drives
	campaign   string
	generation int

	changed  chan struct{} // something happened in the ledger
	state    atomic.Value  // of the campaign, at the last look: a ledger.State
	settling *call.Batcher[[]ledger.Outcome]
	story    story
	dead     atomic.Int32 // that were told

	asking  sync.WaitGroup
	looking atomic.Int32 // look-ups under way
	lost    atomic.Int32 // questions about lost calls under way
	reading sync.Mutex   // held while one of these reads Clerk's list
}

func (h *Handler) drive(ctx context.Context, r *run, payload tasks.BulkInvitePayload) error {
	campaign := payload.Campaign
	var head ledger.Campaign
	state, err := persisted(ctx, h, func(ctx context.Context) (state ledger.State, err error) {
		if head, err = h.ledgers.Get(ctx, campaign); err != nil { // it checks the version
			return "", err
		}
		return h.ledgers.Start(ctx, campaign)
	})
	switch {
	case h.deleted(r, campaign, err):
		return nil
	case err != nil:
		return noCampaign(err)
	}
	d := &driver{
		h: h, task: r.id, campaign: campaign, generation: ledger.GenerationOf(r.id), changed: make(chan struct{}, 1),
		story: story{
			log: h.log.With().Str("id", r.id).Str("campaign", campaign).Logger(),
			foretell: func(ctx context.Context) (forecast.Forecast, error) {
				return forecast.Of(ctx, h.rdb, h.namespace, h.policy, campaign)
			},
		},
	}
	d.settling = call.NewBatcher(d.story.log, settledAtOnce, d.settle)
	if state == ledger.Running {
		d.story.begin(head, head.StartedAt.IsZero())
	}
	last, err := d.run(ctx)
	if err != nil {
		return err
	}
	r.record.Attempts = 1
	head, err = persisted(h.life.Writing, h, func(ctx context.Context) (ledger.Campaign, error) {
		return h.ledgers.Get(ctx, campaign)
	})
	switch {
	case h.deleted(r, campaign, err):
		return nil
	case head.State == ledger.Cancelled:
		r.record.State = record.Cancelled
	}
	r.story = func() { d.story.end(head, last) }
	return err
}

// deleted ends the task of a campaign that was deleted meanwhile as cancelled, and tells whether it was.
func (h *Handler) deleted(r *run, campaign string, err error) bool {
	_, deleted := errors.AsType[*ledger.DeletedError](err)
	if deleted {
		r.record.State = record.Cancelled
		r.story = func() {
			h.log.Info().Str("id", r.id).Str("campaign", campaign).Str("outcome", "deleted").Msg("campaign ended")
		}
	}
	return deleted
}

// noCampaign makes a task a dead letter whose campaign is not there.
func noCampaign(err error) error {
	if errors.Is(err, ledger.ErrNotFound) {
		const message = "Redis holds no campaign of this name"
		return &died{fate.Failure{Reason: fate.ReasonInvalid, Code: "campaign_unknown", Message: message}}
	}
	return err
}

// uploadPoll is the longest time between two looks at a campaign that takes in an upload.
const uploadPoll = 500 * time.Millisecond

// run returns when the campaign is over or has another driver, or the context ends; none of its recipients is in a call
// or a question of this driver then. It gives the last look.
func (d *driver) run(ctx context.Context) (last ledger.Progress, err error) {
	defer d.asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a question may last for minutes
	feed := d.h.dispatcher.Open(d.campaign, func(delivery *dispatch.Delivery) {
		d.guard(func() { d.finish(delivery) })
	})
	defer feed.Close()
	for {
		feed.Reading()
		p, err := persisted(ctx, d.h, func(ctx context.Context) (ledger.Progress, error) {
			return d.h.ledgers.Advance(ctx, d.campaign, d.generation)
		})
		if err == nil && p.Generation > d.generation {
			d.h.log.Info().Str("id", d.task).Str("campaign", d.campaign).Msg("another task drives the campaign")
			return p, errEnded
		}
		draining := p.State == ledger.Cancelled && p.Open+p.Unsure+p.Later > 0
		goesOn := p.State == ledger.Running || p.State == ledger.Uploading || p.State == ledger.Paused || draining
		if err != nil || !goesOn {
			return p, err
		}
		if p.Found > 0 {
			d.story.log.Warn().Int("recipients", p.Found).
				Msg("recipients that stood in no list wait again; Redis has refused a command in the middle of a script")
		}
		d.state.Store(p.State)
		d.story.look(ctx, time.Now(), p)
		feed.Offer(d.prepare(ctx, p))
		pause := policy.DriverPoll // no longer than the lease allows
		if p.State == ledger.Uploading {
			pause = uploadPoll
		}
		if p.Later+p.Open > 0 {
			pause = min(pause, max(p.NextDue, 10*time.Millisecond))
		}
		select {
		case <-d.changed:
		case <-time.After(pause):
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// prepare has Clerk asked about recipients whose last call's outcome is not known, and looks recipients up until
// enough are ready. It tells how many wait for calls. A campaign that does not run makes none.
func (d *driver) prepare(ctx context.Context, p ledger.Progress) dispatch.Waiting {
	if p.Unsure > 0 && d.lost.Load() < policy.LookupsAtOnce {
		d.ask(&d.lost, func() { d.resolveUnsure(ctx) })
	}
	if p.State != ledger.Running {
		return dispatch.Waiting{}
	}
	if !d.h.policy.LooksUp() {
		return dispatch.Waiting{Ready: p.Ready + p.Waiting, Alone: p.Singles}
	}
	left, looking := p.Waiting, int(d.looking.Load())
	for left > 0 && looking < policy.LookupsAtOnce && p.Ready+looking*policy.LookupSize < d.h.policy.Ahead() {
		left -= policy.LookupSize
		looking++
		d.ask(&d.looking, func() { d.lookUp(ctx) })
	}
	return dispatch.Waiting{
		Ready: p.Ready, Alone: p.Singles, Coming: looking > 0 || left > 0, Behind: max(0, left),
	}
}

// change wakes the driver.
func (d *driver) change() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// ask lets a question to Clerk run beside the driver and wakes it afterwards.
func (d *driver) ask(running *atomic.Int32, question func()) {
	running.Add(1)
	d.asking.Go(func() {
		d.guard(question)
		running.Add(-1)
		d.change()
	})
}

// guard does something that may panic. The recipients that it was about are given out again when their hold has
// passed.
func (d *driver) guard(do func()) {
	_ = call.Guarded(d.h.log.With().Str("campaign", d.campaign).Logger(), func() error {
		do()
		return nil
	})
}
