package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Redis is a redis-server. It can be ended and started again on the same port and folder.
type Redis struct {
	Addr    string // host:port
	Dir     string // of its data and logs; it stays when the server ends
	args    []string
	process *Process
}

// Durable returns the arguments of a redis-server as it must be run for real: every accepted task is on disk before
// it is answered.
func Durable() []string {
	return []string{"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"}
}

// StartRedis starts a redis-server with a new folder in dir. It keeps nothing on disk unless args say so; see
// [Durable].
func StartRedis(ctx context.Context, dir string, args ...string) (*Redis, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("install redis-server (apt-get install redis-server, brew install redis): %w", err)
	}
	data, err := os.MkdirTemp(dir, "redis-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for redis-server: %w", err)
	}
	server := &Redis{Dir: data, args: args}
	err = onFreePort(func(addr string) error {
		server.Addr = addr
		return server.Start(ctx)
	})
	if err != nil {
		return nil, err
	}
	return server, nil
}

// URL names database 0 of the server.
func (r *Redis) URL() string { return "redis://" + r.Addr + "/0" }

// Start starts the server, which must not run, and waits until it answers.
func (r *Redis) Start(ctx context.Context) error {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return fmt.Errorf("address of redis-server: %w", err)
	}
	p, err := Start(Command{Name: "redis-server", Path: "redis-server", Dir: r.Dir, Args: slices.Concat([]string{
		"--bind", host, "--port", port, "--dir", r.Dir, "--save", "", "--appendonly", "no",
	}, r.args)})
	if err != nil {
		return err
	}
	r.process = p
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr, PoolSize: 1, MaxRetries: -1})
	defer rdb.Close()
	return untilUp(ctx, p, "redis-server answers", func(ctx context.Context) bool {
		conn, err := net.Dial("tcp", r.Addr)
		if err != nil { // go-redis would wait before it dials again
			return false
		}
		_ = conn.Close()
		if err := rdb.Ping(ctx).Err(); err != nil { // also while it loads its file
			return redis.IsAuthError(err) // it was told to ask for a password, and tells a stranger nothing more
		}
		info, err := rdb.Info(ctx, "server").Result()
		return err == nil &&
			strings.Contains(info, fmt.Sprintf("\r\nprocess_id:%d\r\n", p.PID())) // another may have the port
	})
}

// Stop ends the server as an operator does: it saves what it was told to keep.
func (r *Redis) Stop() {
	_ = r.process.Signal(syscall.SIGTERM)
	<-r.process.ended
}

// Kill ends the server at once.
func (r *Redis) Kill() { r.process.Kill() }

// Hang lets the server answer nobody any more, until it is killed or GoOn. Its connections stay.
func (r *Redis) Hang() error { return r.process.Signal(syscall.SIGSTOP) }

// GoOn lets the server go on that hangs.
func (r *Redis) GoOn() error { return r.process.Signal(syscall.SIGCONT) }

// Restart stops the server and starts it again.
func (r *Redis) Restart(ctx context.Context) error {
	r.Stop()
	return r.Start(ctx)
}
