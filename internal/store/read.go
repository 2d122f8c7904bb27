package store

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Answer reads the answer of a script that gives now and then rows of n values each.
func Answer(answer *redis.Cmd, n int) (now time.Time, rows [][]string, err error) {
	values, err := answer.StringSlice()
	if err == nil && (len(values) == 0 || (len(values)-1)%n != 0) {
		err = ErrGarbage
	}
	if err != nil {
		return now, nil, err
	}
	now, err = Instant(values[0])
	return now, slices.Collect(slices.Chunk(values[1:], n)), err
}

// fieldsChunk is how many fields are read at a time.
const fieldsChunk = 500

// EachField calls do for those of some fields that a hash has, in their order.
func EachField(
	ctx context.Context, rdb redis.Cmdable, key string, fields []string, do func(field, value string) error,
) error {
	for chunk := range slices.Chunk(fields, fieldsChunk) {
		values, err := rdb.HMGet(ctx, key, chunk...).Result()
		if err != nil {
			return err
		}
		for i, value := range values {
			text, there := value.(string)
			if !there {
				continue
			}
			if err := do(chunk[i], text); err != nil {
				return err
			}
		}
	}
	return nil
}
