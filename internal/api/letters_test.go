package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/queues"
	"example.com/usher/internal/store/record"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// die does what a worker does with an invite that Clerk refuses.
func (s *stage) die(id string, body object) {
	s.t.Helper()
	ctx, queue := s.t.Context(), queues.Name(tasks.DefaultNamespace, queues.Interactive)
	failure := fate.Failure{
		Reason: fate.ReasonRejected, HTTPStatus: 422, Code: "form_param_format_invalid",
		Message: "ada@example.com is invalid",
	}
	address := body["email_address"].(string)
	payload, err := json.Marshal(tasks.NewInvitePayload(tasks.Recipient{EmailAddress: address}, 1))
	testkit.NoError(s.t, err)
	before, err := s.desk.DeadLetters.Count(ctx)
	testkit.NoError(s.t, err)
	at := time.Now().Add(time.Duration(before) * time.Millisecond) // one after the other
	testkit.NoError(s.t, s.desk.DeadLetters.Put(ctx, deadletter.Entry{
		ID: id, TaskID: id, Type: tasks.TypeInvite, Queue: queue, EmailAddress: address, Failure: failure, Attempts: 1,
		FailedAt: at, Payload: payload,
	}))
	records := record.NewStore(s.rdb, tasks.DefaultNamespace)
	r, _, err := records.Get(ctx, id)
	testkit.NoError(s.t, err)
	r.Type, r.Queue, r.State, r.Error, r.Attempts = tasks.TypeInvite, queue, record.Dead, &failure, 1
	testkit.NoError(s.t, records.Put(ctx, id, r))
}

// goesOn looks whether the story of an address says with which one it goes on, and the id of that story to those who
// may see no address.
func (s *stage) goesOn(was, is, task string) {
	s.t.Helper()
	next := func(token, what string) any {
		return s.call(token, "POST", "/v1/find", object{"what": what}).is(200).object()["goes_on"].([]any)[0]
	}
	if told := next(people, was).(object); told["email_address"] != is || told["id"] != task {
		s.t.Errorf("it goes on with %v", told)
	}
	story := s.call(viewer, "POST", "/v1/find", object{"what": task}).is(200)
	if story.object()["email_address"] != "a***@example.org" || strings.Contains(string(story.body), is) {
		s.t.Errorf("a viewer sees %s", story.body)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var ids []string
	for _, address := range []string{"ada@example.com", "bob@example.com", "eve@example.com"} {
		body := object{"email_address": address}
		id := s.call(signup, "POST", "/v1/invitations", body).is(202).object()["task_id"].(string)
		s.die(id, body)
		ids = append(ids, id)
	}
	page := s.call(viewer, "GET", "/v1/dead-letters?limit=2", nil).is(200).object()
	rows := page["dead_letters"].([]any)
	if len(rows) != 2 || rows[0].(object)["email_address"] != "a***@example.com" ||
		strings.Contains(rows[0].(object)["message"].(string), "ada") {
		t.Fatalf("a viewer sees %v", rows)
	}
	rest := s.call(people, "GET", "/v1/dead-letters?limit=2&cursor="+page["next_cursor"].(string), nil).is(200).object()
	if rows := rest["dead_letters"].([]any); len(rows) != 1 || rest["next_cursor"] != nil ||
		!strings.HasSuffix(rows[0].(object)["email_address"].(string), "@example.com") {
		t.Errorf("the second page is %v", rest)
	}
	s.call(viewer, "GET", "/v1/dead-letters?cursor=abc", nil).is(422, "validation")
	forged := base64.RawURLEncoding.EncodeToString([]byte("1764400000000||spring:4"))
	s.call(viewer, "GET", "/v1/dead-letters?cursor="+forged, nil).is(422, "validation")
	forged = base64.RawURLEncoding.EncodeToString([]byte("1764400000000|0123456789abcdef|spring:4"))
	s.call(viewer, "GET", "/v1/dead-letters?cursor="+forged, nil).is(422, "validation")

	retry := "/v1/dead-letters/" + ids[0] + "/retry"
	s.call(people, "POST", retry, object{"set": object{"email_address": "no address"}}).is(422, "validation")
	s.call(people, "POST", retry, object{"set": object{"colour": "red"}}).is(422, "validation")
	s.call(people, "POST", retry, object{"other": 1}).is(422, "validation")
	mend := object{"set": object{"email_address": "ada@example.org", "public_metadata": object{"plan": "pro"}}}
	first := s.call(people, "POST", retry, mend, key, "mend").is(202)
	task := first.object()["task_id"].(string)
	if !strings.HasPrefix(task, ids[0]) || first.header.Get("Location") != "/v1/tasks/"+task {
		t.Errorf("the retry is %s", first.body)
	}
	again := s.call(people, "POST", retry, mend, key, "mend").is(202)
	if again.object()["task_id"] != task || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the replay is %s", again.body)
	}
	s.call(people, "POST", retry, mend).is(404, "not-found")
	s.call(signup, "GET", "/v1/tasks/"+task, nil).is(200) // it is still one of theirs
	s.goesOn("ada@example.com", "ada@example.org", task)

	s.call(people, "POST", "/v1/dead-letters/"+ids[1]+"/retry", nil).is(202)
	s.call(people, "DELETE", "/v1/dead-letters/"+ids[2], nil).is(204)
	s.call(people, "DELETE", "/v1/dead-letters/"+ids[2], nil).is(404, "not-found")
}

// commands counts what Redis is asked.
type commands struct{ atomic.Int32 }

func (n *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.Add(1)
		return next(ctx, cmd)
	}
}

func (n *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n.Add(int32(len(cmds)))
		return next(ctx, cmds)
	}
}

// TestEachPageOfDeadLettersCostsTheSame, also the last one; and none goes on for long where nothing matches.
func TestEachPageOfDeadLettersCostsTheSame(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const all = deadletter.Looks + 500
	s.many(all)
	var n commands
	s.rdb.AddHook(&n)
	read := func(query string) (rows int, dearest int32) {
		t.Helper()
		pages := 0
		for path := "/v1/dead-letters?limit=1000" + query; path != ""; pages++ {
			n.Store(0)
			page := s.call(viewer, "GET", path, nil).is(200).object()
			rows, dearest, path = rows+len(page["dead_letters"].([]any)), max(dearest, n.Load()), ""
			if next, more := page["next_cursor"].(string); more {
				path = "/v1/dead-letters?limit=1000&cursor=" + next + query
			}
		}
		if want := map[string]int{"": 11, "&reason=invalid": 2}[query]; pages != want {
			t.Errorf("%q has %d pages, not %d", query, pages, want)
		}
		return rows, dearest
	}
	if rows, dearest := read(""); rows != all || dearest > 25 {
		t.Errorf("%d of %d are given, and a page costs %d commands", rows, all, dearest)
	}
	if rows, dearest := read("&reason=invalid"); rows != 0 || dearest > 25 {
		t.Errorf("%d match, and a page costs %d commands", rows, dearest)
	}
}

// many writes dead letters as they stand in Redis.
func (s *stage) many(n int) {
	s.t.Helper()
	_, err := s.rdb.Pipelined(s.t.Context(), func(pipe redis.Pipeliner) error {
		for i := range n {
			id, at := fmt.Sprint("m", i), time.UnixMilli(int64(1_700_000_000_000+i)).UTC()
			text, err := json.Marshal(deadletter.Entry{
				ID: id, TaskID: id, Type: tasks.TypeInvite, FailedAt: at, Failure: fate.Failure{Reason: fate.ReasonRejected},
			})
			if err != nil {
				return err
			}
			key := "usher:{once}:d:"
			pipe.HSet(s.t.Context(), key+"e:"+id, "entry", text)
			pipe.ZAdd(s.t.Context(), key+"index", redis.Z{Score: float64(at.UnixMilli()), Member: id})
			pipe.HSet(s.t.Context(), key+"index:facts", id, fmt.Sprintf("%d|rejected||", at.UnixMilli()))
		}
		return nil
	})
	testkit.NoError(s.t, err)
}
