package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"example.com/usher/clerkclient"
	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/directory"
	"example.com/usher/internal/store/ledger"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

const testKey = "sk_test_cliSECRETcli"

func TestMain(m *testing.M) {
	logging.Disable()
	for _, name := range []string{
		"REDIS_URL", "REDIS_URL_FILE", "REDIS_CA_FILE", "USHER_NAMESPACE", "CLERK_SECRET_KEY", "CLERK_SECRET_KEY_FILE",
		"CLERK_API_URL", "TZ",
	} {
		os.Unsetenv(name) // tests say what they need in flags
	}
	time.Local = time.UTC
	os.Exit(m.Run())
}

// stage is a Redis and a sandbox Clerk, and a folder for files. There is no worker on it: tests write what one would
// have written.
type stage struct {
	t        *testing.T
	mini     *miniredis.Miniredis
	url      string // of the Redis
	rdb      *redis.Client
	clerk    *clerktest.Sandbox
	clerkURL string
	dir      string

	ledgers   *ledger.Ledgers
	letters   *deadletter.Store
	records   *record.Store
	directory *directory.Directory
}

func setup(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, mini: miniredis.RunT(t), dir: t.TempDir()}
	s.url = "redis://" + s.mini.Addr() + "/0"
	s.rdb = redis.NewClient(&redis.Options{Addr: s.mini.Addr()})
	t.Cleanup(func() { _ = s.rdb.Close() })
	s.clerk, s.clerkURL = clerktest.NewServer(t, clerktest.Config{Key: testKey})
	s.furnish()
	return s
}

// furnish puts what a worker would have put into the Redis of the stage.
func (s *stage) furnish() {
	s.t.Helper()
	const namespace = tasks.DefaultNamespace
	ctx, key := s.t.Context(), store.Keys(namespace)
	worker := fmt.Sprintf(`%d|{"host":"host","pid":1,"version":"v1","key_kind":"test"}`,
		time.Now().Add(time.Hour).UnixMilli())
	testkit.NoError(s.t, s.rdb.HSet(ctx, key.Workers(), "id", worker).Err()) // as if one ran
	testkit.NoError(s.t, s.rdb.Set(ctx, key.Secret(), strings.Repeat("s", 32), 0).Err())
	s.ledgers, s.letters = ledger.New(s.rdb, namespace), deadletter.NewStore(s.rdb, namespace)
	s.records, s.directory = record.NewStore(s.rdb, namespace), directory.New(s.rdb, namespace)
}

// idle lets the worker of setup be gone.
func (s *stage) idle() {
	s.mini.Del(store.Keys(tasks.DefaultNamespace).Workers())
}

// answer is what a run of the command gave.
type answer struct {
	exit           int
	stdout, stderr string
}

// person is a terminal at which somebody types.
type person struct{ io.Reader }

func (person) Terminal() bool { return true }

// run runs the command on the stage until it ends or the context does.
func (s *stage) run(ctx context.Context, stdin io.Reader, args ...string) answer {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"--redis-url", s.url}, args...)
	exit := run(ctx, args, stdin, &stdout, &stderr)
	return answer{exit, stdout.String(), stderr.String()}
}

func (s *stage) enqueue(args ...string) answer {
	s.t.Helper()
	return s.run(s.t.Context(), strings.NewReader(""), args...)
}

// withKey runs the command with the sandbox's key.
func (s *stage) withKey(args ...string) answer {
	s.t.Helper()
	return s.enqueue(append(args, "--clerk-secret-key", testKey, "--clerk-api-url", s.clerkURL)...)
}

// object reads the one object of an answer to --json, which must be a success.
func (s *stage) object(a answer) (object map[string]any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(a.stdout), &object); err != nil || a.exit != 0 {
		s.t.Fatalf("%v, exit %d\n%s%s", err, a.exit, a.stdout, a.stderr)
	}
	return object
}

func (s *stage) ok(args ...string) map[string]any {
	s.t.Helper()
	return s.object(s.enqueue(append(args, "--json")...))
}

// list runs the command with --json and gives the objects that it answers, one a line.
func (s *stage) list(args ...string) (objects []map[string]any) {
	s.t.Helper()
	a := s.enqueue(append(args, "--json")...)
	for line := range strings.Lines(a.stdout) {
		objects = append(objects, s.object(answer{a.exit, line, a.stderr}))
	}
	return objects
}

// want compares fields of an answer.
func want(t *testing.T, object map[string]any, fields map[string]any) {
	t.Helper()
	for name, value := range fields {
		if got := object[name]; fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v, in %v", name, got, value, object)
		}
	}
}

// write puts a file into the stage's folder.
func (s *stage) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	testkit.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// people is a file of n recipients.
func people(name string, n int) string {
	var b strings.Builder
	b.WriteString("email\n")
	for i := range n {
		fmt.Fprintf(&b, "%s%d@example.com\n", name, i)
	}
	return b.String()
}

// ended writes the record of a task that has ended.
func (s *stage) ended(id string, r record.Record) {
	s.t.Helper()
	before, _, err := s.records.Get(s.t.Context(), id)
	testkit.NoError(s.t, err)
	r.Type, r.Queue, r.Digest, r.EndedAt = before.Type, before.Queue, before.Digest, time.Now().UTC()
	if info, err := queues.FindTask(s.inspector(), tasks.DefaultNamespace, id); err == nil && info != nil {
		r.Type, r.EnqueuedAt = info.Type, tasks.EnqueuedAt(info.Type, info.Payload, info.Headers)
		var about struct {
			EmailAddress string `json:"email_address"`
		}
		_ = json.Unmarshal(info.Payload, &about)
		r.EmailAddress = about.EmailAddress
	}
	testkit.NoError(s.t, s.records.End(s.t.Context(), id, r))
}

// settle ends up to n recipients of a running campaign, in the way that outcome says.
func (s *stage) settle(campaign string, n int, outcome func(ledger.Row) ledger.Outcome) {
	s.t.Helper()
	batch, err := s.ledgers.TakeForCall(s.t.Context(), campaign, n, time.Minute, 0, ledger.Waiting)
	testkit.NoError(s.t, err)
	var outcomes []ledger.Outcome
	for _, row := range batch.Rows {
		outcomes = append(outcomes, outcome(row))
	}
	settled, err := s.ledgers.Settle(s.t.Context(), campaign, outcomes)
	if testkit.NoError(s.t, err); len(settled) != len(batch.Rows) || len(settled) == 0 {
		s.t.Fatalf("%d of %d recipients were settled", len(settled), len(batch.Rows))
	}
}

// sent lets n recipients of a campaign be sent.
func (s *stage) sent(campaign string, n int) {
	s.t.Helper()
	s.settle(campaign, n, func(row ledger.Row) ledger.Outcome {
		id := fmt.Sprintf("inv_%x", row.ID[:8])
		decision := fate.Decision{State: row.State, Next: fate.Sent, Intent: fate.IntentMade, InvitationID: id}
		return ledger.Outcome{Row: row, Decision: decision, At: time.Now()}
	})
}

// dead lets n recipients of a campaign die of a cause, each with a dead letter.
func (s *stage) dead(campaign string, n int, code string) {
	s.t.Helper()
	s.settle(campaign, n, func(row ledger.Row) ledger.Outcome {
		var recipient tasks.Recipient
		testkit.NoError(s.t, json.Unmarshal(row.Recipient, &recipient))
		cause, now := refusal(code), time.Now().UTC()
		return ledger.Outcome{
			Row: row, At: now,
			Decision: fate.Decision{State: row.State, Next: fate.Dead, Intent: fate.IntentRefused, Cause: &cause},
			Letter: &deadletter.Entry{
				ID: deadletter.RecipientID(campaign, row.ID), TaskID: ledger.TaskID(campaign, 1),
				Type: tasks.TypeBulkInvite, Campaign: campaign, Recipient: &row.ID,
				EmailAddress: recipient.EmailAddress, Failure: cause, FailedAt: now, Payload: row.Recipient,
			},
		}
	})
}

// finish lets a campaign find that nobody is left.
func (s *stage) finish(campaign string) {
	s.t.Helper()
	progress, err := s.ledgers.Advance(s.t.Context(), campaign, 1)
	if testkit.NoError(s.t, err); progress.State != ledger.Finished {
		s.t.Fatalf("%+v", progress)
	}
}

// synced publishes a copy of Clerk's list.
func (s *stage) synced(invitations ...clerkclient.Invitation) {
	s.t.Helper()
	draft, err := s.directory.Begin(s.t.Context())
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, draft.Add(s.t.Context(), invitations))
	_, published, err := draft.Publish(s.t.Context())
	if testkit.NoError(s.t, err); !published {
		s.t.Fatal("the copy was not published")
	}
}

// keys are all keys in Redis that the worker of setup has not written.
func (s *stage) keys() []string {
	return slices.DeleteFunc(s.mini.Keys(), func(key string) bool {
		return strings.HasSuffix(key, ":workers") || strings.HasSuffix(key, ":secret")
	})
}

// z is a member that a sorted set has since now.
func z(member string) redis.Z { return redis.Z{Score: float64(time.Now().UnixMilli()), Member: member} }

// dies lets a task that is queued die, with its dead letter.
func (s *stage) dies(id, address, payload string) {
	s.t.Helper()
	cause := refusal("form_param_format_invalid")
	s.ended(id, record.Record{State: record.Dead, Error: &cause})
	testkit.NoError(s.t, s.inspector().DeleteTask("usher:interactive", id))
	r, _, err := s.records.Get(s.t.Context(), id)
	testkit.NoError(s.t, err)
	testkit.NoError(s.t, s.letters.Put(s.t.Context(), deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: "usher:interactive", EmailAddress: address, Failure: cause,
		FailedAt: r.EndedAt, Payload: []byte(payload), Attempts: 1,
	}))
}

func (s *stage) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(s.rdb) }

// queued is the payload of a task in a queue.
func (s *stage) queued(queue, id string) string {
	s.t.Helper()
	info, err := s.inspector().GetTaskInfo(queue, id)
	testkit.NoError(s.t, err)
	return string(info.Payload)
}

// client is a producer's.
func (s *stage) client() *tasks.Client {
	s.t.Helper()
	client, err := tasks.NewClient(tasks.Redis(s.rdb))
	testkit.NoError(s.t, err)
	return client
}

// takes lets a worker take a task from its queue, and do nothing with it.
func (s *stage) takes(queue, id string) {
	s.t.Helper()
	key := func(of string) string { return "asynq:{" + queue + "}:" + of }
	testkit.NoError(s.t, s.rdb.LRem(s.t.Context(), key("pending"), 0, id).Err())
	testkit.NoError(s.t, s.rdb.LPush(s.t.Context(), key("active"), id).Err())
	testkit.NoError(s.t, s.rdb.HSet(s.t.Context(), key("t:"+id), "state", "active").Err())
}
