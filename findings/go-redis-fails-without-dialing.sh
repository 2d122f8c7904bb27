#!/bin/sh
# After as many failed dials as its pool is large, go-redis 9.23.0 fails commands without dialing, for up to a second
# after the server is back.
#
# Expected: a command that has no connection dials, and so finds out at once that the server is there again. At least
# its retries would: MaxRetries is 3.
# Seen: from then on one goroutine dials once a second, and every command fails within microseconds with the error of
# the last dial, its retries too. A client with a pool of one, as for BLMOVE or for a lock, gets there with its first
# failure. Whoever waits for a server in a short loop sees it up to a second late.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   20 commands, each retried, dialed at most twice
#   the server is back: the next command fails, without a dial
#   served again within two seconds
set -eu
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$work"' EXIT
cd "$work"
port=$((20000 + $$ % 10000))
redis-server --port "$port" --bind 127.0.0.1 --save '' >log 2>&1 &
server=$!
until [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ]; do :; done

cat >go.mod <<'MOD'
module finding

go 1.24
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx := context.Background()
	var dials, back atomic.Int64
	client := redis.NewClient(&redis.Options{
		PoolSize: 1, DialerRetries: 1,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			dials.Add(1)
			if back.Load() == 0 {
				return nil, errors.New("the server is away")
			}
			return net.Dial(network, os.Args[1])
		},
	})
	for range 20 {
		if client.Ping(ctx).Err() == nil {
			panic("a command was served")
		}
	}
	if dials.Load() <= 2 {
		fmt.Println("20 commands, each retried, dialed at most twice")
	}
	dialed := dials.Load()
	back.Store(1)
	if client.Ping(ctx).Err() != nil && dials.Load() == dialed {
		fmt.Println("the server is back: the next command fails, without a dial")
	}
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(time.Millisecond) {
		if client.Ping(ctx).Err() == nil {
			fmt.Println("served again within two seconds")
			return
		}
	}
}
GO
go get github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . 127.0.0.1:"$port" 2>/dev/null | tee seen
cat >wanted <<'TEXT'
20 commands, each retried, dialed at most twice
the server is back: the next command fails, without a dial
served again within two seconds
TEXT
cmp seen wanted
