package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/usher/clerkclient/clerktest"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// TestACampaignRunsWhateverRedisForbids: each restriction by itself, and all together. What cannot be known then is
// said, a strict worker refuses it by name, and connections do not become more.
func TestACampaignRunsWhateverRedisForbids(t *testing.T) {
	t.Parallel()
	const noInfo = "Redis refuses INFO"
	for rules, says := range map[string][]string{
		"-config":             {"does not tell its appendfsync"},
		"-memory":             nil,
		"-info":               {noInfo},
		"-publish -subscribe": nil,
		"-config -memory -info -publish -subscribe -psubscribe -unsubscribe -client": {noInfo,
			"does not tell its maxmemory-policy", "does not tell its appendonly", "does not tell its appendfsync"},
	} {
		t.Run(rules, func(t *testing.T) {
			t.Parallel()
			all := append([]string{"~*", "&*", "+@all"}, strings.Fields(rules)...)
			l := startLimited(t, all, clerktest.Config{}, "USHER_LIMIT_CREATE=10/1s", "USHER_LIMIT_BULK=2/1s",
				"USHER_RESERVE=3", "USHER_LOG_LEVEL=info")
			l.complete = true
			w := l.worker("USHER_STRICT=false")
			l.do(0, "bulk-invite", l.write("bulk.csv", csv("bulk", 120)), "--campaign=spring")
			testkit.Eventually(t, "the campaign is under way", func() bool { return l.campaign("spring").Sent >= 40 })
			before := l.connections("usher")
			l.do(0, "status")
			l.do(0, "bulk-invite", l.write("other.csv", csv("other", 20)), "--dry-run")
			l.do(0, "invite", "single0@example.com", "--wait", "--wait-timeout=20s")
			testkit.Eventually(t, "the campaign has ended", func() bool {
				return l.campaign("spring").State == tasks.CampaignFinished
			})
			l.onceEach(120, 1)
			if after := l.connections("usher"); after > before+5 {
				t.Errorf("%d connections, and %d before", after, before)
			}
			for _, text := range says {
				if n := lines(w, text); n != 1 {
					t.Errorf("%q is said %d times:\n%s", text, n, w.Log())
				}
			}
			if n := lines(w, `"level":"warn"`, `"level":"error"`); n != len(says) {
				t.Errorf("%d warnings, want %d:\n%s", n, len(says), w.Log())
			}
			unknown := strings.Contains(fmt.Sprint(says), "does not tell")
			if !unknown {
				return
			}
			strict := l.run("", "worker", []string{"USHER_STRICT=true"})
			if strict.Exit != 2 || !strings.Contains(strict.Stderr, "appendfsync") {
				t.Errorf("a strict worker: exit %d, %s", strict.Exit, strict.Stderr)
			}
		})
	}
}

// TestAWorkerThatMayNotDoAllDoesNothing: a script that is refused in its middle would lose recipients. It works as soon
// as it may.
func TestAWorkerThatMayNotDoAllDoesNothing(t *testing.T) {
	t.Parallel()
	all := []string{"~*", "&*", "+@all"}
	l := startLimited(t, all, clerktest.Config{}, "USHER_LIMIT_BULK=0", "USHER_LOG_LEVEL=info")
	list := l.write("bulk.csv", csv("bulk", 120))
	l.ok("bulk-invite", list, "--campaign=spring")
	l.allow(append(all, "-zadd"))
	refusal := "Redis refuses ZADD"
	if a := l.enqueue("bulk-invite", list, "--campaign=summer"); a.Exit != 1 || !strings.Contains(a.Stderr, refusal) {
		t.Errorf("an upload: %+v", a)
	}
	addr, err := testkit.FreeAddr()
	testkit.NoError(t, err)
	l.worker("USHER_ADMIN_ADDR=" + addr)
	testkit.Eventually(t, "it is not ready, and says why", func() bool {
		asked := l.run("", "worker", []string{"USHER_ADMIN_ADDR=" + addr}, "healthcheck")
		return asked.Exit == 1 && strings.Contains(asked.Stdout+asked.Stderr, refusal)
	})
	l.allow(all)
	testkit.Eventually(t, "the campaign has ended", func() bool {
		return l.campaign("spring").State == tasks.CampaignFinished
	})
	l.onceEach(120, 0)
}

// connections counts those of a user.
func (l *limited) connections(user string) int {
	l.t.Helper()
	list, err := l.rdb.ClientList(l.t.Context()).Result()
	testkit.NoError(l.t, err)
	return strings.Count(list, " user="+user+" ")
}

// TestARightThatGoesFromARunningWorkerLosesNobody: Redis refuses commands for a moment, while a campaign and invites
// are under way, and scripts are broken off in their middle. It is sent to each of them once.
func TestARightThatGoesFromARunningWorkerLosesNobody(t *testing.T) {
	t.Parallel()
	all := []string{"~*", "&*", "+@all"}
	runs := [][]string{{"+rpush", "+zadd", "+set"}}
	if testkit.Long {
		for _, rule := range documented(t) {
			if strings.HasPrefix(rule, "+") {
				runs = append(runs, []string{rule})
			}
		}
	}
	for _, commands := range runs {
		t.Run(strings.Join(commands, " "), func(t *testing.T) {
			t.Parallel()
			l := startLimited(t, all, clerktest.Config{}, "USHER_LIMIT_CREATE=5/1s", "USHER_LIMIT_BULK=2/1s",
				"USHER_RESERVE=2", "USHER_TIMEOUT=2s", "USHER_SETTLE=1s", "USHER_STRICT=false")
			l.complete = true
			l.do(0, "bulk-invite", l.write("bulk.csv", csv("bulk", 80)), "--campaign=spring")
			for i := range 12 {
				l.do(0, "invite", fmt.Sprintf("single%d@example.com", i))
			}
			l.worker()
			for i, command := range commands {
				testkit.Eventually(t, "the campaign is under way", func() bool {
					return l.campaign("spring").Sent >= 10*(i+1)
				})
				l.allow(append(slices.Clone(all), "-"+command[1:]))
				refused := time.Now()
				testkit.Eventually(t, "it is refused, or not needed", func() bool {
					return time.Since(refused) > 1500*time.Millisecond
				})
				l.allow(all)
			}
			testkit.Eventually(t, "all have ended", func() bool {
				return l.campaign("spring").State == tasks.CampaignFinished && len(l.clerk.Invitations()) >= 92
			})
			if c := l.campaign("spring"); c.Sent != 80 || c.Dead != 0 || c.Remaining != 0 {
				t.Errorf("%+v", c)
			}
			l.onceEach(80, 12)
		})
	}
}
