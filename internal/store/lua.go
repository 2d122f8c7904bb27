package store

// Clock gives a script now, in ms on Redis's clock, and stamp, which writes a number in full.
const Clock = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function stamp(n) return string.format('%.0f', n) end
`

// MemoryLua is what scripts begin with, after Clock, that must know whether Redis may have lost what it was given.
// memory(key, arg) takes the keys of [Memory.Keys] and the arguments of [Memory.Raise], which begin at those places. It
// gives when Redis last may have (lost, ms; 0: never). There are two ways to see it, and either suffices:
//
//   - The Redis that runs the script is another one than ran it last: it was started anew, or a replica took over. Only
//     INFO in a script is sure to ask the Redis that has the keys; in a Cluster each node is another one. A Redis that
//     does not tell which it is counts as the same.
//   - The count of a process is lower than Redis has said it is: what was written since is lost. Other processes see
//     the same loss a moment later; within loss_told of the first it is told once.
//
// If Redis was last seen (seen, ms) much longer ago than the process knows, a copy was put back: then work rests. Only
// values that Redis has held are compared, so that no clock counts, nor for how long nobody has seen it. A Redis that
// was emptied holds none. What a failover or a crash loses is not copy_age old: by their defaults neither Sentinel nor
// a Cluster promotes a replica that has been without its master for five minutes, and seen_every comes on top.
//
// It also gives which Redis it is (id; empty: it does not tell) and for how long it has run (run, s; -1), whether a
// copy was put back and work rests (rests), when that was told last (restored, ms; 0: never), how much older than what
// a process had seen the copy is (behind, ms; 0: a person has told it), and seen.
const MemoryLua = `
local count_keep, loss_told, copy_age, seen_every = 3600000, 3000, 600000, 60000

local function begin_rest(restored, lost, seen, latest, behind)
  redis.call('PERSIST', restored) -- it needs no memory: then Redis takes the rest too when it is full
  local at = math.max(now, latest, tonumber(redis.call('GET', seen) or '0'))
  redis.call('SET', seen, stamp(at))
  if redis.call('HEXISTS', restored, 'at') == 1 and redis.call('HEXISTS', restored, 'ended') == 0 then return at end
  redis.call('DEL', restored)
  redis.call('HSET', restored, 'at', stamp(now), 'behind', stamp(behind))
  redis.call('SET', lost, stamp(now))
  return at
end

local function memory(key, arg)
  local run, lost, count, restored, seen = unpack(KEYS, key, key + 4)
  local sure, next, latest = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  local told = redis.pcall('INFO', 'server')
  local id = type(told) == 'string' and string.match(told, 'run_id:(%x+)')
  local was, last, seen_at, had = unpack(redis.call('MGET', run, lost, seen, count))
  last, seen_at = tonumber(last or '0'), tonumber(seen_at or '0')
  local is = id and id .. ' master'
  local another = is and is ~= was
  if another then redis.call('SET', run, is) end
  local less = false
  if next > 0 then
    had = tonumber(had or '0')
    less = had < sure and now - last > loss_told
    redis.call('SET', count, stamp(math.max(had, next)), 'PX', count_keep)
  end
  if another and was or less then
    last = now
    redis.call('SET', lost, stamp(now))
  end
  if seen_at > 0 and latest - seen_at > copy_age then
    seen_at = begin_rest(restored, lost, seen, latest, latest - seen_at)
    last = tonumber(redis.call('GET', lost) or '0')
  end
  local at, ended, behind = unpack(redis.call('HMGET', restored, 'at', 'ended', 'behind'))
  local uptime = id and string.match(told, 'uptime_in_seconds:(%d+)')
  return {
    lost = last, id = id or '', run = tonumber(uptime or '-1'), seen = seen_at,
    rests = at and not ended, restored = tonumber(at or '0'), behind = tonumber(behind or '0'),
  }
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
