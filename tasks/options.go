package tasks

import (
	"cmp"
	"time"

	"github.com/google/uuid"

	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
)

// Options are what a producer may say of any task beside its payload.
type Options struct {
	ID string    // its own id for the task; empty for a fresh one
	At time.Time // when to run it; zero for at once

	// Owner is the name of the HTTP API's token that asks; empty for any other producer. It is part of the task's id, so
	// that no producer takes an id of another.
	Owner string
	// Request stands for what was asked under the ID, if that is more than the payload. It is compared instead of it.
	Request string
}

// id is the id of the task: the producer's own, or else a fresh one.
func (o Options) id() string {
	id := cmp.Or(o.ID, uuid.NewString())
	if o.Owner != "" {
		id = record.OwnedID(o.Owner, id)
	}
	return id
}

// asked gives what is compared under the ID.
func (o Options) asked(identity []byte) []byte {
	if o.Request != "" {
		return []byte(o.Request)
	}
	return identity
}

// Option sets one of a task's Options.
type Option func(*Options)

// ID gives the task an id of the producer's own, unique over all types and kept for 30 days after the task's end:
// enqueuing the same id and payload again adds nothing and returns ErrExists, another payload returns ErrConflict.
func ID(id string) Option { return func(o *Options) { o.ID = id } }

// At runs the task at an instant, or at once if that has passed.
func At(t time.Time) Option { return func(o *Options) { o.At = queues.WholeSecond(t) } }

// In runs the task after a while.
func In(d time.Duration) Option { return At(time.Now().Add(d)) }

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
