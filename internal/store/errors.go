package store

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrGarbage means that what Redis holds cannot be read.
	ErrGarbage = errors.New("what Redis holds is garbage")
	// ErrNewer means that a newer version of Usher wrote what Redis holds.
	ErrNewer = errors.New("it was written by a newer version")
)

// IsFull tells that Redis has refused a write because its memory is used up (maxmemory). asynq tells it only in words.
func IsFull(err error) bool {
	return err != nil && strings.Contains(err.Error(), "OOM command not allowed")
}

// What Redis says of a command in a script that its user has no right to: until 7.0, and since 7.2. Valkey says the
// latter.
const (
	noRight70 = "can't run this command"
	noRight72 = "ACL failure in script"
)

// Refused tells an answer with which Redis refuses a command, whoever asks, from one about what the command found. It
// is told only in words.
func Refused(err error) bool {
	answer, answered := errors.AsType[redis.Error](err)
	if !answered {
		return false
	}
	return slices.ContainsFunc([]string{
		"NOPERM", "OOM ", "MISCONF ", "READONLY ", "nknown command", "nknown Redis command", noRight70, noRight72,
	}, func(part string) bool { return strings.Contains(answer.Error(), part) })
}

// Lacks tells an answer that a command is not known, as other servers than Redis and proxies give it. asynq tells it
// only in words.
func Lacks(err error) bool {
	if err == nil {
		return false
	}
	words := strings.ToLower(err.Error())
	return strings.Contains(words, "err unknown command") || strings.Contains(words, "err unknown redis command")
}

// Partial is the error of a reading that has given all but some: it says which, and why. Nil means none.
type Partial struct {
	named []error
	more  int
}

// mostNamed bounds how many are named.
const mostNamed = 10

// Add notes errors about some that are not given. Nil ones are none.
func (p *Partial) Add(errs ...error) {
	for _, err := range errs {
		switch {
		case err == nil:
		case len(p.named) < mostNamed:
			p.named = append(p.named, err)
		default:
			p.more++
		}
	}
}

// With joins an error that has ended the reading with what was not given until then. It is nil if there is neither.
func (p *Partial) With(err error) error {
	if len(p.named) == 0 {
		return err
	}
	return errors.Join(err, p)
}

func (p *Partial) Error() string {
	text := errors.Join(p.named...).Error()
	if p.more > 0 {
		text += fmt.Sprintf("\nand %d more", p.more)
	}
	return text
}

// Unwrap gives the errors that are named.
func (p *Partial) Unwrap() []error { return p.named }

// SplitPartial takes apart what [Partial.With] has joined, and what other errors of a reading were joined with: what
// was not given, and what else went wrong.
func SplitPartial(err error) (partial, other error) {
	if _, ok := err.(*Partial); ok {
		return err, nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil, err
	}
	for _, one := range joined.Unwrap() {
		p, o := SplitPartial(one)
		partial, other = errors.Join(partial, p), errors.Join(other, o)
	}
	if partial == nil {
		return nil, err // in its own words
	}
	return partial, other
}

// Garbage is ErrGarbage in place of Redis's answer that a key has a value of another type, and else the error itself.
func Garbage(err error) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return ErrGarbage
	}
	return err
}

// Wrap says what a function was doing when it failed. It is deferred with the function's error.
func Wrap(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), *err)
	}
}

// Instant reads an instant as our scripts write it, in ms. The error is ErrGarbage.
func Instant(text string) (time.Time, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the instant %.20q: %w", text, ErrGarbage)
	}
	return time.UnixMilli(ms).UTC(), nil
}
