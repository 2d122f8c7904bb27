package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
)

// Batch is some recipients that were taken from a campaign, for a call or for a question to Clerk. Until it is
// settled, or its hold has passed, nobody else gets them.
type Batch struct {
	Rows []Row
	// Garbage are those that cannot be read: their bytes, by id.
	Garbage map[store.AddressID][]byte
	// Now is Redis's clock when they were taken.
	Now time.Time
	// Hold is the token of what holds them.
	Hold string
}

// takeScript takes waiting recipients. For a call, which only a running campaign makes, it claims their addresses: a
// recipient whose address somebody else has claimed waits a while longer, and one with an earlier call of unknown
// outcome becomes unsure. It passes over at most a slice of these, so it may take fewer than were asked for although
// more wait. A repeated request gets what it got the first time.
//
// KEYS[13] -> usher:{once}:c:NAME:request:TOKEN  list of the ids that were taken, behind an empty one
// KEYS[14] -> usher:{once}:redis
// KEYS[15] -> usher:{once}:lost
// KEYS[16] -> usher:{once}:w:PROCESS
// KEYS[17] -> usher:{once}:restored
// KEYS[18] -> usher:{once}:seen
// --
// ARGV[5] -> how many
// ARGV[6] -> token; one that begins with c takes for a call
// ARGV[7] -> for how long they are held (ms)
// ARGV[8] -> letters of the lists to take from, in this order
// ARGV[9] -> how long the call may last (ms)
// ARGV[10] -> what the count of the process must be at least
// ARGV[11] -> what it becomes
// ARGV[12] -> when the process knows that Redis was seen (ms)
// --
// Returns now and, for each, its id, its row, and its intent as intent.Parse reads it; an error if it is for a call
// while Redis was restored and work rests.
var takeScript = redis.NewScript(prelude + store.MemoryLua + `
local token, for_call = ARGV[6], string.sub(ARGV[6], 1, 1) == 'c'
local mind
if for_call then
  mind = memory(14, 10)
  if mind.rests then ` + store.RestoringLua + ` end
end
local taken = { stamp(now) }
local function give(id, row, standing)
  taken[#taken + 1], taken[#taken + 2] = id, row
  taken[#taken + 1] = standing or intent.standing(intents .. id, owner)
end
local before = redis.call('LRANGE', KEYS[13], 0, -1)
for i = 2, #before do
  local id = before[i]
  if redis.call('ZSCORE', open, id .. token) then give(id, 'w' .. string.sub(redis.call('HGET', rows, id), 2)) end
end
if #before > 0 or state ~= 'running' and (for_call or ARGV[8] ~= 'u') then return taken end
redis.call('RPUSH', KEYS[13], '')
move_due()
local born, until_ = number('created_at'), stamp(now + tonumber(ARGV[7]))
local held, holds, marked, passed = {}, {}, {}, {}
local function take(id, row)
  if not row or string.sub(row, 1, 1) ~= 'w' or held[id] or forgotten(tombstones, id) and erase(id) then return end
  local standing
  if for_call then
    local verdict, at
    verdict, at, standing = intent.claim(intents .. id, owner, token, now + tonumber(ARGV[9]), born, mind.lost)
    if verdict ~= 'ok' then
      passed[id] = verdict == 'busy' and stamp(at) or 'unsure'
      return
    end
  end
  held[id], held[#held + 1], holds[#holds + 1], holds[#holds + 2] = true, id, until_, id .. token
  marked[#marked + 1], marked[#marked + 2] = id, 'o' .. string.sub(row, 2)
  give(id, row, standing)
end
local left = tonumber(ARGV[5]) + slice
for letter in string.gmatch(ARGV[8], '.') do
  while true do
    local n = math.min(left, tonumber(ARGV[5]) - (#taken - 1) / 3)
    left = left - n
    local ids = n > 0 and redis.call('LPOP', lists[letter], n)
    if not ids or #ids == 0 then break end
    local found = redis.call('HMGET', rows, unpack(ids))
    for i, id in ipairs(ids) do take(id, found[i]) end
  end
end
if #held > 0 then
  redis.call('HSET', rows, unpack(marked))
  redis.call('ZADD', open, unpack(holds))
  redis.call('RPUSH', KEYS[13], unpack(held))
end
for id, at in pairs(passed) do
  if at == 'unsure' then wait_again(id, true) else redis.call('ZADD', later, at, id) end
end
redis.call('PEXPIRE', KEYS[13], request_keep)
return taken
`)

// TakeForCall takes up to n waiting recipients of a running campaign, from the given lists in their order, and claims
// their addresses for a call that ends within a time. Their hold lasts as much longer as the margin says.
func (l *Ledgers) TakeForCall(
	ctx context.Context, name string, n int, within, margin time.Duration, from ...List,
) (Batch, error) {
	return l.take(ctx, name, n, "c"+uuid.NewString(), within+margin, within, from)
}

// TakeToAsk takes up to n waiting recipients for a question to Clerk that ends within hold. It claims nothing.
func (l *Ledgers) TakeToAsk(
	ctx context.Context, name string, n int, hold time.Duration, from ...List,
) (Batch, error) {
	kind := "q"
	if slices.Contains(from, Unsure) {
		kind = "u"
	}
	return l.take(ctx, name, n, kind+uuid.NewString(), hold, 0, from)
}

func (l *Ledgers) take(
	ctx context.Context, name string, n int, token string, hold, call time.Duration, from []List,
) (batch Batch, err error) {
	defer store.Wrap(&err, "taking recipients of campaign %s", name)
	batch = Batch{Garbage: map[store.AddressID][]byte{}, Hold: token}
	count, noted := l.Memory.Raise()
	args := append([]any{n, token, hold.Milliseconds(), string(from), call.Milliseconds()}, count...)
	more := append([]string{l.db.Key.Ledger(name, request+token)}, l.Memory.Keys(l.db.Key)...)
	now, taken, err := store.Answer(l.run(ctx, takeScript, name, more, args...), 3)
	if err != nil {
		return Batch{}, err
	}
	if call > 0 {
		noted()
	}
	batch.Now = now
	for _, of := range taken {
		if len(of[0]) != len(store.AddressID{}) {
			return Batch{}, fmt.Errorf("an id of %d bytes: %w", len(of[0]), store.ErrGarbage)
		}
		row, err := decode(of[0], of[1])
		if err == nil {
			row.Intent, err = intent.Parse(of[2])
		}
		if err != nil {
			batch.Garbage[store.AddressID([]byte(of[0]))] = []byte(of[1])
			continue
		}
		row.Hold = token
		batch.Rows = append(batch.Rows, row)
	}
	return batch, nil
}

// Outcome is what was decided about a recipient.
type Outcome struct {
	Row      Row // as it was taken
	Decision fate.Decision
	Letter   *deadletter.Entry // of one that is dead
	At       time.Time         // when its life ended, if it did
	Behind   bool              // it waits behind all others, not before them
}

// encode gives the row as it shall be, and how long it waits (ms; -1: before all others, 0: behind them).
func (o Outcome) encode() (row string, delay int64, err error) {
	next := o.Row
	next.State = o.Decision.State
	if o.Decision.Next.Ends() {
		next.InvitationID, next.SettledAt, next.History = o.Decision.InvitationID, o.At.Unix(), nil
		state := byte('s')
		switch o.Decision.Next {
		case fate.Skipped:
			state, next.Code = 'k', o.Decision.Cause.Code
		case fate.Dead:
			state, next.Code = 'd', o.Decision.Cause.Code
		}
		row, err = encode(state, Waiting, next)
		return row, 0, err
	}
	list := Unsure
	if o.Decision.Next == fate.Send {
		list, delay = Ready, -1
		if next.Alone {
			list = Singles
		}
	}
	switch {
	case o.Decision.In > 0:
		delay = max(1, o.Decision.In.Milliseconds())
	case o.Behind:
		delay = 0
	}
	row, err = encode('w', list, next)
	return row, delay, err
}

// settleScript records what became of recipients that a call or a question held, and settles their intents. The dead
// letter of one is written before its row. Of one that is no longer held nothing is written. An invitation that was
// found but has settled another intent settles nothing: its recipient is unsure still. Otherwise the row is its
// holder's, whatever became of the intent. A repeated request records nothing and gets the same answer.
//
// Rows are written before their intents, and holds end after both: one whose end is written is never sent again, and
// whoever repeats a settlement that was broken off finishes it.
//
// KEYS[13] -> usher:{once}:c:NAME:request:TOKEN  set of ids with their tokens, of those that were recorded
// --
// ARGV[5], [15] … -> id of each recipient
// ARGV[6], [16] … -> token of its hold
// ARGV[7], [17] … -> row as it shall be
// ARGV[8], [18] … -> delay (ms) of a waiting one; -1: to the head of its list, 0: to its end
// ARGV[9], [19] … -> end of its intent; unchanged: none
// ARGV[10], [20] … -> token of its intent
// ARGV[11], [21] … -> invitation, or those that are used
// ARGV[12], [22] … -> id of its dead letter; empty: none
// ARGV[13], [23] … -> text of the letter
// ARGV[14], [24] … -> time of the letter (ms)
// --
// Returns, for each recipient, 1 if it was recorded, or else 0.
var settleScript = redis.NewScript(prelude + `
redis.call('HDEL', rows, '') -- needs no memory: Redis takes the others after it also when it is full
local held, written, settled, recorded = {}, {}, {}, {}
for i = 5, #ARGV, 10 do held[#held + 1] = ARGV[i] .. ARGV[i + 1] end
local until_ = redis.call('ZMSCORE', open, unpack(held))
local function settle(n, id, _, row, delay, ending, token, invitation, letter, text, at)
  if not until_[n] then return redis.call('SISMEMBER', KEYS[13], held[n]) end
  if forgotten(tombstones, id) then
    erase(id)
    redis.call('DEL', intents .. id)
    return 1
  end
  local found = ending == 'found' and string.sub(redis.call('HGET', rows, id) or '', 1, 1) ~= 's'
  if found and not intent.settles(intents .. id, owner, token, ending, invitation) then
    settled[#settled + 1] = { id = id }
    return 0
  end
  write_letter(letter_keys .. letter, letters, letter, text, at)
  written[#written + 1], written[#written + 2] = id, row
  settled[#settled + 1] = {
    id = id, row = row, delay = delay, token = token, invitation = invitation,
    ending = ending == 'found' and 'made' or ending,
  }
  return 1
end
for i = 5, #ARGV, 10 do recorded[#recorded + 1] = settle(#recorded + 1, unpack(ARGV, i, i + 9)) end
if #written > 0 then redis.call('HSET', rows, unpack(written)) end
for _, s in ipairs(settled) do
  if s.row then intent.settle(intents .. s.id, owner, s.token, s.ending, s.invitation) end
end
redis.call('ZREM', open, unpack(held))
local sent, done = 0, {}
for _, s in ipairs(settled) do
  local state = string.sub(s.row or '', 1, 1)
  if not s.row then
    wait_again(s.id, true)
  elseif state == 'w' and tonumber(s.delay) > 0 then
    redis.call('ZADD', later, stamp(now + tonumber(s.delay)), s.id)
  elseif state == 'w' then
    redis.call(s.delay == '0' and 'RPUSH' or 'LPUSH', list_of(s.row), s.id)
  elseif state == 's' then
    sent = sent + 1
  elseif state == 'k' then
    redis.call('HINCRBY', meta, 'skipped', 1)
  else
    count_dead(s.row, 1)
  end
end
for n, answer in ipairs(recorded) do
  if answer == 1 then done[#done + 1] = held[n] end
end
if sent > 0 then redis.call('HINCRBY', meta, 'sent', sent) end
if #done > 0 then redis.call('SADD', KEYS[13], unpack(done)) end
redis.call('PEXPIRE', KEYS[13], request_keep)
return recorded
`)

// Settle records outcomes of recipients that were taken, in one step, and gives those that it recorded: not those
// whose hold has passed.
func (l *Ledgers) Settle(ctx context.Context, name string, outcomes []Outcome) (recorded []Outcome, err error) {
	defer store.Wrap(&err, "settling recipients of campaign %s", name)
	if len(outcomes) == 0 {
		return nil, nil
	}
	var args []any
	for _, o := range outcomes {
		row, delay, err := o.encode()
		letter, err2 := o.Letter.Args()
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		token := o.Row.Intent.Token
		if o.Decision.Intent == fate.IntentOpened {
			token = o.Row.Hold
		}
		invitation := o.Decision.InvitationID + strings.Join(o.Decision.Revoked, ",")
		args = append(args, string(o.Row.ID[:]), o.Row.Hold, row, delay, string(o.Decision.Intent), token, invitation)
		args = append(args, letter...)
	}
	more := []string{l.db.Key.Ledger(name, request+uuid.NewString())}
	answer, err := l.run(ctx, settleScript, name, more, args...).BoolSlice()
	if err == nil && len(answer) != len(outcomes) {
		err = store.ErrGarbage
	}
	if err != nil {
		return nil, err
	}
	for i, o := range outcomes {
		if answer[i] {
			recorded = append(recorded, o)
		}
	}
	return recorded, nil
}

// Counts is how many recipients of a campaign are where.
type Counts struct {
	Waiting int // not looked up yet
	Ready   int // looked up, to ride in a bulk
	Singles int // waiting to be sent alone
	Later   int // waiting for their next attempt
	Open    int // in a call or a question to Clerk
	Unsure  int // whose last call's outcome is not known
}

// Progress is what a driver has to do.
type Progress struct {
	State State
	Counts
	// NextDue is when the next of Later and Open is due, 0 for at once; it counts only if there are any.
	NextDue time.Duration
	// Generation is the campaign's latest: a driver of an earlier one has been replaced.
	Generation int

	Recipients, Sent, Dead, Skipped int

	// By is who paused, resumed or cancelled the campaign last; empty if that is not known.
	By string
	// Resumes is how often the campaign was resumed: one that was paused in between two looks shows by it.
	Resumes int

	// Found is how many stood in no list, and wait again.
	Found int
}

// Settled is how many recipients have their outcome.
func (p Progress) Settled() int { return p.Sent + p.Dead + p.Skipped }

// advanceScript is a driver's look at its campaign. A running one that has nothing left is finished: what is uploaded
// in the same instant either comes before, and is found waiting, or after, and reopens it. The driver's lease is
// renewed, unless a later generation has taken over. The first time it takes back what its predecessor was asking
// about, a slice at a time: it is to be run again until it has. A paused campaign keeps its driver, which goes on
// asking what became of calls; so does one to which recipients are uploaded, and a cancelled one until nothing is open
// or unsure. A campaign whose lists are empty although its counts do not add up is not finished: some may have gone
// astray. Those of a cancelled one do not add up.
//
// ARGV[5] -> the driver's generation
// --
// Returns JSON: state, generation, what counts gives, recipients, sent, dead, skipped, resumes, by, due: how long until
// the next of later and open is (ms; -1: there is none), astray: whether all rows are to be looked at, and again:
// whether it is to be run again.
var advanceScript = redis.NewScript(prelude + `
local generation, dropped, again = number('generation'), true, false
if state == 'running' or state == 'uploading' or state == 'paused' or state == 'cancelled' then
  move_due()
  if state == 'cancelled' then dropped = drop() end
  if generation == tonumber(ARGV[5]) then
    redis.call('HSET', meta, 'lease_until', stamp(now + lease))
    if redis.call('HGET', meta, 'driven') ~= ARGV[5] then
      local left = slice
      for _, member in ipairs(redis.call('ZRANGE', open, 0, -1)) do
        if left > 0 and string.sub(member, 17, 17) ~= 'c' then
          let_go(member)
          left = left - 1
        end
      end
      if left > 0 then redis.call('HSET', meta, 'driven', ARGV[5]) else again = true end
    end
  end
end
local p = counts()
p.state, p.generation, p.due, p.again = state or '', generation, -1, again
for _, field in ipairs({ 'recipients', 'sent', 'dead', 'skipped', 'resumes' }) do p[field] = number(field) end
p.by = redis.call('HGET', meta, 'by') or ''
for _, key in ipairs({ later, open }) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first and (p.due < 0 or tonumber(first) - now < p.due) then p.due = math.max(0, tonumber(first) - now) end
end
if not dropped then p.due = 0 end
local rest = p.unsure + p.later + p.open
if state == 'running' and uploads == '' and rest + p.waiting + p.singles + p.ready == 0 then
  local all = redis.call('HLEN', rows)
  if p.recipients == all and p.sent + p.dead + p.skipped == all then
    redis.call('HSET', meta, 'state', 'finished', 'finished_at', stamp(now))
    redis.call('SREM', running, name)
    p.state = 'finished'
  else
    p.astray = true
  end
elseif state == 'cancelled' and dropped and rest == 0 then
  p.astray = true
end
return cjson.encode(p)
`)

// Advance is a driver's look at its campaign. It renews the lease of the driver's generation, lets those wait whose
// time has come, finishes a running campaign that has nothing left, and tells what there is to do. Those who went
// astray are put back first.
func (l *Ledgers) Advance(ctx context.Context, name string, generation int) (p Progress, err error) {
	defer store.Wrap(&err, "looking at campaign %s", name)
	p, astray, err := l.advance(ctx, name, generation)
	if err != nil || !astray {
		return p, err
	}
	found, err := l.mend(ctx, name, generation)
	if err == nil {
		p, _, err = l.advance(ctx, name, generation)
	}
	p.Found = found
	return p, err
}

func (l *Ledgers) advance(ctx context.Context, name string, generation int) (_ Progress, astray bool, err error) {
	var p struct {
		Progress
		Due    int64
		Astray bool
		Again  bool
	}
	for first := true; err == nil && (first || p.Again); first = false {
		p.Again = false
		err = read(l.run(ctx, advanceScript, name, nil, generation), &p)
	}
	p.NextDue = time.Duration(p.Due) * time.Millisecond
	return p.Progress, p.Astray, err
}

// Orphan is a running campaign that had no driver, and its new generation.
type Orphan struct {
	Name       string
	Generation int
}

// doubtsLooked is how many unsure recipients are looked at for the oldest doubt.
const doubtsLooked = 50

// OldestDoubt is when the first call was claimed of which nobody knows what became, among some unsure recipients of a
// campaign that are asked about now or next; zero if there are none.
func (l *Ledgers) OldestDoubt(ctx context.Context, name string) (since time.Time, err error) {
	defer store.Wrap(&err, "reading the doubts of campaign %s", name)
	ids, err := l.db.LRange(ctx, l.db.Key.Ledger(name, "unsure"), 0, doubtsLooked-1).Result()
	if err != nil {
		return since, err
	}
	// The holds of questions last longest.
	held, err := l.db.ZRevRange(ctx, l.db.Key.Ledger(name, "open"), 0, doubtsLooked-1).Result()
	if err != nil {
		return since, err
	}
	for _, member := range held {
		if idLen := len(store.AddressID{}); len(member) > idLen && member[idLen] == 'u' {
			ids = append(ids, member[:idLen])
		}
	}
	if len(ids) == 0 {
		return since, nil
	}
	intents := make([]*redis.StringCmd, len(ids))
	_, err = l.db.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			intents[i] = pipe.HGet(ctx, l.db.Key.Intents(id), intent.CampaignOwner(name))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return since, err
	}
	for _, one := range intents {
		standing, err := intent.Parse(one.Val())
		if err == nil && !standing.Since.IsZero() && (since.IsZero() || standing.Since.Before(since)) {
			since = standing.Since
		}
	}
	return since, nil
}

// sweepScript finds running, paused and draining campaigns without a driver and begins a new generation of each. It
// looks at some of them, another choice each time. A repeated request finds what it found the first time.
//
// KEYS[1] -> usher:{once}:running
// --
// ARGV[1] -> what the keys of ledgers begin with
// ARGV[2] -> token of the request
// --
// Returns JSON: a list of name and generation.
var sweepScript = redis.NewScript(store.Clock + lease + slice + `
local orphans = {}
for _, name in ipairs(redis.call('SRANDMEMBER', KEYS[1], slice)) do
  local function key(part) return ARGV[1] .. name .. ':' .. part end
  local state, leased, swept = unpack(redis.call('HMGET', key('meta'), 'state', 'lease_until', 'swept'))
  local draining = state == 'cancelled' and
    redis.call('LLEN', key('unsure')) + redis.call('ZCARD', key('open')) + redis.call('ZCARD', key('later')) > 0
  if state == 'uploading' then
    -- it needs no driver yet
  elseif state ~= 'running' and state ~= 'paused' and not draining then
    redis.call('SREM', KEYS[1], name)
  elseif swept == ARGV[2] then
    orphans[#orphans + 1] = { name = name, generation = tonumber(redis.call('HGET', key('meta'), 'generation')) }
  elseif tonumber(leased or '0') < now then
    redis.call('HSET', key('meta'), 'lease_until', stamp(now + lease), 'swept', ARGV[2])
    orphans[#orphans + 1] = { name = name, generation = redis.call('HINCRBY', key('meta'), 'generation', 1) }
  end
end
return #orphans > 0 and cjson.encode(orphans) or '[]'
`)

// Sweep finds running campaigns without a driver. The caller enqueues a driver for each; if it cannot, a later sweep
// finds it again.
func (l *Ledgers) Sweep(ctx context.Context) (orphans []Orphan, err error) {
	defer store.Wrap(&err, "sweeping campaigns")
	keys := []string{l.db.Key.Running()}
	err = read(sweepScript.Run(ctx, l.db, keys, l.db.Key.Ledgers(), uuid.NewString()), &orphans)
	return orphans, err
}
