package worker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
)

// asynq takes one task after the other, and each costs a turn of Redis's loop, with its fsync where Redis writes all to
// its disk. While tasks are always ready several are taken in one turn.
const (
	// takenAtOnce is how many.
	takenAtOnce = policy.BulkSize
	// takenFor is how long a task may wait for its handler, which has room when it is taken. Its lease is 30 s.
	takenFor = 5 * time.Second
)

// takeScript does to several tasks what asynq's dequeue does to one. A task that is gone is left to mendScript.
//
// KEYS[1] -> asynq:{QUEUE}:pending
// KEYS[2] -> asynq:{QUEUE}:paused
// KEYS[3] -> asynq:{QUEUE}:active
// KEYS[4] -> asynq:{QUEUE}:lease
// --
// ARGV[1] -> when the leases end (s)
// ARGV[2] -> what the keys of tasks begin with
// ARGV[3] -> how many tasks
// --
// Returns id and message of each, the oldest first.
var takeScript = redis.NewScript(`
local taken = {}
if redis.call('EXISTS', KEYS[2]) == 1 then return taken end
for _ = 1, math.min(tonumber(ARGV[3]), redis.call('LLEN', KEYS[1])) do
  local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
  local task = ARGV[2] .. id
  redis.call('HSET', task, 'state', 'active')
  redis.call('HDEL', task, 'pending_since')
  redis.call('ZADD', KEYS[4], ARGV[1], id)
  local message = redis.call('HGET', task, 'msg')
  if message then
    table.insert(taken, id)
    table.insert(taken, message)
  end
end
return taken
`)

// putBackScript puts tasks back to where they were taken from, if nobody else has them by now.
//
// KEYS -> those of takeScript
// --
// ARGV[1] -> when the leases end (s), as they were taken
// ARGV[2] -> what the keys of tasks begin with
// ARGV[3] … -> ids, the oldest first
var putBackScript = redis.NewScript(`
for i = #ARGV, 3, -1 do
  local id = ARGV[i]
  if tonumber(redis.call('ZSCORE', KEYS[4], id) or 0) == tonumber(ARGV[1]) then
    redis.call('LREM', KEYS[3], 1, id)
    redis.call('ZREM', KEYS[4], id)
    redis.call('RPUSH', KEYS[1], id)
    redis.call('HSET', ARGV[2] .. id, 'state', 'pending')
  end
end
`)

// taken are tasks of one queue that wait for their handlers.
type taken struct {
	redis         redis.UniversalClient // attempts each command once
	keys          []string              // of asynq's dequeue
	lease, prefix any
	waiting       []string // ids and messages
	since         time.Time
}

// next gives the message of a task that waits, or nothing. Tasks that have waited for too long are put back.
func (t *taken) next(ctx context.Context) (message string) {
	if time.Since(t.since) > takenFor {
		t.putBack(ctx)
	}
	if len(t.waiting) > 0 {
		message, t.waiting = t.waiting[1], t.waiting[2:]
	}
	return message
}

// take answers a dequeue of asynq's with the first of the tasks that it takes. The others wait. It tells whether there
// may be more tasks.
func (t *taken) take(ctx context.Context, keys []string, args []any) (answer *redis.Cmd, more bool) {
	t.since, t.keys, t.lease, t.prefix = time.Now(), keys, args[0], args[1]
	found, err := takeScript.Run(ctx, t.redis, keys, t.lease, t.prefix, takenAtOnce).StringSlice()
	switch {
	case err != nil:
		return redis.NewCmdResult(nil, err), false
	case len(found) < 2:
		return redis.NewCmdResult(nil, redis.Nil), false
	}
	t.waiting = found[2:]
	return redis.NewCmdResult(found[1], nil), len(found) == 2*takenAtOnce
}

// putBack puts back the tasks that wait. Those that it cannot put back asynq does when their leases have run out.
func (t *taken) putBack(ctx context.Context) {
	if len(t.waiting) == 0 {
		return
	}
	args := []any{t.lease, t.prefix}
	for i := 0; i < len(t.waiting); i += 2 {
		args = append(args, t.waiting[i])
	}
	t.waiting = nil
	_ = putBackScript.Run(ctx, t.redis, t.keys, args...).Err()
}
