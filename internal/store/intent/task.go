package intent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/history"
	"example.com/usher/internal/store/record"
)

// Wish is an invite task that wants to make a call.
type Wish struct {
	Task    string // its id
	Address store.AddressID
	Born    int64 // when it was enqueued, in ms; no call was made for it before
}

// Owner owns the intent of the wish's task.
func (w Wish) Owner() string { return TaskOwner(w.Task) }

// Claim is the answer to a wish.
type Claim struct {
	Verdict fate.Verdict
	Token   string        // of a granted one
	First   bool          // no earlier call of the owner has an unknown outcome
	Now     time.Time     // on Redis's clock
	Again   time.Duration // when asking again makes sense, of a busy one
	Record  []byte        // of the task, as it is stored; nothing if there is none
}

// Tasks claims and settles the intents of invite tasks.
type Tasks struct {
	Memory *store.Memory // of the process, if it claims
	db     store.DB
}

// NewTasks gives the intents of a namespace.
func NewTasks(rdb redis.UniversalClient, namespace string) *Tasks {
	return &Tasks{db: store.Open(rdb, namespace)}
}

func (t *Tasks) key(address store.AddressID) string { return t.db.Key.Intents(string(address[:])) }

// recordLua defines ended(text), which tells whether a record is that of a task that has ended, and unwanted(text),
// which tells whether a person wants the task to be cancelled.
const recordLua = `
local function decoded(text)
  local known, record = pcall(cjson.decode, text or '')
  return known and type(record) == 'table' and record or {}
end
local function ended(text)
  local state = decoded(text).state
  return state == 'done' or state == 'dead' or state == 'cancelled'
end
local function unwanted(text) return decoded(text).cancel == true end
`

// claimScript claims several addresses, each or not. A task that is to be cancelled is unsure: whether it may end
// shows when it asks.
//
// KEYS[1] -> usher:{once}:redis
// KEYS[2] -> usher:{once}:lost
// KEYS[3] -> usher:{once}:w:PROCESS
// KEYS[4] -> usher:{once}:restored
// KEYS[5] -> usher:{once}:seen
// KEYS[6] -> usher:{once}:forgotten
// KEYS[7], [9] … -> usher:{once}:i:ADDRESS  of each wish
// KEYS[8], [10] … -> usher:{once}:t:ID      of each wish
// --
// ARGV[1] -> what the count of the process must be at least
// ARGV[2] -> what it becomes
// ARGV[3] -> when the process knows that Redis was seen (ms)
// ARGV[4] -> token
// ARGV[5] -> how long the call may last (ms)
// ARGV[6], [9] … -> owner of each wish
// ARGV[7], [10] … -> when its task was enqueued (ms)
// ARGV[8], [11] … -> id of its address
// --
// Returns now, and for each wish its verdict, an instant (since, or when to ask again) and the task's record; an error
// while Redis was restored and work rests.
var claimScript = redis.NewScript(store.Clock + store.MemoryLua + Lua + store.TombstoneLua + recordLua + `
local answer = { stamp(now) }
local mind = memory(1, 1)
if mind.rests then ` + store.RestoringLua + ` end
local arg = 6
for i = 7, #KEYS, 2 do
  local owner, born, address = unpack(ARGV, arg, arg + 2)
  local verdict, at, text = 'ended', 0, redis.call('GET', KEYS[i + 1]) or ''
  if not ended(text) then
    if forgotten(KEYS[6], address) then
      verdict = 'erased'
    elseif unwanted(text) then
      verdict = 'unsure'
    else
      verdict, at = intent.claim(KEYS[i], owner, ARGV[4], now + tonumber(ARGV[5]), tonumber(born), mind.lost)
    end
  end
  arg = arg + 3
  for _, value in ipairs({ verdict, stamp(at), text }) do answer[#answer + 1] = value end
end
return answer
`)

// Claim claims addresses for calls that end within a time. Two wishes for one address may not be in one call.
func (t *Tasks) Claim(
	ctx context.Context, token string, within time.Duration, wishes []Wish,
) (claims []Claim, err error) {
	defer store.Wrap(&err, "claiming %d addresses", len(wishes))
	keys := append(t.Memory.Keys(t.db.Key), t.db.Key.Tombstones())
	args, noted := t.Memory.Raise()
	args = append(args, token, within.Milliseconds())
	for _, wish := range wishes {
		keys = append(keys, t.key(wish.Address), t.db.Key.Record(wish.Task))
		args = append(args, wish.Owner(), wish.Born, string(wish.Address[:]))
	}
	now, answers, err := store.Answer(claimScript.Run(ctx, t.db, keys, args...), 3)
	if err == nil {
		noted()
	}
	if err == nil && len(answers) != len(wishes) {
		err = store.ErrGarbage
	}
	for _, of := range answers {
		at, err2 := store.Instant(of[1])
		c := Claim{
			Verdict: fate.Verdict(of[0]), Token: token, First: at.Equal(now), Now: now,
			Record: []byte(of[2]),
		}
		if c.Verdict == fate.VerdictBusy {
			c.Again = max(0, at.Sub(now))
		}
		claims, err = append(claims, c), errors.Join(err, err2)
	}
	return claims, err
}

// standingScript reads one intent.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// --
// ARGV[1] -> owner
// --
// Returns now, and the standing as Parse reads it.
var standingScript = redis.NewScript(store.Clock + Lua + `return { stamp(now), intent.standing(KEYS[1], ARGV[1]) }`)

// Standing tells how the intent of an owner stands, and what time Redis has.
func (t *Tasks) Standing(
	ctx context.Context, owner string, address store.AddressID,
) (s Standing, now time.Time, err error) {
	defer store.Wrap(&err, "reading an intent")
	now, answer, err := store.Answer(standingScript.Run(ctx, t.db, []string{t.key(address)}, owner), 1)
	if err == nil && len(answer) != 1 {
		err = store.ErrGarbage
	}
	if err == nil {
		s, err = Parse(answer[0][0])
	}
	return s, now, err
}

// openScript reads all intents of an address.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// --
// Returns now and, for each owner, the owner and its standing as Parse reads it.
var openScript = redis.NewScript(store.Clock + Lua + `
local answer = { stamp(now) }
for owner, value in pairs(intent.all(KEYS[1])) do
  if string.sub(owner, 1, 1) ~= '=' and intent.blocks((intent.parse(value))) then
    answer[#answer + 1] = owner
    answer[#answer + 1] = intent.text(intent.parse(value))
  end
end
return answer
`)

// Open gives the intents of an address that stand in the way of others, by owner: a call of theirs may be under way,
// or nobody knows what became of one.
func (t *Tasks) Open(ctx context.Context, address store.AddressID) (open map[string]Standing, err error) {
	defer store.Wrap(&err, "reading the intents of an address")
	_, rows, err := store.Answer(openScript.Run(ctx, t.db, []string{t.key(address)}), 2)
	open = make(map[string]Standing, len(rows))
	for _, row := range rows {
		s, err2 := Parse(row[1])
		open[row[0]], err = s, errors.Join(err, err2)
	}
	return open, err
}

// Settlement is what becomes of an intent, and what is written with it. A task that ends without an open intent ends
// as IntentUnchanged: then only its record and its dead letter are written.
type Settlement struct {
	Wish         Wish
	Token        string
	End          fate.End
	InvitationID string // that was made or found
	// Used are invitations that no call of the task has made; with IntentAbsent.
	Used   []string
	Record *record.Record    // none: it stays
	Letter *deadletter.Entry // of a task that ends as one
}

// settleScript settles an intent and writes what belongs to it, the letter first, or nothing at all. The intent is
// last: if Redis refuses a command in the middle, nobody is settled without a record, and called again. Of an address
// that was forgotten it writes only the record, which does not hold it. A repeated request gets the same answer if it
// writes a record. That a person wants the task to be cancelled stays in the record, although the run that writes it
// may not know of it.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// KEYS[2] -> usher:{once}:t:ID
// KEYS[3] -> usher:{once}:d:e:ID
// KEYS[4] -> usher:{once}:d:index
// KEYS[5] -> usher:{once}:forgotten
// KEYS[6] -> usher:{once}:h:ADDRESS
// --
// ARGV[1] -> id of the address
// ARGV[2] -> owner
// ARGV[3] -> token
// ARGV[4] -> end
// ARGV[5] -> id of the invitation, or of those that are used
// ARGV[6] -> record, or empty: it stays
// ARGV[7] -> how long the record is kept (ms; 0: until the task ends)
// ARGV[8] -> id of the dead letter, or empty: there is none
// ARGV[9] -> its text
// ARGV[10] -> its time (ms)
// ARGV[11] -> id of the task
// ARGV[12] -> its address, for the record of one that ends
// --
// Returns 1 if it was settled, 0 if the claim is another's, the invitation is used, or a task that has ended would end
// otherwise.
var settleScript = redis.NewScript(store.Clock + Lua + store.TombstoneLua + history.Lua + deadletter.Lua +
	recordLua + `
local address, owner, token, ending, id, record, keep = unpack(ARGV, 1, 7)
redis.call('HDEL', KEYS[1], '') -- needs no memory: Redis takes the others after it also when it is full
local was, all = redis.call('GET', KEYS[2]), intent.all(KEYS[1])
local over, known = (ending == 'unchanged' or ending == 'opened') and ended(was), true
if record ~= '' and tonumber(keep) == 0 and unwanted(was) and not unwanted(record) then
  record = '{"cancel":true,"by":' .. cjson.encode(decoded(was).by or '') .. ',' .. string.sub(record, 2)
end
if forgotten(KEYS[5], address) then
  redis.call('DEL', KEYS[1])
  known = false
elseif not over and intent.settles(KEYS[1], owner, token, ending, id, all) then
  write_letter(KEYS[3], KEYS[4], unpack(ARGV, 8, 10))
  if tonumber(keep) > 0 then record = remember_end(KEYS[6], ARGV[11], stamp(now), record, ARGV[12]) end
else
  return record ~= '' and (was == record or was == with_address(record, ARGV[12])) and 1 or 0
end
if record ~= '' and tonumber(keep) > 0 then
  redis.call('SET', KEYS[2], record, 'PX', keep)
elseif record ~= '' then
  redis.call('SET', KEYS[2], record)
end
if known then intent.settle(KEYS[1], owner, token, ending, id, all) end
return 1
`)

// ErrTaken means that nothing was settled: the claim has passed to another run of the task, the task has ended, or the
// invitation found has settled another intent.
var ErrTaken = errors.New("the claim is another's, or the invitation has settled another intent")

// Settle settles an intent, or gives ErrTaken.
func (t *Tasks) Settle(ctx context.Context, s Settlement) (err error) {
	defer store.Wrap(&err, "settling the intent of a task")
	var text []byte
	var keep time.Duration
	var email string
	if s.Record != nil {
		text, keep, email, err = record.EncodeEnd(*s.Record)
	}
	letter, err2 := s.Letter.Args()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	id, _ := letter[0].(string)
	keys := []string{
		t.key(s.Wish.Address), t.db.Key.Record(s.Wish.Task), t.db.Key.Letter(id), t.db.Key.Letters(),
		t.db.Key.Tombstones(), t.db.Key.History(string(s.Wish.Address[:])),
	}
	args := append([]any{
		string(s.Wish.Address[:]), s.Wish.Owner(), s.Token, string(s.End), s.InvitationID + strings.Join(s.Used, ","),
		text, keep.Milliseconds(),
	}, append(letter, s.Wish.Task, email)...)
	settled, err := settleScript.Run(ctx, t.db, keys, args...).Bool()
	if err == nil && !settled {
		err = ErrTaken
	}
	return err
}

// cancelScript cancels an invite task, or notes that it is to be cancelled while a call of its may be under way or has
// an unknown outcome.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// KEYS[2] -> usher:{once}:t:ID
// KEYS[3] -> usher:{once}:h:ADDRESS
// KEYS[4] -> usher:{once}:forgotten
// --
// ARGV[1] -> id of the address
// ARGV[2] -> owner
// ARGV[3] -> id of the task
// ARGV[4] -> the record as it was, or empty
// ARGV[5] -> the record of a task that is cancelled
// ARGV[6] -> how long that is kept (ms)
// ARGV[7] -> the record of a task that is to be cancelled
// ARGV[8] -> the address, for the record of a task that is cancelled
// --
// Returns changed if the record is another one by now, else cancelled or wanted.
var cancelScript = redis.NewScript(store.Clock + Lua + store.TombstoneLua + history.Lua + `
local address, owner, id, was, cancelled, keep, wanted, email = unpack(ARGV)
if (redis.call('GET', KEYS[2]) or '') ~= was then return 'changed' end
if intent.blocks((intent.read(KEYS[1], owner))) then
  redis.call('SET', KEYS[2], wanted)
  return 'wanted'
end
if not forgotten(KEYS[4], address) then cancelled = remember_end(KEYS[3], id, stamp(now), cancelled, email) end
redis.call('SET', KEYS[2], cancelled, 'PX', keep)
if redis.call('HDEL', KEYS[1], owner) == 1 then intent.tidy(KEYS[1]) end
return 'cancelled'
`)

// ErrChanged means that a task's record was changed by somebody else meanwhile.
var ErrChanged = errors.New("the record of the task has changed")

// Cancel cancels the task of a wish, and tells whether it has ended with that. While a call of the task may be under
// way or has an unknown outcome, it is only noted that it is to be cancelled. r is the task's record, and stored the
// same as it was read, or nothing if there is none yet. The error may be ErrChanged.
func (t *Tasks) Cancel(ctx context.Context, wish Wish, r record.Record, stored []byte) (ended bool, err error) {
	defer store.Wrap(&err, "cancelling task %s", wish.Task)
	r.State, r.Cancel = record.Open, true
	wanted, _, _, err1 := record.EncodeEnd(r)
	cancelled, keep, email, err2 := record.EncodeEnd(r.Cancelled(""))
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	keys := []string{
		t.key(wish.Address), t.db.Key.Record(wish.Task), t.db.Key.History(string(wish.Address[:])), t.db.Key.Tombstones(),
	}
	answer, err := cancelScript.Run(ctx, t.db, keys, string(wish.Address[:]), wish.Owner(), wish.Task, stored, cancelled,
		keep.Milliseconds(), wanted, email).Text()
	if err == nil && answer == "changed" {
		err = ErrChanged
	}
	return answer == "cancelled", err
}

// reopenScript lets a dead letter's owner ask Clerk before it calls again.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// --
// ARGV[1] -> owner
// ARGV[2] -> since when there may have been calls (ms; 0: if there is an intent)
// --
// Returns 1.
var reopenScript = redis.NewScript(store.Clock + Lua + `
intent.reopen(KEYS[1], ARGV[1], tonumber(ARGV[2]))
return 1
`)

// Doubt is an intent whose owner cannot know what became of calls since an instant (ms; 0: if it has an intent).
type Doubt struct {
	Owned
	Since int64
}

// Reopen makes the next claim of each owner unsure, all in one round trip, and gives the error of each: a dead letter
// that is retried starts with a question.
func (t *Tasks) Reopen(ctx context.Context, doubts ...Doubt) []error {
	calls := make([]store.Call, len(doubts))
	for i, d := range doubts {
		calls[i] = store.Call{Keys: []string{t.key(d.Address)}, Args: []any{d.Owner, d.Since}}
	}
	return store.Errors(ctx, t.db, "reopening an intent", reopenScript, calls)
}

// adoptScript gives an owner's intent to another one, who asks Clerk before it calls. Nothing is left to do once the
// new owner's task has ended.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// KEYS[2] -> usher:{once}:t:ID
// --
// ARGV[1] -> owner
// ARGV[2] -> the new owner
// ARGV[3] -> since when there may have been calls (ms; 0: if there is an intent)
// --
// Returns 1.
var adoptScript = redis.NewScript(store.Clock + Lua + recordLua + `
if ended(redis.call('GET', KEYS[2])) then return 1 end
local stands = redis.call('HGET', KEYS[1], ARGV[1])
if stands and redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 then redis.call('HSET', KEYS[1], ARGV[2], stands) end
redis.call('HDEL', KEYS[1], ARGV[1])
intent.reopen(KEYS[1], ARGV[2], tonumber(ARGV[3]))
return 1
`)

// Adoption is an intent that a task takes over, in doubt as its owner was.
type Adoption struct {
	Doubt
	Task string
}

// Adopt gives intents to tasks that go on in the place of their owners, all in one round trip, and gives the error of
// each. The first claim of each task is unsure.
func (t *Tasks) Adopt(ctx context.Context, adoptions ...Adoption) []error {
	calls := make([]store.Call, len(adoptions))
	for i, a := range adoptions {
		keys := []string{t.key(a.Address), t.db.Key.Record(a.Task)}
		calls[i] = store.Call{Keys: keys, Args: []any{a.Owner, TaskOwner(a.Task), a.Since}}
	}
	return store.Errors(ctx, t.db, "handing an intent on", adoptScript, calls)
}

// forgetScript forgets what is known of an owner that will never call again.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// --
// ARGV[1] -> owner
// --
// Returns 1.
var forgetScript = redis.NewScript(store.Clock + Lua + `
intent.drop(KEYS[1], ARGV[1])
return 1
`)

// Owned is an intent of an owner for an address.
type Owned struct {
	Owner   string
	Address store.AddressID
}

// Forget forgets the intents of owners that will never call again for an address, all in one round trip, and gives the
// error of each.
func (t *Tasks) Forget(ctx context.Context, intents ...Owned) []error {
	calls := make([]store.Call, len(intents))
	for i, one := range intents {
		calls[i] = store.Call{Keys: []string{t.key(one.Address)}, Args: []any{one.Owner}}
	}
	return store.Errors(ctx, t.db, "forgetting an intent", forgetScript, calls)
}

// deleteScript notes that an invitation is deleted, unless it has settled an intent: it is nobody's any more.
//
// KEYS[1] -> usher:{once}:i:ADDRESS
// --
// ARGV[1] -> id of the invitation
// ARGV[2] -> when it was created (ms)
// --
// Returns 1.
var deleteScript = redis.NewScript(store.Clock + Lua + `
redis.call('HSETNX', KEYS[1], '=' .. ARGV[1], stamp(now) .. '|' .. ARGV[2])
intent.tidy(KEYS[1])
return 1
`)

// NoteDeleted notes, before it is done, that an invitation for an address is deleted at Clerk. An owner whose intent
// is open, and whose calls may have created it, is not to create another one.
func (t *Tasks) NoteDeleted(ctx context.Context, address store.AddressID, id string, created time.Time) (err error) {
	defer store.Wrap(&err, "noting that an invitation is deleted")
	return deleteScript.Run(ctx, t.db, []string{t.key(address)}, id, created.UnixMilli()).Err()
}

// Erase removes all intents of an address that was forgotten on request, and tells whether there were any.
func (t *Tasks) Erase(ctx context.Context, address store.AddressID) (erased bool, err error) {
	defer store.Wrap(&err, "erasing intents")
	n, err := t.db.Del(ctx, t.key(address)).Result()
	return n == 1, err
}

// Settled gives the invitations for an address that have settled an intent since an instant, as far back as that is
// kept (see tidy): a list of Clerk's may not show them yet.
func (t *Tasks) Settled(ctx context.Context, address store.AddressID, since time.Time) (ids []string, err error) {
	defer store.Wrap(&err, "reading the intents of an address")
	fields, err := t.db.HGetAll(ctx, t.key(address)).Result()
	for field, value := range fields {
		id, settled := strings.CutPrefix(field, "=")
		if at, err := store.Instant(value); settled && err == nil && at.UnixMilli() >= since.UnixMilli() {
			ids = append(ids, id)
		}
	}
	return ids, err
}
