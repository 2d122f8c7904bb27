package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/server"

	"example.com/usher/internal/testkit"
)

// refusable are commands of Redis at which what changes something in several steps used to break off in its middle.
var refusable = []string{
	"hset", "hget", "hdel", "hexists", "lpush", "lpop", "sadd", "srem", "set", "unlink", "zrem", "zscan",
}

// TestACommandThatRedisWouldRefuseInItsMiddleChangesNothing: it names the right, says so, and works once it is given.
func TestACommandThatRedisWouldRefuseInItsMiddleChangesNothing(t *testing.T) {
	t.Parallel()
	for _, path := range leaves(t) {
		if changes, _ := howToRepeat(path); !changes || path == "schedule run" { // that waits for a worker
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.onReal()
			some := refusable
			if !testkit.Long {
				some = refusable[:3]
				if path == "campaign cancel" {
					some = []string{"srem"}
				}
			}
			for _, step := range some {
				s.withoutRight(path, step)
			}
		})
	}
}

// withoutRight runs a command for a user of Redis who lacks the right to one of Redis's, and again for one who has it.
func (s *stage) withoutRight(path, step string) {
	s.t.Helper()
	ctx, url := s.t.Context(), s.url
	defer func() { s.url = url }()
	testkit.NoError(s.t, s.rdb.FlushAll(ctx).Err())
	s.furnish()
	args := everyCommand()[path]
	if path == "restore" {
		args = append(args, "--without-list") // else it waits for a worker
	}
	command := append(strings.Fields(path), s.forFull(path, args)...)
	testkit.NoError(s.t, s.rdb.Do(ctx, "ACL", "SETUSER", "small", "reset", "on", ">x", "~*", "+@all", "-"+step).Err())
	s.url = strings.Replace(url, "redis://", "redis://small:x@", 1)
	before := s.held()
	a := s.enqueue(append(command, "--json")...)
	if after := s.held(); !maps.Equal(before, after) {
		s.t.Errorf("without %s it has changed %s: %s", step, difference(before, after), a.stderr)
	}
	for _, words := range []string{
		`"code":"redis_refuses"`, `"outcome":"nothing"`, "; nothing was ",
		"Redis refuses " + strings.ToUpper(step) + "; ACL SETUSER small +" + step,
	} {
		if a.exit != 1 || !strings.Contains(a.stderr, words) {
			s.t.Errorf("without %s, exit %d: %s\nwant %s", step, a.exit, a.stderr, words)
		}
	}
	testkit.NoError(s.t, s.rdb.Do(ctx, "ACL", "SETUSER", "small", "+"+step).Err())
	if again := s.enqueue(command...); again.exit != 0 {
		s.t.Errorf("with %s: %+v", step, again)
	}
}

// TestACommandAtWhichRedisGoesAwaySaysWhatIsKnown of it: nothing, before it was asked to change something.
func TestACommandAtWhichRedisGoesAwaySaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		gone func(cmd string) bool
		says string
	}{
		"at once":           {func(string) bool { return true }, "; nothing was changed"},
		"at its first step": {isScript, "; nothing was changed"},
		"at its second": {secondScript(), "; unknown whether anything was changed, because Redis has not answered; repeat " +
			"it: that does nothing twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.ok("bulk-invite", s.write("people.csv", people("p", 3)), "--campaign", "spring")
			s.mini.Server().SetPreHook(func(peer *server.Peer, cmd string, _ ...string) bool {
				gone := cmd != "HELLO" && cmd != "CLIENT" && test.gone(cmd)
				if gone {
					peer.Close()
				}
				return gone
			})
			a := s.enqueue("campaign", "pause", "spring")
			if a.exit != 1 || !strings.HasSuffix(strings.TrimSpace(a.stderr), test.says) {
				t.Errorf("%+v, want %q", a, test.says)
			}
		})
	}
}
