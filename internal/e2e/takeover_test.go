package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// The files in testdata/takeover were written by an earlier build: the commands of 28 November 2026, which
// wrote version 1 of ledgers and payloads and layout "2-" of the directory. A program ran that build's worker
// and enqueue on a redis-server with the sandbox Clerk. In turn:
//
//   - A worker ran the campaign "finished", invites with every kind of ending, two revocations, a schedule that
//     synced the directory, and a task whose payload is garbage. Two addresses were forgotten. Redis refused
//     SADD in the middle of a retry of the dead letter "midway", so that letter is between the two steps of a
//     retry.
//   - A worker with a permit for one bulk call sent ten of "cancelled". The campaign was cancelled; the retry
//     of its dead letter failed.
//   - A worker with one more permit sent ten of "paused" while Clerk failed to revoke the duplicate of number
//     7. The campaign was paused.
//   - A worker was killed during "running". Clerk had accepted one bulk call and refused one without naming
//     anybody. A third hung, and Clerk carried it out after the worker's end.
//   - A worker started 17 s later, while Clerk's lists hung, and was killed too. One of its bulk calls had
//     failed with 503, one was reset after the commit, one hung, and one was refused with 429. A single call of
//     the campaign and the calls of two invites hung, two invites were lost, and two invites waited for a
//     permit.
//   - No worker ran any more. More invites, campaigns and recipients were enqueued, and one recipient was
//     forgotten.
//
// The program waited a minute, until the killed workers' leases had ended, and wrote everything down.
// redis.jsonl has an array for each key: key, time to live, type, value. A letter of its strings stands for one
// byte. clerk.jsonl has the invitations in Clerk's list. answers.jsonl has what enqueue answered, without
// words, without null, and without what depends on the time of asking. An instant is its distance from the time
// of writing, in the unit that it has in Redis: ⟨-2500 ms⟩. The unit rfc3339 means a text, with a distance in
// nanoseconds.

// marked finds an instant in those files.
var marked = regexp.MustCompile(`⟨([+-]\d+) (\w+)⟩`)

// shifted reads the lines of a file as if the earlier build had written it at base.
func shifted(t *testing.T, name string, base time.Time) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "takeover", name))
	testkit.NoError(t, err)
	text = marked.ReplaceAllFunc(text, func(mark []byte) []byte {
		parts := marked.FindSubmatch(mark)
		n, err := strconv.ParseInt(string(parts[1]), 10, 64)
		testkit.NoError(t, err)
		distance := time.Duration(n)
		switch unit := string(parts[2]); unit {
		case "s":
			return fmt.Append(nil, base.Add(distance*time.Second).Unix())
		case "ms":
			return fmt.Append(nil, base.Add(distance*time.Millisecond).UnixMilli())
		case "us":
			return fmt.Append(nil, base.Add(distance*time.Microsecond).UnixMicro())
		case "ns":
			return fmt.Append(nil, base.Add(distance).UnixNano())
		case "rfc3339":
			return []byte(base.Add(distance).UTC().Format(time.RFC3339Nano))
		default:
			t.Fatalf("%s: an instant in %s", name, unit)
			return nil
		}
	})
	var lines [][]byte
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		lines = append(lines, bytes.Clone(scanner.Bytes()))
	}
	return lines
}

// bytesOf gives the bytes that a string of redis.jsonl stands for.
func bytesOf(text string) string {
	var b strings.Builder
	for _, r := range text {
		b.WriteByte(byte(r))
	}
	return b.String()
}

// inherit puts what an earlier build left into the system's Redis and its Clerk.
func (s *system) inherit(base time.Time) {
	s.t.Helper()
	info, err := s.rdb.InfoMap(s.t.Context(), "server").Result()
	testkit.NoError(s.t, err)
	pipe := s.rdb.Pipeline()
	for _, line := range shifted(s.t, "redis.jsonl", base) {
		// as if it were the same Redis
		line = bytes.ReplaceAll(line, []byte("RUN_ID"), []byte(info["Server"]["run_id"]))
		var key, ttl, kind string
		var value json.RawMessage
		if err := json.Unmarshal(line, &[...]any{&key, &ttl, &kind, &value}); err != nil {
			s.t.Fatalf("%v in line %s", err, line)
		}
		key = bytesOf(key)
		s.inheritKey(pipe, key, kind, value)
		if ttl != "" {
			span, err := time.ParseDuration(ttl)
			testkit.NoError(s.t, err)
			pipe.PExpire(s.t.Context(), key, span)
		}
	}
	_, err = pipe.Exec(s.t.Context())
	testkit.NoError(s.t, err)
	for _, line := range shifted(s.t, "clerk.jsonl", base) {
		var shown clerktest.Invitation
		if err := json.Unmarshal(line, &shown); err != nil {
			s.t.Fatalf("%v in line %s", err, line)
		}
		s.clerk.Restore(shown)
	}
}

func (s *system) inheritKey(pipe redis.Pipeliner, key, kind string, value json.RawMessage) {
	s.t.Helper()
	ctx := s.t.Context()
	var text string
	var list []string
	var fields map[string]string
	into := map[string]any{"string": &text, "list": &list, "set": &list, "hash": &fields, "zset": &fields}[kind]
	if err := json.Unmarshal(value, into); err != nil {
		s.t.Fatalf("key %q: %v", key, err)
	}
	var members []any
	for _, member := range list {
		members = append(members, bytesOf(member))
	}
	switch kind {
	case "string":
		pipe.Set(ctx, key, bytesOf(text), 0)
	case "list":
		pipe.RPush(ctx, key, members...)
	case "set":
		pipe.SAdd(ctx, key, members...)
	case "hash":
		for field, value := range fields {
			pipe.HSet(ctx, key, bytesOf(field), bytesOf(value))
		}
	case "zset":
		for member, score := range fields {
			number, err := strconv.ParseFloat(score, 64)
			if err != nil {
				s.t.Fatalf("key %q: %v", key, err)
			}
			pipe.ZAdd(ctx, key, redis.Z{Score: number, Member: bytesOf(member)})
		}
	}
}

// stock counts what Redis holds, by kinds.
func (s *system) stock() map[string]int {
	s.t.Helper()
	ctx := s.t.Context()
	counts := map[string]int{}
	keys, err := s.rdb.Keys(ctx, "*").Result()
	testkit.NoError(s.t, err)
	for _, key := range keys {
		kind, of, _ := strings.Cut(key, "}:")
		what, id, _ := strings.Cut(of, ":")
		switch {
		case strings.HasPrefix(kind, "asynq:") && what == "t":
			counts["tasks "+s.rdb.HGet(ctx, key, "state").Val()]++
		case kind == "usher:{once" && what == "t":
			var record struct{ State string }
			if err := json.Unmarshal([]byte(s.rdb.Get(ctx, key).Val()), &record); err != nil {
				s.t.Errorf("record %s: %v", id, err)
			}
			counts["records "+record.State]++
		case kind == "usher:{once" && what == "i":
			for field, value := range s.rdb.HGetAll(ctx, key).Val() {
				state, _, _ := strings.Cut(value, "|")
				if strings.HasPrefix(field, "=") {
					state = "settled"
				}
				counts["intents "+state]++
			}
		case kind == "usher:{once" && what == "c":
			s.stockCampaign(counts, key, id)
		case kind == "usher:{once" && what == "d" && id != "index":
			counts["dead letters"]++
			if s.rdb.HExists(ctx, key, "next").Val() {
				counts["dead letters in the middle of a retry"]++
			}
		case kind == "usher:{schedule" && what == "s":
			counts["schedules"]++
		case kind == "usher:{directory" && what == "copy" && !strings.Contains(id, ":"):
			counts["invitations in the directory"] = int(s.rdb.HLen(ctx, key).Val())
		case kind == "usher:{limits" && strings.HasSuffix(of, ":log"):
			counts["permits of "+what] = int(s.rdb.ZCard(ctx, key).Val())
		}
	}
	counts["dead letters in the index"] = int(s.rdb.ZCard(ctx, "usher:{once}:d:index").Val())
	counts["campaigns that need a driver"] = int(s.rdb.SCard(ctx, "usher:{once}:running").Val())
	counts["tombstones"] = int(s.rdb.HLen(ctx, "usher:{once}:forgotten").Val()) - 1 // without the salt
	return counts
}

// stockCampaign counts the rows of a campaign by state and way of travel, and the members of its lists.
func (s *system) stockCampaign(counts map[string]int, key, id string) {
	s.t.Helper()
	ctx := s.t.Context()
	name, part, _ := strings.Cut(id, ":")
	switch part {
	case "rows":
		for _, row := range s.rdb.HVals(ctx, key).Val() {
			counts[name+" rows "+row[:2]]++
		}
	case "later", "open":
		counts[name+" "+part] = int(s.rdb.ZCard(ctx, key).Val())
	case "waiting", "ready", "singles", "unsure":
		counts[name+" "+part] = int(s.rdb.LLen(ctx, key).Val())
	}
}

// wantCounts compares counts, and tells each that differs.
func wantCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	names := maps.Clone(got)
	maps.Copy(names, want)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s: %d, want %d", what, name, got[name], want[name])
		}
	}
}

// wantSameAnswers compares what enqueue answers with what it answered in the earlier build.
func (s *system) wantSameAnswers(base time.Time) {
	s.t.Helper()
	for _, line := range shifted(s.t, "answers.jsonl", base) {
		var old struct {
			Asked    []string
			Answered []map[string]any
		}
		if err := json.Unmarshal(line, &old); err != nil {
			s.t.Fatalf("%v in line %s", err, line)
		}
		answered := s.list(old.Asked...)
		if len(answered) != len(old.Answered) {
			s.t.Errorf("enqueue %q answers %d objects, want %d", old.Asked, len(answered), len(old.Answered))
			continue
		}
		for i, want := range old.Answered {
			if limits, ok := want["limits"].([]any); ok { // earlier builds showed that of a key, which counts nothing
				want["limits"] = slices.DeleteFunc(limits, func(limit any) bool {
					return strings.HasPrefix(limit.(map[string]any)["name"].(string), "key-")
				})
			}
			if id, ok := want["id"].(string); ok && want["reason"] != nil { // of a dead letter: found by it, shown by another
				want["id"] = s.ok("dead-letter", "show", id)["id"]
			}
			if differs := difference(answered[i], want); differs != "" {
				s.t.Errorf("enqueue %q: object %d: %s", old.Asked, i, differs)
			}
		}
	}
}

// difference tells where a value is not what it was. What is new is no difference.
func difference(got, want any) string {
	switch want := want.(type) {
	case map[string]any:
		object, _ := got.(map[string]any)
		for name, value := range want {
			if differs := difference(object[name], value); differs != "" {
				return name + ": " + differs
			}
		}
		return ""
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			return fmt.Sprintf("%v, want %v", got, want)
		}
		for i, value := range want {
			if differs := difference(list[i], value); differs != "" {
				return fmt.Sprintf("%d: %s", i, differs)
			}
		}
		return ""
	}
	if got != want {
		return fmt.Sprintf("%v, want %v", got, want)
	}
	return ""
}

// inherited is what the earlier build left, counted.
func inherited() map[string]int {
	return map[string]int{
		"tasks active": 6, "tasks pending": 6, "tasks retry": 2, "tasks scheduled": 6,
		"records open": 16, "records done": 8, "records dead": 6, "records cancelled": 1,
		"intents c": 23, "intents u": 23, "intents p": 12, "intents settled": 38,
		"dead letters": 11, "dead letters in the index": 11, "dead letters in the middle of a retry": 2,
		"finished rows sb": 5, "finished rows db": 2,
		"cancelled rows sb": 10, "cancelled rows db": 1, "cancelled rows wr": 3,
		"paused rows sb": 10, "paused rows wr": 3, "paused rows wu": 1, "paused ready": 3, "paused later": 1,
		"running rows sb": 10, "running rows db": 2, "running rows or": 10, "running rows os": 1,
		"running rows ou": 20,
		"running rows wb": 4, "running rows wr": 10, "running rows ws": 14, "running rows wu": 10,
		"running open": 31, "running later": 10, "running singles": 14, "running ready": 10, "running waiting": 4,
		"soon rows wb": 4, "soon waiting": 4, "far rows wb": 3, "far waiting": 3,
		"campaigns that need a driver": 2, "schedules": 2, "invitations in the directory": 13, "tombstones": 3,
		"permits of create": 22, "permits of bulk": 9,
	}
}

func TestWhatAnEarlierBuildLeftIsTakenOver(t *testing.T) {
	t.Parallel()
	create, bulk := clerktest.Limit{N: 100, Window: time.Second}, clerktest.Limit{N: 25, Window: time.Second}
	s := start(t, clerktest.Config{Create: create, Bulk: bulk},
		"USHER_LIMIT_CREATE=100/1s", "USHER_LIMIT_BULK=25/1s", "USHER_LIMIT_OVERALL=0", "USHER_TIMEOUT=5s")
	base := time.Now().Truncate(time.Second)
	s.inherit(base)
	wantCounts(t, "loaded", s.stock(), inherited())
	s.wantSameAnswers(base)
	rest, err := s.rdb.HGet(t.Context(), "usher:{limits}:bulk:state", "not_before").Int64()
	testkit.NoError(t, err)
	s.clerk.RejectAddress("running020@example.com", 422, "form_param_format_invalid")
	client, err := tasks.NewClient(tasks.RedisURL(s.redis.URL()))
	testkit.NoError(t, err)
	defer client.Close()
	s.worker("USHER_SCHEDULE_FILE=" + filepath.Join("testdata", "takeover", "schedules.yaml"))

	welcome := fmt.Sprintf("schedule.welcome.%d", base.Add(4*time.Second).Unix())
	s.wantInvited(client, map[string]string{
		"lost-made": "", "lost-unmade": "", "flying-made": "", "flying-unmade": "", "waiting-1": "", "waiting-2": "",
		"pending-1": "", "pending-2": "", "pending-3": "", "pending-4": "", "pending-5": "",
		"soon-1": "", "soon-2": "",
		welcome: "welcome",
	})
	s.wantCampaign(client, "running", tasks.CampaignFinished,
		map[string]any{"recipients": 81, "sent": 78, "dead": 3, "forgotten": 1})
	s.wantCampaign(client, "soon", tasks.CampaignFinished,
		map[string]any{"recipients": 4, "sent": 4, "dead": 0, "remaining": 0})
	testkit.Eventually(t, "the directory is synced", func() bool {
		task, err := client.Status(t.Context(), "sync-pending")
		return err == nil && task.State == tasks.StateDone
	})
	if found := s.list("invitations", "--query", "finished000"); len(found) != 1 {
		t.Errorf("the directory has %v of finished000", found)
	}
	s.wantTheRestInPlace(client)
	for _, r := range s.clerk.Requests() {
		if early := time.UnixMicro(rest).Sub(r.Arrived); r.Endpoint == clerktest.Bulk && early > 0 {
			t.Errorf("request %d is a bulk call and came %s before the end of the rest", r.Number, early)
		}
	}

	want(t, s.ok("campaign", "resume", "paused"), map[string]any{"state": "running"})
	s.wantCampaign(client, "paused", tasks.CampaignFinished, map[string]any{"sent": 14, "dead": 0, "remaining": 0})
	s.retryInherited(client)
	s.wantOnceEach(base)
	for endpoint, stats := range s.clerk.Stats().Endpoints {
		if stats.Throttled > 0 {
			t.Errorf("%d requests to %s were refused by a limit", stats.Throttled, endpoint)
		}
	}
}

// wantTheRestInPlace checks what must not have begun, and what must not be repeated.
func (s *system) wantTheRestInPlace(client *tasks.Client) {
	s.t.Helper()
	testkit.Eventually(s.t, "only what is not due is left in the queues", func() bool {
		left := map[string]float64{}
		for _, queue := range s.ok("status")["queues"].([]any) {
			for state, n := range queue.(map[string]any) {
				n, _ := n.(float64)
				left[state] += n
			}
		}
		// far-1, far-2 and the campaign "far" are scheduled, and the driver of "paused" is active.
		return left["scheduled"] == 3 && left["active"] == 1 && left["pending"]+left["retry"] == 0
	})
	s.wantCampaign(client, "far", tasks.CampaignScheduled, map[string]any{"recipients": 3, "sent": 0, "remaining": 3})
	s.wantCampaign(client, "paused", tasks.CampaignPaused,
		map[string]any{"recipients": 14, "sent": 10, "remaining": 4})
	s.wantCampaign(client, "cancelled", tasks.CampaignCancelled,
		map[string]any{"recipients": 14, "sent": 10, "dead": 1, "remaining": 3})
	for id, state := range map[string]string{"far-1": "scheduled", "far-2": "scheduled", "gone": "cancelled"} {
		want(s.t, s.ok("status", id), map[string]any{"state": state})
	}
	want(s.t, s.ok("invite", "done-1@example.com", "--id", "done-1"), map[string]any{"state": "done"})
	if a := s.enqueue("invite", "running079@example.com"); a.Exit == 0 {
		s.t.Errorf("inviting a forgotten address: %+v", a)
	}
}

// wantInvited waits until invite tasks are done, each with an invitation for its address. The map has the part of the
// address before the @ by the task's id; an empty one is the id itself.
func (s *system) wantInvited(client *tasks.Client, invites map[string]string) {
	s.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(invites)) {
		var task tasks.Task
		testkit.Eventually(s.t, "task "+id+" has ended", func() bool {
			var err error
			task, err = client.Status(s.t.Context(), id) // a tick's task is not enqueued yet
			return err == nil && task.State.Ended()
		})
		made, ok := s.clerk.Invitation(task.InvitationID)
		if !ok || made.EmailAddress != cmp.Or(invites[id], id)+"@example.com" || task.State != tasks.StateDone {
			s.t.Errorf("task %s: %+v; its invitation is for %q", id, task, made.EmailAddress)
		}
	}
}

// wantCampaign waits until a campaign is in a state, and compares what enqueue says of it.
func (s *system) wantCampaign(client *tasks.Client, name string, state tasks.CampaignState, fields map[string]any) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("campaign %s is %s", name, state), func() bool {
		c, err := client.Campaign(s.t.Context(), name)
		return err == nil && c.State == state
	})
	want(s.t, s.ok("campaign", "status", name), fields)
}

// retryInherited retries every dead letter. Four die again or stay: Clerk refuses one again, one belongs to a
// cancelled campaign, one has garbage as its payload, and one is a revocation of what does not exist.
func (s *system) retryInherited(client *tasks.Client) {
	s.t.Helper()
	var retried []string
	for _, letter := range s.list("dead-letter", "list") {
		id := fmt.Sprint(letter["id"])
		if letter["campaign"] != "cancelled" {
			retried = append(retried, id)
		} else if a := s.enqueue("dead-letter", "retry", id); a.Exit != 1 {
			s.t.Errorf("retrying one of a cancelled campaign: %+v", a)
		}
	}
	if len(retried) != 11 {
		s.t.Errorf("%d dead letters can be retried, want 11: %q", len(retried), retried)
	}
	s.list(append([]string{"dead-letter", "retry"}, retried...)...)
	s.wantInvited(client, map[string]string{
		"refused:retry1": "refused", "midway:retry1": "midway", "user:retry1": "user", "exhausted:retry1": "exhausted",
	})
	s.wantCampaign(client, "finished", tasks.CampaignFinished, map[string]any{"sent": 7, "dead": 0, "remaining": 0})
	s.wantCampaign(client, "running", tasks.CampaignFinished, map[string]any{"sent": 80, "dead": 1, "remaining": 0})
	testkit.Eventually(s.t, "four dead letters are left", func() bool {
		var left []string
		for _, id := range s.rdb.ZRange(s.t.Context(), "usher:{once}:d:index", 0, -1).Val() {
			about, _, _ := strings.Cut(id, ":")
			left = append(left, about)
		}
		slices.Sort(left)
		return slices.Equal(left, []string{"cancelled", "garbage", "revoked-nothing", "running"})
	})
}

// wantOnceEach counts the invitations of each address, by both builds.
func (s *system) wantOnceEach(base time.Time) {
	s.t.Helper()
	got, want := map[string]int{}, map[string]int{}
	for _, line := range shifted(s.t, "clerk.jsonl", base) {
		var old clerktest.Invitation
		testkit.NoError(s.t, json.Unmarshal(line, &old))
		got[old.EmailAddress]++
	}
	for _, sent := range s.clerk.Ledger() {
		got[sent.Address]++
	}
	for name, n := range map[string]int{"finished": 8, "cancelled": 10, "paused": 14, "running": 82, "soon": 4} {
		for i := range n {
			want[fmt.Sprintf("%s%03d@example.com", name, i)] = 1
		}
	}
	for _, name := range strings.Fields(`done-1 done-2 done-3 accept refused midway user exhausted
		lost-made lost-unmade flying-made flying-unmade waiting-1 waiting-2 soon-1 soon-2 welcome
		pending-1 pending-2 pending-3 pending-4 pending-5 stranger.accepted stranger.expired stranger.pending`) {
		want[name+"@example.com"] = 1
	}
	want["paused007@example.com"] = 2  // it was resent
	want["running020@example.com"] = 0 // Clerk refuses it
	want["running079@example.com"] = 0 // it was forgotten
	wantCounts(s.t, "invitations", got, want)
}
