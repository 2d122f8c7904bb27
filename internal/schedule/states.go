package schedule

import (
	"context"
	"errors"
	"fmt"
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
//	pending holder held_until    a tick (ms) that was taken and not confirmed; which worker sees to it, until when (ms)
//	last last_task last_error    the last tick (ms) that is over; its task, or why there is none
//
// The index has the names of the schedules by the instant (ms) at which a worker last had them in its file.
type states struct {
	rdb   redis.UniversalClient
	names store.Keys
}

func newStates(rdb redis.UniversalClient, namespace string) *states {
	return &states{rdb: rdb, names: store.Keys(namespace)}
}

func (s *states) keys(name string) []string {
	return []string{s.names.Schedule(name), s.names.Schedules()}
}

// instant reads an instant (ms); garbage is nil. parseInstant is the same in Go.
const instant = `
local function instant(text)
  return text and #text <= 14 and string.match(text, '^[1-9]%d*$') and tonumber(text) or nil
end
`

// seen notes that a worker has the schedule in its file; a schedule that none has is forgotten at last.
const seen = `
local function seen(name, keep)
  redis.call('ZADD', KEYS[2], stamp(now), name)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', stamp(now - keep))
  redis.call('PEXPIRE', KEYS[1], stamp(keep))
end
`

// adoptScript makes a schedule what a worker's file says. Its next instant stays if its times have not changed.
// KEYS: the schedule's hash, the index. ARGV: 1 name, 2 digest, 3 cron, 4 time zone, 5 task, 6 the next instant
// (ms), 7 how long the state is kept (ms), 8 whether only a schedule that is not there, or garbage, is written (1 or
// 0). Returns 1 if it was changed.
var adoptScript = redis.NewScript(store.Clock + instant + seen + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'cron', 'timezone', 'next')
local sound = h[1] and instant(h[4])
if ARGV[8] == '1' and sound then return 0 end
seen(ARGV[1], tonumber(ARGV[7]))
if sound and h[1] == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'cron', ARGV[3], 'timezone', ARGV[4], 'task', ARGV[5])
if not (sound and h[2] == ARGV[3] and h[3] == ARGV[4]) then redis.call('HSET', KEYS[1], 'next', ARGV[6]) end
return 1
`)

// lookScript tells how a schedule stands, and gives its pending tick to the worker that asks: if it is that worker's
// already, if nobody's hold on it stands, or if the schedule is due again. KEYS: the schedule's hash, the index.
// ARGV: 1 name, 2 digest, 3 the worker, 4 how long it sees to a tick (ms), 5 how often it is noted that a worker has
// the schedule (ms), 6 how long the state is kept (ms). Returns now, then: nothing if there is no such schedule or
// it is garbage; its digest if that is another; its digest and next instant; or those two and the pending tick that
// is the worker's now.
var lookScript = redis.NewScript(store.Clock + instant + seen + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'next', 'pending', 'holder', 'held_until')
local next = instant(h[2])
if not h[1] or not next then return {stamp(now)} end
if h[1] ~= ARGV[2] then return {stamp(now), h[1]} end
local last = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not last or now - tonumber(last) > tonumber(ARGV[5]) then seen(ARGV[1], tonumber(ARGV[6])) end
local pending, held = instant(h[3]), instant(h[5]) or 0
if not pending or (h[4] ~= ARGV[3] and held > now and next > now) then return {stamp(now), h[1], h[2]} end
redis.call('HSET', KEYS[1], 'holder', ARGV[3], 'held_until', stamp(now + tonumber(ARGV[4])))
return {stamp(now), h[1], h[2], h[3]}
`)

// takeScript moves a schedule on, if it still is what the worker saw, is due, and has no pending tick. KEYS: the
// schedule's hash. ARGV: 1 digest, 2 the next instant that the worker saw, 3 the tick that becomes pending (ms;
// empty: none, all of them are too old), 4 the next instant from now on (ms), 5 the worker, 6 how long it sees to
// the tick (ms). Returns 1 if it did.
var takeScript = redis.NewScript(store.Clock + instant + `
local h = redis.call('HMGET', KEYS[1], 'digest', 'next', 'pending')
if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] or instant(h[3]) then return 0 end
if tonumber(ARGV[2]) > now or (tonumber(ARGV[3]) or 0) > now then return 0 end
redis.call('HSET', KEYS[1], 'next', ARGV[4])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'pending', ARGV[3], 'holder', ARGV[5], 'held_until', stamp(now + tonumber(ARGV[6])))
end
return 1
`)

// confirmScript ends a tick, if it is still pending. KEYS: the schedule's hash. ARGV: the tick (ms), its task or
// empty, its error or empty. Returns 1 if it did.
var confirmScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'pending') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'pending', 'holder', 'held_until')
redis.call('HSET', KEYS[1], 'last', ARGV[1], 'last_task', ARGV[2], 'last_error', ARGV[3])
return 1
`)

// adopt makes the stored schedule what s is; with onlyMissing it leaves one alone that is there.
func (st *states) adopt(ctx context.Context, s Schedule, onlyMissing bool) (changed bool, err error) {
	now, err := st.rdb.Time(ctx).Result()
	if err != nil {
		return false, fmt.Errorf("asking Redis for the time: %w", err)
	}
	changed, err = adoptScript.Run(ctx, st.rdb, st.keys(s.Name), s.Name, s.digest, s.Cron, s.TimeZone, s.Task,
		s.times.after(now).UnixMilli(), stateKeep.Milliseconds(), onlyMissing).Bool()
	if err != nil {
		return false, fmt.Errorf("writing schedule %s: %w", s.Name, err)
	}
	return changed, nil
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

func (st *states) look(ctx context.Context, s Schedule, worker string) (glance, error) {
	asked := time.Now()
	answer, err := lookScript.Run(ctx, st.rdb, st.keys(s.Name), s.Name, s.digest, worker,
		policy.TickHold.Milliseconds(), policy.ScheduleSeen.Milliseconds(), stateKeep.Milliseconds()).StringSlice()
	if err != nil || len(answer) == 0 {
		return glance{}, fmt.Errorf("looking at schedule %s: %w", s.Name, err)
	}
	g := glance{asked: asked, missing: len(answer) == 1, foreign: len(answer) == 2}
	for i, into := range map[int]*time.Time{0: &g.now, 2: &g.next, 3: &g.pending} {
		if i < len(answer) {
			instant, err := parseInstant(answer[i])
			g.missing = g.missing || err != nil
			*into = instant
		}
	}
	return g, nil
}

var errGarbage = errors.New("it is no instant")

// maxInstant bounds instants, in ms: fourteen digits.
const maxInstant = 99_999_999_999_999

func parseInstant(text string) (time.Time, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 || ms > maxInstant {
		return time.Time{}, errGarbage
	}
	return time.UnixMilli(ms).UTC(), nil
}

// take takes a tick (zero: none) that is due and moves the schedule on, unless another worker did so first.
func (st *states) take(ctx context.Context, s Schedule, worker string, saw, tick, following time.Time) (bool, error) {
	pending := ""
	if !tick.IsZero() {
		pending = strconv.FormatInt(tick.UnixMilli(), 10)
	}
	taken, err := takeScript.Run(ctx, st.rdb, st.keys(s.Name)[:1], s.digest, saw.UnixMilli(), pending,
		following.UnixMilli(), worker, policy.TickHold.Milliseconds()).Bool()
	if err != nil {
		return false, fmt.Errorf("taking a tick of schedule %s: %w", s.Name, err)
	}
	return taken, nil
}

// confirm ends a pending tick with its task or its error, unless somebody has confirmed it already.
func (st *states) confirm(
	ctx context.Context, name string, tick time.Time, taskID string, futile error,
) (bool, error) {
	text := ""
	if futile != nil {
		text = bounded(futile.Error())
	}
	confirmed, err := confirmScript.Run(ctx, st.rdb, st.keys(name)[:1], tick.UnixMilli(), taskID, text).Bool()
	if err != nil {
		return false, fmt.Errorf("confirming a tick of schedule %s: %w", name, err)
	}
	return confirmed, nil
}
