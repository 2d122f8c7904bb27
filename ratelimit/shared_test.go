package ratelimit

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/usher/internal/testkit"
)

// TestSuccessesAtTheSameTimeAreReportedOnce: those that come before a report begins share it; those that come while it
// is under way share the next one, since it may have been too early for them.
func TestSuccessesAtTheSameTimeAreReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold, failed := make(chan struct{}), errors.New("failed")
		s := newShared()
		told := 0
		tell := func() (int, error) {
			told++
			if <-hold; told == 2 {
				return 1, failed
			}
			return 1, nil
		}
		answers, errs := make([]int, 4), make([]error, 4)
		var reporting sync.WaitGroup
		for i := range answers {
			reporting.Go(func() { answers[i], errs[i] = s.do(tell) })
			synctest.Wait()
		}
		close(hold)
		reporting.Wait()
		if told != 2 || !slices.Equal(answers, []int{1, 1, 0, 0}) {
			t.Errorf("told %d times, with the answers %v", told, answers)
		}
		if !slices.Equal(errs, []error{nil, failed, failed, failed}) {
			t.Errorf("the errors are %v", errs)
		}
	})
}

// TestASharedSuccessEndsAnOutage: nothing else is counted, so that calls which succeed together may share their report.
func TestASharedSuccessEndsAnOutage(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	l := newLimiter(t, rdb, Limit{Name: "rest"})
	permits := make([]*Permit, 50)
	for i := range permits {
		permits[i] = mustTake(t, l, time.Minute, Want{Limit: "rest"})
	}
	f := breaker
	f.Few, f.Many = 2, 2
	if refusals, err := mustTake(t, l, time.Minute, Want{Limit: "rest"}).Fail(t.Context(), "rest", f); refusals != 0 ||
		err != nil {
		t.Fatal(refusals, err)
	}
	var succeeding sync.WaitGroup
	for _, p := range permits {
		succeeding.Go(func() {
			_, err := p.Succeed(t.Context(), "rest", breaker.Breaker)
			testkit.NoError(t, err)
		})
	}
	succeeding.Wait()
	f.Party = "another"
	if refusals, err := mustTake(t, l, time.Minute, Want{Limit: "rest"}).Fail(t.Context(), "rest", f); refusals != 0 ||
		err != nil {
		t.Errorf("a failure after a success is the first one again: %d, %v", refusals, err)
	}
}
