package worker

import (
	"context"
	"os"
	"time"

	"github.com/google/uuid"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
)

// announce says every few seconds that this worker lives, what it does and what became of recipients, until it begins
// to stop.
func (w *Worker) announce(keyKind string) {
	host, _ := os.Hostname() // an unknown one is empty
	self := store.Worker{
		ID: uuid.NewString(), Host: host, PID: os.Getpid(), Version: settings.Version(), KeyKind: keyKind,
		Since: time.Now().UTC(),
	}
	workers, tally := store.NewWorkers(w.Redis, w.Namespace), store.NewTally(w.Redis, w.Namespace)
	say := func(ctx context.Context) {
		self.Active = w.handler.Active()
		_ = workers.Announce(ctx, self) // it is said again soon; Redis that cannot answer is told elsewhere
		w.Metrics.tally.write(ctx, tally)
	}
	said := time.Now()
	for say(w.accepting); policy.Sleep(w.accepting, store.WorkerSeen) == nil; {
		say(w.accepting)
		if time.Since(said) >= policy.LimitsAgain {
			said = time.Now()
			_ = w.announceLimits(w.accepting)
		}
	}
	self.Stopped = true
	say(w.flight)
}

// announceLimits says by which limits this worker sends. It says so again and again: another worker with other limits,
// which is gone by now, may have said so after this one.
func (w *Worker) announceLimits(ctx context.Context) error {
	if err := w.caller.Limiter.Announce(ctx); err != nil {
		return err
	}
	return w.Policy.Announce(ctx, w.Redis, w.Namespace)
}
