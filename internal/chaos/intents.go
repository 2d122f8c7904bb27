package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// intents looks at the intents that the workers keep in Redis: a hash for each address, whose fields are the owners of a claim,
// or begin with "=". The value of a claim begins with "c" while its call may be under way, and has a token of the call's.
type intents struct{ rdb *redis.Client }

// callsScript lists the claims whose call may be under way, in one instant. ARGV: the pattern of the keys. Returns each
// with its key, owner and value.
const callsScript = `
local cursor, calls = '0', {}
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000, 'TYPE', 'hash')
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if fields[i]:sub(1, 1) ~= '=' and fields[i + 1]:sub(1, 1) == 'c' then
        calls[#calls + 1] = key .. ' ' .. fields[i] .. ' ' .. fields[i + 1]
      end
    end
  end
until cursor == '0'
return calls`

// calls are the claims whose call may be under way.
type calls map[string]bool

// open tells the calls that may be under way.
func (i intents) open(ctx context.Context) (calls, error) {
	list, err := i.rdb.Eval(ctx, callsScript, nil, "usher:{once}:i:*").StringSlice()
	if err != nil {
		return nil, fmt.Errorf("looking at the intents: %w", err)
	}
	open := calls{}
	for _, call := range list {
		open[call] = true
	}
	return open, nil
}

// shares tells whether a call is in both.
func (c calls) shares(other calls) bool {
	for call := range c {
		if other[call] {
			return true
		}
	}
	return false
}
