#!/bin/sh
# A Timeout of less than a second gives a task of asynq 0.26.0 half an hour.
#
# Expected: asynq.Timeout(500 * time.Millisecond) ends the handler's context after half a second, or after a second if
# asynq counts whole ones, or Enqueue refuses it, as it refuses a Unique of less than a second.
# Seen: Enqueue takes it, and cuts it to whole seconds; 0 is then read as "not given", for which 30 minutes are set. The
# shorter the timeout, the longer the task may hang. Above a second the rest is cut off: 1.5 s is 1 s.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   Timeout(500ms): enqueued with 0s, context of 30m0s
#   Timeout(999ms): enqueued with 0s, context of 30m0s
#   Timeout(1.5s): enqueued with 1s, context of 1s
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
	"time"

	"github.com/hibiken/asynq"
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
	rdb := redis.NewClient(&redis.Options{Addr: addr.String()})
	for rdb.Ping(context.Background()).Err() != nil {
		time.Sleep(20 * time.Millisecond)
	}

	opt := asynq.RedisClientOpt{Addr: addr.String()}
	contexts := make(chan time.Duration)
	worker := asynq.NewServer(opt, asynq.Config{LogLevel: asynq.FatalLevel})
	err = worker.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		deadline, _ := ctx.Deadline()
		contexts <- time.Until(deadline)
		return nil
	}))
	if err != nil {
		panic(err)
	}
	client := asynq.NewClient(opt)
	for _, timeout := range []time.Duration{500 * time.Millisecond, 999 * time.Millisecond, 1500 * time.Millisecond} {
		task, err := client.Enqueue(asynq.NewTask("task", nil), asynq.Timeout(timeout))
		if err != nil {
			panic(err)
		}
		fmt.Printf("Timeout(%v): enqueued with %v, context of %v\n", timeout, task.Timeout,
			(<-contexts).Round(500*time.Millisecond))
	}
	worker.Shutdown()
}
GO
go get github.com/hibiken/asynq@v0.26.0 github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
Timeout(500ms): enqueued with 0s, context of 30m0s
Timeout(999ms): enqueued with 0s, context of 30m0s
Timeout(1.5s): enqueued with 1s, context of 1s
TEXT
cmp seen wanted
