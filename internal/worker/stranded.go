package worker

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/queues"
)

// mendScript mends a part of a queue in which asynq has stranded tasks. It moves no task that may be at work: asynq's
// recoverer does that, but it reads only the leases.
//
//   - An active task without a lease gets one that has just run out. If its worker lives, the next heartbeat extends
//     it. If not, the recoverer puts the task back.
//   - A task that is marked active and stands in no list is pending again. asynq leaves it behind when it ends a task
//     whose lease is missing, and its id would stay taken.
//   - A task that is marked pending and stands in no list is put there: Redis refused a step of its enqueuing. To
//     search the list for each that waits would stop Redis for too long, so it is looked for once it waits for longer
//     than the next one.
//   - A task that is marked scheduled and stands in no list is dropped: nobody knows any more for when, and its
//     producer was told that it could not be enqueued. Its id is free then.
//   - An id without a task is dropped.
//
// KEYS[1] -> asynq:{QUEUE}:active
// KEYS[2] -> asynq:{QUEUE}:lease
// KEYS[3] -> asynq:{QUEUE}:pending
// KEYS[4] … -> its zsets: scheduled, retry, archived and completed
// --
// ARGV[1] -> what the keys of tasks begin with
// ARGV[2] -> now, on asynq's clock, which is the workers' (s)
// ARGV[3] -> where to go on in the list of active tasks
// ARGV[4] -> where to go on among all keys
// ARGV[5] -> how many active tasks to look at
// ARGV[6] -> how many keys to look at, more or less
// --
// Returns leases given, tasks that are pending again, how many were dropped, and where to go on in the list and among
// the keys; 0 is from the beginning.
var mendScript = redis.NewScript(`
local active, lease, pending = unpack(KEYS, 1, 3)
local task, now, from, many = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local given, again, dropped = 0, 0, 0
local ids = redis.call('LRANGE', active, from, from + many - 1)
local seen, keys, leases, all = {}, {}, {}, true
for i, id in ipairs(ids) do seen[id], keys[i] = true, task .. id end
if #ids > 0 then
  all = redis.call('EXISTS', unpack(keys)) == #ids
  leases = redis.call('ZMSCORE', lease, unpack(ids))
end
for i, id in ipairs(ids) do
  if not all and redis.call('EXISTS', keys[i]) == 0 then
    redis.call('LREM', active, 1, id)
    redis.call('ZREM', lease, id)
    dropped = dropped + 1
  elseif not leases[i] and redis.call('ZADD', lease, 'NX', now, id) == 1 then
    given = given + 1
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', now - 60, 'LIMIT', 0, many)) do
  if redis.call('EXISTS', task .. id) == 0 then
    redis.call('LREM', active, 1, id)
    redis.call('ZREM', lease, id)
    dropped = dropped + 1
  end
end
local function listed(id)
  for i = 4, #KEYS do
    if redis.call('ZSCORE', KEYS[i], id) then return true end
  end
  return redis.call('LPOS', active, id) or redis.call('LPOS', pending, id, 'RANK', -1)
end
local first -- since when the next one waits; 0 if it does not say, because it was put back
local function behind(since)
  if not first then
    local id = redis.call('LINDEX', pending, -1)
    first = not id and math.huge or tonumber(redis.call('HGET', task .. id, 'pending_since') or '0')
  end
  return tonumber(since or '0') >= first
end
local found, later = redis.call('SCAN', ARGV[4], 'MATCH', task .. '*', 'COUNT', ARGV[6]), {}
for _, key in ipairs(found[2]) do
  local id = string.sub(key, #task + 1)
  local state, since
  if not seen[id] then state, since = unpack(redis.call('HMGET', key, 'state', 'pending_since')) end
  if state == 'scheduled' then
    later[#later + 1] = id
  elseif (state == 'active' or state == 'pending' and not behind(since)) and not listed(id) then
    redis.call('ZREM', lease, id)
    redis.call('HSET', key, 'state', 'pending') -- since when it waits stays: while it is the next one, none is searched
    redis.call('RPUSH', pending, id)
    again = again + 1
  end
end
local times = #later > 0 and redis.call('ZMSCORE', KEYS[4], unpack(later)) or {}
for i, id in ipairs(later) do
  if not times[i] and not listed(id) then
    redis.call('DEL', task .. id)
    dropped = dropped + 1
  end
end
return { given, again, dropped, #ids < many and 0 or math.max(0, from + many - dropped), found[1] }
`)

// mendSlice is how many active tasks one script looks at, and mendKeys how many keys. Tasks that wait are keys, too,
// and nothing is wrong with most of them.
const (
	mendSlice = 500
	mendKeys  = 50
)

// mended counts what one script has mended.
type mended struct{ leases, pending, dropped int }

// mender looks through a queue, slice by slice.
type mender struct {
	rdb       redis.UniversalClient
	queue     string
	from, key string // where to go on
}

// slice mends the next part of the queue.
func (m *mender) slice(ctx context.Context) (found mended, err error) {
	defer store.Wrap(&err, "looking for stranded tasks in queue %s", m.queue)
	var keys []string
	for _, list := range []string{"active", "lease", "pending", "scheduled", "retry", "archived", "completed"} {
		keys = append(keys, queues.Key(m.queue, list))
	}
	args := []any{queues.Key(m.queue, "t:"), time.Now().Unix(), m.from, m.key, mendSlice, mendKeys}
	answer, err := mendScript.Run(ctx, m.rdb, keys, args...).Slice()
	if err != nil || len(answer) != 5 {
		return found, cmp.Or(err, store.ErrGarbage)
	}
	figures := [3]int64{}
	for i := range figures {
		figures[i], _ = answer[i].(int64)
	}
	m.from, m.key = fmt.Sprint(answer[3]), fmt.Sprint(answer[4])
	return mended{int(figures[0]), int(figures[1]), int(figures[2])}, nil
}

// mendQueues looks for tasks that asynq has stranded, until the context ends. It takes its time unless it finds some.
func (w *Worker) mendQueues(ctx context.Context) {
	var menders []*mender
	for _, lane := range queues.Lanes() {
		menders = append(menders, &mender{rdb: w.Redis, queue: queues.Name(w.Namespace, lane), from: "0", key: "0"})
	}
	for ctx.Err() == nil {
		for _, m := range menders {
			w.mend(ctx, m)
		}
		_ = policy.Sleep(ctx, policy.MendInterval)
	}
}

// mend mends the next part of a queue, and then all of it if something was wrong.
func (w *Worker) mend(ctx context.Context, m *mender) {
	var all mended
	for list, keys := false, false; ; {
		found, err := m.slice(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.Log.Warn().Err(err).Msg("no stranded tasks looked for: Redis cannot answer")
			}
			break
		}
		w.Metrics.mended(found)
		all.leases, all.pending, all.dropped = all.leases+found.leases, all.pending+found.pending,
			all.dropped+found.dropped
		list, keys = list || m.from == "0", keys || m.key == "0"
		if all == (mended{}) || list && keys {
			break
		}
	}
	if all != (mended{}) {
		w.Log.Warn().Str("queue", m.queue).Int("leases", all.leases).Int("pending", all.pending).
			Int("dropped", all.dropped).Msg("asynq had stranded tasks; they run again unless a worker has them")
	}
}
