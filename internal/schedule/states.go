package schedule

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

const (
	// stateKeep is how long the state of a schedule is kept that no worker has in its file any more.
	stateKeep = 30 * 24 * time.Hour
	// maxListed and maxShown bound what is read for a list, and what is kept of an error and shown of any text, in
	// bytes.
	maxListed = 10_000
	maxShown  = 500
)

// states keeps how each schedule stands, in a hash of its own:
//
//	digest cron timezone task    what it is, as the worker that started last has it
//	next                         its next instant (ms)
//	pending holder held_until    a tick (ms) that was taken and not confirmed; its worker, and until when (ms)
//	last last_task last_error    the last tick (ms) that is over; its task, or why there is none
//	kept_by                      the file and the host of the worker that last noted that it has the schedule
//	paused resumed               when a person paused it (ms); when one last resumed it: no tick up to then happens
//
// The index has the names of the schedules by the instant (ms) at which a worker last had them in its file.
type states struct{ db store.DB }

func newStates(rdb redis.UniversalClient, namespace string) *states {
	return &states{store.Open(rdb, namespace)}
}

func (st *states) keys(name string) []string {
	return []string{st.db.Key.Schedule(name), st.db.Key.Schedules()}
}

// instant reads an instant (ms); garbage is nil.
const instant = `
local function instant(text)
  return text and #text <= 14 and string.match(text, '^[1-9]%d*$') and tonumber(text) or nil
end
`

// seen notes that a worker has the schedule in its file; a schedule that none has is forgotten at last.
const seen = `
local function seen(name, keep, by)
  redis.call('ZADD', KEYS[2], stamp(now), name)
  redis.call('HSET', KEYS[1], 'kept_by', by)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', stamp(now - keep))
  redis.call('PEXPIRE', KEYS[1], stamp(keep))
end
`

// adoptScript makes a schedule what a worker's file says. Its next instant stays if its times have not changed.
//
// KEYS[1] -> usher:{schedule}:s:NAME
// KEYS[2] -> usher:{schedule}:names
// --
// ARGV[1] -> name
// ARGV[2] -> digest
// ARGV[3] -> cron
// ARGV[4] -> time zone
// ARGV[5] -> task
// ARGV[6] -> the next instant (ms)
// ARGV[7] -> how long the state is kept (ms)
// ARGV[8] -> 1: only a schedule that is not there, or garbage, is written
// ARGV[9] -> the worker's file and host
// --
// Returns 1 if it was changed.
var adoptScript = redis.NewScript(store.Clock + instant + seen + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'cron', 'timezone', 'next')
local sound = h[1] and instant(h[4])
if ARGV[8] == '1' and sound then return 0 end
seen(ARGV[1], tonumber(ARGV[7]), ARGV[9])
if sound and h[1] == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'cron', ARGV[3], 'timezone', ARGV[4], 'task', ARGV[5])
if not (sound and h[2] == ARGV[3] and h[3] == ARGV[4]) then redis.call('HSET', KEYS[1], 'next', ARGV[6]) end
return 1
`)

// lookScript tells how a schedule stands, and gives its pending tick to the worker that asks: if it is that worker's
// already, if nobody's hold on it stands, or if the schedule is due again.
//
// KEYS[1] -> usher:{schedule}:s:NAME
// KEYS[2] -> usher:{schedule}:names
// --
// ARGV[1] -> name
// ARGV[2] -> digest
// ARGV[3] -> the worker
// ARGV[4] -> how long it sees to a tick (ms)
// ARGV[5] -> how often it is noted that a worker has the schedule (ms)
// ARGV[6] -> how long the state is kept (ms)
// ARGV[7] -> the worker's file and host
// --
// Returns now, then: nothing if there is no such schedule or it is garbage; its digest if that is another; its digest
// and next instant; or those two and the pending tick that is the worker's now.
var lookScript = redis.NewScript(store.Clock + instant + seen + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'next', 'pending', 'holder', 'held_until')
local next = instant(h[2])
if not h[1] or not next then return {stamp(now)} end
if h[1] ~= ARGV[2] then return {stamp(now), h[1]} end
local last = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not last or now - tonumber(last) > tonumber(ARGV[5]) then seen(ARGV[1], tonumber(ARGV[6]), ARGV[7]) end
local pending, held = instant(h[3]), instant(h[5]) or 0
if not pending or (h[4] ~= ARGV[3] and held > now and next > now) then return {stamp(now), h[1], h[2]} end
redis.call('HSET', KEYS[1], 'holder', ARGV[3], 'held_until', stamp(now + tonumber(ARGV[4])))
return {stamp(now), h[1], h[2], h[3]}
`)

// takeScript moves a schedule on, if it still is what the worker saw, is due, and has no pending tick. While it is
// paused no tick becomes pending, and later none of the instants at which it was.
//
// KEYS[1] -> usher:{schedule}:s:NAME
// --
// ARGV[1] -> digest
// ARGV[2] -> the next instant that the worker saw (ms)
// ARGV[3] -> the tick that becomes pending (ms; empty: none, all of them are too old)
// ARGV[4] -> the next instant from now on (ms)
// ARGV[5] -> the worker
// ARGV[6] -> how long it sees to the tick (ms)
// --
// Returns 1 if it did, 2 if it passed over a tick because it is or was paused, else 0.
var takeScript = redis.NewScript(store.Clock + instant + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'next', 'pending', 'paused', 'resumed')
if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] or instant(h[3]) then return 0 end
if tonumber(ARGV[2]) > now or (tonumber(ARGV[3]) or 0) > now then return 0 end
redis.call('HSET', KEYS[1], 'next', ARGV[4])
if ARGV[3] ~= '' then
  if h[4] or tonumber(ARGV[3]) <= (instant(h[5]) or 0) then return 2 end
  redis.call('HSET', KEYS[1], 'pending', ARGV[3], 'holder', ARGV[5], 'held_until', stamp(now + tonumber(ARGV[6])))
end
return 1
`)

// confirmScript ends a tick, if it is still pending.
//
// KEYS[1] -> usher:{schedule}:s:NAME
// --
// ARGV[1] -> the tick (ms)
// ARGV[2] -> its task, or empty
// ARGV[3] -> its error, or empty
// --
// Returns 1 if it did.
var confirmScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'pending') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'pending', 'holder', 'held_until')
redis.call('HSET', KEYS[1], 'last', ARGV[1], 'last_task', ARGV[2], 'last_error', ARGV[3])
return 1
`)

// adopt makes the stored schedule what s is; with onlyMissing it leaves one alone that is there.
func (st *states) adopt(ctx context.Context, s Schedule, by string, onlyMissing bool) (changed bool, err error) {
	defer store.Wrap(&err, "writing schedule %s", s.Name)
	now, err := st.db.Time(ctx).Result()
	if err != nil {
		return false, err
	}
	return adoptScript.Run(ctx, st.db, st.keys(s.Name), s.Name, s.digest, s.Cron, s.TimeZone, s.Task,
		s.times.after(now).UnixMilli(), stateKeep.Milliseconds(), onlyMissing, by).Bool()
}

// glance is what a worker sees of a schedule, on Redis's clock.
type glance struct {
	asked   time.Time // on our clock
	now     time.Time
	missing bool // there is none, or it is garbage
	foreign bool // it is not what this worker's file says
	next    time.Time
	pending time.Time // a tick that is this worker's to finish; zero if there is none
}

func (st *states) look(ctx context.Context, s Schedule, worker, by string) (g glance, err error) {
	defer store.Wrap(&err, "looking at schedule %s", s.Name)
	g.asked = time.Now()
	answer, err := lookScript.Run(ctx, st.db, st.keys(s.Name), s.Name, s.digest, worker,
		policy.TickHold.Milliseconds(), policy.ScheduleSeen.Milliseconds(), stateKeep.Milliseconds(), by).StringSlice()
	g.missing, g.foreign = len(answer) == 1, len(answer) == 2
	for i, into := range map[int]*time.Time{0: &g.now, 2: &g.next, 3: &g.pending} {
		if i < len(answer) && err == nil {
			*into, err = store.Instant(answer[i])
		}
	}
	return g, err
}

// taking is what became of an attempt to take a tick.
type taking int

const (
	notTaken taking = iota // another worker was first
	taken
	passedOver // the schedule is paused, or was at that instant
)

// take takes a tick (zero: none) that is due and moves the schedule on, unless another worker did so first.
func (st *states) take(
	ctx context.Context, s Schedule, worker string, saw, tick, following time.Time,
) (became taking, err error) {
	defer store.Wrap(&err, "taking a tick of schedule %s", s.Name)
	pending := ""
	if !tick.IsZero() {
		pending = strconv.FormatInt(tick.UnixMilli(), 10)
	}
	n, err := takeScript.Run(ctx, st.db, st.keys(s.Name)[:1], s.digest, saw.UnixMilli(), pending,
		following.UnixMilli(), worker, policy.TickHold.Milliseconds()).Int()
	return taking(n), err
}

// confirm ends a pending tick with its task or its error, unless somebody has confirmed it already.
func (st *states) confirm(
	ctx context.Context, name string, tick time.Time, taskID string, futile error,
) (confirmed bool, err error) {
	defer store.Wrap(&err, "confirming a tick of schedule %s", name)
	text := ""
	if futile != nil {
		text = bounded(futile.Error())
	}
	return confirmScript.Run(ctx, st.db, st.keys(name)[:1], tick.UnixMilli(), taskID, text).Bool()
}
