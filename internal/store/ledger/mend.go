package ledger

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// mendScript looks at some rows of a campaign whose lists are empty, and puts those back that have not ended and stand
// nowhere: a script was broken off before it had moved them. Whoever may have been in a call is unsure. Of a cancelled
// campaign it puts nobody else back. It renews the driver's lease, since there may be many rows.
//
// ARGV[5] -> the driver's generation
// ARGV[6] -> where to go on; 0 is from the beginning
// --
// Returns JSON: next, where to go on; over: the campaign is not the driver's, or not to be mended; found: how many were
// put back; counts: how many rows there are of each state, and of each dead:CODE; told: what recountScript compares.
var mendScript = redis.NewScript(prelude + told + `
local over = number('generation') ~= tonumber(ARGV[5]) or uploads ~= '' or state ~= 'running' and state ~= 'cancelled'
if over then return cjson.encode({ over = true, next = '0' }) end
redis.call('HSET', meta, 'lease_until', stamp(now + lease))
local held, found, n = {}, 0, {}
for _, member in ipairs(redis.call('ZRANGE', open, 0, -1)) do held[string.sub(member, 1, 16)] = true end
local function count(what) n[what] = (n[what] or 0) + 1 end
local function stray(id, row)
  if held[id] or redis.call('ZSCORE', later, id) then return end
  local asked = string.sub(row, 1, 1) == 'o' or string.sub(row, 2, 2) == 'u'
  if state == 'cancelled' and not asked then return end
  if state == 'cancelled' then redis.call('SADD', running, name) end -- so that it gets a driver, which asks
  wait_again(id, asked or intent.blocks(intent.read(intents .. id, owner)))
  found = found + 1
end
local scan = redis.call('HSCAN', rows, ARGV[6], 'COUNT', slice)
for i = 1, #scan[2], 2 do
  local id, row = scan[2][i], scan[2][i + 1]
  local is = string.sub(row, 1, 1)
  count(is)
  if is == 'd' then count('dead:' .. (fields_of(row).c or '')) end
  if is == 'w' or is == 'o' then stray(id, row) end
end
return cjson.encode({ next = scan[1], found = found, counts = n, told = told() })
`)

// told defines told(), which says what a campaign counts, and changes whenever a row comes, goes, ends or is revived.
const told = `
local function told()
  return cjson.encode({ redis.call('HLEN', rows), redis.call('HMGET', meta, 'recipients', 'sent', 'dead', 'skipped',
    'forgotten') })
end
`

// recountScript writes how many recipients have ended, if the campaign has not changed since they were counted. Counts
// are too low after a script that was broken off before it raised them.
//
// ARGV[5] -> the driver's generation
// ARGV[6] -> what told was when they were counted
// ARGV[7], [9] … -> field
// ARGV[8], [10] … -> its count
// --
// Returns 1.
var recountScript = redis.NewScript(prelude + told + `
if number('generation') ~= tonumber(ARGV[5]) or told() ~= ARGV[6] then return 1 end
local counts = {}
for i = 7, #ARGV, 2 do counts[ARGV[i]] = ARGV[i + 1] end
if tonumber(counts.recipients) ~= redis.call('HLEN', rows) then return 1 end -- HSCAN has given one twice
redis.call('HSET', meta, unpack(ARGV, 7))
for _, field in ipairs(redis.call('HKEYS', meta)) do
  if string.sub(field, 1, 5) == 'dead:' and not counts[field] then redis.call('HDEL', meta, field) end
end
return 1
`)

// mend looks at all rows of a campaign, slice by slice, puts those back that are astray, and tells how many. Where
// nobody is, the counts are wrong, and are written anew.
func (l *Ledgers) mend(ctx context.Context, name string, generation int) (found int, err error) {
	var first, told string
	counts, all := map[string]int{}, 0
	for cursor, more := "0", true; more; more = cursor != "0" {
		var slice struct {
			Next, Told string
			Over       bool
			Found      int
			Counts     map[string]int
		}
		if err := read(l.run(ctx, mendScript, name, nil, generation, cursor), &slice); err != nil || slice.Over {
			return found, err
		}
		if cursor = slice.Next; first == "" {
			first = slice.Told
		}
		told = slice.Told
		found += slice.Found
		for what, n := range slice.Counts {
			counts[what] += n
			if len(what) == 1 {
				all += n
			}
		}
	}
	if found > 0 || first != told {
		return found, nil
	}
	args := []any{generation, told, "recipients", all, "sent", counts["s"], "dead", counts["d"], "skipped", counts["k"]}
	for what, n := range counts {
		if len(what) > 1 {
			args = append(args, what, n)
		}
	}
	return 0, l.run(ctx, recountScript, name, nil, args...).Err()
}
