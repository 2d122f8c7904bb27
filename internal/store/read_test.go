package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// TestPagesHideNothing: each member that stays is given once and in order, though many have the same score, and
// others come and go between the pages.
func TestPagesHideNothing(t *testing.T) {
	t.Parallel()
	for name, rdb := range map[string]*redis.Client{
		"miniredis": testkit.MiniRedis(t), "redis": testkit.Client(t, testkit.RunRedis(t).Addr),
	} {
		ctx, key := t.Context(), "z"
		for i := range 2000 {
			score, member := i/3, fmt.Sprintf("m%04d", i)
			if i > 500 && i < 1200 {
				score = 200 // more than a page
			}
			testkit.NoError(t, rdb.ZAdd(ctx, key, redis.Z{Score: float64(score), Member: member}).Err())
		}
		want, err := rdb.ZRange(ctx, key, 0, -1).Result()
		testkit.NoError(t, err)
		slices.Reverse(want)
		for _, from := range []int{0, 1, 799, 800, 801, 1400, 1999} { // 800 shares its score with many
			var got []string
			testkit.NoError(t, store.EachPageAfter(ctx, rdb, key, want[from], func(members []string) error {
				got = append(got, members...)
				return nil
			}))
			if !slices.Equal(got, want[from+1:]) {
				t.Errorf("%s: %d members behind %s, want %d", name, len(got), want[from], len(want)-from-1)
			}
		}
		if err := store.EachPageAfter(ctx, rdb, key, "none", nil); !errors.Is(err, redis.Nil) {
			t.Errorf("behind a member that is not there: %v", err)
		}
		var got []string
		pages := 0
		err = store.EachPage(ctx, rdb, key, func(members []string) error {
			got = append(got, members...)
			pages++
			late := redis.Z{Score: float64(10_000 + pages), Member: fmt.Sprintf("late%d", pages)}
			testkit.NoError(t, rdb.ZAdd(ctx, key, late).Err())
			return rdb.ZRem(ctx, key, members[0], members[len(members)-1]).Err()
		})
		testkit.NoError(t, err)
		if !slices.Equal(got, want) || pages < 5 {
			t.Errorf("%s: %d members in %d pages, want %d", name, len(got), pages, len(want))
		}
	}
}
