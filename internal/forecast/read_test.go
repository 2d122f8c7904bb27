package forecast

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/testkit"
	"example.com/usher/ratelimit"
)

const namespace = "test"

// system is a Redis as workers leave it.
type system struct {
	t       *testing.T
	rdb     *redis.Client
	limiter *ratelimit.Limiter
	policy  policy.Policy
}

func setup(t *testing.T) system {
	t.Helper()
	rdb := testkit.MiniRedis(t)
	s := system{t: t, rdb: rdb, policy: policy.Policy{
		Create: settings.Rate{N: 100, Window: time.Hour}, Bulk: settings.Rate{N: 25, Window: time.Hour}, Reserve: 20,
		Timeout: time.Minute,
	}}
	var err error
	if s.limiter, err = ratelimit.New(rdb, namespace, s.policy.Limits("k")...); err != nil {
		t.Fatal(err)
	}
	var list []ledger.Recipient
	for i := range 500 {
		list = append(list, ledger.Recipient{Folded: fmt.Sprintf("p%d@example.com", i), Data: json.RawMessage("{}")})
	}
	if _, err := ledger.New(rdb, namespace).Add(t.Context(), "c", time.Time{}, list); err != nil {
		t.Fatal(err)
	}
	return s
}

// announce publishes the limits, as a worker does when it starts.
func (s system) announce() {
	s.t.Helper()
	if err := s.policy.Announce(s.t.Context(), s.rdb, namespace); err != nil {
		s.t.Fatal(err)
	}
	if err := s.limiter.Announce(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// work starts an asynq server of the campaign lane that does nothing.
func (s system) work() {
	s.t.Helper()
	server := asynq.NewServerFromRedisClient(s.rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{queues.Name(namespace, queues.Campaign): 1},
		LogLevel: asynq.FatalLevel,
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(server.Shutdown)
	inspector := asynq.NewInspectorFromRedisClient(s.rdb)
	testkit.Eventually(s.t, "the server shows", func() bool {
		servers, err := inspector.Servers()
		return err == nil && len(servers) > 0
	})
}

// call makes a call, answered or not.
func (s system) call(call policy.Call, answered bool) {
	s.t.Helper()
	wants, _ := s.policy.Wants(call, "k")
	permit, _, err := s.limiter.Try(s.t.Context(), time.Minute, wants...)
	if err != nil || permit == nil {
		s.t.Fatalf("%v, %v", permit, err)
	}
	if answered {
		if err := permit.Done(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s system) read() Outlook {
	s.t.Helper()
	o, err := Read(s.t.Context(), s.rdb, namespace)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

func TestWhatAForecastRestsOnIsRead(t *testing.T) {
	t.Parallel()
	s := setup(t)
	if o := s.read(); o.Trouble == nil || o.Trouble.Message != saysNeverRan || len(o.Campaigns) != 1 {
		t.Errorf("before any worker: %+v", o)
	}
	s.announce()
	if o := s.read(); o.Trouble == nil || o.Trouble.Message != saysNoWorker || !o.Foresee()["c"].ETA.IsZero() {
		t.Errorf("without a worker: %+v", o)
	}
	s.work()
	for range 3 {
		s.call(policy.Bulk, true)
	}
	for range 2 {
		s.call(policy.CreateCampaign, true)
	}
	s.call(policy.Create, false) // an invite in a call
	client := asynq.NewClientFromRedisClient(s.rdb)
	for i := range 4 {
		queue := queues.Name(namespace, queues.Interactive)
		if _, err := client.Enqueue(asynq.NewTask("invite", nil),
			queues.TaskOptions(queue, fmt.Sprint(i), time.Time{})...); err != nil {
			t.Fatal(err)
		}
	}

	o := s.read()
	if o.Trouble != nil || o.Invites != 3 || len(o.Campaigns) != 1 || o.Campaigns[0].Remaining != 500 {
		t.Errorf("%+v", o)
	}
	if len(o.Bulk.Frees) != 3 || len(o.Create.Frees) != 3 || len(o.Share.Frees) != 2 || o.Share.N != 80 ||
		o.Overall.N != 0 {
		t.Errorf("%+v", o)
	}
	// 220 in bulks and 78 singles now, and the rest in an hour, when all permits are free again.
	if end := o.Foresee()["c"].ETA.Sub(o.At); end < 59*time.Minute || end > time.Hour {
		t.Errorf("it ends after %s", end)
	}
}

func TestARefusedKeyIsTold(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.announce()
	s.work()
	wants, _ := s.policy.Wants(policy.Read, "k")
	permit, _, err := s.limiter.Try(t.Context(), time.Minute, wants...)
	if err != nil {
		t.Fatal(err)
	}
	if err := permit.Refuse(t.Context(), policy.KeyLimit("k"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if says := s.read().Standstill().Message; !strings.Contains(says, "replace it") {
		t.Errorf("it does not say what to do: %s", says)
	}
	if f := s.read().Foresee()["c"]; f.Standstill == nil || f.Standstill.Reason != RefusedKey || !f.ETA.IsZero() {
		t.Errorf("%+v", f)
	}
}

func TestGarbageInRedisIsAnError(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.announce()
	s.rdb.Set(t.Context(), namespace+":policy", "{", 0)
	if o, err := Read(t.Context(), s.rdb, namespace); err == nil {
		t.Errorf("%+v", o)
	}
}

// TestAWorkerThatSaysNothingIsNone: one that lives says so every few seconds. When it was last heard of is told.
func TestAWorkerThatSaysNothingIsNone(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.announce()
	server := miniredis.RunT(t)
	began := time.Now().Truncate(time.Millisecond)
	server.SetTime(began)
	s.rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = s.rdb.Close() })
	s.announce()
	workers := store.NewWorkers(s.rdb, namespace)
	say := func(w store.Worker) {
		t.Helper()
		if err := workers.Announce(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	troubled := func(want bool) {
		t.Helper()
		if o := s.read(); (o.Trouble != nil) != want {
			t.Errorf("trouble: %+v", o.Trouble)
		}
	}
	say(store.Worker{ID: "a"})
	troubled(false)
	server.SetTime(began.Add(14 * time.Second))
	troubled(false)
	server.SetTime(began.Add(16 * time.Second))
	troubled(true)
	if o := s.read(); o.Trouble.Reason != NoWorker || !o.Trouble.Since.Equal(began) {
		t.Errorf("%+v, want since %s", o.Trouble, began)
	}
	say(store.Worker{ID: "b"})
	troubled(false)
	say(store.Worker{ID: "b", Stopped: true})
	troubled(true)
}

// TestAFullRedisIsNoLackOfWorkers: they run, and cannot say so.
func TestAFullRedisIsNoLackOfWorkers(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	s := system{t: t, rdb: rdb, policy: policy.Default("test")}
	var err error
	if s.limiter, err = ratelimit.New(rdb, namespace, s.policy.Limits("k")...); err != nil {
		t.Fatal(err)
	}
	s.announce()
	if o := s.read(); o.Trouble == nil || o.Trouble.Reason != NoWorker {
		t.Errorf("with room: %+v", o.Trouble)
	}
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1000").Err(); err != nil {
		t.Fatal(err)
	}
	if o := s.read(); o.Trouble == nil || o.Trouble.Reason != FullRedis {
		t.Errorf("full: %+v", o.Trouble)
	}
}

// TestARestorationIsToldThoughNoWorkerRuns, and what is missing besides.
func TestARestorationIsToldThoughNoWorkerRuns(t *testing.T) {
	t.Parallel()
	s := setup(t)
	restored, err := store.BeginRestoration(t.Context(), store.Open(s.rdb, namespace))
	if err != nil {
		t.Fatal(err)
	}
	told := func(idle string) {
		t.Helper()
		o, message := s.read(), store.SaysRestored
		if idle != "" {
			message = idle + "; " + message
		}
		if o.Trouble == nil || o.Trouble.Reason != Restored || o.Trouble.Message != message ||
			!o.Trouble.Since.Equal(restored.At) || (o.Idle != nil) != (idle != "") {
			t.Errorf("%+v, %+v", o.Trouble, o.Idle)
		}
	}
	told(saysNeverRan)
	s.announce()
	told(saysNoWorker)
	s.work()
	told("")
}

// TestTheQuestionsAboutLostCallsAreForetold: by the calls that they take, and the part of the limit that is for them.
func TestTheQuestionsAboutLostCallsAreForetold(t *testing.T) {
	t.Parallel()
	o := hourly()
	o.Reads = Places{N: 25, Window: 10 * time.Second}
	for _, c := range []struct {
		unsure, asked, sent int
		want                time.Duration
	}{
		{0, 0, 20_000, 0},
		{5, 0, 20_000, 4 * time.Second},               // two calls for each
		{500, 120, 0, 800 * time.Millisecond},         // two lists of one page
		{4500, 500, 19_200, 50400 * time.Millisecond}, // three times 42 calls
	} {
		s := ledger.Standing{
			Campaign: ledger.Campaign{
				Name: "c", State: ledger.Running, Recipients: 30_000, Sent: c.sent, StartedAt: now,
			},
			Counts: ledger.Counts{Unsure: c.unsure}, Asked: c.asked,
		}
		campaign := o.campaign(s, true)
		if campaign.Asking != c.want || campaign.Unsure != c.unsure+c.asked {
			t.Errorf("%+v: %+v", c, campaign)
		}
		if c.unsure == 0 {
			continue
		}
		o := o
		campaign.Remaining, campaign.Start = campaign.Unsure, 0
		o.Campaigns = []Campaign{campaign}
		f := o.Foresee()["c"]
		about := fmt.Sprintf("after asking about %d recipients", campaign.Unsure)
		if f.Unsure != campaign.Unsure || f.ETA.Before(now.Add(c.want)) || !strings.Contains(f.Assumption, about) ||
			f.Standstill == nil || f.Standstill.Reason != Doubt {
			t.Errorf("%+v: %+v", c, f)
		}
	}
	o.Campaigns = []Campaign{{Name: "c", Remaining: 10, Unsure: 3, Asking: time.Minute}} // it makes calls meanwhile
	if f := o.Foresee()["c"]; f.ETA.Sub(now) != time.Minute || f.Standstill != nil {
		t.Errorf("%+v", f)
	}
}
