package main

import (
	"maps"
	"strings"
	"testing"

	"example.com/usher/internal/testkit"
)

// refusable are commands of Redis at which what changes something in several steps used to break off in its middle.
var refusable = []string{"hset", "hget", "hdel", "hexists", "lpush", "lpop", "sadd", "srem", "set", "unlink", "zrem", "zscan"}

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
		`"code":"redis_refuses"`, `"outcome":"nothing"`, "Redis refuses " + strings.ToUpper(step) + "; ACL SETUSER USER +" + step,
		"; nothing was ",
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
