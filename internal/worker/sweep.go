package worker

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/tasks"
)

// sweep gives a new driver to running campaigns whose driver has died, until the context ends: asynq would take a
// minute or two to run its task again. It also finishes uploads whose producer is slow or has died.
func (w *Worker) sweep(ctx context.Context) {
	client, ledgers := asynq.NewClientFromRedisClient(w.Redis), ledger.New(w.Redis, w.Namespace)
	for policy.Sleep(ctx, policy.SweepInterval) == nil {
		w.sweepOnce(ctx, client, ledgers)
	}
}

func (w *Worker) sweepOnce(ctx context.Context, client *asynq.Client, ledgers *ledger.Ledgers) {
	if err := w.driveOrphans(ctx, client, ledgers); err != nil && ctx.Err() == nil {
		w.Log.Warn().Err(err).Msg(noDriver + "; it is tried again")
	}
	if err := w.finishUploads(ctx, client, ledgers); err != nil && ctx.Err() == nil {
		w.Log.Warn().Err(err).Msg(noUpload + "; it is tried again")
	}
}

func (w *Worker) driveOrphans(ctx context.Context, client *asynq.Client, ledgers *ledger.Ledgers) error {
	orphans, err := ledgers.Sweep(ctx)
	for _, orphan := range orphans {
		campaign := ledger.Campaign{Name: orphan.Name, Generation: orphan.Generation}
		id, driveErr := tasks.EnqueueDriver(ctx, w.Redis, client, queues.Name(w.Namespace, queues.Campaign), campaign)
		w.Log.Info().Str("id", id).Str("campaign", orphan.Name).Msg("campaign had no driver and is given one")
		err = errors.Join(err, driveErr)
	}
	return err
}

// finishUploads moves recipients into their campaigns, and out of cancelled ones.
func (w *Worker) finishUploads(ctx context.Context, client *asynq.Client, ledgers *ledger.Ledgers) error {
	names, err := ledgers.Moving(ctx)
	for _, name := range names {
		campaign, moveErr := ledgers.Move(ctx, name)
		if moveErr == nil && campaign.Uploads == 0 {
			_, moveErr = tasks.EnqueueDriver(ctx, w.Redis, client, queues.Name(w.Namespace, queues.Campaign), campaign)
		}
		if moveErr == nil {
			moveErr = ledgers.Moved(ctx, campaign)
		}
		err = errors.Join(err, moveErr)
	}
	return err
}
