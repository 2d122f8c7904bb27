package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// startupLimit is how long a server may take to answer.
const startupLimit = 15 * time.Second

// redisServer is a redis-server as it is run for real: every accepted task is on disk before it is answered.
type redisServer struct {
	*process
	addr string
	data string // folder
	rdb  *redis.Client
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	var server *redisServer
	err := onFreePort(func(addr string) (err error) {
		server, err = startRedisAt(ctx, dir, addr)
		return err
	})
	return server, err
}

func startRedisAt(ctx context.Context, dir, addr string) (*redisServer, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address of redis-server: %w", err)
	}
	data, err := os.MkdirTemp(dir, "redis-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for redis-server: %w", err)
	}
	p, err := start(ctx, command{name: "redis-server", path: "redis-server", dir: data, args: []string{
		"--bind", host, "--port", port, "--dir", data, "--save", "", "--maxmemory-policy", "noeviction",
		"--appendonly", "yes", "--appendfsync", "always",
		"--auto-aof-rewrite-percentage", "0", // no rewrite amid a measurement
	}})
	if err != nil {
		return nil, err
	}
	s := &redisServer{process: p, addr: addr, data: data, rdb: redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1})}
	err = poll(ctx, startupLimit, "redis-server answers", func(ctx context.Context) (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		pid, err := s.figure(ctx, "server", "process_id")
		return err == nil && pid == int64(p.pid()), nil // while it is not up there is no connection, which is no fault
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *redisServer) url() string { return "redis://" + s.addr + "/0" }

func (s *redisServer) close() {
	_ = s.rdb.Close()
	s.kill()
	_ = os.RemoveAll(s.data)
}

// commands is how many commands were processed so far, those of scripts included. Asking is one of them.
func (s *redisServer) commands(ctx context.Context) (int64, error) {
	return s.figure(ctx, "stats", "total_commands_processed")
}

// memory is used_memory when it has come to rest: buffers of connections are freed a moment after they close, and a
// table that grew is moved in steps.
func (s *redisServer) memory(ctx context.Context) (int64, error) {
	const rest = 10 // looks with the same answer, give or take
	const tolerance = 2048
	last, same := int64(0), 0
	err := poll(ctx, startupLimit, "Redis's memory comes to rest", func(ctx context.Context) (bool, error) {
		used, err := s.figure(ctx, "memory", "used_memory")
		if err != nil {
			return false, err
		}
		if same++; max(used-last, last-used) > tolerance {
			same = 0
		}
		last = used
		return same >= rest, nil
	})
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
