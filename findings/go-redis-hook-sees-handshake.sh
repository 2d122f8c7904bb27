#!/bin/sh
# A ProcessHook of a go-redis 9.23.0 client is also called for the handshake of each new connection.
#
# Expected: a hook sees the commands of the program. How the client logs in and announces itself is its own affair.
# Seen: HELLO, and CLIENT MAINT_NOTIFICATIONS, which the program never sent, go through the client's hooks too, once
# for each connection. A hook that repeats what failed repeats an old login, and one that counts errors counts servers
# that do not know the announcement.
#
# Output seen with Go 1.26.8, one Ping:
#   ping
#   hello
#   client
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

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

type hook struct{}

func (hook) DialHook(next redis.DialHook) redis.DialHook                                  { return next }
func (hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook { return next }

func (hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		fmt.Println(cmd.Name())
		return next(ctx, cmd)
	}
}

func main() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	rdb.AddHook(hook{})
	if err := rdb.Ping(context.Background()).Err(); err != nil {
		panic(err)
	}
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 github.com/alicebob/miniredis/v2@v2.40.0 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
ping
hello
client
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
