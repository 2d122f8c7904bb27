package call

import (
	"errors"
	"runtime/debug"
	"sync"

	"github.com/rs/zerolog"

	"example.com/usher/internal/fate"
)

// ErrPanicked is the error of something that panicked.
var ErrPanicked = errors.New("it panicked; the log has the stack")

// Panicked is ErrPanicked as it is kept.
func Panicked() fate.Failure {
	return fate.Failure{Code: "panic", Message: "the worker panicked; its log has the stack"}
}

// Guarded does something that may panic. A panic becomes the error ErrPanicked, and the log has its stack: in a
// goroutine it would end the process.
func Guarded(log zerolog.Logger, do func() error) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			log.Error().Bytes("stack", debug.Stack()).Msgf("panic: %T", panicked)
			err = ErrPanicked
		}
	}()
	return do()
}

// Several does n things, guarded and so many of them at once, and gives the error of each.
func Several(log zerolog.Logger, n, atOnce int, do func(i int) error) []error {
	errs := make([]error, n)
	room := make(chan struct{}, atOnce)
	var doing sync.WaitGroup
	for i := range n {
		room <- struct{}{}
		doing.Go(func() {
			errs[i] = Guarded(log, func() error { return do(i) })
			<-room
		})
	}
	doing.Wait()
	return errs
}
