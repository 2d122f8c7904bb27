package call

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
)

// counter counts the calls that were answered.
type counter struct{ calls atomic.Int32 }

func (c *counter) Called(policy.Call, clerkclient.Outcome, Timing) { c.calls.Add(1) }

type bundle struct {
	*Caller
	rdb      redis.UniversalClient
	observed *counter
}

// setup gives a caller with so many single permits in an hour.
func setup(t *testing.T, singles int) bundle {
	t.Helper()
	rdb, observed := testkit.MiniRedis(t), &counter{}
	p := policy.Policy{Create: settings.Rate{N: singles, Window: time.Hour}, Timeout: 30 * time.Second}
	limiter, err := ratelimit.New(rdb, "test", p.Limits("k")...)
	testkit.NoError(t, err)
	testkit.NoError(t, limiter.Announce(t.Context()))
	return bundle{rdb: rdb, observed: observed, Caller: &Caller{
		Limiter: limiter, Policy: p, Key: "k", Gate: NewKeyGate(), Life: t.Context(), Observer: observed,
		Log: zerolog.Nop(),
	}}
}

// usage tells how many single permits count as used, and how many of them are in flight.
func (b bundle) usage(t *testing.T) (used, inFlight int) {
	t.Helper()
	usages, err := ratelimit.ReadUsage(t.Context(), b.rdb, "test")
	testkit.NoError(t, err)
	for _, u := range usages {
		if u.Name == policy.LimitCreate {
			return u.Used, u.InFlight
		}
	}
	t.Fatal("the limiter has no singles")
	return 0, 0
}

func TestAPermitGoesBackAsTheAnswerSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		send     func(context.Context) error
		used     int
		observed int32
	}{
		"answered":     {func(context.Context) error { return nil }, 1, 1},
		"nothing sent": {func(context.Context) error { return ErrNothingSent }, 0, 0},
		"not sent": {func(context.Context) error { return &clerkclient.Error{Outcome: clerkclient.Transient} },
			0, 1},
		"another error": {func(context.Context) error { return errors.New("boom") }, 1, 1},
		"a panic":       {func(context.Context) error { panic("secret") }, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, 5)
			func() {
				defer func() { _ = recover() }()
				_, _ = b.Do(t.Context(), policy.Create, c.send)
			}()
			if used, inFlight := b.usage(t); used != c.used || inFlight != 0 || b.observed.calls.Load() != c.observed {
				t.Errorf("%d used, %d in flight, %d observed", used, inFlight, b.observed.calls.Load())
			}
		})
	}
}

func TestOnlyTheFirstLandCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, 5)
	flight, err := b.Begin(t.Context(), policy.Create, func(time.Time) {})
	testkit.NoError(t, err)
	if deadline, _ := flight.Context().Deadline(); !deadline.Equal(flight.Deadline()) {
		t.Errorf("the call ends at %s, its permit at %s", deadline, flight.Deadline())
	}
	first := flight.Land(nil)
	if again := flight.Land(ErrNothingSent); again != first {
		t.Errorf("landing again: %+v, want %+v", again, first)
	}
	if used, _ := b.usage(t); used != 1 || b.observed.calls.Load() != 1 || flight.Context().Err() == nil {
		t.Errorf("%d used, %d observed, the call's context: %v", used, b.observed.calls.Load(), flight.Context().Err())
	}
}

// TestTheContextEndsTheWaitAndNoCall: a call that is under way ends by its own deadline, or with the caller's life.
func TestTheContextEndsTheWaitAndNoCall(t *testing.T) {
	t.Parallel()
	b := setup(t, 1)
	life, end := context.WithCancel(t.Context())
	b.Life = life
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Do(ctx, policy.Create, func(flight context.Context) error {
		cancel()
		if flight.Err() != nil {
			t.Error("the call ended with the context of its wait")
		}
		end()
		<-flight.Done()
		return nil
	})
	testkit.NoError(t, err)
	waiting, giveUp := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer giveUp()
	timing, err := b.Do(waiting, policy.Create, func(context.Context) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) || timing.Permit < 50*time.Millisecond {
		t.Errorf("%v after %s", err, timing.Permit)
	}
}

// TestACallThatWaitedWhileTheKeyWasRefusedWaitsOn: it gives back the permit that it gets meanwhile.
func TestACallThatWaitedWhileTheKeyWasRefusedWaitsOn(t *testing.T) {
	t.Parallel()
	b := setup(t, 1)
	first, err := b.Begin(t.Context(), policy.Create, func(time.Time) {})
	testkit.NoError(t, err)
	waits, sent := make(chan struct{}, 10), make(chan error, 1)
	go func() {
		flight, err := b.Begin(t.Context(), policy.Create, func(time.Time) { waits <- struct{}{} })
		if err == nil {
			flight.Land(nil)
		}
		sent <- err
	}()
	<-waits
	b.Gate.answered(&clerkclient.Error{Outcome: clerkclient.Unauthorized})
	first.Land(ErrNothingSent)
	<-waits // it has the permit
	testkit.Eventually(t, "the permit is back", func() bool { used, _ := b.usage(t); return used == 0 })
	select {
	case err := <-sent:
		t.Fatalf("a call was made through the closed gate: %v", err)
	default:
	}
	b.Gate.answered(nil)
	testkit.NoError(t, <-sent)
}
