// Package intent keeps the record that an invitation for an address is or may be under way. Clerk has no idempotency
// key, so whoever is about to create an invitation claims its address first, and settles the claim when it knows what
// became of the call. While the outcome of a call is not known nobody calls for that address; its owner asks Clerk
// instead.
//
// The intents of one address are a hash. It has a field for each owner, a task (t:ID) or a campaign (c:NAME), and a
// field (=ID) for each invitation that has settled an intent a short while ago, so that none settles two, or that was
// deleted at Clerk on request. A hash with an intent in it does not expire.
//
// Who may call for an address now is decided by claim in Lua: an owner may if no other owner's intent stands in its way
// and it knows what became of its own calls.
package intent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// CampaignOwner owns the intents of a campaign's recipients.
func CampaignOwner(campaign string) string { return "c:" + campaign }

// TaskOwner owns the intent of an invite task and of the tasks that retry it as a dead letter.
func TaskOwner(taskID string) string {
	base, _, _ := strings.Cut(taskID, ":retry")
	return "t:" + base
}

// Standing is how an intent stands, and what its next settlement needs. All instants are on Redis's clock.
type Standing struct {
	fate.Intent
	Token string
	// Since is when its first call that nobody knows the end of was claimed.
	Since time.Time
}

// Reopened tells whether a person has had a dead letter retried since the first such call.
func (s Standing) Reopened() bool { return strings.HasSuffix(s.Token, "reopened") }

// Parse reads what the scripts say of a standing: state|token|till|since, and after it, a line each, the ids of used
// invitations and, with |created behind it, of those that were deleted on request. Nothing is no intent.
func Parse(text string) (Standing, error) {
	if text == "" {
		return Standing{}, nil
	}
	lines := strings.Split(text, "\n")
	parts := strings.Split(lines[0], "|")
	if len(parts) != 4 || parts[1] == "" {
		return Standing{}, fmt.Errorf("an intent: %w", store.ErrGarbage)
	}
	till, err1 := store.Instant(parts[2])
	since, err2 := store.Instant(parts[3])
	if err := errors.Join(err1, err2); err != nil {
		return Standing{}, err
	}
	recordLost := strings.HasPrefix(parts[1], "lost-")
	s := Standing{
		Intent: fate.Intent{Open: true, Until: till, RecordLost: recordLost}, Token: parts[1], Since: since,
	}
	for _, line := range lines[1:] {
		id, created, deleted := strings.Cut(line, "|")
		at, err := store.Instant(created)
		switch {
		case !deleted:
			s.Used = append(s.Used, id)
		case err != nil:
			return Standing{}, err
		case !at.Before(since.Add(-policy.SkewMargin)):
			s.Deleted = append(s.Deleted, id)
		}
	}
	return s, nil
}

// Over tells whether an intent, as it is stored, has nothing under way and in doubt: there is none, no call has made
// anything, or a call that Clerk has answered, and shows nothing of, was over before an instant.
func Over(stored string, before time.Time) bool {
	state, rest, _ := strings.Cut(stored, "|")
	if state != "a" {
		return state == "" || state == "p"
	}
	parts := strings.Split(rest, "|")
	if len(parts) != 3 {
		return false
	}
	till, err := store.Instant(parts[1])
	return err == nil && till.Before(before)
}

// Lua is what scripts that claim or settle intents begin with, after store.Clock.
//
//	claim(key, owner, token, till, born, lost): 'ok', with since and how it stands now as Parse reads it; 'busy', with
//	  the instant at which asking again makes sense; or 'unsure'. An owner is also unsure if Redis may have lost its
//	  memory after the owner was born (enqueued) and has known no call of the owner's since: a record may be lost
//	settle(key, owner, token, end, id): whether it was settled: not if the token is another's, or the invitation that
//	  was found is used, or may be the one of another owner whose intent is open. With absent and unchanged, id may be a
//	  list, with commas, of invitations that no call of the owner's has made. Unchanged without a token asks for no
//	  intent
//	settles(key, owner, token, end, id): whether settle would do it; it writes nothing. Both take what all gives as a
//	  sixth argument where it is known
//	close(key, owner, id): settles the intent of an owner whose end is written already, with its invitation, if any
//	reopen(key, owner, since): the owner's next claim is unsure, for calls since an instant (0: only if there is an
//	  intent)
//	all(key): the hash, for parse, busy, tidy and told
//	tidy(key, all): lets a hash without intents expire, after ten minutes
//	blocks(state): whether an intent stands in the way of other owners
//	busy(all, owner): when asking again makes sense, if another owner's intent stands in the way
//	drop(key, owner): forgets an owner that has made nothing, as far as is known, and will never call again
//	standing(key, owner): as Parse reads it
//
// A field's value is state|token|till|since; the states are c (claimed: a call may be under way until till), u
// (unknown), a (provisionally over: nobody shows that it made anything, so its owner may call again, and nobody else),
// k (claimed from a), p (known to have made nothing so far) and r (to be asked about, in nobody's way: a dead letter's
// that is retried, or one of whose calls Redis may have lost the record). If a record may be lost, the token begins
// with lost-, and till is when that was. That of an intent which was reopened ends with reopened.
const Lua = `
local intent, given = {}, {} -- given: claims that this run of the script has granted
function intent.all(key)
  local all, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do all[flat[i]] = flat[i + 1] end
  return all
end
function intent.parse(value)
  if not value then return nil end
  local state, token, till, since = string.match(value, '^(%a)|([^|]+)|(%d+)|(%d+)$')
  if not state then return 'u', 'garbage', now, now end -- Clerk is asked, and it is written anew
  return state, token, tonumber(till), tonumber(since)
end
function intent.read(key, owner) return intent.parse(redis.call('HGET', key, owner)) end
function intent.text(state, token, till, since)
  return state .. '|' .. token .. '|' .. stamp(till) .. '|' .. stamp(since)
end
function intent.write(key, owner, ...) redis.call('HSET', key, owner, intent.text(...)) end
function intent.tidy(key, all)
  for field in pairs(all or intent.all(key)) do
    if string.sub(field, 1, 1) ~= '=' then return end
  end
  redis.call('PEXPIRE', key, 600000)
end
function intent.blocks(state) return state and string.find('cuak', state, 1, true) ~= nil end
function intent.busy(all, owner)
  for other, value in pairs(all) do
    if other ~= owner and string.sub(other, 1, 1) ~= '=' then
      local state, _, until_ = intent.parse(value)
      if intent.blocks(state) then return math.max(until_, now + 1000) end
    end
  end
end
function intent.told(all, value)
  for field, used in pairs(all) do
    if string.sub(field, 1, 1) == '=' then
      local created = string.match(used, '|(%d+)$')
      value = value .. '\n' .. string.sub(field, 2) .. (created and '|' .. created or '')
    end
  end
  return value
end
function intent.claim(key, owner, token, till, born, lost)
  local all = intent.all(key)
  local again = intent.busy(all, owner)
  if again then return 'busy', again end
  local state, held, until_, since = intent.parse(all[owner])
  if next(all) then redis.call('PERSIST', key) end
  local claimed = state == 'c' or state == 'k'
  if claimed and held == token and not given[key .. owner] then -- a repeated request
    given[key .. owner] = true
    return 'ok', since, intent.told(all, all[owner])
  end
  if claimed and until_ > now then return 'busy', until_ end
  if state and state ~= 'p' and state ~= 'a' then return 'unsure', 0 end
  if (until_ or born) < lost then
    local token = 'lost-' .. stamp(lost) .. (held == 'reopened' and '-reopened' or '')
    intent.write(key, owner, state == 'a' and 'u' or 'r', token, lost, since or born)
    return 'unsure', 0
  end
  since = since and math.min(since, now - 1) or now -- only a first call's time is now
  local value = intent.text(state == 'a' and 'k' or 'c', token, till, since)
  redis.call('HSET', key, owner, value)
  given[key .. owner] = true
  return 'ok', since, intent.told(all, value)
end
function intent.settles(key, owner, token, ending, id, all)
  if ending == 'opened' or ending == 'unchanged' and token == '' then return true end
  all = all or intent.all(key)
  local _, held = intent.parse(all[owner])
  if held ~= token then return false end
  if ending ~= 'found' then return true end
  local known = all['=' .. id] -- it may be another owner's, whose call is under way
  return not (known and not string.find(known, '|', 1, true) or intent.busy(all, owner))
end
function intent.use(key, ids)
  for used in string.gmatch(ids, '[^,]+') do redis.call('HSET', key, '=' .. used, stamp(now)) end
end
function intent.close(key, owner, id, all)
  all = all or intent.all(key)
  redis.call('HDEL', key, owner)
  all[owner] = nil
  intent.use(key, id)
  intent.tidy(key, all)
end
function intent.settle(key, owner, token, ending, id, all)
  if ending == 'unchanged' and token == '' then return true end
  all = all or intent.all(key)
  if not intent.settles(key, owner, token, ending, id, all) then return false end
  local state, _, till, since = intent.parse(all[owner])
  if ending == 'opened' then
    if intent.busy(all, owner) then return true end
    intent.write(key, owner, 'u', token, now, since or now)
    redis.call('PERSIST', key)
  elseif ending == 'refused' then -- what counts as the owner's all the same may settle another intent
    intent.close(key, owner, '', all)
  elseif ending == 'made' or ending == 'found' then
    intent.close(key, owner, id, all)
  elseif ending == 'unchanged' then
    intent.use(key, id)
  else
    local becomes = ending == 'unknown' and 'u' or 'p'
    -- It is a already if a script has settled it that was broken off then.
    if ending == 'provisional' or ending == 'released' and (state == 'k' or state == 'a') then becomes = 'a' end
    intent.write(key, owner, becomes, token, math.min(till, now), since)
    intent.use(key, id)
  end
  return true
end
function intent.reopen(key, owner, since)
  local state, _, _, first = intent.read(key, owner)
  if intent.blocks(state) or (not state and since == 0) then return end
  since = since == 0 and first or math.min(first or now, since)
  intent.write(key, owner, 'r', 'reopened', since, since)
  redis.call('PERSIST', key)
end
function intent.drop(key, owner)
  if intent.read(key, owner) == 'p' then
    redis.call('HDEL', key, owner)
    intent.tidy(key)
  end
end
function intent.standing(key, owner)
  local all = intent.all(key)
  return all[owner] and intent.told(all, intent.text(intent.parse(all[owner]))) or ''
end
`
