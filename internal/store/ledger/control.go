package ledger

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// controlScript pauses, resumes, cancels or starts a campaign.
//
// ARGV[5] -> what: pause, resume, cancel, or start, which leaves all but a scheduled campaign as it is
// --
// Returns JSON: outcome (ok, missing or over) and the state of the campaign.
var controlScript = redis.NewScript(prelude + `
local what, outcome = ARGV[5], 'ok'
local function started()
  if state == 'running' then redis.call('HSETNX', meta, 'started_at', stamp(now)) end
end
if not state then
  outcome = 'missing'
elseif what == 'start' then
  if state == 'scheduled' then begin() end
  started()
elseif state == 'finished' or (state == 'cancelled' and what ~= 'cancel') then
  outcome = 'over'
elseif what == 'cancel' and state ~= 'cancelled' then
  become('cancelled')
  redis.call('HSET', meta, 'finished_at', stamp(now))
  drop()
elseif what == 'pause' then
  become('paused')
elseif what == 'resume' and state == 'paused' then
  become(number('scheduled_at') > now and 'scheduled' or 'running')
  started()
end
if state == 'running' or state == 'paused' then redis.call('SADD', running, name) end
return cjson.encode({ outcome = outcome, state = state or '' })
`)

// Start makes a scheduled campaign a running one and gives its state. ErrNotFound if there is none.
func (l *Ledgers) Start(ctx context.Context, name string) (State, error) {
	v, err := l.change(ctx, controlScript, name, nil, "start")
	return v.State, err
}

// Pause stops a campaign from making calls, but for those in flight. Pausing it again changes nothing.
func (l *Ledgers) Pause(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "pause")
}

// Resume lets a paused campaign go on. The sweep gives it a driver if it has none.
func (l *Ledgers) Resume(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "resume")
}

// Cancel stops a campaign for good: whoever is in no call is not sent any more. What becomes of calls in flight is recorded.
func (l *Ledgers) Cancel(ctx context.Context, name string) (Campaign, error) {
	return l.control(ctx, name, "cancel")
}

func (l *Ledgers) control(ctx context.Context, name, what string) (Campaign, error) {
	if _, err := l.change(ctx, controlScript, name, nil, what); err != nil {
		return Campaign{}, err
	}
	return l.Get(ctx, name)
}
