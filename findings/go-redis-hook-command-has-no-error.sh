#!/bin/sh
# In a ProcessHook of go-redis 9.23.0 a command has no error yet, also after the next hook has returned one.
#
# Expected: after next(ctx, cmd) the answer is in cmd, as for the caller of the command: cmd.Err() is the error.
# Seen: cmd.Err() is nil in every hook. Only the value that next returns is the error; the client puts it into the
# command after the last hook. A hook that counts errors by cmd.Err() counts none.
#
# Output seen with Go 1.26.8:
#   lpop: next returns WRONGTYPE Operation against a key holding the wrong kind of value, the command has <nil>
#   the caller sees WRONGTYPE Operation against a key holding the wrong kind of value
#   get: next returns redis: nil, the command has <nil>
#   the caller sees redis: nil
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
		err := next(ctx, cmd)
		if name := cmd.Name(); name == "lpop" || name == "get" {
			fmt.Printf("%s: next returns %v, the command has %v\n", name, err, cmd.Err())
		}
		return err
	}
}

func main() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	if err := server.Set("text", "x"); err != nil {
		panic(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	rdb.AddHook(hook{})
	fmt.Println("the caller sees", rdb.LPop(context.Background(), "text").Err())
	fmt.Println("the caller sees", rdb.Get(context.Background(), "missing").Err())
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 github.com/alicebob/miniredis/v2@v2.40.0 >/dev/null 2>&1
go run . | tee seen
cat >wanted <<'TEXT'
lpop: next returns WRONGTYPE Operation against a key holding the wrong kind of value, the command has <nil>
the caller sees WRONGTYPE Operation against a key holding the wrong kind of value
get: next returns redis: nil, the command has <nil>
the caller sees redis: nil
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
