package store_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/store"
	"example.com/usher/internal/testkit"
)

// TestTheTallyCountsByTheHour, once for each request, and for 30 days.
func TestTheTallyCountsByTheHour(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		ctx, tally, key := t.Context(), store.NewTally(rdb, "usher"), store.Keys("usher").Tally()
		day := func(ago int) string { return strconv.FormatInt(time.Now().Unix()/86400-int64(ago), 10) }
		testkit.NoError(t, rdb.HSet(ctx, key, day(29), "1,2,3,4,5,6", day(30), "9", day(3), "garbage,-1,,7", "x", "y").Err())
		before := time.Now().Truncate(time.Hour)
		for _, token := range []string{"one", "one", "two"} {
			testkit.NoError(t, tally.Add(ctx, token, store.Counts{Sent: 10, Refused: 2, Dead: 1}))
		}
		read, err := tally.Read(ctx, time.Now())
		testkit.NoError(t, err)
		found := map[time.Time]store.Counts{}
		for i, hour := range read {
			if hour.All() > 0 {
				found[hour.At] = hour.Counts
			}
			if i > 0 && hour.At.Sub(read[i-1].At) != time.Hour {
				t.Errorf("%s follows %s", hour.At, read[i-1].At)
			}
		}
		first := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -29)
		now := found[before.UTC()].Plus(found[before.UTC().Add(time.Hour)]) // the hour may have ended meanwhile
		if now != (store.Counts{Sent: 20, Refused: 4, Dead: 2}) ||
			found[first] != (store.Counts{Sent: 1, Refused: 2, Dead: 3}) ||
			found[first.Add(time.Hour)] != (store.Counts{Sent: 4, Refused: 5, Dead: 6}) {
			t.Errorf("%v", found)
		}
		if last := read[len(read)-1].At; time.Since(last) > time.Hour || time.Until(last) > 0 {
			t.Errorf("it ends with %s", last)
		}
		if n := rdb.HExists(ctx, key, day(30)).Val() || rdb.HExists(ctx, key, "x").Val(); n {
			t.Error("what is older than 30 days, or no day, stays")
		}
		if ttl := rdb.PTTL(ctx, key).Val(); ttl <= 0 || ttl > store.TallyDays*24*time.Hour {
			t.Errorf("it is kept for %s", ttl)
		}
	})
}

// TestTheTallyIsSmall after 30 days of many.
func TestTheTallyIsSmall(t *testing.T) {
	t.Parallel()
	rdb := testkit.Client(t, testkit.RunRedis(t).Addr)
	key, day := store.Keys("usher").Tally(), time.Now().Unix()/86400
	for i := range int64(store.TallyDays) {
		busy := strings.TrimSuffix(strings.Repeat("350,12,3,", 24), ",")
		testkit.NoError(t, rdb.HSet(t.Context(), key, strconv.FormatInt(day-i, 10), busy).Err())
	}
	testkit.NoError(t, store.NewTally(rdb, "usher").Add(t.Context(), "one", store.Counts{Sent: 1}))
	if size := rdb.MemoryUsage(t.Context(), key).Val(); size > 16<<10 {
		t.Errorf("it takes %d bytes", size)
	} else {
		t.Logf("it takes %d bytes", size)
	}
}
