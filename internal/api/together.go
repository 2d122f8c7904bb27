package api

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"example.com/usher/internal/call"
)

const (
	// mostTogether is how many commands travel together.
	mostTogether = 100
	// wayTime is how long they may take: as long as a command alone by default. Without it a way that timed out would be
	// gone again three times.
	wayTime = 3 * time.Second
)

// together has what requests that are served at the same time ask of Redis travel together: the first goes at once, and
// those that come meanwhile share the next way. An invitation costs the server a sixth less so, and Redis a third.
type together struct {
	batch *call.Batcher[redis.Cmder]
}

func newTogether(rdb redis.UniversalClient, log zerolog.Logger) together {
	return together{call.NewBatcher(log, mostTogether, func(cmds []redis.Cmder) error {
		ctx, cancel := context.WithTimeout(context.Background(), wayTime) // nobody's in particular
		defer cancel()
		way := rdb.Pipeline()
		for _, cmd := range cmds {
			_ = way.Process(ctx, cmd)
		}
		_, _ = way.Exec(ctx) // each has its own error
		return nil
	})}
}

// ProcessHook is for [redis.Hook]. Only the commands that enqueue an invitation travel together: a hook sees those with
// which a connection logs in, too. One that has a time of its own goes alone, because the others end at theirs.
func (t together) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		_, timed := ctx.Deadline()
		if timed || ctx.Err() != nil || cmd.Name() != "hget" && cmd.Name() != "evalsha" {
			return next(ctx, cmd)
		}
		if err := t.batch.Do(cmd, 1); err != nil {
			return err
		}
		return cmd.Err()
	}
}

// ProcessPipelineHook is for [redis.Hook].
func (together) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// DialHook is for [redis.Hook].
func (together) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}
