package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// ErrRedis means that Redis is not set up to keep what it is given, and the worker was told to be strict about it.
var ErrRedis = errors.New("redis may lose what it is given")

// faults tells what is wrong with how Redis is set up, and what can be lost by it.
func faults(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
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

// runScript notes which Redis it is. After another one, or the same started anew, outcomes may be missing: whoever
// is unfinished is looked up before the next call.
//
//	KEYS[1] which Redis it was
//	KEYS[2] when it may have lost its memory
//	ARGV[1] which Redis it is
//
// It returns 1 if it is another.
var runScript = redis.NewScript(`
local known = redis.call('GET', KEYS[1])
if known == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
if not known then return 0 end
local t = redis.call('TIME')
redis.call('SET', KEYS[2], string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
return 1
`)

// restarted tells whether Redis is another than the last time anybody looked, or was started anew.
func restarted(ctx context.Context, rdb redis.UniversalClient, namespace string) (bool, error) {
	info, err := info(ctx, rdb)
	if err != nil || info["run_id"] == "" {
		return false, err
	}
	keys := []string{store.Keys(namespace).Run(), store.Keys(namespace).Lost()}
	return runScript.Run(ctx, rdb, keys, info["run_id"]+" "+info["role"]).Bool()
}

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

// watchMemory looks whether Redis was started anew, until the context ends.
func (w *Worker) watchMemory(ctx context.Context) {
	for policy.Sleep(ctx, policy.MemoryCheck) == nil {
		anew, err := restarted(ctx, w.Redis, w.Namespace)
		if err != nil || !anew {
			continue // whether Redis can be reached is told elsewhere
		}
		w.Log.Warn().Msg("Redis was started anew; whoever is unfinished is looked up before the next call")
		if err := w.check(ctx); err != nil {
			w.Log.Error().Err(err).Msg("Redis has changed")
		}
	}
}
