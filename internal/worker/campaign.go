package worker

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"example.com/usher/internal/ledger"
	"example.com/usher/internal/record"
)

// driver works through the ledger of one campaign: it keeps as many calls under way as there is work for, and ends when
// the ledger says that nothing is left.
type driver struct {
	w        *Worker
	task     string // id of the task that drives
	campaign string

	senders  sync.WaitGroup
	returned chan ledger.Travel // a sender of this kind has returned
	flying   map[ledger.Travel]int
}

func (w *Worker) drive(ctx context.Context, r *run, campaign string) (ending, error) {
	var state ledger.State
	err := w.persist(ctx, func(ctx context.Context) (err error) {
		if _, err = w.ledgers.Get(ctx, campaign); err == nil { // it checks the version
			state, err = w.ledgers.Start(ctx, campaign)
		}
		return err
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return ending{dead: &record.Failure{Reason: record.Invalid, Code: "campaign_unknown", Message: "Redis holds no campaign of this name"}}, nil
	case errors.Is(err, ledger.ErrNewer):
		w.log.Warn().Str("id", r.id).Str("campaign", campaign).Msg("campaign left for a newer worker")
		return ending{later: newerRest}, nil
	case err != nil:
		return ending{}, err
	case state == ledger.Running:
		w.log.Info().Str("id", r.id).Str("campaign", campaign).Msg("campaign is driven")
	}
	d := &driver{w: w, task: r.id, campaign: campaign, returned: make(chan ledger.Travel), flying: map[ledger.Travel]int{}}
	state, err = d.run(ctx)
	if err != nil {
		return ending{}, err
	}
	if state == ledger.Paused {
		return ending{later: newerRest}, nil
	}
	var head ledger.Campaign
	err = w.persist(w.settling, func(ctx context.Context) (err error) {
		head, err = w.ledgers.Get(ctx, campaign)
		return err
	})
	r.record.Attempts = 1
	return ending{detail: map[string]int{"recipients": head.Recipients, "sent": head.Sent, "dead": head.Dead}}, err
}

// run returns when the campaign no longer runs, or the context ends; no call of its own is under way then.
func (d *driver) run(ctx context.Context) (ledger.State, error) {
	senders, stop := context.WithCancel(ctx)
	defer d.senders.Wait()
	defer stop() // those that still wait for a permit
	for {
		var p ledger.Progress
		err := d.w.persist(ctx, func(ctx context.Context) (err error) {
			p, err = d.w.ledgers.Progress(ctx, d.campaign)
			return err
		})
		if err != nil || p.State != ledger.Running {
			return p.State, err
		}
		d.send(senders, ledger.InBulk, (p.Waiting+bulkSize-1)/bulkSize)
		d.send(senders, ledger.Singly, p.Singles)
		if err := d.await(ctx, p); err != nil {
			return p.State, err
		}
	}
}

// send starts as many senders as there are calls to make, less those that are under way.
func (d *driver) send(ctx context.Context, travel ledger.Travel, calls int) {
	for d.flying[travel] < min(calls, campaignSenders) {
		d.flying[travel]++
		d.senders.Go(func() {
			defer func() {
				if p := recover(); p != nil { // its recipients are given out again when their hold has passed
					d.w.log.Error().Str("campaign", d.campaign).Bytes("stack", debug.Stack()).Msgf("panic: %T", p)
				}
				select {
				case d.returned <- travel:
				case <-ctx.Done():
				}
			}()
			d.sendOnce(ctx, travel)
		})
	}
}

// await sleeps until a sender has returned or a recipient is due. With no sender under way it looks again after a while:
// recipients may have been added.
func (d *driver) await(ctx context.Context, p ledger.Progress) error {
	idle := d.flying[ledger.InBulk]+d.flying[ledger.Singly] == 0
	var due <-chan time.Time
	switch pause := max(p.NextDue, 10*time.Millisecond); {
	case idle:
		due = time.After(min(pause, driverPoll))
	case p.Later+p.Open > 0:
		due = time.After(pause)
	}
	select {
	case travel := <-d.returned:
		d.flying[travel]--
	case <-due:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
