package page

import (
	"context"
	"net"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// cost counts the commands that Redis runs for the pages.
type cost struct{ commands atomic.Int64 }

// scriptCommands is how many commands a script of those that pages run counts as: about as many as it calls.
const scriptCommands = 10

func (c *cost) add(cmd redis.Cmder) {
	n := int64(1)
	if strings.HasPrefix(cmd.Name(), "eval") {
		n += scriptCommands
	}
	c.commands.Add(n)
}

// DialHook is for [redis.Hook].
func (*cost) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook is for [redis.Hook].
func (c *cost) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.add(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is for [redis.Hook].
func (c *cost) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.add(cmd)
		}
		return next(ctx, cmds)
	}
}
