-- Shared by all scripts. All instants and spans are whole microseconds. Instants count from 1970 on Redis's clock.
--
-- Per limit:
--   …:log          ZSET, a member per permit. Its score is the permit's deadline while its call is in flight, and then
--                  the instant of the answer. It counts while score > now - window. It is in flight while score > now.
--   …:share:<name> ZSET, the same for the members of one share.
--   …:state        HASH
--     not_before              the end of a rest: nobody gets a permit before it. Kept until a probe is answered
--     probe                   the id of the permit of the one call that goes first after the rest
--     probe_from, probe_until when that permit was granted, and its deadline
--     window, window_used     the longest window that anybody applies to the log, and when it was last applied
--     refusals, calm          of a suspension: how many in a row, and since when calls succeed again
--     since, why              of a suspension: when it began, and a note for people
--     failing, failures       since when calls fail, none succeeded in between, and how many did
--     party, parties          whose call failed last, and 2 if it is not the only one's that did
--     out, outages            since when nobody is served; earlier times, the latest first, as from-to,from-to
--     succeeded               when a call last succeeded
--     announced               when a process last announced it
--     share:<name>            the most places that the share may hold, as last asked for
-- For all limits together:
--   …:told:<id>    STRING, for a minute: what was answered to a permit that was refused or failed, or to a request
--   …:figures      HASH, limit name -> "N window", as last announced

local DAY = 86400 * 1000000

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

-- Lua's own conversion of numbers keeps 14 digits; an instant has 16.
local function text(n)
  return string.format('%.0f', n)
end

local function number(key, field, value)
  if not value then return nil end
  if #value > 16 or not string.find(value, '^%d+$') then
    error('garbage in ' .. key .. ': ' .. field .. ' is not a number')
  end
  return tonumber(value)
end

local function readState(key)
  local v = redis.call('HMGET', key, 'not_before', 'probe', 'probe_from', 'probe_until', 'window', 'window_used',
    'refusals', 'calm', 'out', 'failing')
  local s = {
    key = key,
    notBefore = number(key, 'not_before', v[1]),
    probe = v[2],
    probeFrom = number(key, 'probe_from', v[3]),
    probeUntil = number(key, 'probe_until', v[4]),
    window = number(key, 'window', v[5]),
    windowUsed = number(key, 'window_used', v[6]),
    refusals = number(key, 'refusals', v[7]),
    calm = number(key, 'calm', v[8]),
    out = number(key, 'out', v[9]),
    failing = number(key, 'failing', v[10]),
  }
  if (s.probe and not (s.probeFrom and s.probeUntil)) or (s.window and not s.windowUsed) then
    error('garbage in ' .. key .. ': fields are missing')
  end
  return s
end

-- keep lets a key, if it is there, live for at least a span more, and up to a minute longer, so that it has to be told
-- seldom. It never shortens its life.
local SELDOM = 60000
local function keep(key, span)
  local ms, left = math.ceil(span / 1000) + 1, redis.call('PTTL', key)
  if left ~= -2 and left < ms then redis.call('PEXPIRE', key, text(ms + SELDOM)) end
end

-- The state must outlive its rest, the time for which a longer window is remembered, and an idle day.
local function keepState(s, now)
  keep(s.key, math.max((s.notBefore or now) - now, 2 * (s.window or 0)) + DAY)
end

-- applyWindow notes that a window is applied to a log, and returns the longest one that is. Nobody needs older entries
-- than that. A longer window is forgotten when nobody has applied it for twice its length.
local function applyWindow(s, window, now)
  if not s.window or window >= s.window or now - s.windowUsed > 2 * s.window then
    s.window, s.windowUsed = window, now
    redis.call('HSET', s.key, 'window', text(window), 'window_used', text(now))
  end
  return s.window
end

-- gateWait is how long the rest of a limit keeps everybody waiting. While a probe is under way nobody knows. The wait
-- is then as long as the probe has taken so far, between 50 ms and a second.
local function gateWait(s, now)
  if not s.notBefore then return 0 end
  if now < s.notBefore then return s.notBefore - now end
  if s.probe and now < s.probeUntil then
    local poll = math.min(math.max(now - s.probeFrom, 50000), 1000000)
    return math.min(poll, s.probeUntil - now)
  end
  return 0
end

-- placeWait is the shortest time after which fewer than n entries of a log can count. A call in flight that is
-- answered this very moment frees its place a window from now.
local function placeWait(log, n, window, now)
  local from = '(' .. text(now - window)
  local used = redis.call('ZCOUNT', log, from, '+inf')
  if used < n then return 0 end
  local entry = redis.call('ZRANGEBYSCORE', log, from, '+inf', 'WITHSCORES', 'LIMIT', used - n, 1)
  return math.min(tonumber(entry[2]), now) + window - now
end
