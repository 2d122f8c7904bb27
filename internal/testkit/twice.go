package testkit

import (
	"context"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Twice sends every script and every pipeline twice, and loses the first answer: so does a client whose request was
// carried out but answered too late.
type Twice struct{}

// DialHook is for [redis.Hook].
func (Twice) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook is for [redis.Hook].
func (Twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if script := strings.HasPrefix(cmd.Name(), "eval"); script {
			_ = next(ctx, cmd)
			cmd.SetErr(nil)
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is for [redis.Hook].
func (Twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		_ = next(ctx, cmds)
		for _, cmd := range cmds {
			cmd.SetErr(nil)
		}
		return next(ctx, cmds)
	}
}
