package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/handle"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// fakeClerk answers with functions.
type fakeClerk struct {
	create func(*invitation.CreateParams) (clerkclient.Invitation, error)
	bulk   func([]*invitation.CreateParams) ([]clerkclient.Invitation, error)
}

func (f *fakeClerk) Create(
	_ context.Context, p *invitation.CreateParams,
) (clerkclient.Invitation, clerkclient.Answer, error) {
	inv, err := f.create(p)
	return inv, clerkclient.Answer{}, err
}

func (f *fakeClerk) CreateBulk(
	_ context.Context, p []*invitation.CreateParams,
) ([]clerkclient.Invitation, clerkclient.Answer, error) {
	inv, err := f.bulk(p)
	return inv, clerkclient.Answer{}, err
}

func (f *fakeClerk) Revoke(context.Context, string) (clerkclient.Invitation, clerkclient.Answer, error) {
	return clerkclient.Invitation{}, clerkclient.Answer{}, nil
}

func (f *fakeClerk) Delete(context.Context, string) (clerkclient.Answer, error) {
	return clerkclient.Answer{}, nil
}

func (f *fakeClerk) List(context.Context, clerkclient.ListQuery) (clerkclient.Page, clerkclient.Answer, error) {
	return clerkclient.Page{}, clerkclient.Answer{}, nil
}

func (f *fakeClerk) UsersByEmail(context.Context, []string) ([]string, clerkclient.Answer, error) {
	return nil, clerkclient.Answer{}, nil
}

// bundle is a worker that runs, and a producer.
type bundle struct {
	client *tasks.Client
	dead   *deadletter.Store
	log    *testkit.Buffer
	rdb    redis.UniversalClient
}

func setup(t *testing.T, clerk handle.Clerk, change func(*policy.Policy)) bundle {
	t.Helper()
	rdb := testkit.MiniRedis(t)
	rate := settings.Rate{N: 100, Window: time.Hour}
	p := policy.Policy{
		Create: rate, Bulk: rate, Timeout: 30 * time.Second, MaxAttempts: 20, BackoffMin: time.Millisecond,
		BackoffMax: 2 * time.Millisecond,
	}
	change(&p)
	log := &testkit.Buffer{}
	w, err := New(Config{
		Redis: rdb, RedisOnce: rdb, Namespace: "test",
		Clerk: clerk, KeyFingerprint: "k", KeyChanged: func() bool { return false },
		Embedded: true, Policy: p, Health: NewHealth(),
		Metrics: NewMetrics(prometheus.NewRegistry(), "test"), Log: zerolog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err := tasks.NewClient(tasks.Redis(rdb), tasks.Namespace("test"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, "test") }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
	return bundle{client: client, dead: deadletter.NewStore(rdb, "test"), log: log, rdb: rdb}
}

// wait gives a task after its end.
func (b bundle) wait(t *testing.T, task tasks.Task, err error) tasks.Task {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended, err := b.client.Wait(ctx, task.ID)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.log.String())
	}
	if !ended.EnqueuedAt.Equal(task.EnqueuedAt) {
		t.Errorf("task %s was enqueued at %v, and at %v once it has ended", task.ID, task.EnqueuedAt, ended.EnqueuedAt)
	}
	return ended
}

func TestAPanicIsAFailedAttemptAndNeverASuccess(t *testing.T) {
	t.Parallel()
	calls := 0
	clerk := &fakeClerk{create: func(*invitation.CreateParams) (clerkclient.Invitation, error) {
		calls++
		panic("secret ada@example.com")
	}}
	b := setup(t, clerk, func(p *policy.Policy) { p.MaxAttempts = 3 })
	task, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: "ada@example.com"})
	ended := b.wait(t, task, err)
	if ended.State != tasks.StateDead || ended.Error.Reason != "exhausted" ||
		ended.Error.Code != "panic" || calls != 3 {
		t.Errorf("%+v, %+v, %d calls", ended, ended.Error, calls)
	}
	if strings.Contains(b.log.String(), "ada@") {
		t.Errorf("the log holds an address:\n%s", b.log.String())
	}
}

// TestATaskThatHasEndedSaysHowLongItHasWaited: of the time that it took, that between its attempts.
func TestATaskThatHasEndedSaysHowLongItHasWaited(t *testing.T) {
	t.Parallel()
	attempts := 0
	clerk := &fakeClerk{create: func(p *invitation.CreateParams) (clerkclient.Invitation, error) {
		if attempts++; attempts < 5 {
			return clerkclient.Invitation{}, &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
		}
		return invitations([]*invitation.CreateParams{p})[0], nil
	}}
	b := setup(t, clerk, func(p *policy.Policy) { p.BackoffMin, p.BackoffMax = 50*time.Millisecond, 50*time.Millisecond })
	task, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: "ada@example.com"})
	b.wait(t, task, err)
	backoffs, waited, took, ended := 0.0, 0.0, 0.0, false
	testkit.Eventually(t, "the end is logged", func() bool {
		backoffs = 0
		for text := range strings.Lines(b.log.String()) {
			var line struct {
				Message         string
				BackoffSeconds  float64 `json:"backoff_seconds"`
				WaitSeconds     float64 `json:"wait_seconds"`
				DurationSeconds float64 `json:"duration_seconds"`
			}
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			backoffs += line.BackoffSeconds
			if line.Message == "task ended" {
				waited, took, ended = line.WaitSeconds, line.DurationSeconds, true
			}
		}
		return ended
	})
	const rounded = 1e-6
	if backoffs <= 0 || waited < backoffs-rounded || waited > took {
		t.Errorf("it has waited %f s of %f s, want %f s at least", waited, took, backoffs)
	}
}

func invitations(params []*invitation.CreateParams) []clerkclient.Invitation {
	made := make([]clerkclient.Invitation, len(params))
	for i, p := range params {
		made[i] = clerkclient.Invitation{ID: "inv_1", EmailAddress: p.EmailAddress}
	}
	return made
}

func people(addresses ...string) []tasks.Recipient {
	list := make([]tasks.Recipient, len(addresses))
	for i, address := range addresses {
		list[i].EmailAddress = address
	}
	return list
}

// TestAFailedBulkRidesTogetherAgain: its recipients wait equally long, so that they do not take a bulk permit each.
// panicking panics at the first settlement of an intent.
type panicking struct{ once sync.Once }

func (*panicking) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*panicking) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (p *panicking) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		if cmd.Name() == "evalsha" && len(args) > 4 && strings.Contains(fmt.Sprint(args[4]), "}:t:") {
			p.once.Do(func() { panic("settling") })
		}
		return next(ctx, cmd)
	}
}

// TestAPanicAtTheEndLeavesNoHalfOfIt: the invitation was made, and nothing was written.
func TestAPanicAtTheEndLeavesNoHalfOfIt(t *testing.T) {
	t.Parallel()
	b, clerk := beside(t, clerktest.Config{}, func(p *policy.Policy) {
		p.Timeout, p.SettlingTime = time.Second, time.Millisecond
	})
	b.rdb.AddHook(&panicking{})
	task, err := b.client.Invite(t.Context(), tasks.Recipient{EmailAddress: "ada@example.com"})
	if ended := b.wait(t, task, err); ended.State != tasks.StateDone || len(clerk.Ledger()) != 1 {
		t.Errorf("%+v, %d sent", ended, len(clerk.Ledger()))
	}
	if !strings.Contains(b.log.String(), "panic") {
		t.Fatal("nothing panicked")
	}
	id := store.IDOf("ada@example.com")
	for owner := range b.rdb.HGetAll(t.Context(), store.Keys("test").Intents(string(id[:]))).Val() {
		if !strings.HasPrefix(owner, "=") {
			t.Errorf("the intent of %s is open", owner)
		}
	}
}

// TestAFailedBulkRidesTogetherAgain: once. If it fails a second time, one of them may be the cause.
func TestAFailedBulkRidesTogetherAgain(t *testing.T) {
	t.Parallel()
	var sizes []int
	var mu sync.Mutex
	failing := func(n int, failures int) error {
		mu.Lock()
		defer mu.Unlock()
		if sizes = append(sizes, n); len(sizes) <= failures {
			return &clerkclient.Error{Outcome: clerkclient.Transient, Status: 503, Sent: true}
		}
		return nil
	}
	clerk := &fakeClerk{
		bulk: func(params []*invitation.CreateParams) ([]clerkclient.Invitation, error) {
			return invitations(params), failing(len(params), 2)
		},
		create: func(p *invitation.CreateParams) (clerkclient.Invitation, error) {
			return invitations([]*invitation.CreateParams{p})[0], failing(1, 2)
		},
	}
	b := setup(t, clerk, func(p *policy.Policy) {
		p.BackoffMin, p.BackoffMax = 20*time.Millisecond, 300*time.Millisecond
	})
	task, err := b.client.BulkInvite(t.Context(),
		tasks.BulkRequest{Recipients: people("a@example.com", "b@example.com", "c@example.com", "d@example.com")})
	ended := b.wait(t, task, err)
	if ended.Bulk.Sent != 4 || !slices.Equal(sizes, []int{4, 4, 1, 1, 1, 1}) {
		t.Errorf("%+v in bulks of %v", ended.Bulk, sizes)
	}
}

// TestARefusalAboutTheInstanceIsOnesOwnIfAnotherIsTaken: the bulk is refused for one of two.
func TestARefusalAboutTheInstanceIsOnesOwnIfAnotherIsTaken(t *testing.T) {
	t.Parallel()
	refusal := &clerkclient.Error{
		Outcome: clerkclient.Rejected, Status: 402, Code: "unsupported_subscription_plan_features",
		Reach: clerkclient.ReachInstance, Sent: true,
	}
	clerk := &fakeClerk{
		bulk: func([]*invitation.CreateParams) ([]clerkclient.Invitation, error) { return nil, refusal },
		create: func(p *invitation.CreateParams) (clerkclient.Invitation, error) {
			if p.EmailAddress == "a@example.com" {
				return clerkclient.Invitation{}, refusal
			}
			return invitations([]*invitation.CreateParams{p})[0], nil
		},
	}
	b := setup(t, clerk, func(*policy.Policy) {})
	task, err := b.client.BulkInvite(t.Context(),
		tasks.BulkRequest{Recipients: people("a@example.com", "b@example.com")})
	if ended := b.wait(t, task, err); ended.Bulk.Dead != 1 || ended.Bulk.Sent != 1 {
		t.Errorf("%+v", ended.Bulk)
	}
	if n, err := b.dead.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d dead letters, %v", n, err)
	}
}

func TestMetadataMayTravelSingly(t *testing.T) {
	t.Parallel()
	var singly, together []string
	clerk := &fakeClerk{
		create: func(p *invitation.CreateParams) (clerkclient.Invitation, error) {
			singly = append(singly, p.EmailAddress)
			return clerkclient.Invitation{ID: "inv_1", EmailAddress: p.EmailAddress}, nil
		},
		bulk: func(params []*invitation.CreateParams) ([]clerkclient.Invitation, error) {
			for _, p := range params {
				together = append(together, p.EmailAddress)
			}
			return invitations(params), nil
		},
	}
	b := setup(t, clerk, func(p *policy.Policy) { p.BulkMetadata = policy.MetadataNever })
	list := people("a@example.com", "b@example.com", "c@example.com")
	list[1].PublicMetadata = map[string]any{"plan": "pro"}
	task, err := b.client.BulkInvite(t.Context(), tasks.BulkRequest{Recipients: list})
	if ended := b.wait(t, task, err); ended.Bulk.Sent != 3 || len(singly) != 1 || singly[0] != "b@example.com" ||
		len(together) != 2 {
		t.Errorf("%+v, singly %v, together %v", ended.Bulk, singly, together)
	}
}

func TestARowThatCannotBeReadIsADeadLetterAndTheOthersAreSent(t *testing.T) {
	t.Parallel()
	clerk := &fakeClerk{bulk: func(params []*invitation.CreateParams) ([]clerkclient.Invitation, error) {
		return invitations(params), nil
	}}
	b := setup(t, clerk, func(p *policy.Policy) { p.Bulk = settings.Rate{} })
	people := []tasks.Recipient{{EmailAddress: "ada@example.com"}, {EmailAddress: "bob@example.com"}}
	bulk, err := b.client.BulkInvite(t.Context(), tasks.BulkRequest{Campaign: "spring", Recipients: people},
		tasks.In(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	id, garbage := store.IDOf("ada@example.com"), "wb{no JSON"
	rows := store.Keys("test").Ledger("spring", "rows")
	if err := b.rdb.HSet(t.Context(), rows, string(id[:]), garbage).Err(); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspectorFromRedisClient(b.rdb)
	if err := inspector.RunTask(queues.Name("test", queues.Campaign), bulk.ID); err != nil {
		t.Fatal(err)
	}
	b.wait(t, bulk, nil)
	letter, err := b.dead.Get(t.Context(), deadletter.RecipientID("spring", id))
	if err != nil || letter.Failure.Reason != fate.ReasonInvalid || string(letter.Payload) != garbage {
		t.Errorf("%+v, %v", letter, err)
	}
	c, err := ledger.New(b.rdb, "test").Get(t.Context(), "spring")
	if err != nil || c.Sent != 1 || c.Dead != 1 || c.State != ledger.Finished {
		t.Errorf("%+v, %v", c, err)
	}
}
