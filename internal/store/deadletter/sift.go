package deadletter

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Filter chooses letters: those that match all that is given. A zero one chooses all.
type Filter struct {
	Code, Campaign, Reason string
	NoCode                 bool // those without a code; then there is no Code
	// Other is told how many letters are left out for nothing but their code.
	Other func(code string, n int)
}

// All tells whether the filter chooses all letters.
func (f Filter) All() bool { return f.Code == "" && f.Campaign == "" && f.Reason == "" && !f.NoCode }

// factsLua defines facts_of(text), which gives the reason, the code and the campaign of a letter as it is written; nil
// if it does not understand that. The facts of all letters stand in one hash beside their index, each behind the time
// of its letter: what has another time is out of date, and what is not there was written by an earlier version.
const factsLua = `
local function facts_of(text)
  local find, match = string.find, string.match
  local _, at = find(text, '"failure":{"reason":"', 1, true)
  if not at then return nil end
  local reason, after = match(text, '^(%a+)",()', at + 1)
  local code = after and (match(text, '^"http_status":%d+,"code":"([%w_.-]+)"', after) or
    match(text, '^"code":"([%w_.-]+)"', after))
  local head = string.sub(text, 1, at)
  local campaign = match(head, '"campaign":("[^"\\]*"),')
  if not code or not campaign and find(head, '"campaign":', 1, true) then return nil end
  return reason .. '|' .. code .. '|' .. (campaign or '')
end
`

// noCode is no code of a letter.
const noCode = "|"

// siftPage is how many letters one script looks at.
const siftPage = 500

// siftScript looks at a page of the letters, the oldest first, and tells which of them a filter may choose. Facts that
// are missing it reads in the letters, and writes them down.
//
// KEYS[1] -> usher:{once}:d:index
// KEYS[2] -> usher:{once}:d:index:facts
// --
// ARGV[1] -> where the page begins (ms)
// ARGV[2] -> how many letters of that time are behind us
// ARGV[3] -> where all ends (ms)
// ARGV[4] -> how many are looked at, at most
// ARGV[5] -> code, or empty for any; noCode for none: such a letter has no facts, so that its text is read
// ARGV[6] -> reason, or empty for any
// ARGV[7] -> campaign in JSON, or empty for any
// ARGV[8] -> what the keys of letters begin with
// ARGV[9] -> 1: those that are chosen are only counted
// --
// Returns where the next page begins (empty: there is none) and how many of that time are behind us then, for each
// letter that is chosen + and its id, or for all of them = and how many they are, for each whose text must be read to
// know ? and its id, and for each code for which alone some are left out how many these are, and the code.
var siftScript = redis.NewScript(factsLua + `
local from, offset, to, count, code, reason, campaign, letters, counts = unpack(ARGV)
local counted = 0
local page = redis.call('ZRANGE', KEYS[1], from, to, 'BYSCORE', 'LIMIT', offset, count, 'WITHSCORES')
local n, next, behind = #page / 2, '', 0
if n == tonumber(count) then -- those of the last time may go on behind the page
  next = page[2 * n]
  if page[2] == next then
    behind = (next == from and tonumber(offset) or 0) + n
  else
    while page[2 * n] == next do n = n - 1 end
  end
end
local answer, others, ids, match = { next, tostring(behind) }, {}, {}, string.match
for i = 1, n do ids[i] = page[2 * i - 1] end
local known = n > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}
local form = '^([^|]+)|(%a+)|([^|]+)|(.*)$'
for i = 1, n do
  local at, its_reason, its_code, its_campaign = match(known[i] or '', form)
  if tonumber(at) ~= tonumber(page[2 * i]) then
    local text = redis.pcall('HGET', letters .. ids[i], 'entry') -- garbage may be of another type
    local facts = type(text) == 'string' and facts_of(text)
    if facts then
      facts = page[2 * i] .. '|' .. facts
      redis.pcall('HSET', KEYS[2], ids[i], facts) -- a full Redis refuses
    end
    at, its_reason, its_code, its_campaign = match(facts or '', form)
  end
  local chosen = not at and '?'
  if at and (reason == '' or reason == its_reason) and (campaign == '' or campaign == its_campaign) then
    chosen = (code == '' or code == its_code) and '+'
    if not chosen then others[its_code] = (others[its_code] or 0) + 1 end
  end
  if chosen == '+' and counts == '1' then
    counted = counted + 1
  elseif chosen then
    answer[#answer + 1] = chosen
    answer[#answer + 1] = ids[i]
  end
end
if counted > 0 then
  answer[#answer + 1] = '='
  answer[#answer + 1] = tostring(counted)
end
for its_code, times in pairs(others) do
  answer[#answer + 1] = tostring(times)
  answer[#answer + 1] = its_code
end
return answer
`)

// eachLikely calls do for the ids of the letters that a filter may choose, page by page, the oldest first, until it
// returns an error, and gives that. Letters that come or go meanwhile hide no others, and none is given twice. Those
// that come at the end meanwhile are left out.
func (s *Store) eachLikely(ctx context.Context, f Filter, do func(ids []string) error) error {
	if f.All() {
		return store.EachPage(ctx, s.db, s.db.Key.Letters(), false, do)
	}
	return s.eachSifted(ctx, f, false, func(ids []string, _ int) error { return do(ids) })
}

// eachSifted is eachLikely for a filter that leaves letters out. With counts, do is given how many letters of a page
// are chosen, and only the ids of those that must be read to know.
func (s *Store) eachSifted(ctx context.Context, f Filter, counts bool, do func(ids []string, n int) error) error {
	index := s.db.Key.Letters()
	campaign := ""
	if f.Campaign != "" {
		name, err := json.Marshal(f.Campaign)
		if err != nil {
			return err
		}
		campaign = string(name)
	}
	last, err := s.db.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: index, Start: 0, Stop: 0, Rev: true}).Result()
	if err != nil || len(last) == 0 {
		return err
	}
	code := f.Code
	if f.NoCode {
		code = noCode
	}
	from, behind, end := "-inf", "0", strconv.FormatFloat(last[0].Score, 'f', -1, 64)
	for from != "" {
		said, err := siftScript.Run(ctx, s.db, []string{index, s.db.Key.LetterFacts()}, from, behind, end, siftPage, code,
			f.Reason, campaign, s.db.Key.Letter(""), counts).StringSlice()
		if err == nil && (len(said) < 2 || len(said)%2 != 0) {
			err = store.ErrGarbage
		}
		if err != nil {
			return err
		}
		var likely []string
		chosen := 0
		for i := 2; i < len(said); i += 2 {
			switch what := said[i+1]; said[i] {
			case "+", "?":
				likely = append(likely, what)
			case "=":
				chosen, _ = strconv.Atoi(what)
			default:
				if n, err := strconv.Atoi(said[i]); err == nil && f.Other != nil {
					f.Other(what, n)
				}
			}
		}
		if err := do(likely, chosen); err != nil {
			return err
		}
		from, behind = said[0], said[1]
	}
	return nil
}

// Matches tells whether a filter chooses a letter.
func (f Filter) Matches(e Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	code := same(f.Code, e.Failure.Code) && !(f.NoCode && e.Failure.Code != "")
	return code && same(f.Campaign, e.Campaign) && same(f.Reason, string(e.Failure.Reason))
}

// CountChosen is how many letters a filter chooses. It reads hardly any of them.
func (s *Store) CountChosen(ctx context.Context, f Filter) (count int, err error) {
	if f.All() {
		return s.Count(ctx)
	}
	defer store.Wrap(&err, "counting dead letters")
	err = s.eachSifted(ctx, f, true, func(ids []string, n int) error {
		count += n
		found, _, err := s.read(ctx, ids) // what cannot be read is not chosen
		for _, e := range found {
			if f.Matches(e) {
				count++
			}
		}
		return err
	})
	return count, err
}
