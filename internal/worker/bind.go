package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/clock"
	"example.com/usher/internal/policy"
	"example.com/usher/internal/store"
)

// ErrLogin means that Redis refuses the user or the password.
var ErrLogin = errors.New("redis refuses the user or the password")

func refusedLogin(err error) bool {
	return redis.HasErrorPrefix(err, "WRONGPASS") || redis.HasErrorPrefix(err, "NOAUTH") || redis.HasErrorPrefix(err, "ERR AUTH")
}

// bind waits until Redis answers, and claims the namespace for test or live keys for good: a test worker must not send a
// live system's invitations, nor the other way round.
func (w *Worker) bind(ctx context.Context, kind string) error {
	key := store.Keys(w.namespace).KeyKind()
	for {
		err := w.rdb.SetArgs(ctx, key, kind, redis.SetArgs{Mode: "NX"}).Err()
		bound := ""
		if err == nil || errors.Is(err, redis.Nil) {
			bound, err = w.rdb.Get(ctx, key).Result()
		}
		if err == nil {
			err = w.limiter.Announce(ctx)
		}
		if err == nil && bound == kind {
			err = w.policy.Announce(ctx, w.rdb, w.namespace)
		}
		if err == nil && bound == kind {
			err = w.check(ctx)
		}
		if err == nil && bound == kind && !w.embedded {
			_, err = w.memory.restarted(ctx)
		}
		switch {
		case err == nil && bound != kind:
			return policy.OtherKind(w.namespace, bound, kind)
		case err == nil, errors.Is(err, ErrRedis):
			return err
		case refusedLogin(err):
			return fmt.Errorf("REDIS_URL: %w: %w", ErrLogin, err)
		case ctx.Err() != nil:
			return nil // stopped before it began
		}
		w.log.Warn().Err(err).Msg("waiting for Redis")
		_ = clock.Sleep(ctx, policy.RedisRest)
	}
}
