package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/store/intent"
)

// Batch is some recipients that were taken from a campaign, for a call or for a question to Clerk. Until it is settled, or
// its hold has passed, nobody else gets them.
type Batch struct {
	Rows []Row
	// Garbage are those that cannot be read: their bytes, by id.
	Garbage map[store.AddressID][]byte
	// Now is Redis's clock when they were taken.
	Now   time.Time
	token string
}

// takeScript takes waiting recipients. For a call, which only a running campaign makes, it claims their addresses: one whose
// address somebody else has claimed waits a while longer, and one of whose earlier call nobody knows the end is unsure.
//
// ARGV[5] -> how many
// ARGV[6] -> token; one that begins with c takes for a call
// ARGV[7] -> for how long they are held (ms)
// ARGV[8] -> travel of the lists to take from, in this order
// ARGV[9] -> how long the call may last (ms)
// --
// Returns now and, for each, its id, its row, and its intent as intent.Parse reads it.
var takeScript = redis.NewScript(prelude + `
local token, for_call = ARGV[6], string.sub(ARGV[6], 1, 1) == 'c'
local taken = { stamp(now) }
if state ~= 'running' and (for_call or ARGV[8] ~= 'u') then return taken end
move_due()
local born, memory_lost = number('created_at'), tonumber(redis.call('GET', lost) or '0')
local function take(id)
  local row = redis.call('HGET', rows, id)
  if not row or (forgotten(tombstones, id) and erase(id)) then return end
  if for_call then
    local verdict, at = intent.claim(intents .. id, owner, token, now + tonumber(ARGV[9]), born, memory_lost)
    if verdict == 'busy' then return redis.call('ZADD', later, stamp(at), id) end
    if verdict == 'unsure' then return wait_again(id, true) end
  end
  redis.call('HSET', rows, id, 'o' .. string.sub(row, 2))
  redis.call('ZADD', open, stamp(now + tonumber(ARGV[7])), id .. token)
  for _, value in ipairs({ id, row, intent.standing(intents .. id, owner) }) do taken[#taken + 1] = value end
end
for travel in string.gmatch(ARGV[8], '.') do
  while true do
    local n = tonumber(ARGV[5]) - (#taken - 1) / 3
    local ids = n > 0 and redis.call('LPOP', lists[travel], n)
    if not ids or #ids == 0 then break end
    for _, id in ipairs(ids) do take(id) end
  end
end
return taken
`)

// TakeForCall takes up to n waiting recipients of a running campaign, from the given lists in their order, and claims their
// addresses for a call that ends within a time. Their hold lasts as much longer as the margin says.
func (l *Ledgers) TakeForCall(ctx context.Context, name string, n int, within, margin time.Duration, from ...Travel) (Batch, error) {
	return l.take(ctx, name, n, "c"+uuid.NewString(), within+margin, within, from)
}

// TakeToAsk takes up to n waiting recipients for a question to Clerk that ends within hold. It claims nothing.
func (l *Ledgers) TakeToAsk(ctx context.Context, name string, n int, hold time.Duration, from ...Travel) (Batch, error) {
	return l.take(ctx, name, n, "q"+uuid.NewString(), hold, 0, from)
}

func (l *Ledgers) take(ctx context.Context, name string, n int, token string, hold, call time.Duration, from []Travel) (Batch, error) {
	batch := Batch{Garbage: map[store.AddressID][]byte{}, token: token}
	flat, err := l.run(ctx, takeScript, name, nil, n, token, hold.Milliseconds(), string(from), call.Milliseconds()).StringSlice()
	if err == nil && len(flat)%3 != 1 {
		err = store.ErrGarbage
	}
	if err == nil {
		batch.Now, err = store.Instant(flat[0])
	}
	if err != nil {
		return Batch{}, fmt.Errorf("taking recipients of campaign %s: %w", name, err)
	}
	for i := 1; i < len(flat); i += 3 {
		if len(flat[i]) != len(store.AddressID{}) {
			return Batch{}, fmt.Errorf("campaign %s: an id of %d bytes: %w", name, len(flat[i]), store.ErrGarbage)
		}
		row, err := decode(flat[i], flat[i+1])
		if err == nil {
			row.Intent, err = intent.Parse(flat[i+2])
		}
		if err != nil {
			batch.Garbage[store.AddressID([]byte(flat[i]))] = []byte(flat[i+1])
			continue
		}
		batch.Rows = append(batch.Rows, row)
	}
	return batch, nil
}

// Progress is what a driver has to do.
type Progress struct {
	State   State
	Waiting int // not looked up yet
	Ready   int // looked up, to ride in a bulk
	Singles int // waiting to travel alone
	Later   int // waiting for their next attempt
	Open    int // in a call or a question to Clerk
	Unsure  int // whose last call's outcome is not known
	// NextDue is when the next of Later and Open is due, 0 for at once; it counts only if there are any.
	NextDue time.Duration
	// Generation is the campaign's latest: a driver of an earlier one has been replaced.
	Generation int
}

// progressScript tells the driver what there is to do, and finishes a running campaign that has nothing left: what is
// uploaded in the same instant either comes before, and is found waiting, or after, and reopens it. It renews the driver's
// lease, unless a later generation has taken over. The first time it takes back what its predecessor was asking about. A
// paused campaign keeps its driver, which goes on asking what became of calls; so does a cancelled one until nothing is open
// or unsure.
//
// ARGV[5] -> the driver's generation
// --
// Returns JSON: state, waiting, ready, singles, later, open, unsure, generation, and due: how long until the next of later
// and open is (ms; -1: there is none).
var progressScript = redis.NewScript(prelude + `
local generation = number('generation')
if state == 'running' or state == 'paused' or state == 'cancelled' then
  move_due()
  if state == 'cancelled' then drop() end
  if generation == tonumber(ARGV[5]) then
    redis.call('HSET', meta, 'lease_until', stamp(now + lease))
    if redis.call('HGET', meta, 'driven') ~= ARGV[5] then
      redis.call('HSET', meta, 'driven', ARGV[5])
      for _, member in ipairs(redis.call('ZRANGE', open, 0, -1)) do
        if string.sub(member, 17, 17) ~= 'c' then let_go(member) end
      end
    end
  end
end
local p = { generation = generation, due = -1 }
local left = 0
for part, key in pairs({ waiting = waiting, singles = singles, ready = ready, unsure = unsure }) do
  p[part] = redis.call('LLEN', key)
  left = left + p[part]
end
for part, key in pairs({ later = later, open = open }) do
  p[part] = redis.call('ZCARD', key)
  left = left + p[part]
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first and (p.due < 0 or tonumber(first) - now < p.due) then p.due = math.max(0, tonumber(first) - now) end
end
if state == 'running' and left == 0 then
  become('finished')
  redis.call('HSET', meta, 'finished_at', stamp(now))
  redis.call('SREM', running, name)
end
p.state = state or ''
return cjson.encode(p)
`)

// Progress tells the driver of a generation what there is to do in a campaign, and renews its lease; a running campaign with
// nothing left is finished by it.
func (l *Ledgers) Progress(ctx context.Context, name string, generation int) (Progress, error) {
	var p struct {
		Progress
		Due int64
	}
	if err := read(l.run(ctx, progressScript, name, nil, generation), &p); err != nil {
		return Progress{}, fmt.Errorf("reading the progress of campaign %s: %w", name, err)
	}
	p.NextDue = time.Duration(p.Due) * time.Millisecond
	return p.Progress, nil
}

// Orphan is a running campaign that had no driver, and its new generation.
type Orphan struct {
	Name       string
	Generation int
}

// sweepScript finds running, paused and draining campaigns without a driver and begins a new generation of each.
//
// KEYS[1] -> usher:{once}:running
// --
// ARGV[1] -> what the keys of ledgers begin with
// --
// Returns JSON: a list of name and generation.
var sweepScript = redis.NewScript(store.Clock + lease + `
local orphans = {}
for _, name in ipairs(redis.call('SRANDMEMBER', KEYS[1], 1000)) do
  local function key(part) return ARGV[1] .. name .. ':' .. part end
  local state, leased = unpack(redis.call('HMGET', key('meta'), 'state', 'lease_until'))
  local draining = state == 'cancelled' and
    redis.call('LLEN', key('unsure')) + redis.call('ZCARD', key('open')) + redis.call('ZCARD', key('later')) > 0
  if state ~= 'running' and state ~= 'paused' and not draining then
    redis.call('SREM', KEYS[1], name)
  elseif tonumber(leased or '0') < now then
    redis.call('HSET', key('meta'), 'lease_until', stamp(now + lease))
    orphans[#orphans + 1] = { name = name, generation = redis.call('HINCRBY', key('meta'), 'generation', 1) }
  end
end
return #orphans > 0 and cjson.encode(orphans) or '[]'
`)

// Sweep finds running campaigns without a driver. The caller enqueues a driver for each; if it cannot, a later sweep finds it
// again.
func (l *Ledgers) Sweep(ctx context.Context) (orphans []Orphan, err error) {
	answer := sweepScript.Run(ctx, l.rdb, []string{l.keys.Running()}, l.keys.Ledgers())
	if err := read(answer, &orphans); err != nil {
		return nil, fmt.Errorf("sweeping campaigns: %w", err)
	}
	return orphans, nil
}
