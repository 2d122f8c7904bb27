#!/bin/sh
# A call of go-redis 9.23.0's blocking AutoPipeline does not end at the deadline of its context.
#
# Expected: "a drop-in Cmdable where each call blocks like a plain client" (release notes). A plain client with
# ContextTimeoutEnabled gives up at the deadline.
# Seen: while the server answers nobody (CLIENT PAUSE for 3 s), a Get with a deadline of 200 ms ends with an
# error after 0.2 s on the plain client. On the pipeliner of the same client it ends with the server's answer, once the
# server goes on. A service that promises its callers an end in time cannot share pipelines this way.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   autopipeline: the answer, long after its deadline
#   plain: a timeout, at its deadline
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
	rdb := redis.NewClient(&redis.Options{Addr: addr.String(), ContextTimeoutEnabled: true, MaxRetries: -1})
	for rdb.Ping(ctx).Err() != nil {
		time.Sleep(20 * time.Millisecond)
	}
	shared, err := rdb.AutoPipeline()
	if err != nil {
		panic(err)
	}
	for name, client := range map[string]redis.Cmdable{"plain": rdb, "autopipeline": shared} {
		if err := rdb.Do(ctx, "CLIENT", "PAUSE", "3000", "ALL").Err(); err != nil {
			panic(err)
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		began, when := time.Now(), "at its deadline"
		err := client.Get(short, "nothing").Err()
		if time.Since(began) > 2*time.Second {
			when = "long after its deadline"
		}
		cancel()
		what := "the answer"
		if fault, isNet := err.(net.Error); isNet && fault.Timeout() {
			what = "a timeout"
		}
		fmt.Printf("%s: %s, %s\n", name, what, when)
		time.Sleep(3100 * time.Millisecond)
	}
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . | sort | tee seen
cat >wanted <<'TEXT'
autopipeline: the answer, long after its deadline
plain: a timeout, at its deadline
TEXT
diff wanted seen
