package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server as it is run for real: every accepted task is on disk before it is answered. It can be killed and
// started again on its port and folder.
type Redis struct {
	Addr    string
	Dir     string // of its data and logs; it stays when the server is killed
	args    []string
	process *Process
}

// StartRedis starts a redis-server with a folder of its own in dir. What args say comes after what it is told anyway.
func StartRedis(ctx context.Context, dir string, args ...string) (*Redis, error) {
	var server *Redis
	err := onFreePort(func(addr string) error {
		data, err := os.MkdirTemp(dir, "redis-")
		if err != nil {
			return fmt.Errorf("making a folder for redis-server: %w", err)
		}
		server = &Redis{Addr: addr, Dir: data, args: args}
		return server.Start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return server, nil
}

// Start starts it again, after a kill, and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return fmt.Errorf("address of redis-server: %w", err)
	}
	p, err := Start(Command{Name: "redis-server", Path: "redis-server", Dir: r.Dir, Args: slices.Concat([]string{
		"--bind", host, "--port", port, "--dir", r.Dir, "--save", "", "--maxmemory-policy", "noeviction",
		"--appendonly", "yes", "--appendfsync", "always",
	}, r.args)})
	if err != nil {
		return err
	}
	r.process = p
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr, PoolSize: 1})
	defer rdb.Close()
	return untilUp(ctx, p, "redis-server answers", func(ctx context.Context) bool {
		info, err := rdb.Info(ctx, "server").Result() // of this process and not of another that took the port
		return err == nil && strings.Contains(info, fmt.Sprintf("\r\nprocess_id:%d\r\n", p.PID()))
	})
}

// URL names its database 0.
func (r *Redis) URL() string { return "redis://" + r.Addr + "/0" }

// Kill ends the one that was started last.
func (r *Redis) Kill() { r.process.Kill() }
