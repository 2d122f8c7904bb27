package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
	"example.com/usher/internal/testkit"
	"example.com/usher/tasks"
)

// onReal moves a stage to a real Redis, which may be full.
func (s *stage) onReal() {
	s.t.Helper()
	server := testkit.RunRedis(s.t, "--maxmemory-policy", "noeviction")
	s.rdb, s.url = testkit.Client(s.t, server.Addr), server.URL()
	s.furnish()
}

// held is what Redis holds, by key, without what only tells for a while that a request was made, or an upload given
// up.
func (s *stage) held() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	keys, err := s.rdb.Keys(s.t.Context(), "*").Result()
	testkit.NoError(s.t, err)
	for _, key := range keys {
		if !strings.Contains(key, "request:") && !strings.Contains(key, ":u:") {
			all[key] = s.rdb.Dump(s.t.Context(), key).Val()
		}
	}
	return all
}

// needsNoMemory are the commands that change something and work although Redis is full.
var needsNoMemory = []string{"campaign delete", "schedule remove", "schedule resume"}

// TestEveryCommandOnARedisThatIsFull works, or says that it is full and has changed nothing.
func TestEveryCommandOnARedisThatIsFull(t *testing.T) {
	t.Parallel()
	commands := everyCommand()
	for _, path := range leaves(t) {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			if path == "serve" { // it goes on until it is stopped
				return
			}
			s := setup(t)
			s.onReal()
			command := append(strings.Fields(path), s.forFull(path, commands[path])...)
			s.full(true)
			before := s.held()
			a := s.enqueue(append(command, "--json")...)
			after := s.held()
			told := a.exit == 1 && strings.Contains(a.stderr, `"code":"redis_full"`)
			works := a.exit == 0 || path == "campaign watch" // that one tells by its exit how the campaign ended
			changed := !maps.Equal(before, after)
			switch {
			case !works && !told || slices.Contains(needsNoMemory, path) && (told || !changed):
				t.Errorf("exit %d, changed: %t\n%s%s", a.exit, changed, a.stdout, a.stderr)
			case path == "restore": // its first step, after which work rests, needs no memory: a person is told
				if told := s.enqueue(command...); !strings.Contains(told.stdout, "Work rests since ") {
					t.Errorf("%+v", told)
				}
				delete(after, store.Keys(tasks.DefaultNamespace).Restored())
				delete(after, store.Keys(tasks.DefaultNamespace).Lost())
				delete(after, store.Keys(tasks.DefaultNamespace).Seen())
				changed = !maps.Equal(before, after)
			}
			if changed && !slices.Contains(needsNoMemory, path) {
				t.Errorf("exit %d, and it has changed %s", a.exit, difference(before, after))
			}
			if s.full(false); told && path != "restore" && path != "schedule run" {
				if again := s.enqueue(command...); again.exit != 0 {
					t.Errorf("when there is room: %+v", again)
				}
			}
		})
	}
}

// full lets the stage's Redis have no memory to give, or enough again.
func (s *stage) full(is bool) {
	s.t.Helper()
	maxmemory := "0"
	if is {
		maxmemory = "1"
	}
	testkit.NoError(s.t, s.rdb.ConfigSet(s.t.Context(), "maxmemory", maxmemory).Err())
}

// forFull makes what a command is about, and gives its arguments.
func (s *stage) forFull(path string, args []string) []string {
	s.t.Helper()
	args = slices.Clone(args)
	list := s.write("people.csv", people("p", 3))
	s.ok("bulk-invite", list, "--campaign", "spring")
	s.ok("invite", "ada@example.com", "--id", "one")
	if strings.HasPrefix(path, "dead-letter") {
		s.dies("one", "ada@example.com", s.queued("usher:interactive", "one"))
		ada := store.IDOf("ada@example.com")
		intents := store.Keys(tasks.DefaultNamespace).Intents(string(ada[:]))
		testkit.NoError(s.t, s.rdb.HSet(s.t.Context(), intents, intent.TaskOwner("one"), "p|token|1|1").Err())
	}
	if strings.HasPrefix(path, "schedule") {
		file := s.write("schedules.yaml", "schedules: [{name: daily, cron: '@daily', task: sync-list}]\n")
		stop := s.keeps(file)
		if path == "schedule resume" {
			s.ok("schedule", "pause", "daily")
		}
		if path != "schedule run" { // for which a worker must have it
			stop()
		}
		if path == "schedule remove" {
			s.abandoned("daily")
		}
	}
	switch path {
	case "campaign resume":
		s.ok("campaign", "pause", "spring")
	case "campaign watch", "campaign delete": // it is over
		s.ok("campaign", "cancel", "spring", "--yes")
	case "bulk-invite":
		list = s.write("people.csv", people("more", 3))
		args = append(args, "--campaign", "more")
	case "schedule check":
		list = filepath.Join(s.dir, "schedules.yaml")
	case "restore":
		testkit.NoError(s.t, s.rdb.Set(s.t.Context(), store.Keys(tasks.DefaultNamespace).KeyKind(), "test", 0).Err())
	}
	for i, arg := range args {
		if arg == "FILE" {
			args[i] = list
		}
	}
	return args
}

// difference names the keys that differ.
func difference(before, after map[string]string) string {
	var keys []string
	for key, value := range before {
		if after[key] != value {
			keys = append(keys, key)
		}
	}
	for key := range after {
		if _, was := before[key]; !was {
			keys = append(keys, "new: "+key)
		}
	}
	return strings.Join(keys, ", ")
}
