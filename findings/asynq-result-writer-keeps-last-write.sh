#!/bin/sh
# asynq 0.26.0's ResultWriter is an io.Writer of which only the last Write counts.
#
# Expected: writes append, as to a file, a buffer or an http.ResponseWriter. So fmt.Fprint twice, a csv.Writer or
# io.Copy into Task.ResultWriter() keep the whole result, or one of them fails.
# Seen: each Write replaces the result, and every one of them reports success. Two Fprints leave the second. io.Copy of
# 100,000 bytes says that it has copied 100,000, and the result is the last piece: what remains after buffers of 32 KiB.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   fmt.Fprint of "one," and "two": result "two"
#   io.Copy: 100000 bytes copied, <nil>, result of 1696 bytes
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
	"io"
	"net"
	"os/exec"
	"strings"
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

	copied := ""
	mux := asynq.NewServeMux()
	mux.HandleFunc("print", func(_ context.Context, task *asynq.Task) error {
		for _, text := range []string{"one,", "two"} {
			if _, err := fmt.Fprint(task.ResultWriter(), text); err != nil {
				return err
			}
		}
		return nil
	})
	mux.HandleFunc("copy", func(_ context.Context, task *asynq.Task) error {
		// LimitReader has no WriteTo, like a file or a body: io.Copy reads it piece by piece.
		n, err := io.Copy(task.ResultWriter(), io.LimitReader(strings.NewReader(strings.Repeat("x", 200_000)), 100_000))
		copied = fmt.Sprintf("%d bytes copied, %v", n, err)
		return err
	})
	opt := asynq.RedisClientOpt{Addr: addr.String()}
	worker := asynq.NewServer(opt, asynq.Config{LogLevel: asynq.FatalLevel})
	if err := worker.Start(mux); err != nil {
		panic(err)
	}
	client, inspector := asynq.NewClient(opt), asynq.NewInspector(opt)
	result := func(kind string) []byte {
		task, err := client.Enqueue(asynq.NewTask(kind, nil), asynq.Retention(time.Hour))
		for err == nil && task.State != asynq.TaskStateCompleted {
			time.Sleep(50 * time.Millisecond)
			task, err = inspector.GetTaskInfo(task.Queue, task.ID)
		}
		if err != nil {
			panic(err)
		}
		return task.Result
	}
	fmt.Printf("fmt.Fprint of \"one,\" and \"two\": result %q\n", result("print"))
	piece := result("copy")
	fmt.Printf("io.Copy: %s, result of %d bytes\n", copied, len(piece))
	worker.Shutdown()
}
GO
go get github.com/hibiken/asynq@v0.26.0 github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
fmt.Fprint of "one," and "two": result "two"
io.Copy: 100000 bytes copied, <nil>, result of 1696 bytes
TEXT
cmp seen wanted
