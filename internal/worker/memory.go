package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// ErrRedis means that Redis is not set up to keep what it is given, and the worker was told to be strict about it.
var ErrRedis = errors.New("redis may lose what it is given")

// faults tells what is wrong with how Redis is set up, and what can be lost by it. In a cluster it asks every master:
// queues, limits and outcomes may be on different ones.
func faults(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return faultsOf(ctx, rdb)
	}
	var one sync.Mutex
	nodes := map[string][]string{}
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		found, err := faultsOf(ctx, node)
		one.Lock()
		defer one.Unlock()
		for _, fault := range found {
			nodes[fault] = append(nodes[fault], node.Options().Addr)
		}
		return err
	})
	var faults []string
	for _, fault := range slices.Sorted(maps.Keys(nodes)) {
		slices.Sort(nodes[fault])
		faults = append(faults, strings.Join(nodes[fault], ", ")+": "+fault)
	}
	return faults, err
}

// wanted are the settings that Redis must have, and what can be lost without. INFO tells the first two as well.
var wanted = []struct{ setting, value, harm, field, told string }{
	{"maxmemory-policy", "noeviction", "tasks and outcomes are dropped when its memory is full",
		"maxmemory_policy", "noeviction"},
	{"appendonly", "yes", "a restart loses all tasks and outcomes since its last snapshot", "aof_enabled", "1"},
	{"appendfsync", "always", "a crash loses the tasks and outcomes of up to a second, " +
		"and what was sent in it may be sent again", "", ""},
}

func faultsOf(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	info, err := info(ctx, rdb)
	if err != nil {
		return nil, err
	}
	var faults []string
	switch version := info["redis_version"]; {
	case version == "":
		faults = append(faults, "it does not tell its version; 6.2 or newer is needed")
	case !isNew(version):
		faults = append(faults, fmt.Sprintf("its version is %.20q; 6.2 or newer is needed", version))
	}
	if role := info["role"]; role != "" && role != "master" {
		faults = append(faults, fmt.Sprintf("its role is %.20q; only a master takes what is written", role))
	}
	for _, want := range wanted {
		if want.field != "" && info[want.field] == want.told {
			continue
		}
		got, err := rdb.ConfigGet(ctx, want.setting).Result()
		if err != nil && !answeredWithError(err) {
			return nil, err
		}
		value, known := got[want.setting]
		if told, ok := info[want.field]; !known && ok {
			value, known = told, true
		}
		switch {
		case !known:
			faults = append(faults, fmt.Sprintf("it does not tell its %s, because it refuses CONFIG GET; "+
				"it should be %s, or else %s", want.setting, want.value, want.harm))
		case value != want.value:
			faults = append(faults, fmt.Sprintf(
				"its %s is %.40q and should be %s: %s", want.setting, value, want.value, want.harm))
		}
	}
	return faults, nil
}

// answeredWithError tells a refusal of Redis, which a user of little rights gets, from a Redis that cannot answer.
func answeredWithError(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// info is what Redis tells of itself. Version and role it also tells to whom it refuses INFO.
func info(ctx context.Context, rdb redis.UniversalClient) (map[string]string, error) {
	info := map[string]string{}
	hello := redis.NewMapStringInterfaceCmd(ctx, "hello")
	if err := rdb.Process(ctx, hello); err == nil {
		info["redis_version"], _ = hello.Val()["version"].(string)
		info["role"], _ = hello.Val()["role"].(string)
	}
	for _, section := range []string{"server", "replication", "memory", "persistence"} {
		text, err := rdb.Info(ctx, section).Result()
		if err != nil && !answeredWithError(err) {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
	}
	return info, nil
}

// isNew tells whether a version has every command that is needed.
func isNew(version string) bool {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 2)
}

// memoryScript notes which Redis it is, and that it was seen. What is seen for the first time is noted at once.
//
// KEYS[1] -> usher:{once}:redis
// KEYS[2] -> usher:{once}:lost
// KEYS[3] -> usher:{once}:w:PROCESS
// KEYS[4] -> usher:{once}:restored
// KEYS[5] -> usher:{once}:seen
// --
// ARGV[1] -> what the count of the process must be at least
// ARGV[2] -> what it becomes
// ARGV[3] -> when the process knows that Redis was seen (ms)
// ARGV[4] -> 1 if the process is a newcomer, who notes nothing about what others have seen
// --
// Returns which Redis it is; now; and of what memory gives: lost, run, rests (1 or 0), restored, behind and seen.
var memoryScript = redis.NewScript(store.Clock + store.MemoryLua + `
local mind = memory(1, 1)
if mind.seen == 0 or ARGV[4] == '0' and now - mind.seen >= seen_every then
  mind.seen = now
  redis.call('SET', KEYS[5], stamp(now))
end
return { mind.id, now, mind.lost, mind.run, mind.rests and 1 or 0, mind.restored, mind.behind, mind.seen }
`)

// memory is what a worker has seen of Redis's memory.
type memory struct {
	lost time.Time     // when it may have been lost last; zero if never
	id   string        // of this run of Redis; empty if it does not tell
	run  time.Duration // for how long Redis has run; negative if it does not tell
	at   time.Time     // when that was asked; all instants are on Redis's clock

	rest     bool          // Redis was restored from a copy, and work rests
	restored time.Time     // when that was told last, or noticed; zero if never
	behind   time.Duration // how much older than what a worker had seen the copy is; zero if a person has told it
}

// readMemory notes which Redis it is, and that it was asked. From the next claim on, whoever is unfinished is looked up
// if Redis has lost what it was given. If a copy was put back that lacks what the process has seen, work rests.
func readMemory(
	ctx context.Context, rdb redis.UniversalClient, namespace string, count *store.Memory, newcomer bool,
) (memory, error) {
	args, noted := count.Raise()
	args = append(args, newcomer)
	answer, err := memoryScript.Run(ctx, rdb, count.Keys(store.Keys(namespace)), args...).Slice()
	if err != nil || len(answer) != 8 {
		return memory{}, cmp.Or(err, store.ErrGarbage)
	}
	noted()
	values := make([]int64, len(answer)-1)
	for i := range values {
		values[i], _ = answer[i+1].(int64)
	}
	count.Saw(values[6])
	id, _ := answer[0].(string)
	m := memory{
		id: id, at: time.UnixMilli(values[0]), run: time.Duration(values[2]) * time.Second,
		rest: values[3] == 1, behind: time.Duration(values[5]) * time.Millisecond,
	}
	if values[1] > 0 {
		m.lost = time.UnixMilli(values[1])
	}
	if values[4] > 0 {
		m.restored = time.UnixMilli(values[4])
	}
	return m, nil
}

// pause is how long to wait before the next look.
func (m memory) pause() time.Duration {
	if m.run < 0 || m.rest {
		return policy.CountCheck
	}
	return policy.MemoryCheck
}

// lossSince says what has cost Redis its memory since before.
func (m memory) lossSince(before memory) string {
	switch {
	case m.lost.Equal(m.restored):
		return "Redis was restored from a copy"
	case m.id == before.id:
		return "Redis has lost what was written last"
	case m.takenOver(before):
		return "another Redis has taken over, and may lack what was written last"
	}
	return "Redis was started anew"
}

// takenOver tells whether the other Redis that there is since before has taken over, and is not the same one that was
// started anew. How long it has run is the difference of two instants without their fractions, so that it may be a
// second too long.
func (m memory) takenOver(before memory) bool { return m.run-time.Second > m.at.Sub(before.at) }

// refusesInfo is the warning about a Redis that does not tell which it is.
const refusesInfo = "Redis refuses INFO, so that a loss of its memory is noticed only by workers that have seen " +
	"what was lost; if none of them is left, an invitation may be sent twice"

// check says what is wrong with Redis, and refuses to work with it if it shall be strict.
func (w *Worker) check(ctx context.Context) error {
	faults, err := faults(ctx, w.Redis)
	if err != nil {
		return err
	}
	for _, fault := range faults {
		w.Log.Warn().Str("fault", fault).Msg("Redis is not set up to keep everything")
	}
	if now, err := readMemory(ctx, w.Redis, w.Namespace, nil, true); err == nil && now.run < 0 {
		w.Log.Warn().Msg(refusesInfo)
	}
	if w.Strict && len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrRedis, strings.Join(faults, "; "))
	}
	return nil
}

// watchMemory says so when Redis may have lost its memory, until the context ends.
func (w *Worker) watchMemory(ctx context.Context) {
	unchecked, began := false, time.Now()
	pause := w.memory.pause()
	for before := w.memory; policy.Sleep(ctx, pause) == nil; {
		now, err := readMemory(ctx, w.Redis, w.Namespace, w.count, time.Since(began) < policy.Newcomer)
		if err != nil { // whether Redis can be reached is told elsewhere; it may be a copy when it can
			pause = policy.CountCheck
			continue
		}
		pause = now.pause()
		restoring := now.rest && !before.rest // that is told by itself
		if !now.lost.Equal(before.lost) && !restoring {
			w.Log.Warn().Time("at", now.lost.UTC()).
				Float64("ignore_existing_waits_seconds", (w.Policy.Timeout + w.Policy.SettlingTime).Seconds()).
				Msg(now.lossSince(before) + "; whoever is unfinished is looked up before the next call")
		}
		if unchecked = unchecked || !now.lost.Equal(before.lost); !unchecked {
			w.tellInfo(before, now)
		}
		before = now
		w.rest(now)
		if unchecked {
			err := w.check(ctx)
			if unchecked = err != nil && !errors.Is(err, ErrRedis); !unchecked && err != nil {
				w.Log.Error().Err(err).Msg("Redis has changed")
			}
		}
	}
}

// tellInfo says so when Redis refuses INFO from now on, or tells it again.
func (w *Worker) tellInfo(before, now memory) {
	switch refused := now.run < 0; {
	case refused == (before.run < 0):
	case refused:
		w.Log.Warn().Msg(refusesInfo)
	default:
		w.Log.Info().Msg("Redis answers INFO again")
	}
}

// rest lets calls that change something at Clerk wait, or go on, and says so.
func (w *Worker) rest(now memory) {
	w.Health.restored.Store(now.rest)
	if changed := w.caller.Restored.Set(now.rest); !changed {
		return
	}
	switch {
	case !now.rest:
		w.Log.Info().Msg("work goes on after Redis was restored")
	case now.behind > 0:
		w.Log.Warn().Time("at", now.restored.UTC()).Float64("behind_seconds", now.behind.Seconds()).
			Msg("a copy was put back into Redis, which lacks what a worker has seen: " +
				"nothing is changed at Clerk until enqueue restore has ended; run it now")
	default:
		w.Log.Warn().Msg("Redis was restored from a copy: nothing is changed at Clerk until enqueue restore has ended")
	}
}
