package store

// Clock gives a script now, in ms on Redis's clock, and stamp, which writes a number in full.
const Clock = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function stamp(n) return string.format('%.0f', n) end
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
