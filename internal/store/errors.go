package store

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

var (
	// ErrGarbage means that what Redis holds cannot be read.
	ErrGarbage = errors.New("what Redis holds is garbage")
	// ErrNewer means that a newer version of Usher wrote what Redis holds.
	ErrNewer = errors.New("it was written by a newer version")
)

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
