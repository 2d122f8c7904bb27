package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// intents looks at the intents that the workers keep in Redis: a hash for each address, whose fields are the owners
// of a claim, or begin with "=". The value of a claim is c|token|till|since from before its call on; the call is
// under way until till (ms) at most. If its worker dies the claim stays as it is until somebody asks what became of
// the call.
type intents struct{ rdb *redis.Client }

// callsScript lists claims in one instant. ARGV: the pattern of the keys; "all", or else those only whose call may
// be under way. Returns each with its key, owner and value.
const callsScript = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local cursor, calls = '0', {}
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000, 'TYPE', 'hash')
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      local till = fields[i + 1]:match('^c|[^|]*|(%d+)|')
      if fields[i]:sub(1, 1) ~= '=' and till and (ARGV[2] == 'all' or tonumber(till) > now) then
        calls[#calls + 1] = key .. ' ' .. fields[i] .. ' ' .. fields[i + 1]
      end
    end
  end
until cursor == '0'
return calls`

// claims are some of them, each with its call's token.
type claims map[string]bool

// underWay gives the claims whose call may be under way.
func (i intents) underWay(ctx context.Context) (claims, error) { return i.list(ctx, "under way") }

// claimed gives those too whose call has ended, and nobody knows how.
func (i intents) claimed(ctx context.Context) (claims, error) { return i.list(ctx, "all") }

func (i intents) list(ctx context.Context, which string) (claims, error) {
	list, err := i.rdb.Eval(ctx, callsScript, nil, "usher:{once}:i:*", which).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("looking at the intents: %w", err)
	}
	found := claims{}
	for _, claim := range list {
		found[claim] = true
	}
	return found, nil
}

// shares tells whether a claim is in both.
func (c claims) shares(other claims) bool {
	for claim := range c {
		if other[claim] {
			return true
		}
	}
	return false
}
