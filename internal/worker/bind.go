package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/policy"
	"example.com/usher/internal/settings"
	"example.com/usher/internal/store"
)

// ErrLogin means that Redis refuses the user or the password.
var ErrLogin = errors.New("redis refuses the user or the password")

// ErrCommands means that what answers does not carry out the commands that are needed.
var ErrCommands = errors.New(
	"what answers is not Redis 6.2 or newer, or a proxy before it does not pass on every command")

// ErrDatabase means that Redis has no database of the number that is asked for.
var ErrDatabase = errors.New("redis has no database of the number at its end")

// isSetting tells an error of a setting, which no waiting mends.
func isSetting(err error) bool {
	_, ok := errors.AsType[*settings.Error](err)
	return ok
}

// bind waits until Redis answers, and claims the namespace. It also returns nil when the context ends before it could:
// the namespace is not checked then.
func (w *Worker) bind(ctx context.Context, kind string) error {
	for {
		err := w.claimNamespace(ctx, kind)
		switch {
		case err == nil, errors.Is(err, policy.ErrNamespace), errors.Is(err, ErrRedis), isSetting(err):
			return err
		case settings.RefusedLogin(err):
			return fmt.Errorf("REDIS_URL: %w: %w", ErrLogin, err)
		case settings.NoDatabase(err):
			return fmt.Errorf("REDIS_URL: %w: %w", ErrDatabase, err)
		case store.Lacks(err):
			return fmt.Errorf("REDIS_URL: %w: %w", ErrCommands, err)
		case ctx.Err() != nil:
			return nil
		case isCut(err) && closesAtHello(ctx, w.Redis):
			return fmt.Errorf("REDIS_URL: %w: it closes the connection at HELLO", ErrCommands)
		}
		warning := w.Log.Warn().Err(err)
		if _, ask := settings.Odd(err); ask != "" {
			warning = warning.Str("ask", ask)
		}
		warning.Msg("waiting for Redis")
		_ = policy.Sleep(ctx, policy.RedisRest)
	}
}

// closesAtHello tells whether what answers knows PING, and closes the connection at HELLO, with which ours begin. Some
// proxies do that at each command that they do not know.
func closesAtHello(ctx context.Context, rdb redis.UniversalClient) bool {
	single, ok := rdb.(*redis.Client)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, redisPing)
	defer cancel()
	conn, err := single.Options().Dialer(ctx, single.Options().Network, single.Options().Addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	until, _ := ctx.Deadline()
	_ = conn.SetDeadline(until)
	answers := bufio.NewReader(conn)
	ask := func(command string) error {
		if _, err := io.WriteString(conn, command); err != nil {
			return err
		}
		_, err := answers.ReadString('\n')
		return err
	}
	return ask("*1\r\n$4\r\nPING\r\n") == nil && isCut(ask("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"))
}

// claimNamespace makes the namespace one for test or for live keys, unless it is already: a test worker must not send a
// live system's invitations, nor the other way round. If Redis carries out all that scripts need, it announces by which
// limits this worker sends, and checks Redis.
func (w *Worker) claimNamespace(ctx context.Context, kind string) error {
	key := store.Keys(w.Namespace).KeyKind()
	if err := w.Redis.SetNX(ctx, key, kind, 0).Err(); err != nil {
		return err
	}
	bound, err := w.Redis.Get(ctx, key).Result()
	switch {
	case err != nil:
		return err
	case bound != kind:
		return policy.OtherKind(w.Namespace, bound, kind)
	}
	// To a client that is not logged in Redis calls a command with more than ten arguments, as this one, a protocol error.
	if err := store.CheckRights(ctx, store.Open(w.Redis, w.Namespace)); err != nil {
		return err
	}
	if err := store.NewTombstones(w.Redis, w.Namespace).Prepare(ctx); err != nil {
		return err
	}
	if err := w.announceLimits(ctx); err != nil {
		return err
	}
	if w.Embedded {
		return nil
	}
	if err := w.check(ctx); err != nil {
		return err
	}
	if w.memory, err = readMemory(ctx, w.Redis, w.Namespace, w.count, true); err == nil {
		w.rest(w.memory)
	}
	return err
}
