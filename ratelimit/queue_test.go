package ratelimit

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// scripted is a Redis that needs no network, so that waiting can be tested in a bubble of fake time.
type scripted struct {
	counter
	acquire func() ([]any, error) // answers each acquire script; the others succeed
}

func (s *scripted) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		s.scripts.Add(1)
		c := cmd.(*redis.Cmd)
		if c.Args()[1] != acquireScript.Hash() {
			c.SetVal(int64(1))
			return nil
		}
		val, err := s.acquire()
		c.SetVal(val)
		c.SetErr(err)
		return err
	}
}

// inBubble starts a limiter over a scripted Redis; n goroutines wait when it calls do.
func inBubble(t *testing.T, s *scripted, n int, do func(results <-chan result)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "192.0.2.1:6379"})
		defer rdb.Close()
		rdb.AddHook(s)
		l := newLimiter(t, rdb, calls)
		results := make(chan result, n)
		for i := range n {
			go func() {
				_, err := l.Acquire(t.Context(), hold, Want{Limit: "calls"})
				results <- result{i, time.Now(), err}
			}()
			synctest.Wait()
		}
		do(results)
		if len(l.queues) != 0 {
			t.Errorf("%d queues are left that nobody waits in", len(l.queues))
		}
	})
}

type result struct {
	i   int
	at  time.Time
	err error
}

func reply(granted int, wait time.Duration) []any {
	return []any{int64(granted), wait.Microseconds(), int64(0), ""}
}

func TestFirstComeFirstServed(t *testing.T) {
	var s scripted
	granted := 0
	s.acquire = func() ([]any, error) { // one is told to wait an hour, then one is granted, and so on
		granted ^= 1
		return reply(1-granted, time.Hour), nil
	}
	inBubble(t, &s, 20, func(results <-chan result) {
		start := time.Now()
		var order []int
		for i := range 20 {
			r := <-results
			order = append(order, r.i)
			if want := time.Duration(2*i+1) * time.Hour; r.err != nil || r.at.Sub(start) != want {
				t.Errorf("number %d was served after %v (err %v), want %v", i, r.at.Sub(start), r.err, want)
			}
		}
		if !slices.IsSorted(order) {
			t.Errorf("served in the order %v", order)
		}
	})
	if n := s.scripts.Load(); n != 40 {
		t.Errorf("%d scripts were sent, want 40", n)
	}
}

// A grant says when the next place can come free, so the next waiter asks once.
func TestAGrantTellsTheNextWhenToAsk(t *testing.T) {
	var s scripted
	s.acquire = func() ([]any, error) {
		time.Sleep(time.Second) // in the bubble: until everybody waits
		return reply(1, time.Minute), nil
	}
	inBubble(t, &s, 10, func(results <-chan result) {
		start := time.Now()
		for i := range 10 {
			want := time.Second + time.Duration(i)*(time.Minute+time.Second)
			if r := <-results; r.err != nil || r.at.Sub(start) != want {
				t.Errorf("number %d was served after %v (err %v), want %v", i, r.at.Sub(start), r.err, want)
			}
		}
	})
	if n := s.scripts.Load(); n != 10 {
		t.Errorf("%d scripts were sent, want 10", n)
	}
}

// When Redis is away all waiters get the error at once, not one timeout after another.
func TestAFailureIsSharedByTheLine(t *testing.T) {
	var s scripted
	s.acquire = func() ([]any, error) {
		time.Sleep(time.Second) // in the bubble: until everybody waits
		return nil, errors.New("connection refused")
	}
	inBubble(t, &s, 100, func(results <-chan result) {
		for range 100 {
			if r := <-results; !errors.Is(r.err, ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", r.err)
			}
		}
	})
	if n := s.scripts.Load(); n != 2 { // one that takes, and one that gives back in case it took
		t.Errorf("%d scripts were sent, want 2", n)
	}
}

// A permit that comes too late to be used is no permit.
func TestAGrantThatTookLongerThanTheHold(t *testing.T) {
	var s scripted
	s.acquire = func() ([]any, error) {
		time.Sleep(hold)
		return reply(1, 0), nil
	}
	inBubble(t, &s, 1, func(results <-chan result) {
		if r := <-results; !errors.Is(r.err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", r.err)
		}
	})
	if n := s.scripts.Load(); n != 2 {
		t.Errorf("%d scripts were sent, want 2: it must be given back", n)
	}
}

// Without a limit to count, one answer is for all who waited when Redis was asked, and for nobody who came later.
func TestAnAnswerThatCountsNothingIsShared(t *testing.T) {
	t.Parallel()
	var s scripted
	s.acquire = func() ([]any, error) {
		time.Sleep(time.Second) // in the bubble: until everybody waits
		return reply(1, 0), nil
	}
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "192.0.2.1:6379"})
		defer rdb.Close()
		rdb.AddHook(&s)
		l := newLimiter(t, rdb, Limit{Name: "off"})
		acquired := make(chan error, 20)
		for range 20 {
			go func() {
				_, err := l.Acquire(t.Context(), time.Minute, Want{Limit: "off"})
				acquired <- err
			}()
		}
		for range 20 {
			if err := <-acquired; err != nil {
				t.Error(err)
			}
		}
	})
	if n := s.scripts.Load(); n < 2 || n > 3 { // the first asks for itself, the second for all behind it
		t.Errorf("%d scripts were sent, want two or three", n)
	}
}

func TestAWaiterIsToldWhenTheNextPermitComes(t *testing.T) {
	t.Parallel()
	var s scripted
	answers := [][]any{reply(0, time.Minute), reply(1, time.Hour)}
	s.acquire = func() ([]any, error) {
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "192.0.2.1:6379"})
		defer rdb.Close()
		rdb.AddHook(&s)
		start := time.Now()
		var told []time.Duration
		_, err := newLimiter(t, rdb, calls).AcquireTold(t.Context(), hold, func(next time.Time) {
			told = append(told, next.Sub(start))
		}, Want{Limit: "calls"})
		if want := []time.Duration{time.Minute, time.Minute + time.Hour}; err != nil || !slices.Equal(told, want) {
			t.Errorf("told %v, %v, want %v", told, err, want)
		}
	})
}
