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
	for _, want := range []struct{ setting, value, harm string }{
		{"maxmemory-policy", "noeviction", "tasks and outcomes are dropped when its memory is full"},
		{"appendonly", "yes", "a restart loses all tasks and outcomes since its last snapshot"},
		{"appendfsync", "always", "a crash loses the tasks and outcomes of up to a second, " +
			"and what was sent in it may be sent again"},
	} {
		got, err := rdb.ConfigGet(ctx, want.setting).Result()
		switch {
		case answeredWithError(err):
			faults = append(faults, fmt.Sprintf(
				"it does not tell its %s; it should be %s, or else %s", want.setting, want.value, want.harm))
		case err != nil:
			return nil, err
		case got[want.setting] != want.value:
			faults = append(faults, fmt.Sprintf(
				"its %s is %.40q and should be %s: %s", want.setting, got[want.setting], want.value, want.harm))
		}
	}
	return faults, nil
}

// answeredWithError tells a refusal of Redis, which a user of little rights gets, from a Redis that cannot answer.
func answeredWithError(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

func info(ctx context.Context, rdb redis.UniversalClient) (map[string]string, error) {
	info := map[string]string{}
	for _, section := range []string{"server", "replication"} {
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

// memoryScript notes which Redis it is.
//
// KEYS[1] -> usher:{once}:redis
// KEYS[2] -> usher:{once}:lost
// --
// Returns now, when Redis may have lost its memory last (ms; 0: never), and for how long it has run (s).
var memoryScript = redis.NewScript(store.Clock + store.MemoryLua + `
return { now, memory(KEYS[1], KEYS[2]) }
`)

// memory is what a worker has seen of Redis's memory.
type memory struct {
	lost time.Time     // when it may have been lost last; zero if never
	run  time.Duration // for how long Redis has run; negative if it does not tell
	at   time.Time     // when that was asked; all instants are on Redis's clock
}

// readMemory notes which Redis it is. From the next claim on, whoever is unfinished is looked up if Redis is another
// one than before, or was started anew.
func readMemory(ctx context.Context, rdb redis.UniversalClient, namespace string) (memory, error) {
	keys := []string{store.Keys(namespace).Run(), store.Keys(namespace).Lost()}
	values, err := memoryScript.Run(ctx, rdb, keys).Int64Slice()
	if err != nil || len(values) != 3 {
		return memory{}, cmp.Or(err, store.ErrGarbage)
	}
	m := memory{at: time.UnixMilli(values[0]), run: time.Duration(values[2]) * time.Second}
	if values[1] > 0 {
		m.lost = time.UnixMilli(values[1])
	}
	return m, nil
}

// takenOver tells whether another Redis has taken over since before, and not the same one been started anew.
func (m memory) takenOver(before memory) bool { return m.run > m.at.Sub(before.at) }

// check says what is wrong with Redis, and refuses to work with it if it shall be strict.
func (w *Worker) check(ctx context.Context) error {
	faults, err := faults(ctx, w.Redis)
	if err != nil {
		return err
	}
	for _, fault := range faults {
		w.Log.Warn().Str("fault", fault).Msg("Redis is not set up to keep everything")
	}
	if w.Strict && len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrRedis, strings.Join(faults, "; "))
	}
	return nil
}

// watchMemory says so when Redis may have lost its memory, until the context ends.
func (w *Worker) watchMemory(ctx context.Context) {
	unchecked := false
	for before := w.memory; policy.Sleep(ctx, policy.MemoryCheck) == nil; {
		now, err := readMemory(ctx, w.Redis, w.Namespace)
		if err != nil {
			continue // whether Redis can be reached is told elsewhere
		}
		if !now.lost.Equal(before.lost) {
			what := "Redis was started anew"
			if now.takenOver(before) {
				what = "another Redis has taken over, and may lack what was written last"
			}
			w.Log.Warn().Time("at", now.lost.UTC()).
				Float64("ignore_existing_waits_seconds", (w.Policy.Timeout + w.Policy.Settle).Seconds()).
				Msg(what + "; whoever is unfinished is looked up before the next call")
			unchecked = true
		}
		before = now
		if unchecked {
			err := w.check(ctx)
			if unchecked = err != nil && !errors.Is(err, ErrRedis); !unchecked && err != nil {
				w.Log.Error().Err(err).Msg("Redis has changed")
			}
		}
	}
}
