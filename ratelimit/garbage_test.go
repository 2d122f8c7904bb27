package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/testkit"
)

func TestGarbageIsRefused(t *testing.T) {
	t.Parallel()
	s := testkit.RunRedis(t)
	rdb := testkit.Client(t, s.Addr)
	state, log, figures := stateKey("test", "calls"), logKey("test", "calls"), figuresKey("test")
	tests := map[string]struct {
		do         func(ctx context.Context) error
		onlyStatus bool
	}{
		"log is a string": {do: func(ctx context.Context) error { return rdb.Set(ctx, log, "x", 0).Err() }},
		"state is a list": {do: func(ctx context.Context) error { return rdb.RPush(ctx, state, "x").Err() }},
		"share is a string": {do: func(ctx context.Context) error {
			return rdb.Set(ctx,
				shareKey("test", "calls", "s"), "x", 0).Err()
		}},
		"not-before is a word": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state,
				"not_before", "soon").Err()
		}},
		"not-before is inf": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state,
				"not_before", "inf").Err()
		}},
		"not-before is negative": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state,
				"not_before", "-5").Err()
		}},
		"not-before is very long": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state, "not_before", strings.Repeat("9", 40)).Err()
		}},
		"probe without a deadline": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state,
				"probe", "x").Err()
		}},
		"window without its time": {do: func(ctx context.Context) error {
			return rdb.HSet(ctx, state,
				"window", "5").Err()
		}},
		"figures are a string": {onlyStatus: true,
			do: func(ctx context.Context) error { return rdb.Set(ctx, figures, "x", 0).Err() }},
		"figures are words": {onlyStatus: true,
			do: func(ctx context.Context) error { return rdb.HSet(ctx, figures, "calls", "ten minutes").Err() }},
		"figures are negative": {onlyStatus: true,
			do: func(ctx context.Context) error { return rdb.HSet(ctx, figures, "calls", "-1 1000").Err() }},
		"figures with a tail": {onlyStatus: true,
			do: func(ctx context.Context) error { return rdb.HSet(ctx, figures, "calls", "1 1000 x").Err() }},
		"figures are very long": {onlyStatus: true, do: func(ctx context.Context) error {
			return rdb.HSet(ctx, figures, "calls", strings.Repeat("1", 1000)).Err()
		}},
		"a limit's name is odd": {onlyStatus: true,
			do: func(ctx context.Context) error { return rdb.HSet(ctx, figures, "a b", "1 1000").Err() }},
		"very many limits": {onlyStatus: true, do: func(ctx context.Context) error {
			for i := range maxLimits + 1 {
				if err := rdb.HSet(ctx, figures, fmt.Sprint(i), "1 1000").Err(); err != nil {
					return err
				}
			}
			return nil
		}},
		"very many shares": {onlyStatus: true, do: func(ctx context.Context) error {
			for i := range maxShares + 21 {
				if err := rdb.HSet(ctx, state, fmt.Sprint("share:", i), "1").Err(); err != nil {
					return err
				}
			}
			return nil
		}},
	}
	l := newLimiter(t, rdb, calls)
	for name, test := range tests {
		testkit.NoError(t, rdb.FlushDB(t.Context()).Err())
		testkit.NoError(t, l.Announce(t.Context()))
		if !test.onlyStatus {
			testkit.NoError(t, rdb.Del(t.Context(), state).Err())
			// so that the reader looks at the share
			testkit.NoError(t, rdb.HSet(t.Context(), state, "share:s", "1").Err())
			if name == "state is a list" {
				testkit.NoError(t, rdb.Del(t.Context(), state).Err())
			}
		}
		testkit.NoError(t, test.do(t.Context()))
		if _, err := ReadUsage(t.Context(), rdb, "test"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: ReadUsage: %v, want ErrUnavailable", name, err)
		}
		if test.onlyStatus {
			continue
		}
		p, err := l.Acquire(t.Context(), hold, Want{Limit: "calls", Share: "s", Max: 1})
		if !errors.Is(err, ErrUnavailable) || p != nil {
			t.Errorf("%s: Acquire: %v, %v, want ErrUnavailable", name, p, err)
		}
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, reply := range []any{nil, "OK", int64(1), []any{}, []any{int64(0), int64(0), int64(0), ""},
		[]any{int64(2), int64(5), int64(0), ""},
		[]any{int64(1), int64(-5), int64(0), ""}, []any{int64(1), int64(5), int64(7), ""}, []any{"a", "b", "c", "d"},
		[]any{"0", int64(5), int64(0), ""}, []any{int64(0), "5", int64(0), ""}, []any{int64(0), int64(5), "0", ""},
		[]any{int64(1), int64(0), int64(0), int64(0)}, []any{int64(1), int64(0), int64(0), "", ""}} {
		cmd := redis.NewCmd(t.Context())
		cmd.SetVal(reply)
		if got, err := parseAcquired(cmd); err == nil {
			t.Errorf("%v was read as %+v", reply, got)
		}
	}
	if got, err := parseAcquired(redis.NewCmdResult([]any{int64(0), int64(1) << 62, int64(0), ""}, nil)); err != nil ||
		got.wait != maxSpan {
		t.Errorf("an endless wait was read as %+v, %v", got, err)
	}
}
