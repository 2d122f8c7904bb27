package deadletter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/usher/internal/fate"
	"example.com/usher/internal/testkit"
)

// TestLettersAreGroupedByTheirFacts: of many letters hardly any is read, but every cause has its count, and its newest
// letter. What only its text tells is read.
func TestLettersAreGroupedByTheirFacts(t *testing.T) {
	t.Parallel()
	testkit.OnBoth(t, func(t *testing.T, rdb *redis.Client) {
		b, ctx := on(rdb), t.Context()
		put := func(id, code string, age time.Duration) {
			e := letter(id)
			e.Failure = fate.Failure{Reason: fate.ReasonRejected, HTTPStatus: 422, Code: code, Message: id}
			e.FailedAt = time.Now().Add(-age).UTC()
			testkit.NoError(t, b.Put(ctx, e))
		}
		for i := range 300 {
			put(fmt.Sprint("many", i), "taken", time.Duration(1000+i)*time.Second)
		}
		put("new", "rare", time.Second)
		put("odd", `a "quoted" <code>`, 2*time.Second)
		put("bare", "", 3*time.Second)
		put("old", "rare", time.Hour)
		testkit.NoError(t, rdb.HDel(ctx, factsKey, "many7").Err())           // of an earlier version
		testkit.NoError(t, rdb.HSet(ctx, factsKey, "many8", "1|x|y|").Err()) // out of date
		testkit.NoError(t, rdb.Del(ctx, "test:{once}:d:e:many9").Err())
		testkit.NoError(t, rdb.HDel(ctx, factsKey, "many9").Err())
		testkit.NoError(t, rdb.Del(ctx, "test:{once}:d:e:many10").Err())
		testkit.NoError(t, rdb.RPush(ctx, "test:{once}:d:e:many10", "garbage").Err())
		testkit.NoError(t, rdb.HDel(ctx, factsKey, "many10").Err())

		var n lettersRead
		counting := redis.NewClient(rdb.Options())
		defer counting.Close()
		counting.AddHook(&n)
		causes, looked, err := on(counting).Causes(ctx, 303)
		testkit.NoError(t, err)
		if looked != 303 {
			t.Errorf("%d are looked at", looked)
		}
		got := ""
		for _, c := range causes {
			got += fmt.Sprintf("%d %s %s %s\n", c.Count, c.Reason, c.Code, c.Example.ID)
		}
		want := "298 rejected taken many0\n1 rejected  bare\n1 rejected a \"quoted\" <code> odd\n1 rejected rare new\n"
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if read := n.Load(); read != 6 {
			t.Errorf("%d letters are read", read)
		}
	})
}
