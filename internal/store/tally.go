package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// TallyDays is for how many days the tally is kept.
	TallyDays = 30
	hours     = 24
	// kinds is how many numbers there are of an hour: those of Counts.
	kinds = 3
	// maxTallyDay is the most bytes that are read of a day.
	maxTallyDay = 4 << 10
)

// Counts are what became of recipients in some time.
type Counts struct {
	Sent    int
	Refused int // dead letters of what Clerk refused
	Dead    int // dead letters for another cause
}

// Plus is both together.
func (c Counts) Plus(d Counts) Counts {
	return Counts{c.Sent + d.Sent, c.Refused + d.Refused, c.Dead + d.Dead}
}

// All is how many they are.
func (c Counts) All() int { return c.Sent + c.Refused + c.Dead }

// Hour is the counts of an hour.
type Hour struct {
	Counts
	At time.Time // its beginning
}

// Tally counts by the hour what became of recipients in one namespace. It takes a few kilobytes, for which Redis needs
// no other memory than a small hash: a day is one text of 72 numbers.
type Tally struct{ db DB }

// NewTally gives the tally of a namespace.
func NewTally(rdb redis.UniversalClient, namespace string) *Tally {
	return &Tally{Open(rdb, namespace)}
}

// tallyScript adds to the hour that it is, and forgets old days. Repeating a request changes nothing.
//
// KEYS[1] -> usher:{tally}:days           hash by day since 1970: the numbers of its hours, three to an hour
// KEYS[2] -> usher:{tally}:request:TOKEN  there if it was added
// --
// ARGV[1] -> sent
// ARGV[2] -> refused
// ARGV[3] -> dead
// ARGV[4] -> for how many days they are kept
// ARGV[5] -> how many numbers a day has
// --
// Returns 1.
var tallyScript = redis.NewScript(Clock + RequestKeep + `
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local day = math.floor(now / 86400000)
local at = math.floor(now % 86400000 / 3600000) * 3
local numbers, keep, size = {}, tonumber(ARGV[4]), tonumber(ARGV[5])
for n in string.gmatch(redis.call('HGET', KEYS[1], stamp(day)) or '', '[^,]+') do numbers[#numbers + 1] = n end
for i = 1, size do numbers[i] = numbers[i] or '0' end
for i = 1, 3 do numbers[at + i] = stamp((tonumber(numbers[at + i]) or 0) + ARGV[i]) end
redis.call('HSET', KEYS[1], stamp(day), table.concat(numbers, ',', 1, size))
for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not (tonumber(other) and tonumber(other) > day - keep and tonumber(other) <= day) then
    redis.call('HDEL', KEYS[1], other)
  end
end
redis.call('PEXPIRE', KEYS[1], stamp(keep * 86400000))
redis.call('SET', KEYS[2], 1, 'PX', request_keep)
return 1
`)

// Add adds to the hour that it is on Redis's clock. A request that is repeated with its token is added once.
func (t *Tally) Add(ctx context.Context, token string, c Counts) (err error) {
	defer Wrap(&err, "adding to the tally")
	keys := []string{t.db.Key.Tally(), t.db.Key.TallyRequest(token)}
	return tallyScript.Run(ctx, t.db, keys, c.Sent, c.Refused, c.Dead, TallyDays, hours*kinds).Err()
}

// Read gives the hours of the last days, up to the one that it is now, the oldest first. What cannot be read counts as
// nothing.
func (t *Tally) Read(ctx context.Context, now time.Time) (read []Hour, err error) {
	defer Wrap(&err, "reading the tally")
	today := now.UTC().Truncate(hours * time.Hour)
	var days []string
	for i := range TallyDays {
		day := today.AddDate(0, 0, i+1-TallyDays)
		days = append(days, strconv.FormatInt(day.Unix()/int64((hours*time.Hour).Seconds()), 10))
	}
	values, err := t.db.HMGet(ctx, t.db.Key.Tally(), days...).Result()
	for i, value := range values {
		text, _ := value.(string)
		for hour, counts := range readDay(text) {
			at := today.AddDate(0, 0, i+1-TallyDays).Add(time.Duration(hour) * time.Hour)
			if !at.After(now) {
				read = append(read, Hour{counts, at})
			}
		}
	}
	return read, err
}

func readDay(text string) (day [hours]Counts) {
	if len(text) > maxTallyDay {
		return day
	}
	for i, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || i >= hours*kinds {
			continue
		}
		counts := &day[i/kinds]
		*[]*int{&counts.Sent, &counts.Refused, &counts.Dead}[i%kinds] = n
	}
	return day
}
