#!/bin/sh
# throttled 2.15.0 with Redis fails a good part of the calls for a key that several make at once, however high the
# limit is.
#
# Expected: a call is allowed or limited; an error means that Redis does not answer. redis_rate 10.0.1, which decides in
# a script, has none here.
# Seen: the limiter reads the key, and writes it only if nobody else has written meanwhile. After ten attempts it gives
# up with the error "Failed to store updated rate limit data". Two callers see that in 1 of 100 calls, twenty in more
# than 1 of 10. Whoever lets a call pass at an error has no limit when it is busiest; whoever refuses has a lower one.
#
# Needs redis-server. Output seen with Go 1.26.8, Redis 7.0.15:
#   throttled, 20 callers, 1,000,000 a second: no call limited, more than 1 of 20 failed
#   redis_rate, the same: no call limited, none failed
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
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/goredisstore.v9"
)

const (
	callers = 20
	calls   = 200 // of each
	rate    = 1_000_000
)

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: os.Args[1]})
	store, err := goredisstore.NewCtx(client, "throttled:")
	check(err)
	quota := throttled.RateQuota{MaxRate: throttled.PerSec(rate), MaxBurst: rate}
	limiter, err := throttled.NewGCRARateLimiterCtx(store, quota)
	check(err)
	limited, failed := together(func() (bool, error) {
		limited, _, err := limiter.RateLimitCtx(ctx, "key", 1)
		return limited, err
	})
	if limited == 0 && failed > callers*calls/20 {
		fmt.Println("throttled, 20 callers, 1,000,000 a second: no call limited, more than 1 of 20 failed")
	} else {
		fmt.Println("throttled:", limited, "limited,", failed, "failed")
	}

	other := redis_rate.NewLimiter(client)
	limited, failed = together(func() (bool, error) {
		answer, err := other.Allow(ctx, "key", redis_rate.PerSecond(rate))
		return err == nil && answer.Allowed == 0, err
	})
	if limited == 0 && failed == 0 {
		fmt.Println("redis_rate, the same: no call limited, none failed")
	} else {
		fmt.Println("redis_rate:", limited, "limited,", failed, "failed")
	}
}

// together counts which calls of several callers at once are limited, and which fail.
func together(call func() (limited bool, err error)) (int64, int64) {
	var limited, failed atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Add(1)
		go func() {
			defer all.Done()
			for range calls {
				switch is, err := call(); {
				case err != nil:
					failed.Add(1)
				case is:
					limited.Add(1)
				}
			}
		}()
	}
	all.Wait()
	return limited.Load(), failed.Load()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
GO
go get github.com/throttled/throttled/v2@v2.15.0 github.com/throttled/throttled/v2/store/goredisstore.v9 \
	github.com/go-redis/redis_rate/v10@v10.0.1 github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . 127.0.0.1:"$port" | tee seen
cat >wanted <<'TEXT'
throttled, 20 callers, 1,000,000 a second: no call limited, more than 1 of 20 failed
redis_rate, the same: no call limited, none failed
TEXT
cmp seen wanted
