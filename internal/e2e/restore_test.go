package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// copyRedis makes a copy of Redis and gives its file.
func (s *system) copyRedis() (path string) {
	s.t.Helper()
	ctx := s.t.Context()
	testkit.NoError(s.t, s.rdb.BgSave(ctx).Err())
	testkit.Eventually(s.t, "the copy is made", func() bool {
		info, err := s.rdb.Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "rdb_bgsave_in_progress:0\r\n") &&
			strings.Contains(info, "rdb_last_bgsave_status:ok\r\n")
	})
	made, err := os.ReadFile(filepath.Join(s.redis.Dir, "dump.rdb"))
	testkit.NoError(s.t, err)
	path = filepath.Join(s.t.TempDir(), "copy.rdb")
	testkit.NoError(s.t, os.WriteFile(path, made, 0o600))
	return path
}

// putBack kills Redis and puts a copy back, as docs/operations.md says.
func (s *system) putBack(path string) {
	s.t.Helper()
	ctx, t := s.t.Context(), s.t
	s.redis.Kill()
	testkit.NoError(t, os.RemoveAll(filepath.Join(s.redis.Dir, "appendonlydir")))
	made, err := os.ReadFile(path)
	testkit.NoError(t, err)
	testkit.NoError(t, os.WriteFile(filepath.Join(s.redis.Dir, "dump.rdb"), made, 0o600))
	host, port, err := net.SplitHostPort(s.redis.Addr)
	testkit.NoError(t, err)
	once := s.begin(testkit.Command{Name: "redis-server", Path: "redis-server", Dir: s.redis.Dir, Args: []string{
		"--bind", host, "--port", port, "--dir", s.redis.Dir, "--save", "", "--appendonly", "no",
	}})
	testkit.Eventually(t, "Redis has read the copy", func() bool { return s.rdb.Ping(ctx).Err() == nil })
	testkit.NoError(t, s.rdb.ConfigSet(ctx, "appendonly", "yes").Err())
	testkit.Eventually(t, "Redis has written its own file", func() bool {
		info, err := s.rdb.Info(ctx, "persistence").Result()
		return err == nil && strings.Contains(info, "aof_rewrite_in_progress:0\r\n") &&
			strings.Contains(info, "aof_rewrite_scheduled:0\r\n") &&
			strings.Contains(info, "aof_last_bgrewrite_status:ok\r\n")
	})
	once.stop(syscall.SIGTERM)
	testkit.NoError(t, s.redis.Start(ctx))
}

// restoreStage is a campaign that is half sent when a copy of Redis is made, and what happens after it.
type restoreStage struct {
	*system
	copy, log string
}

// Who is who in the campaign of the restored Redis: p0 to p13 are sent when the copy is made, and the others are not.
const (
	accepted  = "p14@example.com" // sent after the copy, and accepted
	revoked   = "p15@example.com" // sent after the copy, and revoked
	expired   = "p16@example.com" // sent after the copy, and expired
	isUser    = "p36@example.com" // became a user by other means
	forgotten = "p37@example.com"
	lifted    = "p38@example.com" // was forgotten, and may be written down again
)

// Invites that ignore existing ones wait when the copy is made.
const (
	invited = "ada@example.com"   // sent after the copy
	signed  = "grace@example.com" // sent after the copy, accepted, and its invitation deleted
	waits   = "linus@example.com" // not sent
)

func startRestore(t *testing.T) *restoreStage {
	t.Helper()
	s := start(t, clerktest.Config{IgnoreExistingCoversUsers: true}, "USHER_TIMEOUT=2s", "USHER_RESERVE=1")
	r := &restoreStage{system: s, log: filepath.Join(s.dir, "erasures.log")}
	first := s.worker("USHER_LIMIT_CREATE=5/1h", "USHER_LIMIT_BULK=1/1h")
	rows := []string{"email"}
	for i := range 40 {
		rows = append(rows, fmt.Sprintf("p%d@example.com", i))
	}
	s.ok("bulk-invite", s.write("people.csv", strings.Join(rows, "\n")), "--campaign", "spring")
	testkit.Eventually(t, "14 are sent", func() bool { return s.campaign("spring").Sent == 14 })
	s.ok("invite", "second@example.com", "--wait") // the last single call
	for _, address := range []string{invited, signed} {
		s.ok("invite", address, "--ignore-existing")
	}
	s.ok("invite", waits, "--ignore-existing", "--in", "1h")
	first.stop(syscall.SIGTERM)
	r.copy = s.copyRedis()

	second := s.worker("USHER_LIMIT_CREATE=18/1h", "USHER_LIMIT_BULK=1/1h")
	testkit.Eventually(t, "more are sent", func() bool { return len(r.sentTo(signed))+len(r.sentTo(expired)) == 2 })
	testkit.NoError(t, s.clerk.Accept(s.atClerk(accepted)[0]))
	s.ok("revoke", s.atClerk(revoked)[0], "--wait")
	testkit.NoError(t, s.clerk.Expire(s.atClerk(expired)[0]))
	for _, address := range []string{signed, isUser} {
		if len(s.atClerk(address)) == 0 {
			s.clerk.AddInvitation(address)
		}
		id := s.atClerk(address)[0]
		testkit.NoError(t, s.clerk.Accept(id))
		s.ok("delete", id, "--yes", "--wait")
	}
	s.ok("forget", forgotten, "--yes", "--erasure-log", r.log)
	s.ok("forget", lifted, "--yes", "--erasure-log", r.log)
	s.ok("forget", lifted, "--lift", "--erasure-log", r.log)
	second.stop(syscall.SIGKILL)
	return r
}

// sentTo are the calls of Usher that invited an address.
func (r *restoreStage) sentTo(address string) (sent []clerktest.Sent) {
	for _, one := range r.clerk.Ledger() {
		if strings.EqualFold(one.Address, address) {
			sent = append(sent, one)
		}
	}
	return sent
}

// statusOf is the status of an address's only invitation.
func (r *restoreStage) statusOf(address string) string {
	r.t.Helper()
	inv, _ := r.clerk.Invitation(r.atClerk(address)[0])
	return inv.Status
}

// TestAfterARestoreNobodyIsInvitedTwice: Redis is lost, and a copy is put back that knows nothing of what was sent,
// revoked, forgotten and deleted since it was made.
func TestAfterARestoreNobodyIsInvitedTwice(t *testing.T) {
	t.Parallel()
	r := startRestore(t)
	r.putBack(r.copy)
	before := len(r.clerk.Ledger())
	if _, there := r.clerk.Invitation(r.atClerk(revoked)[0]); !there || before < 18 {
		t.Fatalf("%d were sent before", before)
	}

	// It asks before anything, and rests until Clerk's list is copied and a person has agreed.
	restoring := r.begin(r.command("enqueue", nil, "restore", "--from-log", r.log, "--json"))
	testkit.Eventually(t, "work rests", func() bool {
		return r.rdb.HExists(t.Context(), "usher:{once}:restored", "at").Val()
	})
	w := r.worker("USHER_LIMIT_CREATE=0", "USHER_LIMIT_BULK=0", "USHER_RESERVE=0")
	if exit := restoring.exit(); exit != 1 {
		t.Fatalf("without --yes: exit %d\n%s", exit, restoring.Log())
	}
	if found := r.traces(forgotten); len(found) > 0 {
		t.Errorf("the forgotten address is in %v", found)
	}
	r.ok("invite", "third@example.com")
	r.ok("revoke", r.atClerk("p0@example.com")[0])
	testkit.Eventually(t, "the standstill is told", func() bool {
		standstill, _ := r.ok("campaign", "status", "spring")["standstill"].(map[string]any)
		return standstill["reason"] == "restored"
	})
	a := r.enqueue("invite", "fourth@example.com", "--wait", "--wait-timeout", "5s")
	if a.Exit != 4 || !strings.Contains(a.Stderr, "restored from a copy") {
		t.Errorf("waiting: exit %d, %s", a.Exit, a.Stderr)
	}
	if now := len(r.clerk.Ledger()); now != before {
		t.Fatalf("%d were sent while work rests", now-before)
	}
	if status := r.statusOf("p0@example.com"); status != "pending" {
		t.Fatalf("an invitation is %s: it was changed while work rests", status)
	}

	answer := r.ok("restore", "--from-log", r.log, "--yes")
	want(t, answer, map[string]any{"ended": true, "tasks": 6})
	testkit.Eventually(t, "all has ended", func() bool {
		return r.campaign("spring").State == tasks.CampaignFinished && len(r.sentTo("fourth@example.com")) == 1 &&
			r.deadLetters() == 4 && r.statusOf("p0@example.com") == "revoked"
	})
	r.checkRestored()
	if lines(w, "work goes on after Redis was restored") != 1 {
		t.Error("the worker does not say that work goes on")
	}
}

// checkRestored wants that everybody was invited at most once, and that who cannot be known is a dead letter.
func (r *restoreStage) checkRestored() {
	t := r.t
	t.Helper()
	times := r.invited()
	for address, n := range times {
		if n > 1 {
			t.Errorf("%s was invited %d times", address, n)
		}
	}
	for i := range 40 {
		address := fmt.Sprintf("p%d@example.com", i)
		never := slices.Contains([]string{isUser, forgotten}, address)
		if got := times[address]; got != 1 && !never || got != 0 && never {
			t.Errorf("%s was invited %d times", address, got)
		}
	}
	codes := map[string]string{}
	for _, letter := range r.list("dead-letter", "list") {
		codes[fmt.Sprint(letter["email_address"])] = fmt.Sprint(letter["code"])
	}
	wanted := map[string]string{
		revoked: "unknown_after_restore", expired: "unknown_after_restore", signed: "unknown_after_restore",
		isUser: "form_identifier_exists",
	}
	got, _ := json.Marshal(codes)
	want, _ := json.Marshal(wanted)
	if string(got) != string(want) {
		t.Errorf("dead letters: %s, want %s", got, want)
	}
	if c := r.campaign("spring"); c.Recipients != 39 || c.Sent != 36 || c.Dead != 3 {
		t.Errorf("the campaign: %+v", c)
	}
	if found := r.traces(forgotten); len(found) > 0 {
		t.Errorf("the forgotten address is in %v", found)
	}
	if a := r.enqueue("invite", forgotten); a.Exit != 2 || !strings.Contains(a.Stderr, "forgotten") {
		t.Errorf("the forgotten address may be invited: exit %d, %s", a.Exit, a.Stderr)
	}
	// A person decides: each is sent once more.
	r.list("dead-letter", "retry", "--code", "unknown_after_restore", "--wait")
	for _, address := range []string{revoked, expired, signed} {
		if n := len(r.sentTo(address)); n != 2 {
			t.Errorf("%s was invited %d times after a person has decided, want 2", address, n)
		}
	}
}

// TestAWorkerThatRunsNoticesThatACopyWasPutBack, before its first call from it, and lets work rest. What was cancelled
// since the copy was made a person can cancel again.
func TestAWorkerThatRunsNoticesThatACopyWasPutBack(t *testing.T) {
	t.Parallel()
	admin, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	s := start(t, clerktest.Config{}, "USHER_ADMIN_ADDR="+admin)
	ctx, seen := t.Context(), store.Keys("usher").Seen()
	w := s.worker()
	s.ok("invite", "first@example.com", "--wait")
	was := s.rdb.Get(ctx, seen).Val()
	testkit.NoError(t, s.rdb.Set(ctx, seen, s.rdb.Time(ctx).Val().Add(2*time.Hour).UnixMilli(), 0).Err())
	counts := func() (sum int) {
		for _, key := range s.rdb.Keys(ctx, store.Keys("usher").Count("*")).Val() {
			n, _ := s.rdb.Get(ctx, key).Int()
			sum += n
		}
		return sum
	}
	before := counts()
	testkit.Eventually(t, "the worker has seen two hours more", func() bool { return counts() >= before+2 })
	testkit.NoError(t, w.Signal(syscall.SIGSTOP))
	testkit.NoError(t, s.rdb.Set(ctx, seen, was, 0).Err())
	s.ok("invite", "ada@example.com", "--id", "ada")
	s.ok("invite", "grace@example.com", "--id", "grace")
	copied := s.copyRedis()
	s.ok("task", "cancel", "ada", "--yes")
	s.putBack(copied)
	testkit.NoError(t, w.Signal(syscall.SIGCONT))
	testkit.Eventually(t, "the worker says it", func() bool {
		return lines(w, "a copy was put back", "enqueue restore") == 1
	})
	if sent := len(s.clerk.Ledger()); sent != 1 {
		t.Fatalf("%d were sent", sent)
	}
	standstill, _ := s.ok("status")["standstill"].(map[string]any)
	want(t, standstill, map[string]any{"reason": "restored"})
	const rests = "ready, but Redis was restored from a copy, and work rests until enqueue restore has ended\n"
	if a := s.run("", "worker", nil, "healthcheck"); a.Exit != 0 || a.Stdout != rests {
		t.Errorf("while work rests the worker is %+v", a)
	}

	s.ok("task", "cancel", "ada", "--yes")
	want(t, s.ok("restore", "--no-log", "--yes"), map[string]any{"ended": true})
	testkit.Eventually(t, "work goes on", func() bool { return s.state("grace") == tasks.StateDone })
	if sent := len(s.clerk.Ledger()); sent != 2 || s.state("ada") != tasks.StateCancelled {
		t.Errorf("%d were sent, and who was cancelled again is %s", sent, s.state("ada"))
	}
	testkit.Eventually(t, "the worker is ready without a but", func() bool {
		return s.run("", "worker", nil, "healthcheck").Stdout == "ready\n"
	})
	if said := lines(w, "was put back"); said != 1 {
		t.Errorf("one copy is told %d times", said)
	}
}

// TestABrokenErasureLogChangesNothing.
func TestABrokenErasureLogChangesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, clerktest.Config{})
	log := filepath.Join(s.dir, "erasures.log")
	s.ok("forget", "ada@example.com", "--yes", "--erasure-log", log)
	good, err := os.ReadFile(log)
	testkit.NoError(t, err)
	s.ok("forget", "ada@example.com", "--lift")
	s.ok("invite", "ada@example.com", "--in", "1h")
	another := regexp.MustCompile(`"key":"[0-9a-f]{16}"`)
	for name, broken := range map[string]string{
		"torn":        string(good[:40]),
		"another key": another.ReplaceAllString(string(good), `"key":"0000000000000000"`),
		"no JSON":     "forgotten: ada\n",
		"long":        strings.Repeat("x", 5000) + "\n",
	} {
		path := s.write(strings.ReplaceAll(name, " ", "-")+".log", string(good)+broken)
		for _, command := range []string{"forget", "restore"} {
			a := s.enqueue(command, "--from-log", path, "--yes")
			if a.Exit != 2 || !strings.Contains(a.Stderr, "line 2") || !strings.Contains(a.Stderr, "nothing was done") {
				t.Errorf("%s, %s: exit %d, %s", name, command, a.Exit, a.Stderr)
			}
		}
	}
	rests := s.rdb.Exists(t.Context(), "usher:{once}:restored").Val()
	if found := s.traces("ada@example.com"); len(found) == 0 || rests > 0 {
		t.Errorf("something was done: the address is in %v", found)
	}
	for range 2 { // repeating it is safe
		again := s.ok("forget", "--from-log", s.write("good.log", string(good)), "--yes")
		want(t, again, map[string]any{"addresses": 1})
	}
	if found := s.traces("ada@example.com"); len(found) > 0 {
		t.Errorf("the address is in %v", found)
	}
}
