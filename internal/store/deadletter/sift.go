package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
)

// Filter chooses letters: those that match all that is given. A zero one chooses all.
type Filter struct {
	Code, Campaign, Reason string
	NoCode                 bool      // those without a code; then there is no Code
	Until                  time.Time // those that failed no later, to the millisecond; zero: whenever they failed
	// Other is told how many letters are left out for nothing but their code.
	Other func(code string, n int)
}

// All tells whether the filter chooses all letters, but for those that failed later.
func (f Filter) All() bool { return f.Code == "" && f.Campaign == "" && f.Reason == "" && !f.NoCode }

// factsLua defines facts_of(text), which gives the reason, the code and the campaign of a letter as it is written; nil
// if it does not understand that. A letter without a code has an empty one. The facts of all letters stand in one hash
// beside their index, each behind the time of its letter: what has another time is out of date, and what is not there
// was written by an earlier version.
const factsLua = `
local function facts_of(text)
  local find, match = string.find, string.match
  local _, at = find(text, '"failure":{"reason":"', 1, true)
  if not at then return nil end
  local reason, after = match(text, '^(%a+)"()', at + 1)
  if not reason then return nil end
  after = match(text, '^,"http_status":%d+()', after) or after
  local code = match(text, '^,"code":"([%w_.-]+)"', after) or
    (find(text, '^}', after) or find(text, '^,"[mtf]', after)) and '' -- a message, a trace or found_before_sending
  local head = string.sub(text, 1, at)
  local campaign = match(head, '"campaign":("[^"\\]*"),')
  if not code or not campaign and find(head, '"campaign":', 1, true) then return nil end
  return reason .. '|' .. code .. '|' .. (campaign or '')
end
`

// noCode is no code of a letter.
const noCode = "|"

// siftScript looks at letters behind a place and tells which of them a filter may choose. Facts that are missing it
// reads in the letters, and writes them down.
//
// KEYS[1] -> usher:{once}:d:index
// KEYS[2] -> usher:{once}:d:index:facts
// --
// ARGV[1] -> the order: newest or oldest, which comes first
// ARGV[2] -> time of the letter at the place (ms), or empty for the beginning
// ARGV[3] -> its id
// ARGV[4] -> time of the last letter that is looked at where the oldest comes first (ms)
// ARGV[5] -> how many letters are looked at, at most; one that must be read counts as twenty
// ARGV[6] -> how many ids it tells, at most
// ARGV[7] -> code, or empty for any; noCode for none
// ARGV[8] -> reason, or empty for any
// ARGV[9] -> campaign in JSON, or empty for any
// ARGV[10] -> what the keys of letters begin with
// ARGV[11] -> 1: those that are chosen are only counted
// --
// Returns the time and the id of the last letter that was looked at (empty: there are no more behind it), how many were
// looked at, and how many were counted; then for each letter that is chosen + and its id, for each whose text must be
// read to know ? and its id, and for each code for which alone some are left out how many these are, and the code.
var siftScript = redis.NewScript(factsLua + `
local order, at, id, last, looks, most, code, reason, campaign, letters, counts = unpack(ARGV)
local newest, call, sub, match = order == 'newest', redis.call, string.sub, string.match
looks, most, last = tonumber(looks), tonumber(most), tonumber(last)
local all = code == '' and reason == '' and campaign == ''

local function range(first, behind, ...)
  if newest then return call('ZRANGE', KEYS[1], first, behind - 1, 'REV', ...) end
  return call('ZRANGE', KEYS[1], first, behind - 1, ...)
end

local function less(a, b) -- as Redis orders ids; Lua's own < goes by the language of the server
  for i = 1, math.min(#a, #b) do
    local one, other = string.byte(a, i), string.byte(b, i)
    if one ~= other then return one < other end
  end
  return #a < #b
end

local function rank_behind_place()
  if at == '' then return 0 end
  local low = newest and call('ZCOUNT', KEYS[1], '(' .. at, '+inf') or call('ZCOUNT', KEYS[1], '-inf', '(' .. at)
  local high = low + call('ZCOUNT', KEYS[1], at, at)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local there = range(middle, middle + 1)[1]
    if there == id or less(there, id) ~= newest then low = middle + 1 else high = middle end
  end
  return low
end

local function judge(facts) -- + (chosen), - (not chosen), or the code for which alone it is left out
  local its_reason, its_code, its_campaign = match(facts, '^|(%a+)|([^|]*)|(.*)$')
  if not its_reason then return '?' end
  if reason ~= '' and reason ~= its_reason or campaign ~= '' and campaign ~= its_campaign then return '-' end
  return (code == '' or code == its_code or code == '|' and its_code == '') and '+' or '|' .. its_code
end

local rank, looked, spent, told, counted, over = rank_behind_place(), 0, 0, 0, 0, false
local answer, others, judged = { '', '', '', '' }, {}, {}

local function facts_at(one, score, known) -- behind the time
  if known and sub(known, 1, #score) == score then return sub(known, #score + 1) end
  local its_at, facts = match(known or '', '^([^|]+)(|.*)$')
  if its_at and tonumber(its_at) == tonumber(score) then return facts end
  spent = spent + 19
  local text = redis.pcall('HGET', letters .. one, 'entry') -- garbage may be of another type
  facts = type(text) == 'string' and facts_of(text)
  if not facts then return '?' end
  redis.pcall('HSET', KEYS[2], one, score .. '|' .. facts) -- a full Redis refuses
  return '|' .. facts
end

local function look(one, score, known)
  looked, spent, at, id = looked + 1, spent + 1, score, one
  local facts = all and '' or facts_at(one, score, known)
  local said = judged[facts] or all and '+' or judge(facts)
  judged[facts] = said
  if said == '+' and counts == '1' then
    counted = counted + 1
  elseif said == '+' or said == '?' then
    told = told + 1
    answer[#answer + 1] = said
    answer[#answer + 1] = one
  elseif said ~= '-' then
    others[said] = (others[said] or 0) + 1
  end
end

while not over and spent < looks and told < most do
  local n = math.min(250, looks, all and most or 250)
  local page = range(rank, rank + n, 'WITHSCORES')
  local ids, known = {}, {}
  for i = 1, #page, 2 do ids[#ids + 1] = page[i] end
  if not all and #ids > 0 then known = call('HMGET', KEYS[2], unpack(ids)) end
  local i = 1
  while ids[i] and spent < looks and told < most and not (last and tonumber(page[2 * i]) > last) do
    look(ids[i], page[2 * i], known[i])
    i = i + 1
  end
  rank = rank + i - 1
  over = #ids < n and not ids[i] or last and ids[i] and tonumber(page[2 * i]) > last
end
for said, times in pairs(others) do
  answer[#answer + 1] = tostring(times)
  answer[#answer + 1] = sub(said, 2)
end
if not over then answer[1], answer[2] = at, id end
answer[3], answer[4] = tostring(looked), tostring(counted)
return answer
`)

const (
	// siftLooks is how many letters one script looks at, which takes Redis a few milliseconds.
	siftLooks = 2000
	// siftMost is how many ids one script tells: whoever reads their letters may have enough of them.
	siftMost = 250
)

// sieve says how letters are sifted.
type sieve struct {
	Filter
	newest bool  // these come first
	from   place // behind this one; zero: from the beginning
	until  string
	looks  int // at so many letters, at most
	most   int // ids are told, at most
	counts bool
}

// sifted is what was found behind a place.
type sifted struct {
	next   place // zero: there are no more
	looked int
	n      int      // so many are chosen, if they are only counted
	likely []string // ids of those that are chosen, or must be read to know
}

// sift looks at some letters behind a place.
func (s *Store) sift(ctx context.Context, by sieve) (found sifted, err error) {
	defer store.Wrap(&err, "listing dead letters")
	order, at, campaign, code := "oldest", "", "", by.Code
	if by.newest {
		order = "newest"
	}
	if by.from != (place{}) {
		at = strconv.FormatInt(by.from.At, 10)
	}
	if by.NoCode {
		code = noCode
	}
	if by.Campaign != "" {
		name, err := json.Marshal(by.Campaign)
		if err != nil {
			return found, err
		}
		campaign = string(name)
	}
	said, err := siftScript.Run(ctx, s.db, []string{s.db.Key.Letters(), s.db.Key.LetterFacts()}, order, at, by.from.ID,
		by.until, by.looks, by.most, code, by.Reason, campaign, s.db.Key.Letter(""), by.counts).StringSlice()
	if err == nil && (len(said) < 4 || len(said)%2 != 0) {
		err = store.ErrGarbage
	}
	if err != nil {
		return found, err
	}
	if said[0] != "" {
		ms, err := strconv.ParseFloat(said[0], 64)
		if err != nil {
			return found, store.ErrGarbage
		}
		found.next = place{int64(ms), said[1]}
	}
	found.looked, _ = strconv.Atoi(said[2])
	found.n, _ = strconv.Atoi(said[3])
	for i := 4; i < len(said); i += 2 {
		if said[i] == "+" || said[i] == "?" {
			found.likely = append(found.likely, said[i+1])
		} else if n, err := strconv.Atoi(said[i]); err == nil && by.Other != nil {
			by.Other(said[i+1], n)
		}
	}
	return found, nil
}

// eachSifted calls do for what is found in all letters, slice by slice, the oldest first, until it returns an error,
// and gives that. Letters that come or go meanwhile hide no others, and none is given twice. Those that come at the end
// meanwhile are left out.
func (s *Store) eachSifted(ctx context.Context, f Filter, counts bool, do func(sifted) error) error {
	last, err := s.db.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
		Key: s.db.Key.Letters(), Start: 0, Stop: 0, Rev: true,
	}).Result()
	if err != nil || len(last) == 0 {
		return err
	}
	until := int64(last[0].Score)
	if !f.Until.IsZero() {
		until = min(until, f.Until.UnixMilli())
	}
	by := sieve{Filter: f, until: strconv.FormatInt(until, 10), looks: siftLooks, most: siftMost, counts: counts}
	for {
		found, err := s.sift(ctx, by)
		if err != nil {
			return err
		}
		if err := do(found); err != nil {
			return err
		}
		if by.from = found.next; by.from == (place{}) {
			return nil
		}
	}
}

// eachLikely calls do for the ids of the letters that a filter may choose, as eachSifted does.
func (s *Store) eachLikely(ctx context.Context, f Filter, do func(ids []string) error) error {
	return s.eachSifted(ctx, f, false, func(found sifted) error { return do(found.likely) })
}

// Matches tells whether a filter chooses a letter.
func (f Filter) Matches(e Entry) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	code := same(f.Code, e.Failure.Code) && !(f.NoCode && e.Failure.Code != "")
	late := !f.Until.IsZero() && e.FailedAt.UnixMilli() > f.Until.UnixMilli()
	return code && !late && same(f.Campaign, e.Campaign) && same(f.Reason, string(e.Failure.Reason))
}

// Counted is how many letters a filter chooses: exactly N if all were looked at, and else at least so many.
type Counted struct {
	N      int
	Looked int // so many letters were looked at, the oldest ones
	All    bool
}

// CountChosen counts the letters that a filter chooses. It reads hardly any of them. It stops counting when that has
// taken so long; 0: never.
func (s *Store) CountChosen(ctx context.Context, f Filter, within time.Duration) (c Counted, err error) {
	defer store.Wrap(&err, "counting dead letters")
	if f.All() {
		until := "+inf"
		if !f.Until.IsZero() {
			until = strconv.FormatInt(f.Until.UnixMilli(), 10)
		}
		n, err := s.db.ZCount(ctx, s.db.Key.Letters(), "-inf", until).Result()
		return Counted{int(n), int(n), true}, err
	}
	began, enough := time.Now(), errors.New("counted for long enough")
	err = s.eachSifted(ctx, f, true, func(part sifted) error {
		c.N, c.Looked = c.N+part.n, c.Looked+part.looked
		found, _, err := s.read(ctx, part.likely) // what cannot be read is not chosen
		for _, e := range found {
			if f.Matches(e) {
				c.N++
			}
		}
		if err == nil && within > 0 && part.next != (place{}) && time.Since(began) > within {
			err = enough
		}
		return err
	})
	if c.All = err == nil; errors.Is(err, enough) {
		err = nil
	}
	return c, err
}
