package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
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
