package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// These tests run against a real Redis and real time. They count; none depends on how fast the machine is.

// server counts arrivals, as the other end of the calls does.
type server struct {
	mu       sync.Mutex
	arrivals []time.Time
}

func (s *server) call() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrivals = append(s.arrivals, time.Now().Truncate(time.Microsecond)) // like Redis: by the system's clock
}

// check finds a window with more than n arrivals.
func (s *server) check(t *testing.T, n int, window time.Duration) {
	t.Helper()
	for i := n; i < len(s.arrivals); i++ {
		if span := s.arrivals[i].Sub(s.arrivals[i-n]); span < window {
			t.Errorf("%d calls arrived within %v, allowed are %d in %v", n+1, span, n, window)
		}
	}
}

func TestManyWaitersOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	limit := Limit{Name: "calls", N: 10, Window: 100 * time.Millisecond}
	var srv server
	var wg sync.WaitGroup
	for range 3 {
		l := newLimiter(t, testkit.Client(t, s.Addr), limit)
		for i := range 20 {
			wants := []Want{{Limit: "calls"}}
			if i%2 == 0 {
				wants[0].Share, wants[0].Max = "half", 5
			}
			wg.Go(func() {
				p, err := l.Acquire(t.Context(), 5*time.Second, wants...)
				if err != nil {
					t.Error(err)
					return
				}
				srv.call()
				if err := p.Done(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if len(srv.arrivals) != 60 {
		t.Errorf("%d calls arrived, want 60", len(srv.arrivals))
	}
	srv.check(t, limit.N, limit.Window)
}

// A call costs two scripts: one takes the permit, one reports the answer. A window may cost some more, however many
// wait.
func TestWaitingIsFree(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	for _, waiters := range []int{5, 500} {
		rdb := testkit.Client(t, s.Addr)
		var sent counter
		rdb.AddHook(&sent)
		l := newLimiter(t, rdb, Limit{Name: fmt.Sprintf("calls-%d", waiters), N: 5, Window: 100 * time.Millisecond})
		want := Want{Limit: fmt.Sprintf("calls-%d", waiters)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		made := make(chan struct{})
		for range waiters {
			wg.Go(func() {
				for {
					p, err := l.Acquire(ctx, 5*time.Second, want)
					if err != nil {
						return
					}
					if err := p.Done(t.Context()); err != nil {
						t.Error(err)
					}
					made <- struct{}{}
				}
			})
		}
		const calls = 50
		for range calls {
			<-made
		}
		scripts := sent.scripts.Load()
		go func() {
			for range made {
			}
		}()
		cancel()
		wg.Wait()
		close(made)
		const windows = calls/5 + 1
		if most := int64(2*calls + 4*windows + 10); scripts > most {
			t.Errorf("%d waiters sent %d scripts for %d calls in %d windows, want at most %d", waiters, scripts,
				calls, windows, most)
		}
	}
}

func TestAClosedWindowCostsNothing(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	rdb := testkit.Client(t, s.Addr)
	var sent counter
	rdb.AddHook(&sent)
	l := newLimiter(t, rdb, Limit{Name: "calls", N: 1, Window: time.Hour})
	mustTake(t, l, hold, Want{Limit: "calls"})
	ctx, cancel := context.WithCancelCause(t.Context())
	before := sent.scripts.Load()
	var wg sync.WaitGroup
	errs := make(chan error, 300)
	for range 300 {
		wg.Go(func() {
			_, err := l.Acquire(ctx, hold, Want{Limit: "calls"})
			errs <- err
		})
	}
	waitUntil(t, "300 wait", func() bool { return l.waiters() == 300 && sent.scripts.Load() > before })
	cancel(errors.New("enough"))
	wg.Wait()
	close(errs)
	for err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a cancelled wait ended with %v", err)
		}
	}
	if n := sent.scripts.Load() - before; n != 1 {
		t.Errorf("300 waiters sent %d scripts, want 1", n)
	}
	if len(l.queues) != 0 {
		t.Errorf("%d queues are left that nobody waits in", len(l.queues))
	}
}

func (l *Limiter) waiters() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, q := range l.queues {
		n += q.waiting
	}
	return n
}

func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 20s: %s", what)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// stopper cancels a context while a script is under way.
type stopper struct {
	counter
	cancel context.CancelFunc
}

func (s *stopper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if s.cancel != nil && strings.HasPrefix(cmd.Name(), "eval") {
			s.cancel()
		}
		return err
	}
}

func TestCancellingDuringTheScriptTakesNothing(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	rdb := testkit.Client(t, s.Addr)
	l := newLimiter(t, rdb, calls)
	testkit.NoError(t, l.Announce(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	rdb.AddHook(&stopper{cancel: cancel})
	if p, err := l.Acquire(ctx, hold, Want{Limit: "calls"}); !errors.Is(err, context.Canceled) || p != nil {
		t.Errorf("got %v, %v, want the context's error", p, err)
	}
	if u := usage(t, rdb, "calls"); u.Used != 0 {
		t.Errorf("usage is %+v, want none", u)
	}
	if _, err := l.Acquire(ctx, hold, Want{Limit: "calls"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func TestGivingBackWakesTheNext(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	l := newLimiter(t, testkit.Client(t, s.Addr), Limit{Name: "calls", N: 1, Window: time.Hour})
	p := mustTake(t, l, time.Hour, Want{Limit: "calls"})
	got := make(chan error)
	go func() {
		_, err := l.Acquire(t.Context(), hold, Want{Limit: "calls"})
		got <- err
	}()
	waitUntil(t, "one waits", func() bool { return l.waiters() == 1 })
	testkit.NoError(t, p.Release(t.Context()))
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// Three processes share a rest. The order of their grants tells the calls apart.
func TestANotBeforeHoldsForAll(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	limit := Limit{Name: "calls", N: 100, Window: time.Minute}
	var all []*Limiter
	for range 3 {
		all = append(all, newLimiter(t, testkit.Client(t, s.Addr), limit))
	}
	want, ctx := Want{Limit: "calls"}, t.Context()
	const pause = 300 * time.Millisecond
	told := time.Now()
	testkit.NoError(t, mustTake(t, all[0], hold, want).Refuse(ctx, "calls", pause))

	type granted struct {
		at     time.Time
		permit *Permit
	}
	grants := make(chan granted, 30)
	for _, l := range all {
		for range 10 {
			go func() {
				p, err := l.Acquire(ctx, hold, want)
				if err != nil {
					t.Error(err)
				}
				grants <- granted{time.Now(), p}
			}()
		}
	}
	probe := <-grants
	if after := probe.at.Sub(told); after < pause-time.Millisecond {
		t.Errorf("the first was granted %v after the refusal, want %v", after, pause)
	}
	refused := time.Now()
	testkit.NoError(t, probe.permit.Refuse(ctx, "calls", pause)) // again
	probe = <-grants
	if after := probe.at.Sub(refused); after < pause-time.Millisecond {
		t.Errorf("the second probe was granted %v after the refusal, want %v", after, pause)
	}
	// While it is under way everybody must wait.
	for _, l := range all {
		if p, _, err := l.Try(ctx, hold, want); p != nil || err != nil {
			t.Errorf("granted beside the probe: %v, %v", p, err)
		}
	}
	if len(grants) != 0 {
		t.Errorf("%d were granted beside the probe", len(grants))
	}
	testkit.NoError(t, probe.permit.Done(ctx))
	for range 28 {
		<-grants
	}
}

func TestADeadProbeIsReplaced(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	limit := Limit{Name: "calls", N: 100, Window: time.Minute}
	a, b := newLimiter(t, testkit.Client(t, s.Addr), limit), newLimiter(t, testkit.Client(t, s.Addr), limit)
	want, ctx := Want{Limit: "calls"}, t.Context()
	testkit.NoError(t, mustTake(t, a, hold, want).Refuse(ctx, "calls", 0))
	dead := mustTake(t, a, 400*time.Millisecond, want)
	p, err := b.Acquire(ctx, hold, want)
	testkit.NoError(t, err)
	if time.Now().Before(dead.Deadline()) {
		t.Error("the probe was replaced before its deadline")
	}
	testkit.NoError(t, p.Done(ctx))
}

func TestWithoutRedisNobodyIsGranted(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: 1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	var sent counter
	rdb.AddHook(&sent)
	l := newLimiter(t, rdb, calls)
	want := Want{Limit: "calls"}
	p := mustTake(t, l, hold, want)
	s.Kill()

	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if p, err := l.Acquire(t.Context(), hold, want); !errors.Is(err, ErrUnavailable) || p != nil {
				t.Errorf("without Redis: %v, %v, want ErrUnavailable", p, err)
			}
		})
	}
	wg.Wait()
	if p, _, err := l.Try(t.Context(), hold, want); !errors.Is(err, ErrUnavailable) || p != nil {
		t.Errorf("without Redis: %v, %v, want ErrUnavailable", p, err)
	}
	if err := p.Done(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Done without Redis: %v, want ErrUnavailable", err)
	}
	if err := l.Announce(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Announce without Redis: %v, want ErrUnavailable", err)
	}
	testkit.NoError(t, s.Start(t.Context()))
	p, err := l.Acquire(t.Context(), hold, want)
	testkit.NoError(t, err)
	testkit.NoError(t, p.Done(t.Context()))
}

// A Redis that keeps its memory keeps the windows.
func TestARestartForgetsNothingThatWasKept(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t, testkit.Durable()...)
	rdb := testkit.Client(t, s.Addr)
	l := newLimiter(t, rdb, calls)
	testkit.NoError(t, l.Announce(t.Context()))
	want := Want{Limit: "calls"}
	testkit.NoError(t, mustTake(t, l, hold, want).Done(t.Context()))
	mustTake(t, l, hold, want)
	s.Kill()
	testkit.NoError(t, s.Start(t.Context()))
	if p, wait, err := l.Try(t.Context(), hold, want); p != nil || err != nil || wait > calls.Window {
		t.Errorf("after the restart: %v, %v, %v, want to wait", p, wait, err)
	}
	if u := usage(t, rdb, "calls"); u.Used != 2 || u.InFlight != 1 {
		t.Errorf("usage after the restart is %+v", u)
	}
}

func TestDifferentFiguresPerProcess(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	small := newLimiter(t, testkit.Client(t, s.Addr), Limit{Name: "calls", N: 2, Window: time.Minute})
	large := newLimiter(t, testkit.Client(t, s.Addr), Limit{Name: "calls", N: 4, Window: 30 * time.Second})
	want, ctx := Want{Limit: "calls"}, t.Context()
	for range 2 {
		testkit.NoError(t, mustTake(t, small, hold, want).Done(ctx))
	}
	if p, wait, err := small.Try(ctx, hold, want); p != nil || err != nil || wait <= 30*time.Second {
		t.Errorf("the small one: %v, %v, %v, want to wait most of a minute", p, wait, err)
	}
	for range 2 {
		testkit.NoError(t, mustTake(t, large, hold, want).Done(ctx))
	}
	if p, wait, err := large.Try(ctx, hold, want); p != nil || err != nil || wait > 30*time.Second {
		t.Errorf("the large one: %v, %v, %v, want to wait at most half a minute", p, wait, err)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t, "--cluster-enabled", "yes")
	node := testkit.Client(t, s.Addr)
	testkit.NoError(t, node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	waitUntil(t, "the cluster is ok", func() bool {
		info, err := node.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr}})
	t.Cleanup(func() { _ = rdb.Close() })
	l := newLimiter(t, rdb, calls, overall)
	testkit.NoError(t, l.Announce(t.Context()))
	p, err := l.Acquire(t.Context(), hold, Want{Limit: "calls", Share: "s", Max: 1}, Want{Limit: "overall"})
	testkit.NoError(t, err)
	testkit.NoError(t, p.Done(t.Context()))
	if u := usage(t, rdb, "calls"); u.Used != 1 || len(u.Shares) != 1 || u.Shares[0].Used != 1 {
		t.Errorf("usage is %+v", u)
	}
}

func TestEveryKeyExpires(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	rdb := testkit.Client(t, s.Addr)
	l := newLimiter(t, rdb, calls, off)
	want := Want{Limit: "calls", Share: "some", Max: 2}
	mustTake(t, l, hold, want)
	testkit.NoError(t, mustTake(t, l, hold, want, Want{Limit: "off"}).Refuse(t.Context(), "off", time.Hour))
	keys, err := rdb.Keys(t.Context(), "*").Result()
	testkit.NoError(t, err)
	if len(keys) != 5 {
		t.Errorf("keys are %v, want 5", keys)
	}
	for _, key := range keys {
		least := calls.Window
		if strings.Contains(key, ":told:") {
			least = 50 * time.Second
		}
		if ttl := rdb.PTTL(t.Context(), key).Val(); ttl < least || ttl > 26*time.Hour {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
}

func TestPlacesComeFreeWhenForetold(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	l := newLimiter(t, testkit.Client(t, s.Addr), Limit{Name: "calls", N: 5, Window: time.Hour}, Limit{Name: "off"})
	testkit.NoError(t, l.Announce(t.Context()))
	began := time.Now()
	wants := []Want{{Limit: "calls", Share: "some", Max: 3}, {Limit: "off"}}
	testkit.NoError(t, mustTake(t, l, time.Minute, wants...).Done(t.Context()))
	done := time.Now()
	mustTake(t, l, time.Minute, wants...) // in flight
	testkit.NoError(t, mustTake(t, l, time.Minute, Want{Limit: "calls"}).Done(t.Context()))

	all, err := ReadFrees(t.Context(), testkit.Client(t, s.Addr), "test")
	if err != nil || len(all) != 2 || all[0].Name != "calls" || len(all[0].Shares) != 1 || len(all[1].Frees) != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	whole, some := all[0].Frees, all[0].Shares[0].Frees
	if len(whole) != 3 || len(some) != 2 {
		t.Fatalf("%d places of the limit are used and %d of the share, want 3 and 2", len(whole), len(some))
	}
	const slack = 10 * time.Millisecond // between the clocks of two programs
	for _, frees := range [][]time.Time{whole, some} {
		if first := frees[0]; first.Before(began.Add(time.Hour-slack)) || first.After(done.Add(time.Hour+slack)) {
			t.Errorf("the first place comes free at %s, and was used between %s and %s", first, began, done)
		}
		if at, last := all[0].At, frees[len(frees)-1]; !last.Equal(at.Add(time.Hour)) {
			t.Errorf("that of the call in flight comes free at %s, want a window after %s", last, at)
		}
	}
}
