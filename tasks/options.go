package tasks

import "time"

// Options are what a producer may say of any task beside its payload.
type Options struct {
	ID string    // its own id for the task; empty for a fresh one
	At time.Time // when to run it; zero for at once
}

// Option sets one of a task's Options.
type Option func(*Options)

// ID gives the task an id of the producer's own, unique over all types and kept for 30 days after the task's end:
// enqueuing the same id and payload again adds nothing and returns ErrExists, another payload returns ErrConflict.
func ID(id string) Option { return func(o *Options) { o.ID = id } }

// At runs the task at an instant, or at once if that has passed.
func At(t time.Time) Option { return func(o *Options) { o.At = t } }

// In runs the task after a while.
func In(d time.Duration) Option { return func(o *Options) { o.At = time.Now().Add(d) } }

// Resolve applies options and checks them: an *InvalidError says which is wrong.
func Resolve(opts ...Option) (Options, error) {
	var o Options
	for _, set := range opts {
		set(&o)
	}
	if o.ID == "" {
		return o, nil
	}
	return o, validateTaskID(o.ID)
}
