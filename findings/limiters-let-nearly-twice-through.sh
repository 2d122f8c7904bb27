#!/bin/sh
# Within one period, redis_rate 10.0.1 and BullMQ 6.7.0 let nearly twice as many through as their limits say.
#
# Expected: redis_rate.PerSecond(10) allows at most ten calls in any second, and a BullMQ worker with the limiter
# {max: 5, duration: 1000} starts at most five jobs in any second, as the comments of its types promise. Then an API
# with the same limit never answers 429.
# Seen: redis_rate allows ten at once, and another one after each tenth of a second: 19 in the first second.
# BullMQ counts in fixed windows that begin with a first job: one job, then 0.8 s later ten more, and at least eight
# start within half a second, at the end of one window and the beginning of the next. Only calls that are spaced evenly
# keep to the limit, as with redis_rate's Burst of 1.
#
# Needs redis-server, Go and node. Output seen with Go 1.26.8, node 20.20.2, Redis 7.0.15:
#   redis_rate, 10 a second: at least 18 within a second
#   bullmq, 5 a second: at least 8 within half a second
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
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

func main() {
	limiter := redis_rate.NewLimiter(redis.NewClient(&redis.Options{Addr: os.Args[1]}))
	ctx, allowed := context.Background(), 0
	began := time.Time{} // when the first call was allowed
	for began.IsZero() || time.Since(began) < time.Second {
		answer, err := limiter.Allow(ctx, "calls", redis_rate.PerSecond(10))
		if err != nil {
			panic(err)
		}
		if allowed == 0 {
			began = time.Now()
		}
		allowed += answer.Allowed
		time.Sleep(5 * time.Millisecond)
	}
	if allowed >= 18 {
		fmt.Println("redis_rate, 10 a second: at least 18 within a second")
	} else {
		fmt.Println("redis_rate, 10 a second:", allowed, "within a second")
	}
}
GO
go get github.com/go-redis/redis_rate/v10@v10.0.1 github.com/redis/go-redis/v9@v9.23.0 >/dev/null 2>&1
go run . "127.0.0.1:$port" >seen

npm install --loglevel=error --no-audit --no-fund --ignore-scripts --prefix . bullmq@6.7.0 ioredis@6.0.0 >/dev/null
cat >run.mjs <<'JS'
import { Queue, Worker } from 'bullmq'

const connection = { host: '127.0.0.1', port: Number(process.argv[2]), maxRetriesPerRequest: null }
const sleep = ms => new Promise(done => setTimeout(done, ms))
const queue = new Queue('calls', { connection })
const starts = []
const worker = new Worker('calls', async () => { starts.push(Date.now()) }, {
  connection, concurrency: 10, limiter: { max: 5, duration: 1000 },
})
await worker.waitUntilReady()
await queue.add('call', {})
while (starts.length === 0) await sleep(1)
await sleep(800)
await queue.addBulk(Array.from({ length: 10 }, () => ({ name: 'call', data: {} })))
while (starts.length < 11) await sleep(10)
const most = Math.max(...starts.map(from => starts.filter(at => at >= from && at < from + 500).length))
console.log(`bullmq, 5 a second: ${most >= 8 ? 'at least 8' : most} within half a second`)
process.exit(0)
JS
node run.mjs "$port" >>seen
cat seen
cat >wanted <<'TEXT'
redis_rate, 10 a second: at least 18 within a second
bullmq, 5 a second: at least 8 within half a second
TEXT
if ! cmp -s seen wanted; then
    echo 'this has changed' >&2
    exit 1
fi
