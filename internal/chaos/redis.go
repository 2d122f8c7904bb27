package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// startupLimit is how long a server may take to answer.
const startupLimit = 15 * time.Second

// redisServer is a redis-server as it is run for real: every accepted task is on disk before it is answered. It can be killed and
// started again on its port and folder.
type redisServer struct {
	addr string
	dir  string // of its data and logs
	rdb  *redis.Client
	*process
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	var server *redisServer
	err := onFreePort(func(addr string) error {
		data, err := os.MkdirTemp(dir, "redis-")
		if err != nil {
			return fmt.Errorf("making a folder for redis-server: %w", err)
		}
		server = &redisServer{addr: addr, dir: data, rdb: redis.NewClient(&redis.Options{Addr: addr})}
		err = server.start(ctx)
		if err != nil {
			_ = server.rdb.Close()
		}
		return err
	})
	return server, err
}

// start starts it and waits until it answers; what its folder holds is loaded then.
func (s *redisServer) start(ctx context.Context) error {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("address of redis-server: %w", err)
	}
	s.process, err = start(command{name: "redis-server", path: "redis-server", dir: s.dir, args: []string{
		"--bind", host, "--port", port, "--dir", s.dir, "--save", "", "--maxmemory-policy", "noeviction",
		"--appendonly", "yes", "--appendfsync", "always",
	}})
	if err != nil {
		return err
	}
	err = poll(ctx, pollSoon, startupLimit, "redis-server answers", func(ctx context.Context) (bool, error) {
		if err := s.alive(); err != nil {
			return false, err
		}
		info, err := s.rdb.Info(ctx, "server").Result() // of this process and not of another that took the port
		return err == nil && strings.Contains(info, fmt.Sprintf("\r\nprocess_id:%d\r\n", s.pid())), nil
	})
	if err != nil {
		s.kill()
	}
	return err
}

func (s *redisServer) url() string { return "redis://" + s.addr + "/0" }

func (s *redisServer) close() {
	_ = s.rdb.Close()
	s.kill()
}
