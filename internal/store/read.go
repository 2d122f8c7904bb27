package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Answer reads the answer of a script that gives now and then rows of n values each.
func Answer(answer *redis.Cmd, n int) (now time.Time, rows [][]string, err error) {
	values, err := answer.StringSlice()
	if err == nil && (len(values) == 0 || (len(values)-1)%n != 0) {
		err = ErrGarbage
	}
	if err != nil {
		return now, nil, err
	}
	now, err = Instant(values[0])
	return now, slices.Collect(slices.Chunk(values[1:], n)), err
}

// fieldsChunk is how many fields are read at a time.
const fieldsChunk = 500

// EachField calls do for those of some fields that a hash has, in their order.
func EachField(
	ctx context.Context, rdb redis.Cmdable, key string, fields []string, do func(field, value string) error,
) error {
	for chunk := range slices.Chunk(fields, fieldsChunk) {
		values, err := rdb.HMGet(ctx, key, chunk...).Result()
		if err != nil {
			return err
		}
		for i, value := range values {
			text, there := value.(string)
			if !there {
				continue
			}
			if err := do(chunk[i], text); err != nil {
				return err
			}
		}
	}
	return nil
}

// membersPage is how many members of a sorted set are read at a time.
const membersPage = 250

// EachPage calls do for the members of a sorted set, a page at a time, the last ones first, until it returns an error,
// and gives that. Members that come or go meanwhile hide no others, and none is given twice: by rank they would.
func EachPage(ctx context.Context, rdb redis.Cmdable, key string, do func(members []string) error) error {
	return EachPageAfter(ctx, rdb, key, "", do)
}

// EachPageAfter is EachPage from behind a member on, or from the beginning if that is empty. The error is redis.Nil if
// the member is not there.
func EachPageAfter(
	ctx context.Context, rdb redis.Cmdable, key, member string, do func(members []string) error,
) error {
	border, given := "+inf", map[string]bool{} // where the next page begins, and those there that were given
	if member == "" {
		return eachPage(ctx, rdb, key, border, given, do)
	}
	score, err := rdb.ZScore(ctx, key, member).Result()
	if err != nil {
		return err
	}
	border = borderAt(score)
	same, err := rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: key, Start: border, Stop: border, ByScore: true, Rev: true,
	}).Result()
	if err != nil {
		return err
	}
	for _, one := range same {
		if one >= member { // the order of Redis, from the last one on
			given[one] = true
		}
	}
	return eachPage(ctx, rdb, key, border, given, do)
}

// borderAt writes a score exactly.
func borderAt(score float64) string { return strconv.FormatFloat(score, 'f', -1, 64) }

// eachPage is EachPage from a border on, without those at it that were given.
func eachPage(
	ctx context.Context, rdb redis.Cmdable, key, border string, given map[string]bool, do func(members []string) error,
) error {
	for {
		page, err := rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: key, Start: border, Stop: "-inf", ByScore: true, Rev: true, Count: int64(membersPage + len(given)),
		}).Result()
		if err != nil {
			return err
		}
		var fresh []string
		for _, z := range page {
			if member, _ := z.Member.(string); !given[member] {
				fresh = append(fresh, member)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		latest := page[len(page)-1].Score
		if next := borderAt(latest); next != border {
			clear(given)
			border = next
		}
		for _, z := range page {
			if member, _ := z.Member.(string); z.Score == latest {
				given[member] = true
			}
		}
		if err := do(fresh); err != nil {
			return err
		}
	}
}

// hashesAtOnce is how many hashes one script reads. It bounds for how long Redis does nothing else: a campaign's head
// or a dead letter takes it a few microseconds.
const hashesAtOnce = 200

// hashesText is a script that reads hashes.
//
// KEYS -> the hashes, all under one tag
// --
// Returns for each its fields and values; nil for what is no hash.
const hashesText = `
local answer = {}
for i, key in ipairs(KEYS) do
  local hash = redis.pcall('HGETALL', key)
  if hash.err and string.sub(hash.err, 1, 9) ~= 'WRONGTYPE' then return hash end
  answer[i] = not hash.err and hash
end
return answer
`

var hashesScript = redis.NewScript(hashesText)

// ReadHashes gives the fields of hashes that share a tag, in their order: empty for one that is not there, and nil for
// what is no hash.
func ReadHashes(ctx context.Context, rdb redis.Cmdable, keys []string) (hashes []map[string]string, err error) {
	if len(keys) == 1 { // the command itself is cheaper
		hash, err := rdb.HGetAll(ctx, keys[0]).Result()
		if errors.Is(Garbage(err), ErrGarbage) {
			return []map[string]string{nil}, nil
		}
		return []map[string]string{hash}, err
	}
	for chunk := range slices.Chunk(keys, hashesAtOnce) {
		answer, err := hashesScript.Run(ctx, rdb, chunk).Slice()
		if err == nil && len(answer) != len(chunk) {
			err = ErrGarbage
		}
		if err != nil {
			return nil, err
		}
		for _, one := range answer {
			hashes = append(hashes, hashOf(one))
		}
	}
	return hashes, nil
}

// OnlyReads tells whether a script, which EVAL and EVALSHA name by its text or its SHA-1, is the one of ReadHashes.
// Any other one may change something.
func OnlyReads(script string) bool { return script == hashesText || script == hashesScript.Hash() }

func hashOf(answer any) map[string]string {
	values, ok := answer.([]any)
	if !ok {
		return nil
	}
	hash := make(map[string]string, len(values)/2)
	for i := 0; i+1 < len(values); i += 2 {
		field, _ := values[i].(string)
		hash[field], _ = values[i+1].(string)
	}
	return hash
}
