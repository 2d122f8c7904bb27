package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	mostRunning   = 1000 // campaigns that Outlook reads
	mostScheduled = 100  // of the newest campaigns, among which it looks for scheduled ones
)

// Standing is a campaign that is to make calls, and what its ledger says of those.
type Standing struct {
	Campaign
	InCalls int // recipients whose call is under way
	Alone   int // recipients known to need a call of their own
	Waiting int // recipients that nobody has looked up
	Ready   int // recipients that may ride in a bulk
	Later   int // recipients that wait for their next attempt
	// NextDue is when the first of Later is due; zero if there is none.
	NextDue time.Time
}

// standingScript tells how many of a campaign's recipients are in calls, and how many wait for what. It looks at 10,000 holds
// at most; there are no more than the calls and questions of all workers hold.
//
// Returns JSON: incalls, alone, waiting, ready, later, and due: when the first of those is (ms; 0: there is none).
var standingScript = redis.NewScript(prelude + `
local calls = 0
for _, member in ipairs(redis.call('ZRANGE', open, 0, 9999)) do
  if string.sub(member, 17, 17) == 'c' then calls = calls + 1 end
end
local due = tonumber(redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2] or '0')
local function length(list) return redis.call('LLEN', list) end
return cjson.encode({
  incalls = calls, alone = length(singles), waiting = length(waiting), ready = length(ready),
  later = redis.call('ZCARD', later), due = due,
})
`)

// Outlook gives the running campaigns, at most 1,000 of them, and those among the 100 newest that are scheduled, the oldest
// first. Those that cannot be read are left out.
func (l *Ledgers) Outlook(ctx context.Context) ([]Standing, error) {
	names, err := l.rdb.SRandMemberN(ctx, l.keys.Running(), mostRunning).Result()
	if err != nil {
		return nil, fmt.Errorf("reading which campaigns run: %w", err)
	}
	newest, err := l.newest(ctx, mostScheduled)
	if err != nil {
		return nil, err
	}
	names = append(names, newest...)
	slices.Sort(names)
	heads, _, err := l.heads(ctx, slices.Compact(names)...)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(heads, func(a, b Campaign) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var standings []Standing
	for _, c := range heads {
		if c.State != Running && c.State != Scheduled {
			continue
		}
		s := struct {
			Standing
			Due int64
		}{Standing: Standing{Campaign: c}}
		if err := read(l.run(ctx, standingScript, c.Name, nil), &s); err != nil {
			return nil, fmt.Errorf("reading what campaign %s has in calls: %w", c.Name, err)
		}
		if s.Due > 0 {
			s.NextDue = time.UnixMilli(s.Due)
		}
		standings = append(standings, s.Standing)
	}
	return standings, nil
}
