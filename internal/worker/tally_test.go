package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// total is what all hours of a tally come to.
func total(t *testing.T, rdb redis.UniversalClient, namespace string) (all store.Counts) {
	t.Helper()
	hours, err := store.NewTally(rdb, namespace).Read(t.Context(), time.Now())
	testkit.NoError(t, err)
	for _, hour := range hours {
		all = all.Plus(hour.Counts)
	}
	return all
}

// TestWhatBecameOfRecipientsIsTallied, of invites and of campaigns.
func TestWhatBecameOfRecipientsIsTallied(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(p *policy.Policy) {
		p.Timeout, p.SettlingTime = time.Second, time.Millisecond
	})
	clerk.AddUser("user@example.com")
	for _, address := range []string{"ada@example.com", "user@example.com"} {
		task, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: address})
		b.wait(t, task, err)
	}
	task, err := b.client.BulkInvite(t.Context(), tasks.BulkRequest{
		Campaign: "spring", Recipients: people("bob@example.com", "cid@example.com", "user@example.com"),
	})
	b.wait(t, task, err)
	testkit.Eventually(t, "all are counted", func() bool {
		return total(t, b.rdb, "test") == store.Counts{Sent: 3, Refused: 2}
	})
	m := NewMetrics(prometheus.NewRegistry(), "test")
	m.DeadLetterWritten(fate.Failure{Reason: fate.ReasonExhausted})
	if m.tally.counts != (store.Counts{Dead: 1}) {
		t.Errorf("of one that has failed too often: %+v", m.tally.counts)
	}
}

// losing loses the answers to its first scripts.
type losing struct {
	times  atomic.Int32
	before bool // the script is not run either
}

func (*losing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*losing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *losing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "evalsha" || l.times.Add(-1) < 0 {
			return next(ctx, cmd)
		}
		if !l.before {
			_ = next(ctx, cmd)
		}
		err := errors.New("the answer is lost")
		cmd.SetErr(err)
		return err
	}
}

// TestALostAnswerIsCountedOnce, and nothing is lost that Redis did not take.
func TestALostAnswerIsCountedOnce(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} {
		rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
		to := store.NewTally(rdb, "test")
		testkit.NoError(t, to.Add(t.Context(), "loads the script", store.Counts{Sent: 1}))
		lose := &losing{before: before}
		lose.times.Store(2)
		rdb.AddHook(lose)
		var counted tally
		for range 4 {
			counted.add(store.Counts{Sent: 10, Refused: 1})
			counted.write(t.Context(), to)
		}
		counted.write(t.Context(), to)
		if all := total(t, rdb, "test"); all != (store.Counts{Sent: 41, Refused: 4}) {
			t.Errorf("%+v", all)
		}
	}
}

// TestNothingIsWrittenOfNothing: an idle worker costs no command for it.
func TestNothingIsWrittenOfNothing(t *testing.T) {
	t.Parallel()
	rdb := testkit.MiniRedis(t)
	var counted tally
	counted.write(t.Context(), store.NewTally(rdb, "test"))
	if n := rdb.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys", n)
	}
}
