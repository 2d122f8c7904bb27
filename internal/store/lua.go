package store

// Clock gives a script now, in ms on Redis's clock, and stamp, which writes a number in full.
const Clock = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function stamp(n) return string.format('%.0f', n) end
`

// MemoryLua is what scripts begin with, after Clock, that must know whether Redis may have lost what it was given.
// memory(run, lost) gives when it last may have (ms; 0: never). It compares the Redis that runs the script with the
// one that ran it last: a Redis that was started anew, or a replica that took over, may lack what was written last.
// Only INFO in a script is sure to ask the Redis that has the keys; in a Cluster each node is another one. A Redis
// that does not tell which it is counts as the same. The second result is for how long it has run (s; -1: it does
// not tell).
const MemoryLua = `
local function memory(run, lost)
  local told = redis.pcall('INFO', 'server')
  local id = type(told) == 'string' and string.match(told, 'run_id:(%x+)')
  local is, was = id and id .. ' master', redis.call('GET', run)
  if is and is ~= was then
    redis.call('SET', run, is)
    if was then redis.call('SET', lost, stamp(now)) end
  end
  local uptime = id and string.match(told, 'uptime_in_seconds:(%d+)')
  return tonumber(redis.call('GET', lost) or '0'), tonumber(uptime or '-1')
end
`

// TombstoneLua is what scripts begin with that would write something about an address. forgotten(key, id) tells
// whether the address was forgotten on request, so that nothing may be written.
const TombstoneLua = `
local salt
local function forgotten(key, id)
  salt = salt or redis.call('HGET', key, 'salt') or ''
  return salt ~= '' and redis.call('HEXISTS', key, redis.sha1hex(salt .. id)) == 1
end
`
