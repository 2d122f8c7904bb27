package ledger

import (
	"context"
	"fmt"
	"slices"

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
}

// standingScript tells how many of a campaign's recipients are in calls, and how many wait to travel alone. It looks at 10,000 holds at
// most; there are no more than the calls and questions of all workers hold. KEYS: open, singles. Returns {in calls, alone}.
var standingScript = redis.NewScript(`
local calls = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, 9999)) do
  if string.sub(member, 17, 17) == 'c' then calls = calls + 1 end
end
return {calls, redis.call('LLEN', KEYS[2])}
`)

// Outlook gives the running campaigns, at most 1,000 of them, and those among the 100 newest that are scheduled, the oldest first. Those
// that cannot be read are left out.
func (l *Ledgers) Outlook(ctx context.Context) ([]Standing, error) {
	running, err := l.rdb.SRandMemberN(ctx, l.runningKey(), mostRunning).Result()
	if err != nil {
		return nil, fmt.Errorf("reading which campaigns run: %w", err)
	}
	newest, err := l.rdb.ZRevRange(ctx, l.indexKey(), 0, mostScheduled-1).Result()
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
		keys := []string{l.key(s.Name, "open"), l.key(s.Name, "singles")}
		answer, err := standingScript.Run(ctx, l.rdb, keys).Int64Slice()
		if err == nil && len(answer) != 2 {
			err = ErrGarbage
		}
		if err != nil {
			return fmt.Errorf("reading what campaign %s has in calls: %w", s.Name, err)
		}
		standings[i].InCalls, standings[i].Alone = int(answer[0]), int(answer[1])
	}
	return nil
}
