package call

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// TestWhatComesMeanwhileIsDoneTogether: the first at once, the others when it is done, as many as are allowed.
func TestWhatComesMeanwhileIsDoneTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		var batches [][]int
		failed := errors.New("failed")
		b := NewBatcher(zerolog.Nop(), 25, func(sizes []int) error {
			batches = append(batches, slices.Clone(sizes))
			if <-hold; len(sizes) == 1 {
				return failed
			}
			if slices.Contains(sizes, 13) {
				panic("secret")
			}
			return nil
		})
		errs := make([]error, 7)
		var doing sync.WaitGroup
		for i, size := range []int{10, 10, 10, 5, 13, 12, 30} {
			doing.Go(func() { errs[i] = b.Do(size, size) })
			synctest.Wait() // they come in this order
		}
		close(hold)
		doing.Wait()
		if want := [][]int{{10}, {10, 10, 5}, {13, 12}, {30}}; !slices.EqualFunc(batches, want, slices.Equal) {
			t.Errorf("they were done as %v, want %v", batches, want)
		}
		for i, want := range []error{failed, nil, nil, nil, ErrPanicked, ErrPanicked, failed} {
			if !errors.Is(errs[i], want) {
				t.Errorf("the error of %d is %v, want %v", i, errs[i], want)
			}
		}
	})
}

func TestABatcherThatIsIdleBeginsAnew(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	done := 0
	b := NewBatcher(zerolog.New(&log), 1, func([]int) error { done++; return nil })
	for range 3 {
		if err := b.Do(1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if done != 3 || log.Len() > 0 {
		t.Errorf("%d were done; the log has %q", done, log.String())
	}
}
