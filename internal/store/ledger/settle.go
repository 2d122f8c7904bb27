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
)

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
		if o.Decision.Next != fate.Sent {
			state, next.Code = 'd', o.Decision.Cause.Code
		}
		row, err = encode(state, InBulk, next)
		return row, 0, err
	}
	travel := Unsure
	if o.Decision.Next == fate.Send {
		travel, delay = Ready, -1
		if next.Alone {
			travel = Singly
		}
	}
	switch {
	case o.Decision.In > 0:
		delay = max(1, o.Decision.In.Milliseconds())
	case o.Behind:
		delay = 0
	}
	row, err = encode('w', travel, next)
	return row, delay, err
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
		row, delay, err := o.encode()
		if err != nil {
			return nil, err
		}
		letter, err := o.Letter.Args()
		if err != nil {
			return nil, err
		}
		token := o.Row.Intent.Token
		if o.Decision.Intent == fate.IntentOpened {
			token = batch.token
		}
		invitation := o.Decision.InvitationID + strings.Join(o.Decision.Revoked, ",")
		args = append(args, string(o.Row.ID[:]), row, delay, string(o.Decision.Intent), token, invitation)
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
