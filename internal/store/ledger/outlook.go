package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
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

// standingScript tells how many of a campaign's recipients are in calls, and how many wait for what. It looks at 10,000 holds at
// most; there are no more than the calls and questions of all workers hold. KEYS: open, singles, waiting, ready, later. Returns {in calls, alone,
// waiting, ready, later, when the first of those is due (ms; 0: there is none)}.
var standingScript = redis.NewScript(`
local calls = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, 9999)) do
  if string.sub(member, 17, 17) == 'c' then calls = calls + 1 end
end
local due = tonumber(redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2] or '0')
return {calls, redis.call('LLEN', KEYS[2]), redis.call('LLEN', KEYS[3]), redis.call('LLEN', KEYS[4]), redis.call('ZCARD', KEYS[5]), due}
`)

// Outlook gives the running campaigns, at most 1,000 of them, and those among the 100 newest that are scheduled, the oldest first. Those
// that cannot be read are left out.
func (l *Ledgers) Outlook(ctx context.Context) ([]Standing, error) {
	running, err := l.rdb.SRandMemberN(ctx, l.keys.Running(), mostRunning).Result()
	if err != nil {
		return nil, fmt.Errorf("reading which campaigns run: %w", err)
	}
	newest, err := l.rdb.ZRevRange(ctx, l.keys.Campaigns(), 0, mostScheduled-1).Result()
	if err != nil {
		return nil, fmt.Errorf("listing campaigns: %w", err)
	}
	names := append(running, newest...)
	slices.Sort(names)
	heads, _, err := l.heads(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	var standings []Standing
	for _, c := range heads {
		if c.State == Running || c.State == Scheduled {
			standings = append(standings, Standing{Campaign: c})
		}
	}
	slices.SortFunc(standings, func(a, b Standing) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return standings, l.readStandings(ctx, standings)
}

func (l *Ledgers) readStandings(ctx context.Context, standings []Standing) error {
	for i, s := range standings {
		keys := []string{l.keys.Ledger(s.Name, "open"), l.keys.Ledger(s.Name, "singles"), l.keys.Ledger(s.Name, "waiting"), l.keys.Ledger(s.Name, "ready"), l.keys.Ledger(s.Name, "later")}
		answer, err := standingScript.Run(ctx, l.rdb, keys).Int64Slice()
		if err == nil && len(answer) != 6 {
			err = store.ErrGarbage
		}
		if err != nil {
			return fmt.Errorf("reading what campaign %s has in calls: %w", s.Name, err)
		}
		standings[i].InCalls, standings[i].Alone = int(answer[0]), int(answer[1])
		standings[i].Waiting, standings[i].Ready, standings[i].Later = int(answer[2]), int(answer[3]), int(answer[4])
		if answer[5] > 0 {
			standings[i].NextDue = time.UnixMilli(answer[5])
		}
	}
	return nil
}
