package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// failover is a campaign in which the Redis dies that has its outcomes. Clerk would invite half of the recipients a
// second time without a word, and its list lags.
type failover struct {
	*system
	both [2]*process // the workers
}

const failoverRecipients = 300

func startFailover(t *testing.T, rdb redis.UniversalClient, redisURL string) *failover {
	t.Helper()
	config := clerktest.Config{
		MinLatency: 50 * time.Millisecond, MaxLatency: 400 * time.Millisecond, ListLag: time.Second,
	}
	s := startOn(t, rdb, redisURL, config, "USHER_LIMIT_CREATE=10/1s", "USHER_LIMIT_BULK=4/1s", "USHER_RESERVE=3",
		"USHER_TIMEOUT=2s", "USHER_SETTLE=2s", "USHER_LOG_LEVEL=info")
	f := &failover{s, [2]*process{s.worker(), s.worker()}}
	rows := []string{"email,ignore_existing"}
	for i := range failoverRecipients {
		rows = append(rows, fmt.Sprintf("bulk%d@example.com,%t", i, i%2 == 0))
	}
	s.ok("bulk-invite", s.write("bulk.csv", strings.Join(rows, "\n")), "--campaign", "load")
	testkit.Eventually(t, "the campaign is under way", func() bool { return len(s.clerk.Ledger()) > 60 })
	return f
}

const tookOver = "another Redis has taken over, and may lack what was written last; " +
	"whoever is unfinished is looked up before the next call"

// lines counts the lines of a worker's log that have one of some parts.
func lines(w *process, parts ...string) (n int) {
	for line := range strings.Lines(w.Log()) {
		if slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(line, part) }) {
			n++
		}
	}
	return n
}

// outlives ends a Redis while a call is under way. It wants that work goes on soon, that everybody is invited once in
// the end, and that the workers say what happened in one line, and not before.
func (f *failover) outlives(end func()) {
	t := f.t
	t.Helper()
	testkit.Eventually(t, "a call is under way", func() bool { return f.limits()["bulk"].InFlight > 0 })
	for _, w := range f.both {
		if n := lines(w, "looked up before the next call"); n > 0 {
			t.Errorf("a worker says %d times that Redis lost something, and it has not", n)
		}
	}
	end()
	ended := time.Now()
	testkit.Eventually(t, "a task is enqueued", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), testkit.NodeTimeout)
		defer cancel()
		_, err := f.client.Invite(ctx, tasks.Recipient{EmailAddress: "single0@example.com"}, tasks.ID("after"))
		return err == nil
	})
	testkit.Eventually(t, "a task that was enqueued afterwards is done", func() bool {
		task, err := f.client.Status(t.Context(), "after")
		return err == nil && task.State == tasks.StateDone
	})
	const soon = 10 * testkit.NodeTimeout // a replica takes over after two or three of them
	took := time.Since(ended)
	if took > soon {
		t.Errorf("work went on after %s", took)
	}
	testkit.Eventually(t, "the campaign has ended", func() bool {
		campaign, err := f.client.Campaign(t.Context(), "load")
		return err == nil && campaign.State == tasks.CampaignFinished
	})
	t.Logf("work went on after %s, and the campaign ended after %s", took, time.Since(ended))
	f.onceEach(failoverRecipients, 1)
	for _, w := range f.both {
		if n := lines(w, "looked up before the next call"); n != 1 || lines(w, tookOver) != 1 {
			t.Errorf("a worker says %d times that Redis may have lost something, want once:\n%s", n, w.Log())
		}
		if n := lines(w, `"level":"warn"`, `"level":"error"`); n > 20 {
			t.Errorf("%d warnings:\n%s", n, w.Log())
		}
	}
}

// TestACampaignOutlivesTheMasterOfItsOutcomes: of three masters, each with a replica.
func TestACampaignOutlivesTheMasterOfItsOutcomes(t *testing.T) {
	t.Parallel()
	cluster := testkit.RunCluster(t, 3)
	rdb := cluster.Client(t)
	f := startFailover(t, rdb, cluster.URL())
	killed := ""
	f.outlives(func() {
		keeper, err := cluster.Master(t.Context(), rdb, store.Keys("usher").Run())
		testkit.NoError(t, err)
		f.loseWrites(testkit.Client(t, keeper.Addr))
		killed = keeper.Addr
		keeper.Kill()
	})
	// Only now: the commands take longer on a slow machine than the campaign lasts.
	for _, node := range cluster.Nodes {
		if node.Addr != killed {
			f.wantClusterURL(node.URL())
			break
		}
	}
}

// loseWrites keeps from the replica what is written while some calls are made.
func (f *failover) loseWrites(master *redis.Client) {
	f.t.Helper()
	sent := len(f.clerk.Ledger())
	testkit.NoError(f.t, master.Do(f.t.Context(), "ACL", "SETUSER", "default", "-psync").Err())
	testkit.NoError(f.t, master.Do(f.t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	testkit.Eventually(f.t, "calls are made of which the replica does not know", func() bool {
		return len(f.clerk.Ledger()) > sent+20
	})
}

// wantClusterURL wants that no command takes a node of a cluster for a Redis of its own.
func (f *failover) wantClusterURL(nodeURL string) {
	f.t.Helper()
	for _, args := range [][]string{
		{"worker"}, {"enqueue", "invite", "ada@example.com"}, {"enqueue", "status"}, {"enqueue", "campaign", "list"},
		{"enqueue", "bulk-invite", f.write("bulk.csv", csv("other", 10)), "--campaign", "other"},
		{"enqueue", "status", "x"}, {"enqueue", "dead-letter", "list"}, {"enqueue", "sync-list"},
	} {
		a := f.run("", args[0], []string{"REDIS_URL=" + nodeURL}, args[1:]...)
		said := a.Stderr[strings.LastIndex("\n"+strings.TrimSpace(a.Stderr), "\n"):]
		if a.Exit != 2 || !strings.Contains(said, "redis+cluster://") || strings.Count(said, "\n") != 1 {
			f.t.Errorf("%q with a node's URL: exit %d\n%s", args, a.Exit, a.Stderr)
		}
	}
	if n := f.rdb.Exists(f.t.Context(), store.Keys("usher").Ledger("other", "meta")).Val(); n != 0 {
		f.t.Error("something was enqueued")
	}
}

// TestACampaignOutlivesAMasterThatHangs: behind Sentinel.
func TestACampaignOutlivesAMasterThatHangs(t *testing.T) {
	t.Parallel()
	sentinel := testkit.RunSentinel(t)
	startFailover(t, sentinel.Client(t), sentinel.URL()).
		outlives(func() { testkit.NoError(t, sentinel.Master.Hang()) })
}
