package call

import (
	"errors"
	"runtime/debug"
	"sync"

	"github.com/rs/zerolog"
)

// ErrPanicked is the error of something that panicked.
var ErrPanicked = errors.New("it panicked; the log has the stack")

// Several does n things, so many of them at once, and gives the error of each. A panic is an error, too: in a
// goroutine it would end the process.
func Several(log zerolog.Logger, n, atOnce int, do func(i int) error) []error {
	errs := make([]error, n)
	room := make(chan struct{}, atOnce)
	var doing sync.WaitGroup
	for i := range n {
		room <- struct{}{}
		doing.Go(func() {
			defer func() {
				if panicked := recover(); panicked != nil {
					log.Error().Bytes("stack", debug.Stack()).Msgf("panic: %T", panicked)
					errs[i] = ErrPanicked
				}
				<-room
			}()
			errs[i] = do(i)
		})
	}
	doing.Wait()
	return errs
}
