package intent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Wish is an invite task that wants to make a call.
type Wish struct {
	Owner     string
	Address   store.AddressID // id of the folded address
	RecordKey string          // of the task
	Born      int64           // when it was enqueued, in ms; no call was made for it before
}

// Verdict is what became of a wish.
type Verdict string

// The verdicts.
const (
	Granted Verdict = "ok"
	Busy    Verdict = "busy"   // somebody else's intent for the address is open; see Again
	Unsure  Verdict = "unsure" // an earlier call's outcome is not known: Clerk is to be asked first
	Ended   Verdict = "ended"  // the task has ended before
	Erased  Verdict = "erased" // the address was forgotten on request
)

// Claim is the answer to a wish.
type Claim struct {
	Verdict Verdict
	Token   string        // of a granted one
	Fresh   bool          // no earlier call of the owner was of unknown outcome
	Since   time.Time     // of the first call that nobody knows the end of, this one included
	Again   time.Duration // when asking again makes sense, of a busy one
	Record  []byte        // of the task, as it is stored; nothing if there is none
}

// Release is the end of a claim whose call was not made, or says nothing.
func (c Claim) Release() End {
	if c.Fresh {
		return Refused
	}
	return Absent
}

// Tasks claims and settles the intents of invite tasks.
type Tasks struct {
	rdb  redis.UniversalClient
	keys store.Keys
}

// NewTasks gives the intents of a namespace.
func NewTasks(rdb redis.UniversalClient, namespace string) *Tasks {
	return &Tasks{rdb: rdb, keys: store.Keys(namespace)}
}

// claimScript claims several addresses, each or not. KEYS: when Redis may have lost its memory, tombstones, then for each the intents, the
// task's record. ARGV: token, duration of the call (ms), then for each its owner, when it was enqueued (ms), and the address's id.
// Returns now, and for each its verdict, an instant (since, or when to ask again), and its record.
var claimScript = redis.NewScript(store.Clock + Lua + store.TombstoneLua + `
local answer = { stamp(now) }
local lost = tonumber(redis.call('GET', KEYS[1]) or '0')
local arg = 3
for i = 3, #KEYS, 2 do
  local verdict, at = 'ended', 0
  local text, state = redis.call('GET', KEYS[i + 1]) or '', nil
  if text ~= '' then
    local known, record = pcall(cjson.decode, text)
    state = known and type(record) == 'table' and record.state
  end
  if state ~= 'done' and state ~= 'dead' and state ~= 'cancelled' then
    if forgotten(KEYS[2], ARGV[arg + 2]) then
      verdict = 'erased'
    else
      verdict, at = intent.claim(KEYS[i], ARGV[arg], ARGV[1], now + tonumber(ARGV[2]), tonumber(ARGV[arg + 1]), lost)
    end
  end
  arg = arg + 3
  answer[#answer + 1] = verdict
  answer[#answer + 1] = stamp(at)
  answer[#answer + 1] = text
end
return answer
`)

// Claim claims addresses for calls that end within a time. Two wishes for one address may not be in one call.
func (t *Tasks) Claim(ctx context.Context, token string, within time.Duration, wishes []Wish) ([]Claim, error) {
	keys := append(make([]string, 0, 2+2*len(wishes)), t.keys.Lost(), t.keys.Tombstones())
	args := []any{token, within.Milliseconds()}
	for _, wish := range wishes {
		keys = append(keys, t.key(wish.Address), wish.RecordKey)
		args = append(args, wish.Owner, wish.Born, string(wish.Address[:]))
	}
	answer, err := claimScript.Run(ctx, t.rdb, keys, args...).Slice()
	if err != nil {
		return nil, fmt.Errorf("claiming %d addresses: %w", len(wishes), err)
	}
	if len(answer) != 1+3*len(wishes) {
		return nil, fmt.Errorf("claiming %d addresses: %w", len(wishes), store.ErrGarbage)
	}
	now, err := instant(answer[0])
	claims := make([]Claim, len(wishes))
	for i := range wishes {
		verdict, ok := answer[1+3*i].(string)
		at, err2 := instant(answer[2+3*i])
		text, ok2 := answer[3+3*i].(string)
		if err != nil || err2 != nil || !ok || !ok2 {
			return nil, fmt.Errorf("claiming %d addresses: %w", len(wishes), store.ErrGarbage)
		}
		c := Claim{Verdict: Verdict(verdict), Token: token, Since: at, Fresh: at.Equal(now), Record: []byte(text)}
		if c.Verdict == Busy {
			c.Again = max(0, at.Sub(now))
		}
		claims[i] = c
	}
	return claims, nil
}

func (t *Tasks) key(address store.AddressID) string { return t.keys.Intents(string(address[:])) }

func instant(value any) (time.Time, error) {
	text, ok := value.(string)
	if !ok {
		return time.Time{}, store.ErrGarbage
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, store.ErrGarbage
	}
	return time.UnixMilli(ms), nil
}

// standingScript reads one intent. KEYS: the intents. ARGV: owner. Returns now, and the standing as Parse reads it.
var standingScript = redis.NewScript(store.Clock + Lua + `return { stamp(now), intent.standing(KEYS[1], ARGV[1]) }`)

// Standing tells how the intent of a task stands, and what time Redis has.
func (t *Tasks) Standing(ctx context.Context, wish Wish) (s Standing, now time.Time, err error) {
	answer, err := standingScript.Run(ctx, t.rdb, []string{t.key(wish.Address)}, wish.Owner).StringSlice()
	if err == nil && len(answer) != 2 {
		err = store.ErrGarbage
	}
	if err != nil {
		return Standing{}, now, fmt.Errorf("reading the intent of a task: %w", err)
	}
	if now, err = instant(answer[0]); err == nil {
		s, err = Parse(answer[1])
	}
	return s, now, err
}

// Settlement is what becomes of an intent, and what is written with it.
type Settlement struct {
	Wish         Wish
	Token        string
	End          End
	InvitationID string // that was made or found
	// Used are invitations that no call of the task has made; with Absent.
	Used   []string
	Record []byte // of the task; none: it stays
	Keep   time.Duration
	Letter *Letter
}

// Letter is a dead letter that is written with the settlement.
type Letter struct {
	Key, IndexKey, ID string
	Entry             []byte
	FailedAt          time.Time
}

// settleScript settles an intent and writes what belongs to it, or neither; of an address that was forgotten, only the record, which does not
// hold it. KEYS: the intents, the task's record, the dead letter, the index of dead letters, tombstones. ARGV: owner, token, end, invitation id,
// record, how long it is kept (ms; 0: for good), dead letter's id, its entry, its time (ms), the address's id. Returns 1 if it was settled.
var settleScript = redis.NewScript(store.Clock + Lua + store.TombstoneLua + `
local erased = forgotten(KEYS[5], ARGV[10])
if erased then
  redis.call('DEL', KEYS[1])
elseif not intent.settle(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  return 0
end
if ARGV[7] ~= '' and not erased then
  redis.call('HSET', KEYS[3], 'entry', ARGV[8])
  redis.call('HDEL', KEYS[3], 'next')
  redis.call('ZADD', KEYS[4], ARGV[9], ARGV[7])
end
if ARGV[5] ~= '' then
  if tonumber(ARGV[6]) > 0 then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]) else redis.call('SET', KEYS[2], ARGV[5]) end
end
return 1
`)

// ErrTaken means that nothing was settled: the claim has passed to another run of the task, or the invitation found
// has settled another intent.
var ErrTaken = errors.New("the claim is another's, or the invitation has settled another intent")

// Settle settles an intent, or gives ErrTaken.
func (t *Tasks) Settle(ctx context.Context, s Settlement) error {
	letter := Letter{Key: s.Wish.RecordKey, IndexKey: s.Wish.RecordKey} // keys are needed even if nothing is written to them
	if s.Letter != nil {
		letter = *s.Letter
	}
	keys := []string{t.key(s.Wish.Address), s.Wish.RecordKey, letter.Key, letter.IndexKey, t.keys.Tombstones()}
	n, err := settleScript.Run(ctx, t.rdb, keys, s.Wish.Owner, s.Token, string(s.End), s.InvitationID+strings.Join(s.Used, ","),
		s.Record, s.Keep.Milliseconds(), letter.ID, letter.Entry, letter.FailedAt.UnixMilli(), string(s.Wish.Address[:])).Int()
	switch {
	case err != nil:
		return fmt.Errorf("settling the intent of a task: %w", err)
	case n != 1:
		return ErrTaken
	}
	return nil
}

// reopenScript lets a dead letter's owner ask Clerk before it calls again. KEYS: the intents. ARGV: owner, since (ms).
var reopenScript = redis.NewScript(store.Clock + Lua + `
intent.reopen(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return 1
`)

// Reopen makes the next claim of an owner unsure, for calls since an instant (ms; 0: if it has an intent): a dead letter that is
// retried starts with a question.
func Reopen(ctx context.Context, rdb redis.UniversalClient, namespace, owner string, address store.AddressID, since int64) error {
	err := reopenScript.Run(ctx, rdb, []string{store.Keys(namespace).Intents(string(address[:]))}, owner, since).Err()
	if err != nil {
		return fmt.Errorf("reopening an intent: %w", err)
	}
	return nil
}

// forgetScript forgets what is known of an owner that will never call again. KEYS: the intents. ARGV: owner.
var forgetScript = redis.NewScript(store.Clock + Lua + `
if intent.read(KEYS[1], ARGV[1]) == 'p' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  intent.tidy(KEYS[1])
end
return 1
`)

// Erase removes all intents of an address that was forgotten on request, and tells whether there were any.
func (t *Tasks) Erase(ctx context.Context, address store.AddressID) (bool, error) {
	n, err := t.rdb.Del(ctx, t.key(address)).Result()
	if err != nil {
		return false, fmt.Errorf("erasing intents: %w", err)
	}
	return n == 1, nil
}

// Forget forgets an owner whose dead letter was deleted.
func Forget(ctx context.Context, rdb redis.UniversalClient, namespace, owner string, address store.AddressID) error {
	err := forgetScript.Run(ctx, rdb, []string{store.Keys(namespace).Intents(string(address[:]))}, owner).Err()
	if err != nil {
		return fmt.Errorf("forgetting an intent: %w", err)
	}
	return nil
}
