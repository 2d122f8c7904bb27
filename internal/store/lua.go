package store

// Clock gives a script now, in ms on Redis's clock, and stamp, which writes a number in full.
const Clock = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function stamp(n) return string.format('%.0f', n) end
`

// MemoryLua is what scripts begin with, after Clock, that must know whether Redis may have lost what it was given.
// memory(run, lost, count, restored, sure, next) gives when it last may have (ms; 0: never). There are two ways to see
// it, and either suffices:
//
//   - The Redis that runs the script is another one than ran it last: it was started anew, or a replica took over. Only
//     INFO in a script is sure to ask the Redis that has the keys; in a Cluster each node is another one. A Redis that
//     does not tell which it is counts as the same.
//   - The count of a process is lower than Redis has said it is: what was written since is lost. Other processes see
//     the same loss a moment later; within loss_told of the first it is told once.
//
// The second result is for how long Redis has run (s; -1: it does not tell). The third tells whether a copy was put
// back and work rests.
const MemoryLua = `
local count_keep, loss_told = 3600000, 3000
local function memory(run, lost, count, restored, sure, next)
  local told = redis.pcall('INFO', 'server')
  local id = type(told) == 'string' and string.match(told, 'run_id:(%x+)')
  local is, was = id and id .. ' master', redis.call('GET', run)
  local last = tonumber(redis.call('GET', lost) or '0')
  local another = is and is ~= was
  if another then redis.call('SET', run, is) end
  local less = false
  if tonumber(next) > 0 then
    local had = tonumber(redis.call('GET', count) or '0')
    less = had < tonumber(sure) and now - last > loss_told
    redis.call('SET', count, stamp(math.max(had, tonumber(next))), 'PX', count_keep)
  end
  if another and was or less then
    last = now
    redis.call('SET', lost, stamp(now))
  end
  local uptime = id and string.match(told, 'uptime_in_seconds:(%d+)')
  local rests = redis.call('HEXISTS', restored, 'at') == 1 and redis.call('HEXISTS', restored, 'ended') == 0
  return last, tonumber(uptime or '-1'), rests
end
`

// TombstoneLua is what scripts begin with that would write something about an address. forgotten(key, id) tells
// whether the address was forgotten on request, so that nothing may be written.
const TombstoneLua = `
local salt
local function forgotten(key, id)
  salt = salt or redis.call('HLEN', key) > 1 and redis.call('HGET', key, 'salt') or '' -- alone it is nobody's
  return salt ~= '' and redis.call('HEXISTS', key, redis.sha1hex(salt .. id)) == 1
end
`

// RequestKeep defines request_keep: for how long, in ms, a script's answer to a request is kept. The last repetition
// comes within seconds.
const RequestKeep = "\nlocal request_keep = 60000\n"
