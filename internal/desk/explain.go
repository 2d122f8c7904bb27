package desk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/schedule"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/tasks"
)

// Kind is a kind of error, by which programs tell errors apart.
type Kind string

// The kinds of errors.
const (
	Changed      Kind = "changed"           // it is not any more what it was when it was chosen
	Unsure       Kind = "unsure"            // nobody knows whether it was done
	FullRedis    Kind = "redis_full"        // Redis takes no writes
	NoRedis      Kind = "redis_unavailable" // Redis does not answer, or lets nobody in
	NoRight      Kind = "redis_refuses"     // its user lacks a right
	Held         Kind = "held"
	Conflict     Kind = "conflict"
	Forgotten    Kind = "forgotten"
	Setting      Kind = "setting"
	Invalid      Kind = "invalid"
	Usage        Kind = "usage"
	NotFound     Kind = "not_found"
	NotDeletable Kind = "not_deletable"
	Over         Kind = "over"
	Failed       Kind = "failed" // anything else
)

// PartlyDoneError is the error at which something that is done for several broke off.
type PartlyDoneError struct {
	Done int // for so many it was done
	Err  error
}

func (e *PartlyDoneError) Error() string { return e.Err.Error() }

func (e *PartlyDoneError) Unwrap() error { return e.Err }

// PartlyDone gives an error that came when something had been done for so many already.
func PartlyDone(done int, err error) error {
	if err == nil || done == 0 {
		return err
	}
	return &PartlyDoneError{done, err}
}

// AsksForRedis is what to ask where Redis cannot be reached.
const AsksForRedis = "is it running, and REDIS_URL right?"

// RedisFault says in a few words what is wrong with Redis itself, so that nothing can be read or written, and what a
// person should ask. It is empty if nothing is. That it is full is another matter: then it can be read.
func RedisFault(err error) (fault, ask string) {
	if isA[*clerkclient.Error](err) {
		return "", "" // the connection that failed is one to Clerk
	}
	for _, prefix := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN"} {
		if redis.HasErrorPrefix(err, prefix) {
			return "Redis does not serve this at present", "does it start, or is it a replica?"
		}
	}
	if fault, ask = settings.Odd(err); fault != "" {
		return fault, ask
	}
	unreachable, isNet := errors.AsType[net.Error](err)
	switch {
	case settings.RefusedLogin(err):
		return "Redis refuses the user or the password", "is REDIS_URL right?"
	case store.Lacks(err):
		return "Redis does not know a command", "is it another server, or a proxy that does not pass on every command?"
	case !Unanswered(err):
		return "", ""
	case isNet && unreachable.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return "Redis does not answer", "is it overloaded, or REDIS_URL wrong?"
	}
	return "Redis cannot be reached", AsksForRedis
}

// Unanswered tells that Redis has not answered, so that nobody knows whether it has done what it was asked.
func Unanswered(err error) bool {
	isNet := isA[net.Error](err) && !isA[*fs.PathError](err) // which is both
	return isNet || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, io.EOF)
}

// Undone says what was not done when Redis was too full for it.
func Undone(err error) string {
	if p, ok := errors.AsType[*PartlyDoneError](err); ok && p.Done > 0 {
		return fmt.Sprintf("it was done for %d, and not for the others", p.Done)
	}
	return "nothing was changed"
}

// Explain tells an error to a person: what kind it is, and what to do where the error itself does not say.
func Explain(err error) (kind Kind, words string) {
	const (
		full     = "Redis is full (its maxmemory is used up): "
		makeRoom = ". Raise its maxmemory, or make room: enqueue campaign delete works all the same"
	)
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
	words = strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	switch {
	case is(deadletter.ErrBegun, deadletter.ErrChanged):
		return Changed, words
	case is(tasks.ErrUnsure) && store.IsFull(err):
		return Unsure, full + words
	case store.IsFull(err):
		return FullRedis, full + Undone(err) + makeRoom
	case is(tasks.ErrUnsure):
		return Unsure, words
	case is(tasks.ErrHeld):
		return Held, words
	case is(tasks.ErrConflict):
		return Conflict, words
	case is(tasks.ErrForgotten):
		return Forgotten, words
	case isA[*settings.Error](err):
		return Setting, words
	case isA[*tasks.InvalidError](err):
		return Invalid, words
	case is(policy.ErrNamespace):
		return Usage, words
	case is(tasks.ErrNotFound, deadletter.ErrNotFound, ledger.ErrNotFound, schedule.ErrNotFound):
		return NotFound, words
	case is(ledger.ErrNotOver, ledger.ErrUnsettled, ledger.ErrChanged):
		return NotDeletable, words
	case is(ledger.ErrOver):
		return Over, words
	}
	if rights, named := errors.AsType[*store.RightsError](err); named {
		return NoRight, rights.Error()
	}
	if store.NoRight(err) {
		return NoRight, "Redis refuses its user a command: " + words
	}
	if lost, ok := errors.AsType[*clerkclient.Error](err); ok && lost.Code == clerkclient.CodeDial {
		return Failed, "Clerk cannot be reached (is CLERK_API_URL right?): " + words
	}
	if fault, ask := RedisFault(err); fault != "" {
		return NoRedis, fault + " (" + ask + "): " + words
	}
	return Failed, words
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
