package deadletter

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/store"
)

// Cause is the dead letters that share a reason and a code.
type Cause struct {
	Reason fate.Reason
	Code   string
	Count  int
	// Example is the newest of them; zero if it is gone by now.
	Example Entry
}

// causesScript groups the newest letters by their cause, from their facts. Facts that are missing it reads in the
// letters.
//
// KEYS[1] -> usher:{once}:d:index
// KEYS[2] -> usher:{once}:d:index:facts
// --
// ARGV[1] -> how many letters it looks at
// ARGV[2] -> what the keys of letters begin with
// --
// Returns how many letters it has looked at; for each cause the reason, the code, how many letters it has, and the id
// of the newest; and with an empty reason the id of each letter whose text must be read to know.
var causesScript = redis.NewScript(factsLua + `
local page = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'REV', 'WITHSCORES')
local ids, order, groups, answer = {}, {}, {}, { tostring(#page / 2) }
for i = 1, #page, 2 do ids[#ids + 1] = page[i] end
local known = #ids > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}
local function add(...)
  for _, value in ipairs({ ... }) do answer[#answer + 1] = value end
end
for i, id in ipairs(ids) do
  local at, reason, code = string.match(known[i] or '', '^([^|]+)|(%a+)|([^|]*)|')
  if tonumber(at) ~= tonumber(page[2 * i]) then
    local text = redis.pcall('HGET', ARGV[2] .. id, 'entry') -- garbage may be of another type
    reason, code = string.match(type(text) == 'string' and facts_of(text) or '', '^(%a+)|([^|]*)|')
  end
  if reason then
    local key = reason .. '|' .. code
    if not groups[key] then
      groups[key] = { reason, code, 0, id }
      order[#order + 1] = groups[key]
    end
    groups[key][3] = groups[key][3] + 1
  else
    add('', '', '1', id)
  end
end
for _, group in ipairs(order) do add(group[1], group[2], tostring(group[3]), group[4]) end
return answer
`)

// Causes groups the newest letters, at most n of them, by their cause, the most frequent first, and tells how many they
// are. Letters that cannot be read have no cause.
func (s *Store) Causes(ctx context.Context, n int) (causes []Cause, looked int, err error) {
	defer store.Wrap(&err, "grouping dead letters")
	answer, err := causesScript.Run(ctx, s.db, []string{s.db.Key.Letters(), s.db.Key.LetterFacts()}, n,
		s.db.Key.Letter("")).StringSlice()
	if err == nil && len(answer)%4 != 1 {
		err = store.ErrGarbage
	}
	if err != nil {
		return nil, 0, err
	}
	looked, _ = strconv.Atoi(answer[0])
	var ids []string
	for group := range slices.Chunk(answer[1:], 4) {
		ids = append(ids, group[3])
	}
	found, _, err := s.read(ctx, ids) // what cannot be read has no cause
	at := map[[2]string]int{}
	for group := range slices.Chunk(answer[1:], 4) {
		count, _ := strconv.Atoi(group[2])
		e, there := found[group[3]]
		reason, code := group[0], group[1]
		if reason == "" {
			if !there {
				continue
			}
			reason, code = string(e.Failure.Reason), e.Failure.Code
		}
		key := [2]string{reason, code}
		i, known := at[key]
		if !known {
			i, at[key] = len(causes), len(causes)
			causes = append(causes, Cause{Reason: fate.Reason(reason), Code: code})
		}
		causes[i].Count += count
		if there && e.FailedAt.After(causes[i].Example.FailedAt) {
			causes[i].Example = e
		}
	}
	slices.SortStableFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Reason, b.Reason))
	})
	return causes, looked, err
}
