package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

// redisServer is a redis-server and what is asked of it.
type redisServer struct {
	*testkit.Redis
	rdb *redis.Client
}

// slowIs is from what time on a command is in the slow log: long enough to leave out nearly all.
const slowIs = 200 * time.Microsecond

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	args := append(testkit.Durable(),
		"--auto-aof-rewrite-percentage", "0", // no rewrite amid a measurement
		"--slowlog-max-len", "100000", "--slowlog-log-slower-than", strconv.FormatInt(slowIs.Microseconds(), 10))
	server, err := testkit.StartRedis(ctx, dir, args...)
	if err != nil {
		return nil, err
	}
	return &redisServer{Redis: server, rdb: redis.NewClient(&redis.Options{Addr: server.Addr, PoolSize: 1})}, nil
}

// close leaves nothing of it: what one run has put on the disk is of no use to the next.
func (s *redisServer) close() {
	_ = s.rdb.Close()
	s.Kill()
	_ = os.RemoveAll(s.Dir)
}

// forgetSlow empties the slow log.
func (s *redisServer) forgetSlow(ctx context.Context) error {
	if err := s.rdb.Do(ctx, "SLOWLOG", "RESET").Err(); err != nil {
		return fmt.Errorf("emptying Redis's slow log: %w", err)
	}
	return nil
}

// slowest is the longest time that a command or a script has held Redis up since forgetSlow. Of shorter ones than
// slowIs it gives that.
func (s *redisServer) slowest(ctx context.Context) (time.Duration, error) {
	all, err := s.rdb.SlowLogGet(ctx, -1).Result()
	if err != nil {
		return 0, fmt.Errorf("reading Redis's slow log: %w", err)
	}
	longest := slowIs
	for _, one := range all {
		if len(one.Args) > 0 && !strings.EqualFold(one.Args[0], "slowlog") {
			longest = max(longest, one.Duration)
		}
	}
	return longest, nil
}

// commands is how many commands were processed so far, those of scripts included. Asking is one of them.
func (s *redisServer) commands(ctx context.Context) (int64, error) {
	return s.figure(ctx, "stats", "total_commands_processed")
}

// memory is used_memory when it has come to rest: buffers of connections are freed a moment after they close, and a
// table that grew is moved in steps.
func (s *redisServer) memory(ctx context.Context) (int64, error) {
	const (
		limit     = 15 * time.Second
		rest      = 10 // looks with the same answer, give or take
		tolerance = 2048
	)
	last, same := int64(0), 0
	err := testkit.Poll(
		ctx,
		pollEvery,
		limit,
		"Redis's memory comes to rest",
		func(ctx context.Context) (bool, error) {
			used, err := s.figure(ctx, "memory", "used_memory")
			if err != nil {
				return false, err
			}
			if same++; max(used-last, last-used) > tolerance {
				same = 0
			}
			last = used
			return same >= rest, nil
		},
	)
	return last, err
}

func (s *redisServer) figure(ctx context.Context, section, name string) (int64, error) {
	text, err := s.rdb.Info(ctx, section).Result()
	if err != nil {
		return 0, fmt.Errorf("asking Redis for INFO %s: %w", section, err)
	}
	return parseInfo(text, name)
}

// parseInfo finds a whole number in an answer of INFO.
func parseInfo(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		if !found || key != name {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("INFO: %s: %w", name, err)
		}
		return n, nil
	}
	return 0, fmt.Errorf("INFO has no %s", name)
}
