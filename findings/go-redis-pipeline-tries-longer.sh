#!/bin/sh
# While a server hangs, a pipeline of go-redis 9.23.0 fails four times later than a single command, with the same options.
#
# Expected: MaxRetries and ReadTimeout bound both alike.
# Seen: with a ReadTimeout of 500 ms and nothing else set, a single HGET to a stopped server fails after about 1 s: its
# second attempt needs a new connection, whose HELLO times out, and that is not tried again. A pipeline of the same one
# HGET goes on through all attempts, each with a handshake of its own, and fails after more than 4 s. With the default
# ReadTimeout of 3 s that is 40 s: whoever turns commands into pipelines needs a context with a deadline.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   single: within 2 s
#   pipeline: after more than 3 s
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr := listener.Addr().(*net.TCPAddr)
	listener.Close()
	server := exec.Command("redis-server", "--port", fmt.Sprint(addr.Port), "--bind", "127.0.0.1", "--save", "")
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Process.Kill()
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: addr.String(), ReadTimeout: 500 * time.Millisecond})
	ask := map[string]func() error{
		"single": func() error { return rdb.HGet(ctx, "hash", "field").Err() },
		"pipeline": func() error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.HGet(ctx, "hash", "field")
				return nil
			})
			return err
		},
	}
	for _, name := range []string{"single", "pipeline"} {
		for rdb.Ping(ctx).Err() != nil {
			time.Sleep(20 * time.Millisecond)
		}
		server.Process.Signal(syscall.SIGSTOP)
		began := time.Now()
		failed := ask[name]()
		took := time.Since(began)
		server.Process.Signal(syscall.SIGCONT)
		switch {
		case failed == nil || failed == redis.Nil:
			fmt.Println(name + ": answered")
		case took < 2*time.Second:
			fmt.Println(name + ": within 2 s")
		case took > 3*time.Second:
			fmt.Println(name + ": after more than 3 s")
		default:
			fmt.Println(name+": after", took)
		}
	}
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . 2>/dev/null | tee seen
cat >wanted <<'TEXT'
single: within 2 s
pipeline: after more than 3 s
TEXT
cmp seen wanted
