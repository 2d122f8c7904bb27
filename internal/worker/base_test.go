package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/internal/handle"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/testkit"
)

// answeringClerk answers questions with one error after the other, and then well.
type answeringClerk struct {
	fakeClerk
	errs  []error
	asked atomic.Int32
}

func (c *answeringClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	if n := int(c.asked.Add(1)) - 1; n < len(c.errs) {
		return clerkclient.Page{}, clerkclient.Answer{}, c.errs[n]
	}
	return clerkclient.Page{}, clerkclient.Answer{}, nil
}

func TestAWrongBaseStopsAWorkerAtItsFirstStart(t *testing.T) {
	t.Parallel()
	page := &clerkclient.Error{Outcome: clerkclient.Transient, Status: 404, NotClerk: true, Sent: true}
	hello := &clerkclient.Error{Outcome: clerkclient.Transient, Status: 200, NotClerk: true, Sent: true}
	down := &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, NotClerk: true, Sent: true}
	refused := &clerkclient.Error{Outcome: clerkclient.Unauthorized, Status: 401, Sent: true}
	unknown := &clerkclient.Error{Outcome: clerkclient.Rejected, Status: 404, Code: "resource_not_found", Sent: true}
	for name, c := range map[string]struct {
		errs  []error
		wrong bool
		asked int32
	}{
		"another service":      {[]error{page, hello, page}, true, 3},
		"a page for a moment":  {[]error{page, page}, false, 3},
		"Clerk":                {nil, false, 1},
		"Clerk is down":        {[]error{down}, false, 1},
		"Clerk refuses":        {[]error{refused}, false, 1},
		"Clerk's own 404":      {[]error{unknown}, false, 1},
		"down after two pages": {[]error{page, page, down}, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clerk := &answeringClerk{errs: c.errs}
			w := at(t, testkit.MiniRedis(t), clerk)
			if err := w.checkBase(t.Context(), 0); errors.Is(err, ErrBase) != c.wrong || !c.wrong && err != nil {
				t.Errorf("%v", err)
			}
			if n := clerk.asked.Load(); n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
		})
	}
}

// TestABaseThatWasGoodStaysGood: a page in Clerk's place is a failure that passes then.
func TestABaseThatWasGoodStaysGood(t *testing.T) {
	t.Parallel()
	page := &clerkclient.Error{Outcome: clerkclient.Transient, Status: 404, NotClerk: true, Sent: true}
	rdb, clerk := testkit.MiniRedis(t), &answeringClerk{}
	testkit.NoError(t, at(t, rdb, clerk).checkBase(t.Context(), 0))
	clerk.errs = []error{page, page, page, page}
	if err := at(t, rdb, clerk).checkBase(t.Context(), 0); err != nil || clerk.asked.Load() != 1 {
		t.Errorf("%v after %d questions", err, clerk.asked.Load())
	}
}

// at is a worker that does not run, with a base URL.
func at(t *testing.T, rdb redis.UniversalClient, clerk handle.Clerk) *Worker {
	t.Helper()
	w, err := New(Config{
		Redis: rdb, RedisOnce: rdb, Namespace: "test",
		Clerk: clerk, KeyFingerprint: "k", Base: "https://clerk.example.com/v1",
		Policy: policy.Policy{Timeout: time.Second}, Health: NewHealth(),
		Metrics: NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.Nop(),
	})
	testkit.NoError(t, err)
	return w
}
