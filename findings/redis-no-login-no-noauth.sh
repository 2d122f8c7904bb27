#!/bin/sh
# To a client that has not logged in, Redis 7.0.15 answers a long command with a protocol error, not with NOAUTH.
#
# Expected: whatever a client without a login sends is answered with NOAUTH, so that a program can tell a missing
# password from a broken connection.
# Seen (go-redis 9.23.0, a server with a password, a client without one): a command of ten words is answered with NOAUTH;
# one of eleven with "ERR Protocol error: unauthenticated multibulk length", and its connection is closed. A check for
# the prefix NOAUTH tells such users that their client is broken.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   ten words: NOAUTH Authentication required.
#   eleven words: ERR Protocol error: unauthenticated multibulk length
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
	"strings"
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
	server := exec.Command("redis-server", "--port", fmt.Sprint(addr.Port), "--bind", "127.0.0.1", "--save", "",
		"--requirepass", "a-password")
	if err := server.Start(); err != nil {
		panic(err)
	}
	defer server.Process.Kill()
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: addr.String(), MaxRetries: -1})
	for err := rdb.Ping(ctx).Err(); !strings.HasPrefix(fmt.Sprint(err), "NOAUTH"); err = rdb.Ping(ctx).Err() {
		time.Sleep(20 * time.Millisecond)
	}
	keys := strings.Fields("a b c d e f g h i j")
	fmt.Println("ten words:", rdb.MGet(ctx, keys[:9]...).Err())
	fmt.Println("eleven words:", rdb.MGet(ctx, keys...).Err())
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . 2>/dev/null | tee seen
cat >wanted <<'TEXT'
ten words: NOAUTH Authentication required.
eleven words: ERR Protocol error: unauthenticated multibulk length
TEXT
cmp seen wanted
