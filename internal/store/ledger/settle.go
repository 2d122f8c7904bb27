package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
	"example.com/usher/internal/store/deadletter"
	"example.com/usher/internal/store/intent"
)

// Outcome is what to record of a recipient: sent, dead, or to wait again; and what becomes of its intent.
type Outcome struct {
	Row    Row
	Letter *deadletter.Entry // of a dead one
	state  byte
	travel Travel
	delay  time.Duration
	end    intent.End
	used   []string // invitations that no call of the recipient's has made; with intent.Absent
}

// SentAs records that the recipient's invitation exists: a call has made it, or a look-up has found it. Its attempts are
// those besides the call that made it, which counted as failed if it was lost.
func SentAs(row Row, end intent.End, invitationID string, at time.Time) Outcome {
	if end == intent.Found {
		row.Attempts = max(0, row.Attempts-1)
	}
	row.Foreign = end != intent.Made && end != intent.Found // one that was there before counts as the recipient's
	row.InvitationID, row.SettledAt, row.History, row.Refusal = invitationID, at.Unix(), nil, nil
	return Outcome{Row: row, state: 's', travel: InBulk, end: end}
}

// DeadOf records that the recipient is a dead letter, which is written in the same step. Its history is there.
func DeadOf(row Row, end intent.End, letter deadletter.Entry) Outcome {
	row.Code, row.SettledAt, row.History, row.Refusal = letter.Failure.Code, letter.FailedAt.Unix(), nil, nil
	return Outcome{Row: row, Letter: &letter, state: 'd', travel: InBulk, end: end}
}

// WaitFor lets the recipient wait for another try: before all others now, or after a delay.
func WaitFor(row Row, end intent.End, travel Travel, delay time.Duration) Outcome {
	if delay <= 0 {
		delay = -time.Millisecond
	}
	return Outcome{Row: row, state: 'w', travel: travel, delay: delay, end: end}
}

// Clear lets the recipient wait for a call that ignores the invitations that stood in its way and were revoked.
func Clear(row Row, end intent.End, travel Travel, revoked []string) Outcome {
	row.Foreign, row.Answered, row.Refusal, row.Cleared = false, false, nil, true
	o := WaitFor(row, end, travel, 0)
	o.used = revoked
	return o
}

// Reserve lets the recipient be unsure about an invitation that stands in its way and that none of its calls has made, and
// keeps others from calling for its address meanwhile.
func Reserve(row Row, refusal fate.Failure, end intent.End) Outcome {
	row.Refusal, row.Foreign, row.Answered = &refusal, true, true
	return GoOn(row, end, Unsure)
}

// GoOn lets the recipient wait behind all others of its list: nothing was wrong with it.
func GoOn(row Row, end intent.End, travel Travel) Outcome {
	return Outcome{Row: row, state: 'w', travel: travel, end: end}
}

// settleScript records what became of recipients that a call or a question held, and settles their intents. The dead letter
// of one is written before its row. Of one that is no longer held nothing is written. An invitation that was found but has
// settled another intent settles nothing: its recipient is unsure still.
//
// ARGV[5] -> token of the hold
// ARGV[6], [15] … -> id of each recipient
// ARGV[7], [16] … -> row as it shall be
// ARGV[8], [17] … -> delay (ms) of a waiting one; -1: to the head of its list, 0: to its end
// ARGV[9], [18] … -> end of its intent; untold: none
// ARGV[10], [19] … -> token of its intent
// ARGV[11], [20] … -> invitation, or those that are used
// ARGV[12], [21] … -> id of its dead letter; empty: none
// ARGV[13], [22] … -> text of the letter
// ARGV[14], [23] … -> time of the letter (ms)
// --
// Returns, for each recipient, 1 if it was recorded, or else 0.
var settleScript = redis.NewScript(prelude + `
local function settle(id, row, delay, ending, token, invitation, letter, text, at)
  if redis.call('ZREM', open, id .. ARGV[5]) == 0 then return 0 end
  if forgotten(tombstones, id) then
    erase(id)
    redis.call('DEL', intents .. id)
    return 1
  end
  if not intent.settle(intents .. id, owner, token, ending, invitation) and ending == 'found' then
    wait_again(id, true)
    return 0
  end
  write_letter(letter_keys .. letter, letters, letter, text, at)
  redis.call('HSET', rows, id, row)
  if string.sub(row, 1, 1) == 's' then
    redis.call('HINCRBY', meta, 'sent', 1)
  elseif string.sub(row, 1, 1) == 'd' then
    count_dead(row, 1)
  elseif tonumber(delay) > 0 then
    redis.call('ZADD', later, stamp(now + tonumber(delay)), id)
  else
    redis.call(delay == '0' and 'RPUSH' or 'LPUSH', list_of(row), id)
  end
  return 1
end
local recorded = {}
for i = 6, #ARGV, 9 do recorded[#recorded + 1] = settle(unpack(ARGV, i, i + 8)) end
return recorded
`)

// Settle records outcomes of a batch and gives those that it recorded: fewer than were given if its hold had passed.
func (l *Ledgers) Settle(ctx context.Context, name string, batch Batch, outcomes []Outcome) (recorded []Outcome, err error) {
	args := []any{batch.token}
	for _, o := range outcomes {
		row, err := encode(o.state, o.travel, o.Row)
		if err != nil {
			return nil, err
		}
		letter, err := o.Letter.Args()
		if err != nil {
			return nil, err
		}
		token := o.Row.Intent.Token
		if o.end == intent.Opened {
			token = batch.token
		}
		invitation := o.Row.InvitationID + strings.Join(o.used, ",")
		args = append(args, string(o.Row.ID[:]), row, o.delay.Milliseconds(), string(o.end), token, invitation)
		args = append(args, letter...)
	}
	answer, err := l.run(ctx, settleScript, name, nil, args...).BoolSlice()
	if err == nil && len(answer) != len(outcomes) {
		err = store.ErrGarbage
	}
	if err != nil {
		return nil, fmt.Errorf("settling recipients of campaign %s: %w", name, err)
	}
	for i, o := range outcomes {
		if answer[i] {
			recorded = append(recorded, o)
		}
	}
	return recorded, nil
}
